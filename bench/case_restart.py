"""A restart on a large tree with few changes meanwhile: what is sent, and its cost.

The start is compared with a plain walk of the same tree, and with lsyncd, which begins with a full
rsync to each target.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from large_tree import (
    CHANGED_FILES,
    CTIME_SLACK_SECONDS,
    LargeTree,
    bytes_sent,
    bytes_sent_by_lsyncd,
    files_sent,
    large_tree,
    plain_walk,
    size_text,
)
from measure import MeasurementFailed, cpu, median, seconds_text
from peers import Peers, Program, Run
from report import TableRow, is_within, ratio
from rsync_wrappers import RecordingRsync

GOAL = 1.5
POLL_SECONDS = 0.002
WINDOW_SECONDS = 1.0


@dataclass(frozen=True)
class Restart:
    """Files are changed while no daemon runs; then it is started."""

    name: str
    directories: int
    files_each: int
    turns: int
    lsyncd_turns: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure both daemons, and yield the rows of the table."""
        with large_tree(peers, int(self.directories * scale), self.files_each) as tree:
            ours = _Ours(peers, tree)
            for turn in range(self.turns):
                ours.turn(turn)
            yield from _sent(self.name, ours.counted(self.turns))
            yield from _beside_walk(self.name, ours)
            theirs = _Theirs(peers, tree)
            theirs.run(range(self.turns + 1, self.turns + 1 + self.lsyncd_turns))
            yield from _beside_lsyncd(self.name, ours, theirs)


@dataclass
class _Starts:
    """Medians are taken of these; seconds since the process was started."""

    watching: list[Run] = field(default_factory=list)
    complete: list[Run] = field(default_factory=list)
    sent: float = 0.0
    """Bytes, in a start."""


class _Ours:
    """pylsyncd and the plain walk, in turn, each on the tree and on an empty directory."""

    def __init__(self, peers: Peers, tree: LargeTree) -> None:
        self.tree = tree
        self.full, self.empty = _Starts(), _Starts()
        self.walks: list[Run] = []
        self.empty_walks: list[Run] = []
        self._peers = peers
        self._state = f"{peers.scratch}/kept-state"
        program = self._program("-i")
        try:
            program.wait_logged("initial sync complete", len(tree.destinations))
        finally:
            program.stop()
        time.sleep(CTIME_SLACK_SECONDS)

    def _program(self, *options: str) -> Program:
        return self._peers.pylsyncd_program(
            self.tree.source,
            self.tree.destinations,
            *("-v", "-w", f"{WINDOW_SECONDS:g}", *options),
            state=self._state,
        )

    def turn(self, turn: int) -> None:
        """Do all four once."""
        self.tree.change(turn)
        changed = time.monotonic()
        self.walks.append(plain_walk(self.tree.source))
        _measure(self.empty, self._start_on_empty, "No initial sync", 1)
        self.empty_walks.append(plain_walk(self.tree.empty))
        time.sleep(max(0.0, changed + CTIME_SLACK_SECONDS - time.monotonic()))
        log = _measure(self.full, self._program, "catch-up complete", len(self.tree.destinations))
        self.full.sent = bytes_sent(log)
        if files_sent(log) != CHANGED_FILES * len(self.tree.destinations):
            raise MeasurementFailed(f"sent {files_sent(log)} files: {log}")

    def _start_on_empty(self) -> Program:
        return self._peers.pylsyncd_program(
            self.tree.empty, self.tree.empty_destinations, "-v", "-w", f"{WINDOW_SECONDS:g}"
        )

    def counted(self, turn: int) -> "_Sent":
        """Start once more, with a substitute for rsync that counts."""
        self.tree.change(turn)
        noting = RecordingRsync(self._peers.scratch)
        time.sleep(CTIME_SLACK_SECONDS)
        program = self._program("--rsync", noting.program)
        try:
            program.wait_logged("catch-up complete", len(self.tree.destinations))
        finally:
            program.stop()
        self.tree.check()
        runs, log = noting.runs(), program.logged()
        return _Sent(
            runs=len(runs),
            trees=sum(run.compares_whole_tree for run in runs),
            names=[run.listed_names or 0 for run in runs],
            files=files_sent(log),
            size=bytes_sent(log),
        )


