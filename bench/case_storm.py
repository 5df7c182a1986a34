"""A storm: many more events than inotify's queue holds, as fast as two writers can make them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

import workloads
from equality import wait_equal
from kernel_queue import watched_queue, watches
from large_tree import size_text
from measure import (
    QUIET_SECONDS,
    MeasurementFailed,
    cpu,
    peak_bytes,
    reset_peak,
    seconds_text,
    stopwatch,
)
from peers import Peers, Program, Run, copy, remove
from report import TableRow, is_within, ratio
from trees import perfect_list

EVENTS = 2_000_000
EVENTS_PER_FILE = 4  # IN_CREATE, IN_MODIFY, IN_CLOSE_WRITE and IN_DELETE
WRITERS = 2
DIRECTORIES = 100
WINDOW_SECONDS = 2.0
GOAL_SECONDS = 10.0
DEADLINE_SECONDS = 120.0
IDLE_TIMEOUT_SECONDS = 20.0
SCANNED = "Scanned the source for missed changes"

Start = Callable[[], AbstractContextManager[Program]]


@dataclass
class _Figures:
    """What one program used from the first event until its copy was equal."""

    storm_seconds: float = 0.0
    own_cpu: float = 0.0
    memory: int = 0
    scans: int = 0
    equal_seconds: float = 0.0
    """From the last event, with the window; 0 for a program that copies nothing."""
    failure: str = ""
    warning: str = ""

    def text(self, figure: str) -> str:
        """Return a figure, or why it is missing."""
        return self.failure or figure


@dataclass(frozen=True)
class Storm:
    """Files are written and deleted at once; one in fifty of them stays."""

    name: str
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the programs in turn, and yield the rows of the table."""
        tree = _Tree(peers, int(EVENTS * scale))
        theirs = tree.measure(lambda: peers.start_inotifywait(tree.source), is_copying=False)
        lsyncd = tree.measure(
            lambda: peers.start_lsyncd(tree.source, [tree.copy], WINDOW_SECONDS), is_copying=True
        )
        for method in ("fanotify", "inotify"):
            ours = tree.measure(tree.starter(method), is_copying=True, method=method)
            for row in _rows(method, tree, ours, theirs, lsyncd):
                yield replace(row, row=self.name, measure=f"{method}: {row.measure}")


