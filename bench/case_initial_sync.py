"""The initial sync of a large tree: what the daemon takes beside its rsync, and bare rsync."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import workloads
from equality import differences_text
from measure import Cpu, MeasurementFailed, cpu, median, seconds_text, wait_until
from peers import Peers, Program, remove
from report import TableRow, is_within, ratio

# At --size 4 it is the tree of which the goals were set: 800,000 files in 101,101 directories.
TOPS = 25
LEVELS = (10, 100)
FILES_EACH = 8
FILE_BYTES = 100
TURNS = 3
CPU_GOAL = 0.02
WALL_GOAL = 1.03
DEADLINE_SECONDS = 1800.0
WINDOW_SECONDS = 1.0


class _Usage(NamedTuple):
    """What one initial sync took, in seconds."""

    own: float
    """CPU of the daemon, with its start and without its children."""
    rsync: float
    """CPU of all its children."""
    wall: float


@dataclass
class _Figures:
    """The turns of one program, each with the bare rsync that followed it."""

    usages: list[_Usage] = field(default_factory=list)
    bare: list[_Usage] = field(default_factory=list)
    failure: str = ""

    def own(self) -> float:
        return median([each.own for each in self.usages])

    def rsync(self) -> float:
        return median([each.rsync for each in self.usages])

    def wall_pairs(self) -> list[float]:
        return [ours.wall / bare.wall for ours, bare in zip(self.usages, self.bare, strict=True)]


@dataclass(frozen=True)
class InitialSync:
    """A new copy of a tree of small files, in turn by each program and by bare rsync."""

    name: str = "initial-sync"
    what: str = (
        f"{TOPS * LEVELS[0] * LEVELS[1] * FILES_EACH:,} files of {FILE_BYTES} bytes in"
        f" {TOPS * (1 + LEVELS[0] * (1 + LEVELS[1])) + 1:,} directories to an empty copy on the"
        " same file system: pylsyncd --once, once more without progress (-q), and pylsyncd -i and"
        " lsyncd, which watch as well; after each a bare rsync -a, with which the seconds are"
        " compared in pairs. Own CPU includes the start of the program"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the programs in turn, and yield the rows of the table."""
        trees = _Trees(peers, scale)
        runs = {
            "--once": lambda: trees.pylsyncd("--once"),
            "--once -q": lambda: trees.pylsyncd("--once", "-q"),
            "-i": lambda: trees.pylsyncd("-i"),
        }
        figures = {name: _Figures() for name in (*runs, "lsyncd")}
        # The first start compiles, too.
        starts = [trees.start() for _ in range(1 + TURNS)][1:]
        for _ in range(TURNS):
            for name, run in runs.items():
                trees.measure(figures[name], run)
            if peers.lsyncd is not None:
                trees.measure(figures["lsyncd"], trees.lsyncd)
        for name in runs:
            yield from _rows(self.name, name, figures[name])
        yield TableRow(
            self.name,
            "pylsyncd --once: own CPU, empty source",
            seconds_text(median(starts)),
            *("--once", seconds_text(figures["--once"].own())),
            ratio(median(starts), figures["--once"].own()),
            note="the start alone",
        )
        yield _beside_lsyncd(self.name, figures["-i"], figures["lsyncd"])