@dataclass(frozen=True)
class _Sent:
    """What one start has sent to both destinations."""

    runs: int
    trees: int
    """Runs that ask a destination for its tree."""
    names: list[int]
    """On the list of each run."""
    files: int
    size: float


class _Theirs:
    """lsyncd on the same tree."""

    def __init__(self, peers: Peers, tree: LargeTree) -> None:
        self._peers = peers
        self._tree = tree
        self.full = _Starts()
        self.failure = ""

    def run(self, turns: Sequence[int]) -> None:
        """Change and start repeatedly; a failure is kept as text."""
        for turn in turns:
            self._tree.change(turn)
            try:
                log = _measure(self.full, self._program, "finished", len(self._tree.destinations))
                self.full.sent = bytes_sent_by_lsyncd(log)
            except MeasurementFailed as failure:
                self.failure = str(failure)
                return

    def _program(self) -> Program:
        return self._peers.lsyncd_program(
            self._tree.source, self._tree.destinations, WINDOW_SECONDS, "--stats"
        )


def _measure(starts: _Starts, start: Callable[[], Program], last: str, times: int) -> str:
    """Start, and take the time at which the program watches and has said the last thing.

    For a program that never says that it watches, the first is left out. Returns its log.
    """
    begun = time.monotonic()
    program = start()
    try:
        if program.name != "lsyncd":
            program.wait_logged("watching", poll=POLL_SECONDS)
            starts.watching.append(Run(cpu(program.pid).total, time.monotonic() - begun))
        program.wait_logged(last, times, poll=POLL_SECONDS)
        wall = time.monotonic() - begun
        program.wait_idle()
        starts.complete.append(Run(cpu(program.pid).total, wall))
    finally:
        program.stop()
    return program.logged()


def _sent(name: str, sent: _Sent) -> Iterator[TableRow]:
    is_met = sent.runs == 2 and not sent.trees and sent.names == [CHANGED_FILES] * 2
    is_met &= sent.files == CHANGED_FILES * 2
    yield TableRow(
        name,
        "rsyncs run, names on their lists",
        f"{sent.runs}: {', '.join(map(str, sent.names))}",
        "-",
        "-",
        "-",
        f"2: {CHANGED_FILES}, {CHANGED_FILES}",
        "met" if is_met else "missed",
        f"{sent.files} files, {size_text(sent.size)} sent, {sent.trees} runs ask for a tree",
    )


def _beside_walk(name: str, ours: _Ours) -> Iterator[TableRow]:
    for what, place in (("", 1), (", CPU", 0)):
        gross = median([run[place] for run in ours.full.watching])
        walk = median([run[place] for run in ours.walks])
        net = gross - median([run[place] for run in ours.empty.watching])
        net_walk = walk - median([run[place] for run in ours.empty_walks])
        yield TableRow(
            name,
            f"start to watching, less an empty one's{what}",
            seconds_text(net),
            "plain walk, likewise",
            seconds_text(net_walk),
            ratio(net, net_walk),
            f"<= {GOAL} x",
            is_within(net, GOAL * net_walk),
            f"medians of {len(ours.walks)}",
        )
        yield TableRow(
            name,
            f"start to watching{what}",
            seconds_text(gross),
            "plain walk",
            seconds_text(walk),
            ratio(gross, walk),
            f"<= {GOAL} x",
            is_within(gross, GOAL * walk),
        )


def _beside_lsyncd(name: str, ours: _Ours, theirs: _Theirs) -> Iterator[TableRow]:
    for what, place in (("start to all caught up", 1), ("the same, CPU in all", 0)):
        mine = median([run[place] for run in ours.full.complete])
        yours = median([run[place] for run in theirs.full.complete])
        yield TableRow(
            name,
            what,
            seconds_text(mine),
            "lsyncd",
            theirs.failure or seconds_text(yours),
            ratio(mine, yours) if not theirs.failure else "-",
            note="" if place else "without the rsync daemon's",
        )
    yield TableRow(
        name,
        "sent",
        size_text(ours.full.sent),
        "lsyncd",
        size_text(theirs.full.sent) if theirs.full.sent else "-",
        f"1/{theirs.full.sent / ours.full.sent:.0f}" if theirs.full.sent else "-",
    )


CASES = (
    Restart(
        "restart",
        2000,
        100,
        5,
        2,
        "200,000 files in 2,000 directories, 10 overwritten while no daemon ran; a local"
        " destination and an rsync daemon on the loopback",
    ),
)