class _Tree:
    """The source of the storm, with a copy by the program and one by a bare rsync."""

    def __init__(self, peers: Peers, events: int) -> None:
        self._peers = peers
        self._files_each = max(1, events // EVENTS_PER_FILE // WRITERS)
        self.events = self._files_each * WRITERS * EVENTS_PER_FILE
        self.source, self.copy, self._bare = (
            f"{peers.scratch}/{name}" for name in ("source", "copy", "bare")
        )
        self.bare_run = Run(0.0, 0.0)

    def starter(self, method: str) -> Start:
        """Return what starts pylsyncd with a method of watching."""
        options = ("-v", "-w", f"{WINDOW_SECONDS:g}", "--watch", method)
        return lambda: self._peers.start_pylsyncd(self.source, [self.copy], *options)

    def measure(self, start: Start, *, is_copying: bool, method: str = "") -> _Figures:
        """Run a program through a storm; a failure is told in the figures."""
        for path in os.listdir(self._peers.scratch):
            remove(f"{self._peers.scratch}/{path}")
        os.mkdir(self.source)
        workloads.make_tree(self.source, DIRECTORIES, 0)
        for path in (self.copy, self._bare):
            copy(self.source, path)
        figures = _Figures()
        try:
            with start() as program:
                if method == "fanotify" and watches(program.pid):
                    raise MeasurementFailed("fanotify is not possible here")  # noqa: TRY301
                self._measure(program, figures, is_copying=is_copying)
        except MeasurementFailed as failure:
            figures.failure = str(failure)
        return figures

    def _measure(self, program: Program, figures: _Figures, *, is_copying: bool) -> None:
        before = cpu(program.pid)
        reset_peak(program.pid)
        with watched_queue(program.pid) as fill, stopwatch() as elapsed:
            self._write()
            figures.storm_seconds = elapsed()
        figures.warning = fill.warning()
        begun = time.monotonic()
        try:
            if is_copying:
                names = perfect_list(os.fsencode(self.source), os.fsencode(self._bare))
                self.bare_run = self._peers.bare_rsync(self.source, self._bare, names)
                figures.equal_seconds = self._wait_equal(program, names, begun) - begun
            # With fanotify the events of other programs on the same file system keep it busy.
            with suppress(MeasurementFailed):
                program.wait_idle(IDLE_TIMEOUT_SECONDS, QUIET_SECONDS + WINDOW_SECONDS)
        finally:
            program.check()
            figures.own_cpu = (cpu(program.pid) - before).own
            figures.memory = peak_bytes(program.pid)
            figures.scans = program.logged().count(SCANNED)

    def _wait_equal(self, program: Program, names: list[bytes], begun: float) -> float:
        deadline = begun + WINDOW_SECONDS + DEADLINE_SECONDS
        return wait_equal(program, self.source, [self.copy], names, WINDOW_SECONDS, deadline)

    def _write(self) -> None:
        script = f"{os.path.dirname(os.path.abspath(__file__))}/storm_writer.py"
        command = [sys.executable, script, self.source, str(DIRECTORIES), str(self._files_each)]
        writers = [subprocess.Popen([*command, f"w{number}-"]) for number in range(WRITERS)]
        statuses = [writer.wait() for writer in writers]
        if any(statuses):
            raise MeasurementFailed("a writer failed")


def _rows(
    method: str, tree: _Tree, ours: _Figures, theirs: _Figures, lsyncd: _Figures
) -> Iterator[TableRow]:
    equal = ours.equal_seconds
    yield TableRow(
        "",
        "last event to equal",
        ours.text(seconds_text(equal)),
        "lsyncd",
        lsyncd.text(seconds_text(lsyncd.equal_seconds)),
        "-",
        f"<= {GOAL_SECONDS:g} s",
        is_within(float("nan") if ours.failure else equal, GOAL_SECONDS),
        f"{tree.events:,} events in {seconds_text(ours.storm_seconds)}; bare rsync with the perfect"
        f" list: {seconds_text(tree.bare_run.wall)}",
    )
    per_event = [figures.own_cpu / tree.events for figures in (ours, theirs, lsyncd)]
    yield TableRow(
        "",
        "CPU per event, without rsync",
        ours.text(seconds_text(per_event[0])),
        "inotifywait -m",
        theirs.text(seconds_text(per_event[1])),
        ratio(*per_event[:2]),
        note=f"lsyncd: {seconds_text(per_event[2])}; {theirs.warning or 'no events were lost'}",
    )
    yield TableRow(
        "",
        "most memory",
        ours.text(size_text(ours.memory)),
        "inotifywait -m",
        theirs.text(size_text(theirs.memory)),
        ratio(ours.memory, theirs.memory),
        note=f"lsyncd: {size_text(lsyncd.memory)}",
    )
    is_marked = method == "fanotify"
    has_failed = bool(ours.scans or ours.failure)
    yield TableRow(
        "",
        "scans after lost events",
        ours.text(str(ours.scans)),
        *("-", "-", "-"),
        "0" if is_marked else "-",
        ("missed" if has_failed else "met") if is_marked else "-",
        f"pylsyncd: {ours.warning or 'no events were lost'}",
    )


CASES = (
    Storm(
        "storm",
        f"{EVENTS:,} events of files written and deleted at once by {WRITERS} processes, one in"
        f" fifty stays; {DIRECTORIES} directories, window {WINDOW_SECONDS:g} s; the own CPU counts"
        " until idle; inotifywait and lsyncd do the same once",
    ),
)