class _Trees:
    """The source, and its copy by a program and by bare rsync."""

    def __init__(self, peers: Peers, scale: float) -> None:
        for name in os.listdir(peers.scratch):
            remove(f"{peers.scratch}/{name}")
        self._peers = peers
        # Bare rsync makes the same copy: at --size 4 a tree takes 4 GB of a tmpfs.
        self._source, self._empty_source, self._copy = (
            f"{peers.scratch}/{name}" for name in ("source", "empty", "copy")
        )
        for top in range(max(1, round(TOPS * scale))):
            for middle in range(LEVELS[0]):
                workloads.make_tree(
                    f"{self._source}/t{top}/m{middle}", LEVELS[1], FILES_EACH, b"x" * FILE_BYTES
                )

    def measure(self, figures: _Figures, run: Callable[[], _Usage]) -> None:
        """Sync once by a program and then by bare rsync; a failure is told in the figures."""
        if figures.failure:
            return
        try:
            self._empty(self._copy)
            usage = run()
            # The copies of rsync -a have the same times, and lsyncd compares no nanoseconds.
            if found := differences_text(self._source, [self._copy]):
                raise MeasurementFailed(found)  # noqa: TRY301
            self._empty(self._copy)
            bare = self._run_bare()
        except MeasurementFailed as failure:
            figures.failure = str(failure)
            return
        figures.usages.append(usage)
        figures.bare.append(bare)

    def start(self) -> float:
        """Return the own CPU of pylsyncd --once for an empty source."""
        for path in (self._empty_source, self._copy):
            self._empty(path)
        program = self._peers.pylsyncd_program(self._empty_source, [self._copy], "--once")
        return _run(program, None).own

    def pylsyncd(self, *options: str) -> _Usage:
        """Start pylsyncd on the empty copy, and return what it took to the end of the sync."""
        program = self._peers.pylsyncd_program(self._source, [self._copy], *options)
        return _run(program, None if "--once" in options else "initial sync complete")

    def lsyncd(self) -> _Usage:
        """Start lsyncd on the empty copy."""
        program = self._peers.lsyncd_program(self._source, [self._copy], WINDOW_SECONDS)
        return _run(program, "Startup of")

    def _run_bare(self) -> _Usage:
        command = ["rsync", "-a", f"{self._source}/", f"{self._copy}/"]
        started = time.monotonic()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise MeasurementFailed(f"bare rsync exited {process.returncode}")
        return _Usage(0.0, usage.ru_utime + usage.ru_stime, time.monotonic() - started)

    @staticmethod
    def _empty(directory: str) -> None:
        remove(directory)
        os.mkdir(directory)


def _run(program: Program, ready: str | None) -> _Usage:
    """Return what a program took until it logged that it is ready, or else until it ended."""
    started = time.monotonic()
    try:
        if ready is None:
            used = _wait_ended(program)
        else:
            _wait_logged(program, ready)
            used = cpu(program.pid)
        return _Usage(used.own, used.children, time.monotonic() - started)
    finally:
        program.stop()


def _wait_ended(program: Program) -> Cpu:
    """Wait until a program has ended, and return its CPU, which wait(2) would add up."""
    ended = os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    used = cpu(program.pid)
    if ended is None or ended.si_status:
        program.check()
        raise MeasurementFailed("failed")
    return used


def _wait_logged(program: Program, text: str) -> None:
    def is_logged() -> bool:
        program.check()
        return text in program.logged()

    if not wait_until(is_logged, DEADLINE_SECONDS):
        raise MeasurementFailed(f"did not log '{text}' in {DEADLINE_SECONDS:.0f} s")


def _rows(row: str, name: str, figures: _Figures) -> Iterator[TableRow]:
    measure = f"pylsyncd {name}"
    if not figures.usages:
        yield TableRow(row, measure, "-", "-", "-", "-", note=figures.failure)
        return
    share = median([each.own / each.rsync for each in figures.usages])
    yield TableRow(
        row,
        f"{measure}: own CPU",
        seconds_text(figures.own()),
        "its rsync",
        seconds_text(figures.rsync()),
        f"{share:.2%}",
        f"<= {CPU_GOAL:.0%}",
        is_within(share, CPU_GOAL),
        figures.failure,
    )
    bare = median([each.rsync for each in figures.bare])
    yield TableRow(
        row,
        f"{measure}: CPU of its rsync",
        seconds_text(figures.rsync()),
        "rsync -a",
        seconds_text(bare),
        ratio(figures.rsync(), bare),
    )
    walls = figures.wall_pairs()
    yield TableRow(
        row,
        f"{measure}: wall",
        seconds_text(median([each.wall for each in figures.usages])),
        "rsync -a",
        seconds_text(median([each.wall for each in figures.bare])),
        f"{median(walls):.2f} x",
        f"<= {WALL_GOAL:g} x",
        is_within(median(walls), WALL_GOAL),
        f"median of {len(walls)} pairs: {', '.join(f'{each:.2f}' for each in walls)}",
    )


def _beside_lsyncd(row: str, ours: _Figures, theirs: _Figures) -> TableRow:
    has_both = bool(ours.usages and theirs.usages)
    return TableRow(
        row,
        "pylsyncd -i: own CPU",
        seconds_text(ours.own()) if ours.usages else "-",
        "lsyncd",
        seconds_text(theirs.own()) if theirs.usages else "-",
        ratio(ours.own(), theirs.own()) if has_both else "-",
        note=theirs.failure,
    )


CASES = (InitialSync(),)
