"""Runs rsync: the only module that creates processes."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylsyncd.commands import OLDEST_RSYNC, Version
from pylsyncd.errors import UsageError

# What is kept of an rsync's messages, so that a flood of them does not fill the memory.
_MESSAGES_KEPT = 200
_LONGEST_MESSAGE = 2000

# A line of "%i %n%L": what was done, in 11 characters (`>f+++++++++`, `*deleting  `), and the name.
_ITEM = re.compile(rb"[<>ch.*][fdLDS][^ ]{9} |\*deleting   ")
_STATISTIC = re.compile(
    rb"(?:Number of|Total|Literal|Matched|File list) .*?: "
    rb"|sent \d+ bytes|total size is|created \d* ?dir"
)
_TRANSFERRED = re.compile(rb"Number of regular files transferred: (\d+)")
_CREATED = re.compile(rb"Number of created files: (\d+)(?: \(reg: (\d+))?")
_DELETED = re.compile(rb"Number of deleted files: (\d+)")
_BYTES_SENT = re.compile(rb"Total bytes sent: (\d+)")


@dataclass(slots=True)
class Run:
    """What one rsync did. ``code`` is its exit status, negative for the signal that ended it."""

    code: int = 0
    files: int = 0
    """Files whose content was sent, and links, directories and devices that were created.

    What only got other attributes is not counted: rsync tells that only line by line, and that
    costs it a fifth more CPU (200,000 new files, rsync 3.5.0).
    """
    deleted: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=_MESSAGES_KEPT))
    """The last lines of what rsync said, its counters left out."""


def version(program: str) -> Version:
    """Return the version of an rsync. Raises UsageError if there is none, or it is too old."""
    try:
        answer = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"{program} cannot be run: {error.strerror}. "
            "Install rsync, or name the program with --rsync."
        ) from None
    found = re.match(rb"rsync +version v?(\d+)\.(\d+)\.(\d+)", answer.stdout)
    if not found:
        raise UsageError(f"{program} does not answer to --version as rsync does.")
    number = int(found[1]), int(found[2]), int(found[3])
    if number < OLDEST_RSYNC:
        raise UsageError(
            f"{program} is rsync {'.'.join(map(str, number))}; "
            f"{'.'.join(map(str, OLDEST_RSYNC))} or later is needed."
        )
    return number


def environment() -> dict[str, str]:
    """Return the environment for rsync: messages untranslated, arguments quoted as we expect."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**kept, "LC_ALL": "C"}


_UNWANTED = frozenset(["RSYNC_OLD_ARGS", "RSYNC_PROTECT_ARGS", "RSYNC_RSH", "LANGUAGE"])


# The shell's exit status for a program that is not there, and rsync's own for a lack of pipes.
_NO_PROGRAM = 127
_NO_PROCESS = 14


class Runner:
    """Runs one rsync at a time; another thread may end it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, command: Sequence[bytes], content: bytes, show: Callable[[str], None] | None = None
    ) -> Run:
        """Run a command with ``content`` as its standard input, and return what it did.

        ``show`` is called with every line on which rsync says what it did to a path.
        """
        run = Run()
        started = time.monotonic()
        try:
            self._process = _start(command, content)
        except OSError as error:
            program = os.fsdecode(command[0])
            # A program that is not there is for a person to mend, a lack of resources passes.
            is_missing = isinstance(error, (FileNotFoundError, PermissionError))
            run.code = _NO_PROGRAM if is_missing else _NO_PROCESS
            run.messages.append(f"{program} cannot be run: {error.strerror}")
            return run
        with self._process as process:
            _read(process, run, show)
            run.code = process.wait()
        self._process = None
        run.seconds = time.monotonic() - started
        return run

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and to all that it has started."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _start(command: Sequence[bytes], content: bytes) -> subprocess.Popen[bytes]:
    # Memory instead of a pipe: nobody has to feed it while the output is read.
    memory = os.memfd_create("pylsyncd-list", os.MFD_CLOEXEC)
    with open(memory, "wb", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        file.seek(0)
        return subprocess.Popen(
            command,
            stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(),
            # A session of its own: the terminal's Ctrl-C is for the daemon to handle, and the
            # whole group can be ended.
            start_new_session=True,
        )  # fmt: skip


def _read(process: subprocess.Popen[bytes], run: Run, show: Callable[[str], None] | None) -> None:
    """Read what an rsync says until it closes both its outputs."""
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream.fileno(), selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fd)
                lines = (key.data + (chunk or b"\n")).split(b"\n")
                # What has no end yet waits for it, unless it is longer than any message.
                key.data[:] = lines.pop()[:_LONGEST_MESSAGE]
                for line in lines:
                    _take(line, run, show)


def _take(line: bytes, run: Run, show: Callable[[str], None] | None) -> None:
    """Take a counter, a message, or what is only to be shown."""
    if _STATISTIC.match(line):
        if found := _TRANSFERRED.match(line):
            run.files += int(found[1])
        elif found := _CREATED.match(line):
            run.files += int(found[1]) - int(found[2] or 0)
        elif found := _DELETED.match(line):
            run.deleted = int(found[1])
        elif found := _BYTES_SENT.match(line):
            run.bytes_sent = int(found[1])
    elif show is not None and _ITEM.match(line):
        show(line.decode("ascii", "backslashreplace"))
    elif line.strip():
        run.messages.append(line[:_LONGEST_MESSAGE].decode("utf-8", "backslashreplace"))
