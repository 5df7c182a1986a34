"""Total CPU of a daemon and its rsyncs, compared with a bare rsync with the perfect list.

A daemon works on one set of destinations, bare rsync on another that is kept equally in sync. Each
turn: change the source, wait until the daemon's destinations are equal and it is idle, take its
CPU; then give bare rsync the perfect list for its own destinations, and take that. Before the first
turn a file comes and goes: what a daemon does once, in its first window, is in the row one-file.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import workloads
from equality import differences_text, wait_equal
from kernel_queue import watched_queue
from measure import QUIET_SECONDS, MeasurementFailed, bytes_read, cpu, seconds_text
from peers import Peers, Program, copy, remove
from report import TableRow, is_within, ratio
from trees import perfect_list

GOAL = 1.3
DEADLINE_SECONDS = 20.0

Start = Callable[[Sequence[str]], AbstractContextManager[Program]]


@dataclass
class Totals:
    """What one daemon used for some turns, and the bare rsyncs beside it; seconds.

    ``cpu`` is with the daemon's rsyncs, ``own_cpu`` without.
    """

    cpu: float = 0.0
    own_cpu: float = 0.0
    bare_cpu: float = 0.0
    read: int = 0
    bare_read: int = 0
    walls: list[float] = field(default_factory=list)
    bare_walls: list[float] = field(default_factory=list)
    failure: str = ""
    note: str = ""

    @property
    def cpu_per_turn(self) -> float:
        """Seconds of CPU of the daemon and its children."""
        return self.cpu / max(len(self.bare_walls), 1)

    @property
    def bare_cpu_per_turn(self) -> float:
        """Seconds of CPU of the bare rsyncs."""
        return self.bare_cpu / max(len(self.bare_walls), 1)

    @property
    def wall(self) -> float:
        """Seconds from the first operation of a turn to equality, less the window."""
        return sum(self.walls) / max(len(self.walls), 1)

    @property
    def bare_wall(self) -> float:
        """Seconds that the bare rsyncs of a turn took, one after the other."""
        return sum(self.bare_walls) / max(len(self.bare_walls), 1)

    def cpu_text(self) -> str:
        """Return the CPU of a turn, and what went wrong."""
        figure = seconds_text(self.cpu_per_turn) if self.cpu else ""
        return ", ".join(filter(None, (figure, self.failure)))


@dataclass(frozen=True)
class Total:
    """One kind of work."""

    name: str
    turns: int
    lsyncd_turns: int
    destinations: int
    window_seconds: float
    prepare: Callable[[str, float], None]
    change: Callable[[str, int, float], None]
    what: str
    floor: bool = False
    """Whether events are so many that inotifywait plus bare rsync is shown, too."""
    content_bytes: int = 0
    """The content of the changed files of a turn, to compare with what is read; 0 for neither."""

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure both daemons, and yield the rows of the table."""
        source = f"{peers.scratch}/source"
        window = self.window_seconds
        ours = _Measurement(self, peers, scale).run(
            self.turns,
            lambda copies: peers.start_pylsyncd(source, copies, "-w", f"{window:g}"),
        )
        yield from _beside_bare(self, ours)
        if self.content_bytes:
            yield _read_row(self, ours, scale)
        if self.floor and peers.inotifywait:
            yield self._beside_floor(peers, scale, ours)
        theirs = _Measurement(self, peers, scale).run(
            self.lsyncd_turns,
            lambda copies: peers.start_lsyncd(source, copies, window),
        )
        yield from _beside_lsyncd(self.name, ours, theirs)

    def _beside_floor(self, peers: Peers, scale: float, ours: Totals) -> TableRow:
        source = _Measurement(self, peers, scale).source
        with peers.start_inotifywait(source) as program:
            before = cpu(program.pid)
            with watched_queue(program.pid) as fill:
                self.change(source, 0, scale)
            program.wait_idle()
            used = (cpu(program.pid) - before).total
        floor = used + ours.bare_cpu_per_turn
        return TableRow(
            self.name,
            "CPU in all",
            ours.cpu_text(),
            "inotifywait + bare",
            seconds_text(floor),
            ratio(ours.cpu_per_turn, floor) if ours.cpu else "-",
            note=f"watching alone, in C: {seconds_text(used)} {fill.warning()}",
        )


