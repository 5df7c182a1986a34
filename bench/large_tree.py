"""A source of many files, in sync with a local directory and with a module of an rsync daemon."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import workloads
from equality import differences_text
from measure import MeasurementFailed, wait_until
from peers import Peers, Run, clone, remove
from rsyncd import RsyncDaemon

CHANGED_FILES = 10
CTIME_SLACK_SECONDS = 3.0
"""Between a change and a scan that must not find it: pylsyncd allows ctimes 2 s of slack."""

_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


class LargeTree(NamedTuple):
    """The paths of a large tree and its copies."""

    source: str
    empty: str
    """An empty source, to measure the fixed cost of a start."""
    copies: tuple[str, str]
    """The directories of the destinations: the local one and that of the module."""
    destinations: tuple[str, str]
    """The destinations as command line arguments."""
    empty_destinations: tuple[str, str]
    directories: int

    def change(self, turn: int) -> list[bytes]:
        """Overwrite a file in each of ten directories; return their names, with ``./``."""
        step = max(1, self.directories // (CHANGED_FILES + 1))
        names = [f"d{(place + 1) * step}/f{turn}" for place in range(CHANGED_FILES)]
        for name in names:
            workloads.write(f"{self.source}/{name}", b"turn %d of %s" % (turn, name.encode()))
        return [b"./" + name.encode() for name in names]

    def check(self) -> None:
        """Raise ``MeasurementFailed`` unless both destinations are equal to the source."""
        if wrong := differences_text(self.source, self.copies):
            raise MeasurementFailed(wrong)


@contextlib.contextmanager
def large_tree(peers: Peers, directories: int, files_each: int) -> Iterator[LargeTree]:
    """Create the tree and its copies, and run the rsync daemon for one of them."""
    for name in os.listdir(peers.scratch):
        remove(f"{peers.scratch}/{name}")
    top = peers.scratch
    source, empty, local, module = (
        f"{top}/{name}" for name in ("source", "empty", "copy", "module")
    )
    for path in (source, empty, module, f"{local}-of-empty", f"{module}/empty"):
        os.mkdir(path)
    workloads.make_tree(source, directories, files_each, b"x" * 100)
    for path in (local, f"{module}/copy"):
        clone(source, path)
    with RsyncDaemon(top, module) as daemon:
        time.sleep(CTIME_SLACK_SECONDS)
        yield LargeTree(
            source,
            empty,
            (local, f"{module}/copy"),
            (local, f"{daemon.url}/copy"),
            (f"{local}-of-empty", f"{daemon.url}/empty"),
            directories,
        )


def plain_walk(top: str) -> Run:
    """Walk a tree with lstat in a process of its own; return its usage."""
    script = f"{os.path.dirname(os.path.abspath(__file__))}/plain_walk.py"
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, script, top], stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementFailed(f"the plain walk exited {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - begun)


def files_sent(log: str) -> int:
    """Return the number of synced files in pylsyncd's log."""
    return sum(int(count) for count in re.findall(r"\] synced (\d+) file", log))


def bytes_sent(log: str) -> float:
    """Return the number of sent bytes in pylsyncd's log."""
    found = re.findall(r"([\d.]+) (\w+) sent,", log)
    return sum(float(size) * _SIZES[unit] for size, unit in found)


def bytes_sent_by_lsyncd(log: str) -> float:
    """Return the number of sent bytes in lsyncd's log, from rsync --stats."""
    found: Sequence[str] = re.findall(r"Total bytes sent: ([\d,.]+)", log)
    return sum(float(re.sub(r"\D", "", size)) for size in found)


def size_text(count: float) -> str:
    """Return a number of bytes in three digits."""
    unit = next((unit for unit in ("GB", "MB", "kB") if count >= _SIZES[unit]), "B")
    return f"{count / _SIZES[unit]:.3g} {unit}"


def wait_copied(tree: LargeTree, names: Sequence[bytes], seconds: float) -> float:
    """Return the monotonic time at which all copies had the contents of these files."""
    expected = {name: _read(tree.source, name) for name in names}

    def copied() -> bool:
        return all(_read(top, name) == expected[name] for top in tree.copies for name in names)

    if not wait_until(copied, seconds, poll=0.005):
        raise MeasurementFailed(f"not copied in {seconds:.0f} s")
    return time.monotonic()


def _read(top: str, name: bytes) -> bytes:
    with open(os.path.join(os.fsencode(top), name), "rb") as file:
        return file.read()
