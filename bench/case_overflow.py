"""An overflow in a large tree: the cost until the destinations are equal again."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from kernel_queue import drained
from large_tree import (
    CHANGED_FILES,
    LargeTree,
    bytes_sent,
    files_sent,
    large_tree,
    plain_walk,
    size_text,
    wait_copied,
)
from measure import MeasurementFailed, cpu, median, seconds_text
from peers import Peers, Program, Run
from report import TableRow, is_within, ratio

GOAL = 1.5
WINDOW_SECONDS = 0.5
DEADLINE_SECONDS = 30.0
EVENTS_PER_FILE = 3  # IN_CREATE, IN_CLOSE_WRITE and IN_DELETE
TOO_MANY = 1.2
"""So many times the events that the queue holds."""
STORM = 5
SCANNED = "Scanned the source for missed changes"


@dataclass(frozen=True)
class Overflow:
    """Files come and go while the daemon stands still, and then others are changed."""

    name: str
    directories: int
    files_each: int
    turns: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the daemon and the plain walk in turn, and yield the rows of the table."""
        with large_tree(peers, int(self.directories * scale), self.files_each) as tree:

            def start() -> AbstractContextManager[Program]:
                window = f"{WINDOW_SECONDS:g}"
                return peers.start_pylsyncd(tree.source, tree.destinations, "-v", "-w", window)

            single, walks, empty_walks = _Recoveries(), [], []
            for turn in range(self.turns):
                single.measure(tree, start, turn, overflows=1)
                walks.append(plain_walk(tree.source))
                empty_walks.append(plain_walk(tree.empty))
            yield from _beside_walk(self.name, single, walks, empty_walks)
            storm = _Recoveries()
            storm.measure(tree, start, self.turns, overflows=STORM)
            tree.check()
            yield _storm(self.name, storm)


@dataclass
class _Recoveries:
    """The usage since the daemon continued."""

    own_cpu: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    scans: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def measure(
        self,
        tree: LargeTree,
        start: Callable[[], AbstractContextManager[Program]],
        turn: int,
        overflows: int,
    ) -> None:
        """Start a daemon, have its queue overflow, change ten files, and see what it does."""
        with start() as program:
            before = cpu(program.pid)
            for number in range(overflows):
                with _Suspended(program):
                    _fill_the_queue(tree.source, f"{turn}-{number}")
                    names = tree.change(turn * STORM + number)
                begun = time.monotonic()
                if number < overflows - 1 and not drained(program.pid, DEADLINE_SECONDS):
                    raise MeasurementFailed("does not read its events")
            self.walls.append(wait_copied(tree, names, DEADLINE_SECONDS) - begun)
            program.wait_idle(quiet=WINDOW_SECONDS + 2)
            used = cpu(program.pid) - before
            log = program.logged()
        self.own_cpu.append(used.own)
        self.cpu.append(used.total)
        self.scans.append(log.count(SCANNED))
        self.files.append(files_sent(log))
        self.sizes.append(bytes_sent(log))


class _Suspended:
    """A context in which a program is suspended by SIGSTOP."""

    def __init__(self, program: Program) -> None:
        self._pid = program.pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


def _fill_the_queue(source: str, mark: str) -> None:
    """Create and delete files in one directory until the kernel drops events."""
    with open("/proc/sys/fs/inotify/max_queued_events", "rb") as file:
        limit = int(file.read())
    for number in range(int(TOO_MANY * limit / EVENTS_PER_FILE)):
        path = f"{source}/d0/quick{mark}-{number}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.unlink(path)


def _beside_walk(
    name: str, ours: _Recoveries, walks: list[Run], empty_walks: list[Run]
) -> Iterator[TableRow]:
    walk = median([run.cpu for run in walks]) - median([run.cpu for run in empty_walks])
    own = median(ours.own_cpu)
    yield TableRow(
        name,
        "CPU until idle, without rsync",
        seconds_text(own),
        "plain walk",
        seconds_text(walk),
        ratio(own, walk),
        f"<= {GOAL} x",
        is_within(own, GOAL * walk),
        f"medians of {len(walks)}; with rsync {seconds_text(median(ours.cpu))}",
    )
    wall = median(ours.walls) - WINDOW_SECONDS
    walk = median([run.wall for run in walks]) - median([run.wall for run in empty_walks])
    yield TableRow(
        name,
        "resumed to copied, less window",
        seconds_text(wall),
        "plain walk",
        seconds_text(walk),
        ratio(wall, walk),
        note="the wait for 0.5 s without an overflow is in it, beside the window",
    )
    yield _sent(name, ours)


def _sent(name: str, ours: _Recoveries) -> TableRow:
    is_met = set(ours.scans) == {1} and set(ours.files) == {CHANGED_FILES * 2}
    return TableRow(
        name,
        "scans, files sent",
        f"{max(ours.scans)}, {max(ours.files)}",
        "-",
        "-",
        "-",
        f"1, {CHANGED_FILES * 2}",
        "met" if is_met else "missed",
        f"{size_text(median(ours.sizes))} sent to two destinations",
    )


def _storm(name: str, storm: _Recoveries) -> TableRow:
    return TableRow(
        name,
        f"{STORM} overflows in a row: scans",
        str(storm.scans[0]),
        "-",
        "-",
        "-",
        "1",
        "met" if storm.scans == [1] else "missed",
        f"own CPU {seconds_text(storm.own_cpu[0])};"
        f" last resumed to copied {seconds_text(storm.walls[0])}",
    )


CASES = (
    Overflow(
        "overflow",
        2000,
        100,
        3,
        "the same tree and destinations; while the daemon stands still (SIGSTOP), more events than"
        " the kernel keeps, then 10 files overwritten elsewhere; window 0.5 s",
    ),
)
