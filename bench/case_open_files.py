"""Files that are written to and not closed: what writers that keep all processors busy cost."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kernel_queue import watched_queue
from measure import MeasurementFailed, cpu
from peers import Peers, Program, remove
from report import TableRow, is_within

SECONDS = 30.0
WINDOW_SECONDS = 2.0
MAX_SHARE = 0.05
WRITERS = os.cpu_count() or 1
OVERFLOW = "dropped events"

# Opens its share of the files, and writes a byte to one after the other.
WRITER = """
import os, sys, time
top, first, files, directories, writers, seconds = sys.argv[1], *map(int, sys.argv[2:])
opened = [
    os.open(f"{top}/d{number % directories}/f{number}", os.O_CREAT | os.O_WRONLY, 0o644)
    for number in range(first, files, writers)
]
write, end, writes = os.pwrite, time.monotonic() + seconds, 0
while time.monotonic() < end:
    for _ in range(max(1, 1000 // len(opened))):
        for descriptor in opened:
            write(descriptor, b"x", 0)
    writes += len(opened) * max(1, 1000 // len(opened))
print(writes / seconds)
"""


@dataclass(frozen=True)
class OpenFiles:
    """The share of a processor that a daemon takes beside the writers; overflows."""

    name: str
    files: int
    directories: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the writers alone, beside inotifywait and beside pylsyncd."""
        seconds = max(3, int(SECONDS * scale))
        alone = sum(self._write(_fresh(peers, self.directories)[0], seconds))
        theirs = self._beside_inotifywait(peers, seconds)
        source, destination = _fresh(peers, self.directories)
        window = f"{WINDOW_SECONDS:g}"
        with peers.start_pylsyncd(source, [destination], "-w", window) as program:
            share, rate, most_events = self._measure(program, source, seconds)
            has_overflowed = OVERFLOW in program.logged()
        yield TableRow(
            self.name,
            "share of a processor",
            f"{share:.1%}",
            "inotifywait -m -e modify",
            theirs,
            "-",
            f"<= {MAX_SHARE:.0%}, no overflow",
            "missed" if has_overflowed else is_within(share, MAX_SHARE),
            f"{rate:,.0f} writes a second beside pylsyncd, {alone:,.0f} without it;"
            f" {most_events:,} events waited at the most"
            + ("; the queue overflowed" if has_overflowed else ""),
        )

    def _beside_inotifywait(self, peers: Peers, seconds: int) -> str:
        source, _ = _fresh(peers, self.directories)
        try:
            with peers.start_inotifywait(source, "modify") as program:
                share, _, _ = self._measure(program, source, seconds)
                lost = " and lost events" if "overflow" in program.logged().lower() else ""
        except MeasurementFailed as failure:
            return str(failure)
        return f"{share:.1%}{lost}"

    def _measure(self, program: Program, source: str, seconds: int) -> tuple[float, float, int]:
        """Return the program's share of a processor, the writes a second, and its fullest queue."""
        with watched_queue(program.pid) as fill:
            before, started = cpu(program.pid), time.monotonic()
            rate = sum(self._write(source, seconds))
            share = (cpu(program.pid) - before).own / (time.monotonic() - started)
        return share, rate, fill.most_events

    def _write(self, source: str, seconds: int) -> list[float]:
        """Run the writers, and return the writes a second of each."""
        command = [sys.executable, "-c", WRITER, source]
        sizes = [str(each) for each in (self.files, self.directories, WRITERS, seconds)]
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(
                    subprocess.Popen(
                        [*command, str(number % self.files), *sizes], stdout=subprocess.PIPE
                    )
                )
                for number in range(WRITERS)
            ]
            return [float(writer.communicate()[0]) for writer in writers]


def _fresh(peers: Peers, directories: int) -> tuple[str, str]:
    source, destination = f"{peers.scratch}/source", f"{peers.scratch}/destination"
    for path in (source, destination):
        remove(path)
        os.mkdir(path)
    for number in range(directories):
        os.mkdir(f"{source}/d{number}")
    return source, destination


def _case(files: int, directories: int) -> OpenFiles:
    where = "a directory" if directories == 1 else f"{directories:,} directories"
    return OpenFiles(
        f"open-files-{files}" + (f"-{directories}" if directories > 1 else ""),
        files,
        directories,
        f"{WRITERS} writers of single bytes to {files:,} open files in {where},"
        f" for {SECONDS:g} s with a window of {WINDOW_SECONDS:g} s",
    )


CASES = (_case(1, 1), _case(100, 1), _case(10_000, 1), _case(10_000, 100), _case(10_000, 10_000))