class _Measurement:
    """One daemon, its source, its destinations and those of bare rsync."""

    def __init__(self, total: Total, peers: Peers, scale: float) -> None:
        self.total = total
        self.peers = peers
        self.scale = scale
        self.source = f"{peers.scratch}/source"
        self.copies, self.bare = (
            [f"{peers.scratch}/{kind}{number}" for number in range(total.destinations)]
            for kind in ("copy", "bare")
        )
        for path in os.listdir(peers.scratch):
            remove(f"{peers.scratch}/{path}")
        os.mkdir(self.source)
        total.prepare(self.source, scale)
        for path in self.copies + self.bare:
            copy(self.source, path)

    def run(self, turns: int, start: Start) -> Totals:
        """Do the turns, up to one that fails; that is told in the totals."""
        totals = Totals()
        try:
            with start(self.copies) as program:
                self._warm_up(program)
                for turn in range(turns):
                    self._turn(program, turn, totals)
                    if totals.failure:
                        break
        except MeasurementFailed as failure:
            totals.failure = str(failure)
        return totals

    def _warm_up(self, program: Program) -> None:
        """Run a first window, whose one-time costs are not part of a turn."""
        workloads.write(f"{self.source}/first", b"")
        os.unlink(f"{self.source}/first")
        program.wait_idle(DEADLINE_SECONDS, quiet=QUIET_SECONDS + self.total.window_seconds)

    def _turn(self, program: Program, turn: int, totals: Totals) -> None:
        window = self.total.window_seconds
        before, read_before = cpu(program.pid), bytes_read(program.pid)
        begun = time.monotonic()
        with watched_queue(program.pid) as fill:
            self.total.change(self.source, turn, self.scale)
        totals.note = totals.note or fill.warning()
        names = perfect_list(os.fsencode(self.source), os.fsencode(self.bare[0]))
        try:
            deadline = begun + window + DEADLINE_SECONDS
            equal = wait_equal(program, self.source, self.copies, names, window, deadline)
            totals.walls.append(equal - begun - window)
            program.wait_idle(DEADLINE_SECONDS)
        except MeasurementFailed as failure:
            totals.failure = str(failure)
        if program.process.poll() is None:
            used = cpu(program.pid) - before
            totals.cpu += used.total
            totals.own_cpu += used.own
            totals.read += bytes_read(program.pid) - read_before
        read_before = bytes_read(os.getpid())
        runs = [self.peers.bare_rsync(self.source, path, names) for path in self.bare]
        totals.bare_read += bytes_read(os.getpid()) - read_before
        totals.bare_cpu += sum(run.cpu for run in runs)
        totals.bare_walls.append(sum(run.wall for run in runs))
        wrong = differences_text(self.source, self.bare)
        if wrong:
            raise MeasurementFailed(f"bare rsync left {wrong}")


def _beside_bare(total: Total, ours: Totals) -> Iterator[TableRow]:
    measured = bool(ours.cpu)
    share = f"without rsync {seconds_text(ours.own_cpu / len(ours.bare_walls))}" if measured else ""
    yield TableRow(
        total.name,
        "CPU in all",
        ours.cpu_text(),
        "bare rsync",
        seconds_text(ours.bare_cpu_per_turn) if measured else "-",
        ratio(ours.cpu, ours.bare_cpu) if measured else "-",
        f"<= {GOAL} x",
        is_within(ours.cpu if not ours.failure else float("nan"), GOAL * ours.bare_cpu),
        ", ".join(filter(None, ("" if ours.failure else "equal", share, ours.note))),
    )
    yield TableRow(
        total.name,
        "begun to equal, less window",
        seconds_text(ours.wall) if ours.walls else "-",
        "bare rsync" if total.destinations == 1 else "bare, one by one",
        seconds_text(ours.bare_wall) if measured else "-",
        "-",
    )


def _read_row(total: Total, ours: Totals, scale: float) -> TableRow:
    turns = max(len(ours.bare_walls), 1)
    return TableRow(
        total.name,
        "read in all",
        f"{ours.read / turns / 1e6:.0f} MB" if ours.read else "-",
        "bare rsync",
        f"{ours.bare_read / turns / 1e6:.0f} MB" if ours.read else "-",
        ratio(ours.read, ours.bare_read) if ours.read else "-",
        note=f"files, lists and what the processes send each other; the contents have "
        f"{total.content_bytes * scale / 1e6:.0f} MB",
    )


def _beside_lsyncd(name: str, ours: Totals, theirs: Totals) -> Iterator[TableRow]:
    comparable = ours.cpu and theirs.cpu
    of_bare = f"lsyncd / bare: {ratio(theirs.cpu, theirs.bare_cpu)}" if theirs.cpu else ""
    yield TableRow(
        name,
        "CPU in all",
        ours.cpu_text(),
        "lsyncd",
        theirs.cpu_text(),
        ratio(ours.cpu_per_turn, theirs.cpu_per_turn) if comparable else "-",
        note=", ".join(filter(None, (of_bare, theirs.note))),
    )
    yield TableRow(
        name,
        "begun to equal, less window",
        seconds_text(ours.wall) if ours.walls else "-",
        "lsyncd",
        seconds_text(theirs.wall) if theirs.walls else "-",
        "-",
    )
