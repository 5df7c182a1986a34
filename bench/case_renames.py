"""What is renamed: a directory, many small files, and logs that are rotated; on each transport."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from large_tree import bytes_sent, bytes_sent_by_lsyncd, size_text
from measure import MeasurementFailed, median, seconds_text, wait_until
from peers import REPOSITORY, Peers, Program, copy, remove
from report import TableRow, is_within, ratio
from rsyncd import RsyncDaemon

sys.path.insert(0, f"{REPOSITORY}/tests")
from support.servers import SshServer, Unavailable  # the tests start one, too

WINDOW_SECONDS = 0.5
FILES_IN_DIRECTORY = 100
LOG_FILES = 5
POLL_SECONDS = 0.002
LSYNCD_SECONDS = 30.0


@dataclass(frozen=True)
class _Transport:
    """How to reach a directory: the notation without its last slash, and options for both."""

    name: str
    destination: str
    options: tuple[str, ...] = ()
    rsh: str = ""
    """The remote shell, if any."""


@dataclass(frozen=True)
class Renames:
    """Something is renamed in turn, with and without the detection of renames."""

    name: str
    files: int
    size: int
    """Bytes of each file."""
    change: Callable[[str, int], None]
    """Called with the source and the size of a new file."""
    max_sent: int | None
    """The goal for the bytes sent in a turn; None for what is new in it, and a tenth more."""
    transports: tuple[str, ...]
    turns: int
    what: str
    has_lsyncd: bool = True
    """Whether lsyncd's rsyncssh is measured, too."""

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the daemon with and without the detection, and a bare rsync."""
        files = max(LOG_FILES, int(self.files * scale))
        top = f"{peers.scratch}/destination"
        for name in self.transports:
            with contextlib.ExitStack() as stack:
                try:
                    remove(top)
                    os.mkdir(top)
                    transport = _start(stack, peers, name, top)
                    yield from self._rows(peers, transport, files, top)
                except (MeasurementFailed, Unavailable) as failure:
                    yield TableRow(self.name, name, str(failure), "-", "-", "-")

    def _rows(
        self, peers: Peers, transport: _Transport, files: int, top: str
    ) -> Iterator[TableRow]:
        source = f"{peers.scratch}/source"
        remove(source)
        _fill(source, files, self.size)
        moved = self._turns(peers, transport, source)
        sent = self._turns(peers, transport, source, "--no-detect-renames")
        bare = [self._bare(transport, source, top) for _ in range(self.turns)]
        most = self.max_sent if self.max_sent is not None else self.size * 11 // 10
        ours, theirs = median([each[0] for each in moved]), median([each[0] for each in sent])
        yield TableRow(
            self.name, f"sent, {transport.name}", size_text(ours), "--no-detect-renames",
            size_text(theirs), ratio(ours, theirs), f"<= {size_text(most)}", is_within(ours, most),
        )  # fmt: skip
        ours, theirs = median([each[1] for each in moved]), median(bare)
        yield TableRow(
            self.name, f"renamed to copied, less window, {transport.name}", seconds_text(ours),
            "bare rsync that sends", seconds_text(theirs), ratio(ours, theirs), "<= 1",
            is_within(ours / theirs, 1.0),
            f"median of {self.turns}; --no-detect-renames:"
            f" {seconds_text(median([each[1] for each in sent]))}",
        )  # fmt: skip
        if transport.rsh and self.has_lsyncd:
            yield from self._beside_lsyncd(peers, transport, source, top, moved)

    def _beside_lsyncd(
        self,
        peers: Peers,
        transport: _Transport,
        source: str,
        top: str,
        ours: list[tuple[float, float]],
    ) -> Iterator[TableRow]:
        """Compare our bytes and seconds with those of lsyncd's rsyncssh."""
        sent, seconds = (median([turn[index] for turn in ours]) for index in range(2))
        texts = (size_text(sent), seconds_text(seconds))
        try:
            theirs = self._lsyncd_turns(peers, transport, source, top)
        except MeasurementFailed as failure:
            found = (str(failure), "-"), (str(failure), "-")
        else:
            their_sent, their_seconds = (median([each[i] for each in theirs]) for i in range(2))
            found = (
                (size_text(their_sent), ratio(sent, their_sent)),
                (seconds_text(their_seconds), ratio(seconds, their_seconds)),
            )
        measures = (f"sent, {transport.name}", f"renamed to copied, less window, {transport.name}")
        for measure, text, (their_text, compared) in zip(measures, texts, found, strict=True):
            yield TableRow(
                self.name, measure, text, "lsyncd, rsyncssh", their_text, compared,
                note=f"median of {self.turns}",
            )  # fmt: skip

    def _lsyncd_turns(
        self, peers: Peers, transport: _Transport, source: str, top: str
    ) -> list[tuple[float, float]]:
        """Return the bytes sent and the seconds of each turn of lsyncd."""
        copy(source, top)
        ssh = Path(peers.scratch, "lsyncd-ssh")
        ssh.write_text(f'#!/bin/sh\nexec {transport.rsh} "$@"\n')
        ssh.chmod(0o755)
        program = peers.lsyncd_over_ssh_program(source, top, str(ssh), WINDOW_SECONDS, "--stats")
        with peers.watching(program, "Startup of"):
            return [self._lsyncd_turn(program, source, top) for _ in range(self.turns)]

    def _lsyncd_turn(self, program: Program, source: str, top: str) -> tuple[float, float]:
        before = program.logged()
        began = time.monotonic()
        self.change(source, self.size)
        if not wait_until(lambda: _is_copied(source, top), LSYNCD_SECONDS, POLL_SECONDS):
            raise MeasurementFailed(f"the copy differs after {LSYNCD_SECONDS:.0f} s")
        seconds = time.monotonic() - began - WINDOW_SECONDS
        # It may go on with what it has copied.
        program.wait_idle()
        return bytes_sent_by_lsyncd(program.logged()[len(before) :]), seconds

    def _turns(
        self, peers: Peers, transport: _Transport, source: str, *options: str
    ) -> list[tuple[float, float]]:
        """Return the bytes sent and the seconds of each turn."""
        options = ("-v", "-i", "-w", f"{WINDOW_SECONDS:g}", *transport.options, *options)
        program = peers.pylsyncd_program(source, [transport.destination], *options)
        try:
            program.wait_logged("initial sync complete")
            return [self._turn(program, source) for _ in range(self.turns)]
        finally:
            program.stop()

    def _turn(self, program: Program, source: str) -> tuple[float, float]:
        before = program.logged()
        began = time.monotonic()
        self.change(source, self.size)
        program.wait_logged("] synced ", before.count("] synced ") + 1, POLL_SECONDS)
        seconds = time.monotonic() - began - WINDOW_SECONDS
        return bytes_sent(program.logged()[len(before) :]), seconds

    def _bare(self, transport: _Transport, source: str, top: str) -> float:
        """Return the seconds in which a bare rsync sends again what was renamed."""
        remove(top)
        copy(source, top)
        self.change(source, self.size)
        began = time.monotonic()
        command = ["rsync", "-a", "--delete", *transport.options, f"{source}/"]
        subprocess.run([*command, f"{transport.destination}/"], check=True)
        return time.monotonic() - began


