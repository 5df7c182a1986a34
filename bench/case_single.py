"""One changed file among many in a directory: CPU and latency."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import workloads
from measure import MeasurementFailed, cpu, median, seconds_text
from peers import Peers, Program, copy, remove
from report import TableRow, is_within, ratio

WINDOW_SECONDS = 1.0
DEADLINE_SECONDS = 20.0
CPU_GOAL_SECONDS = 0.010
LATENCY_GOAL_SECONDS = 0.15


@dataclass(frozen=True)
class Single:
    """One file of a directory is overwritten repeatedly."""

    name: str
    files: int
    turns: int
    lsyncd_turns: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure both daemons, each in turn with bare rsync, and yield the rows of the table."""
        prepared = self._prepare(peers, scale)
        ours = _Figures()
        ours.measure(
            peers,
            prepared,
            self.turns,
            lambda source, copy_: peers.start_pylsyncd(
                source, [copy_], "-w", f"{WINDOW_SECONDS:g}"
            ),
        )
        yield from _beside_bare(self.name, ours)
        prepared = self._prepare(peers, scale)
        theirs = _Figures()
        theirs.measure(
            peers,
            prepared,
            self.lsyncd_turns,
            lambda source, copy_: peers.start_lsyncd(source, [copy_], WINDOW_SECONDS),
        )
        yield from _beside_lsyncd(self.name, ours, theirs)

    def _prepare(self, peers: Peers, scale: float) -> tuple[str, str, str]:
        paths = tuple(f"{peers.scratch}/{name}" for name in ("source", "destination", "bare"))
        for path in paths:
            remove(path)
            os.mkdir(path)
        workloads.make_tree(paths[0], 1, int(self.files * scale), b"x" * 10)
        for path in paths[1:]:
            copy(paths[0], path)
        return paths[0], paths[1], paths[2]


class _Figures:
    """Seconds, of one daemon and of the bare rsync that did the same beside it."""

    def __init__(self) -> None:
        self.first_cpu = self.cpu = self.bare_cpu = float("nan")
        self.latencies: list[float] = []
        self.bare_walls: list[float] = []
        self.failure = ""

    def measure(
        self,
        peers: Peers,
        prepared: tuple[str, str, str],
        turns: int,
        start: Callable[[str, str], AbstractContextManager[Program]],
    ) -> None:
        """Do the turns; a failure is kept as text."""
        source, destination, bare = prepared
        used, bare_used = 0.0, []
        try:
            with start(source, destination) as program:
                self.first_cpu = self._turn(program, source, destination, 0)
                for turn in range(1, turns + 1):
                    used += self._turn(program, source, destination, turn)
                    run = peers.bare_rsync(source, bare, [b"./d0/f7"])
                    bare_used.append(run.cpu)
                    self.bare_walls.append(run.wall)
                self.cpu = used / turns
                self.bare_cpu = sum(bare_used) / turns
        except MeasurementFailed as failure:
            self.failure = str(failure)

    def _turn(self, program: Program, source: str, destination: str, turn: int) -> float:
        before = cpu(program.pid)
        self.latencies.append(_change(program, source, destination, turn))
        program.wait_idle()
        return (cpu(program.pid) - before).total


def _change(program: Program, source: str, destination: str, turn: int) -> float:
    content = b"turn %06d" % turn
    workloads.write(f"{source}/d0/f7", content)
    closed = time.monotonic()
    time.sleep(WINDOW_SECONDS * 0.9)
    while True:
        with open(f"{destination}/d0/f7", "rb") as file:
            if file.read() == content:
                return time.monotonic() - closed - WINDOW_SECONDS
        if time.monotonic() > closed + DEADLINE_SECONDS:
            program.check()
            raise MeasurementFailed(f"not copied in {DEADLINE_SECONDS:.0f} s")
        time.sleep(0.001)


def _text(figures: _Figures, value: float) -> str:
    return figures.failure or seconds_text(value)


def _beside_bare(name: str, ours: _Figures) -> Iterator[TableRow]:
    more = ours.cpu - ours.bare_cpu
    latency = median(ours.latencies)
    yield TableRow(
        name,
        "CPU per change, with rsync",
        _text(ours, ours.cpu),
        "bare rsync",
        seconds_text(ours.bare_cpu) if ours.bare_cpu > 0 else "-",
        f"+{more * 1000:.1f} ms" if more == more else "-",  # noqa: PLR0124 - not a number
        f"<= +{CPU_GOAL_SECONDS * 1000:.0f} ms",
        is_within(more, CPU_GOAL_SECONDS),
    )
    yield TableRow(
        name,
        "CPU of the first change",
        _text(ours, ours.first_cpu),
        "-",
        "-",
        "-",
        note="with it, all files are looked at once, for those with several names",
    )
    yield TableRow(
        name,
        "closed to copied, less window",
        _text(ours, latency),
        "bare rsync",
        seconds_text(median(ours.bare_walls)) if ours.bare_walls else "-",
        "-",
        f"<= {LATENCY_GOAL_SECONDS} s",
        is_within(latency, LATENCY_GOAL_SECONDS),
        f"median of {len(ours.latencies)}; worst {max(ours.latencies, default=0):.3f} s",
    )


def _beside_lsyncd(name: str, ours: _Figures, theirs: _Figures) -> Iterator[TableRow]:
    for measure, mine, yours in (
        ("CPU per change, with rsync", ours.cpu, theirs.cpu),
        ("closed to copied, less window", median(ours.latencies), median(theirs.latencies)),
    ):
        yield TableRow(
            name,
            measure,
            _text(ours, mine),
            "lsyncd",
            _text(theirs, yours),
            ratio(mine, yours) if not ours.failure and not theirs.failure else "-",
        )


CASES = (
    Single(
        "one-file",
        100_000,
        11,
        3,
        "one file among 100,000 of a directory overwritten, window 1 s, in turn with bare rsync",
    ),
)
