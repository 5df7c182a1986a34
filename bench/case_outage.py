"""A destination that is down for a million changes: memory, CPU, and the cost of its return."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import workloads
from equality import differences_text
from kernel_queue import watched_queue
from measure import (
    MeasurementFailed,
    cpu,
    peak_bytes,
    reset_peak,
    resident_bytes,
    seconds_text,
)
from peers import Peers, Program, Run, clone, remove
from report import TableRow, is_within, ratio
from rsync_wrappers import FailingRsync

WINDOW_SECONDS = 2.0
DEADLINE_SECONDS = 60.0
PATHS_A_SECOND = 50_000.0
MEBIBYTE = 1 << 20
MOST_GROWTH = 100 * MEBIBYTE
"""Of the daemon; a million paths would be 60 to 350 MB, depending on how they are spread."""


@dataclass(frozen=True)
class Outage:
    """Files are overwritten, and many more come and go, each under a name of its own."""

    name: str
    directories: int
    files_each: int
    changes: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure with the destination away, and with it there, and yield the rows of the table."""
        for name in os.listdir(peers.scratch):
            remove(f"{peers.scratch}/{name}")
        top = peers.scratch
        work = _Work(
            f"{top}/source",
            f"{top}/destination",
            int(self.directories * scale),
            self.files_each,
            int(self.changes * scale),
        )
        os.mkdir(work.source)
        workloads.make_tree(
            work.source, work.directories, self.files_each, b"x" * workloads.CONTENT
        )
        for path in (work.destination, f"{top}/bare"):
            clone(work.source, path)
        away = _away(peers, work)
        bare = _full_rsync(work.source, f"{top}/bare")
        there = _there(peers, work)
        if wrong := differences_text(work.source, [work.destination]):
            raise MeasurementFailed(wrong)
        yield from _lines(self.name, work.changes, away, there, bare)


@dataclass(frozen=True)
class _Work:
    """What is done to which tree."""

    source: str
    destination: str
    directories: int
    files_each: int
    changes: int


def _away(peers: Peers, work: _Work) -> "_Figures":
    figures = _Figures()
    rsync = FailingRsync(peers.scratch)
    rsync.start_failing()
    options = ("-w", f"{WINDOW_SECONDS:g}", "--rsync", rsync.program)
    with peers.start_pylsyncd(work.source, [work.destination], *options) as program:
        figures.work(work, program)
        rsync.stop_failing()
        before, begun = cpu(program.pid), time.monotonic()
        # Its next attempt may be minutes away; this is what a person would do.
        os.kill(program.pid, signal.SIGUSR1)
        program.wait_logged("works again", poll=0.01)
        figures.back = time.monotonic() - begun
        program.wait_idle()
        figures.back_cpu = (cpu(program.pid) - before).total
        figures.peak_growth = peak_bytes(program.pid) - figures.resident
    if wrong := differences_text(work.source, [work.destination]):
        raise MeasurementFailed(wrong)
    return figures


def _there(peers: Peers, work: _Work) -> "_Figures":
    figures = _Figures()
    with peers.start_pylsyncd(
        work.source, [work.destination], "-w", f"{WINDOW_SECONDS:g}"
    ) as program:
        figures.work(work, program)
        figures.peak_growth = peak_bytes(program.pid) - figures.resident
    return figures


@dataclass
class _Figures:
    """Bytes, and seconds of CPU or, for ``back``, of time."""

    resident: int = 0
    """At the start."""
    peak_growth: int = 0
    own_cpu: float = 0.0
    children_cpu: float = 0.0
    back: float = 0.0
    back_cpu: float = 0.0
    note: str = ""

    def work(self, work: _Work, program: Program) -> None:
        """Make the changes, and wait until the daemon is idle."""
        self.resident = resident_bytes(program.pid)
        reset_peak(program.pid)
        before = cpu(program.pid)
        with watched_queue(program.pid) as fill:
            workloads.overwrite_and_flicker(
                work.source, work.directories, work.files_each, work.changes, PATHS_A_SECOND
            )
        program.wait_idle(DEADLINE_SECONDS, quiet=WINDOW_SECONDS + 1)
        used = cpu(program.pid) - before
        self.own_cpu, self.children_cpu = used.own, used.children
        self.note = fill.warning()


def _full_rsync(source: str, destination: str) -> Run:
    command = ["rsync", "-rlptgoD", "--delete", "--modify-window=-1"]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, f"{source}/", f"{destination}/"], stdin=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementFailed(f"bare rsync exited {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - begun)


def _lines(
    name: str, changes: int, away: _Figures, there: _Figures, bare: Run
) -> Iterator[TableRow]:
    yield TableRow(
        name,
        "peak growth of memory",
        f"{away.peak_growth / MEBIBYTE:.0f} MiB",
        "destination there",
        f"{there.peak_growth / MEBIBYTE:.0f} MiB",
        ratio(away.peak_growth, there.peak_growth),
        f"<= {MOST_GROWTH / MEBIBYTE:.0f} MiB",
        is_within(away.peak_growth, MOST_GROWTH),
        f"with the return; {away.resident / MEBIBYTE:.0f} MiB before",
    )
    yield TableRow(
        name,
        "CPU per change, without rsync",
        seconds_text(away.own_cpu / changes),
        "destination there",
        seconds_text(there.own_cpu / changes),
        ratio(away.own_cpu, there.own_cpu),
        note=" ".join(filter(None, (_rsync_text(there, changes), away.note, there.note))),
    )
    for measure, mine, yours in (
        ("asked to try again to equal", away.back, bare.wall),
        ("the same, CPU in all", away.back_cpu, bare.cpu),
    ):
        yield TableRow(
            name, measure, seconds_text(mine), "bare full rsync", seconds_text(yours),
            ratio(mine, yours),
        )  # fmt: skip


def _rsync_text(there: _Figures, changes: int) -> str:
    return f"rsync's, destination there: {seconds_text(there.children_cpu / changes)}"


CASES = (
    Outage(
        "outage",
        1000,
        100,
        1_000_000,
        "1,000,000 distinct changes while rsync exits 30: each of 100,000 files in 1,000"
        " directories overwritten, 900,000 symlinks made and deleted at once beside them; window"
        " 2 s",
    ),
)