def _start(stack: contextlib.ExitStack, peers: Peers, name: str, top: str) -> _Transport:
    if name == "ssh":
        directory = Path(peers.scratch, "sshd")
        remove(str(directory))
        directory.mkdir()
        server = stack.enter_context(SshServer(directory))
        return _Transport(name, f"localhost:{top}", ("-e", server.rsh), server.rsh)
    if name == "rsyncd":
        return _Transport(name, stack.enter_context(RsyncDaemon(peers.scratch, top)).url)
    return _Transport(name, top)


def _fill(source: str, files: int, size: int) -> None:
    os.makedirs(f"{source}/photos")
    for number in range(files):
        directory = f"{source}/photos/{number // FILES_IN_DIRECTORY}"
        os.makedirs(directory, exist_ok=True)
        Path(directory, str(number)).write_bytes(os.urandom(size))
    for number in range(LOG_FILES):
        path = Path(source, f"log.{number}")
        path.write_bytes(os.urandom(size))
        # rsync's quick check compares seconds by default: lsyncd would take one log for another.
        os.utime(path, ns=(0, time.time_ns() - (number + 1) * 3_600_000_000_000))


def _is_copied(source: str, top: str) -> bool:
    """Return True if the copy has the same names, sizes and times."""
    try:
        return _statuses(source) == _statuses(top)
    except OSError:  # it is just being moved
        return False


def _statuses(top: str) -> dict[str, tuple[int, int]]:
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            found[os.path.relpath(path, top)] = status.st_size, status.st_mtime_ns
    return found


def _rename_directory(source: str, _size: int) -> None:
    names = "photos", "archive"
    old, new = names if os.path.exists(f"{source}/photos") else names[::-1]
    os.rename(f"{source}/{old}", f"{source}/{new}")


def _rotate(source: str, size: int) -> None:
    for number in reversed(range(LOG_FILES - 1)):
        os.rename(f"{source}/log.{number}", f"{source}/log.{number + 1}")
    Path(source, "log.0").write_bytes(os.urandom(size))


CASES = (
    Renames(
        "rename-directory", 2_000, 100_000, _rename_directory, 100_000,
        ("local", "ssh", "rsyncd"), 3,
        "a directory of 2,000 files of 100 kB gets another name, window 0.5 s",
    ),
    Renames(
        "rename-small", 100_000, 100, _rename_directory, 100_000_000,
        ("local", "ssh", "rsyncd"), 1,
        "a directory of 100,000 files of 100 B gets another name, window 0.5 s",
        has_lsyncd=False,
    ),
    Renames(
        "rename-logs", LOG_FILES, 20_000_000, _rotate, None, ("local", "ssh"), 3,
        "five logs of 20 MB are rotated, window 0.5 s",
    ),
)  # fmt: skip
