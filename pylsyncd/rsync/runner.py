"""Runs rsync, and parses its output; runs other programs of a remote shell."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from pylsyncd.model.formatting import printable
from pylsyncd.rsync.command import PROGRESS_OPTION
from pylsyncd.rsync.output import (
    LineSplitter,
    MessageCallback,
    ProgressSplitter,
    RsyncMessages,
    RsyncProgress,
)
from pylsyncd.rsync.output_capture import CapturedOutput, OutputCapture
from pylsyncd.rsync.stall_detector import StallDetector
from pylsyncd.rsync.version import rsync_environment
from pylsyncd.system import processes
from pylsyncd.system.processes import GracefulStop, Process

# A line of "%i %n%L": the action in 11 characters (`>f+++++++++`, `*deleting  `), and the name.
_ITEM = re.compile(rb"[<>ch.*][fdLDS][^ ]{9} |\*deleting   ")
# What --info=flist1 prints, on one line unless a message comes between.
_LIST_BEGUN = b"building file list ... "
_LIST_COMPLETE = b"done"
_STATISTIC = re.compile(
    rb"(?:Number of|Total|Literal|Matched|File list) .*?: "
    rb"|sent \d+ bytes|total size is|created \d* ?dir"
)
# No count has more digits than 2^63. A longer one is not rsync's, and is ignored.
_NUMBER = rb"(\d{1,19})(?!\d)"
_TRANSFERRED = re.compile(rb"Number of regular files transferred: " + _NUMBER)
_CREATED = re.compile(rb"Number of created files: " + _NUMBER + rb"(?: \(reg: " + _NUMBER + rb")?")
_DELETED = re.compile(rb"Number of deleted files: " + _NUMBER)
_DELETION = re.compile(rb"deleting |\*deleting   ")
_LITERAL = re.compile(rb"Literal data: " + _NUMBER)
_MATCHED = re.compile(rb"Matched data: " + _NUMBER)
_BYTES_SENT = re.compile(rb"Total bytes sent: " + _NUMBER)
# A destination may repeat its counters without end.
_MAX_FILES = 10**19

# The exit statuses of a shell for a missing program, and of rsync for a lack of processes and for
# an unusable directory.
_NO_PROGRAM = 127
_NO_PROCESS = 14
_NO_DIRECTORY = 3

# Seconds that the other processes of a failed rsync have to remove their temporary files.
_CLEANUP_TIMEOUT = 3.0


@dataclass(slots=True)
class RunResult:
    """What one rsync did."""

    exit_status: int = 0
    """Negative for the signal that ended it."""
    files: int = 0
    """Files whose content was sent, and links, directories and devices that were created.

    Paths of which only the attributes changed are not counted: rsync reports them only line by
    line, which costs it a fifth more CPU time (200,000 new files, rsync 3.5.0).
    """
    transferred: int = 0
    """Those of them whose content was sent."""
    deleted: int = 0
    bytes_sent: int = 0
    literal_bytes: int = 0
    """What was sent of the contents of files."""
    matched_bytes: int = 0
    """What the copies already had of the contents of the sent files."""
    moved_files: int = 0
    """Files that were moved at the destination before the run, instead of sent."""
    moved_bytes: int = 0
    seconds: float = 0.0
    listed_ns: int = 0
    """When rsync had looked at all that it was given in a list, by the wall clock in nanoseconds.

    Copies get the times that it has seen then. It is 0 if rsync has not said so.
    """
    stall_reason: str = ""
    """Why the run was stopped as stalled; else empty."""
    messages: RsyncMessages = field(default_factory=RsyncMessages)
    """The output of rsync without its counters."""

    def add(self, other: "RunResult") -> None:
        """Add what another run of the same sync has done, and its time."""
        self.files += other.files
        self.transferred += other.transferred
        self.deleted += other.deleted
        self.bytes_sent += other.bytes_sent
        self.literal_bytes += other.literal_bytes
        self.matched_bytes += other.matched_bytes
        self.seconds += other.seconds


class Runner:
    """The rsync that one thread runs at a time, and that other threads may send a signal."""

    def __init__(self, marks: Mapping[str, str] | None = None) -> None:
        """Create one; ``marks`` are added to the environment of each rsync."""
        self._marks = dict(marks or {})
        self._process: Process | None = None
        # Held while the process is signalled or reaped: afterwards its pid may be another's.
        self._lock = threading.Lock()

    def run(  # noqa: PLR0913  # the optional ones are passed by name
        self,
        command: Sequence[bytes],
        standard_input: bytes,
        on_item: Callable[[str], None] | None = None,
        *,
        directory: int | None = None,
        stall_timeout: float = 900.0,
        on_progress: Callable[[RsyncProgress], None] | None = None,
        on_message: MessageCallback | None = None,
    ) -> RunResult:
        """Run a command and return what it did.

        ``on_item`` is called with each line that says what rsync did to a path, printable.
        ``directory`` is an open descriptor: rsync runs there even if the directory is renamed. In
        the messages that are kept, its path is what people call it.
        After ``stall_timeout`` seconds without progress rsync is stopped; make that longer than
        rsync's own --timeout, whose message says more. ``on_progress`` is called with each progress
        that rsync prints, if the command asks for it, and ``on_message`` with each of its messages.
        """
        messages = RsyncMessages(on_message=on_message, source=_path_of(directory))
        result = RunResult(messages=messages)
        started = time.monotonic()
        try:
            # A signal waits until there is a process to send it to.
            with self._lock:
                process = self._process = processes.start_process(
                    command, standard_input, {**rsync_environment(), **self._marks}, directory
                )
        except OSError as error:
            _record_failure(error, command, directory, result)
            return result
        has_progress = PROGRESS_OPTION in command
        try:
            progress = (on_progress or _ignore_progress) if has_progress else None
            parser = _OutputParser(result, on_item, progress)
            monitor = _RunMonitor(process, result, parser, stall_timeout, self.send_signal)
            result.exit_status = self._wait(process, monitor.wait)
        except OSError as error:
            # Too few descriptors to read the output; rsync has been stopped.
            _record_failure(error, command, directory, result)
        finally:
            self._process = None
        result.seconds = time.monotonic() - started
        return result

    def capture(  # noqa: PLR0913  # the optional ones are passed by name
        self,
        command: Sequence[bytes],
        standard_input: bytes,
        *,
        directory: int,
        max_bytes: int,
        timeout: float,
        detaches: bool = False,
    ) -> CapturedOutput:
        """Run a program that is not rsync, and return what it prints.

        It is stopped after ``timeout`` seconds, or when it prints more than ``max_bytes``, of which
        one byte more is returned. One that ``detaches`` may leave a process in a session of its
        own when it succeeds. Raises OSError.
        """
        with self._lock:
            process = self._process = processes.start_process(
                command, standard_input, {**rsync_environment(), **self._marks}, directory
            )
        capture = OutputCapture(process, self.send_signal, max_bytes=max_bytes, timeout=timeout)
        try:
            exit_status = self._wait(process, capture.wait, detaches=detaches)
        finally:
            self._process = None
        output, messages = bytes(capture.output), bytes(capture.messages)
        return CapturedOutput(exit_status, output, messages, capture.has_timed_out)

    def _wait(
        self, process: Process, read_output: Callable[[], None], *, detaches: bool = False
    ) -> int:
        """Read the output of a program until it and all its children have ended."""
        with process:
            try:
                read_output()
                if detaches or not processes.has_succeeded(process.pid):
                    # The receiving process removes its temporary file, and a process that is about
                    # to detach still belongs to the group.
                    processes.wait_for_group(process.pid, _CLEANUP_TIMEOUT)
            except BaseException:
                self.send_signal(signal.SIGTERM)
                with suppress(OSError):
                    processes.wait_for_group(process.pid, _CLEANUP_TIMEOUT)
                raise
            finally:
                with self._lock:
                    # Kill what rsync left behind, for example a remote shell that hangs.
                    processes.send_signal_to_group(process, signal.SIGKILL)
                    exit_status = process.wait()
        return exit_status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and all its children."""
        with self._lock:
            process = self._process
            if process is not None and process.returncode is None:
                processes.send_signal_to_group(process, number)


def _path_of(directory: int | None) -> bytes:
    """Return the path of an open directory; nothing if it has none, or one that is too long."""
    if directory is not None:
        with suppress(OSError):
            return os.readlink(os.fsencode(processes.descriptor_path(directory)))
    return b""


def _record_failure(
    error: OSError, command: Sequence[bytes], directory: int | None, result: RunResult
) -> None:
    """Record why rsync could not run, with the exit status that rsync or a shell would use."""
    if directory is not None and error.filename == processes.descriptor_path(directory):
        result.exit_status, what = _NO_DIRECTORY, "cannot start in the source"
    else:
        # A missing program needs an administrator; a lack of resources passes.
        is_missing = isinstance(error, (FileNotFoundError, PermissionError))
        result.exit_status, what = _NO_PROGRAM if is_missing else _NO_PROCESS, "cannot be run"
    result.messages.add(b"%b %b: %b" % (command[0], what.encode(), str(error.strerror).encode()))


class _RunMonitor:
    """A running rsync whose output is read until it ends, and that is stopped when it stalls."""

    def __init__(
        self,
        process: Process,
        result: RunResult,
        parser: "_OutputParser",
        stall_timeout: float,
        send_signal: Callable[[signal.Signals], None],
    ) -> None:
        self._process = process
        self._result = result
        self._parser = parser
        self._stop = GracefulStop(send_signal)
        self._stall_detector = StallDetector(process.pid, stall_timeout)

    def wait(self) -> None:
        """Return when the process has ended, even if another one holds its outputs open."""
        outputs = (
            (self._process.stdout, self._parser.splitter()),
            (self._process.stderr, LineSplitter(self._result.messages.add)),
        )
        splitters = {stream.fileno(): each for stream, each in outputs if stream is not None}
        readers = {output: partial(self._read, each) for output, each in splitters.items()}
        processes.read_until_exit(self._process, readers, self._check_stalled)
        for splitter in splitters.values():
            splitter.finish()

    def _read(self, splitter: LineSplitter, chunk: bytes) -> None:
        self._stall_detector.record_output()
        splitter.feed(chunk)

    def _check_stalled(self) -> float:
        """Stop an rsync that makes no progress; return the seconds until the next check."""
        if self._stop.is_requested:
            return self._stop.kill_if_due()
        self._result.stall_reason = self._stall_detector.stall_reason()
        if self._result.stall_reason:
            self._stop.request(processes.STOP_TIMEOUT)
        return self._stall_detector.check_interval


class _OutputParser:
    """A parser of the standard output of one rsync, for its result and the callbacks."""

    def __init__(
        self,
        result: RunResult,
        on_item: Callable[[str], None] | None,
        on_progress: Callable[[RsyncProgress], None] | None,
    ) -> None:
        self._result = result
        self._on_item = on_item
        self._on_progress = on_progress
        self._is_list_unfinished = False

    def splitter(self) -> LineSplitter:
        """Return the splitter to feed with the output."""
        if self._on_progress is None:
            return LineSplitter(self._parse_line)
        return ProgressSplitter(self._parse_line, self._on_progress)

    def _parse_line(self, line: bytes) -> None:
        if self._is_about_list(line):
            return
        if _STATISTIC.match(line):
            _add_counter(line, self._result)
            return
        is_deletion = _DELETION.match(line) is not None
        self._result.deleted += is_deletion
        if self._on_item is not None and _ITEM.match(line):
            self._on_item(printable(line.decode("ascii", "backslashreplace")))
        elif not is_deletion:
            self._result.messages.add(line)

    def _is_about_list(self, line: bytes) -> bool:
        """Return True if a line says that rsync builds its list; record when that is complete."""
        is_begun = line.startswith(_LIST_BEGUN)
        end = line[len(_LIST_BEGUN) :] if is_begun else line
        is_complete = (is_begun or self._is_list_unfinished) and end == _LIST_COMPLETE
        if is_complete:
            self._result.listed_ns = time.time_ns()
        if is_begun or is_complete:
            self._is_list_unfinished = not is_complete
        return is_begun or is_complete


def _ignore_progress(_progress: RsyncProgress) -> None:
    """Ignore progress that has no other receiver."""


def _add_counter(line: bytes, result: RunResult) -> None:
    if found := _TRANSFERRED.match(line):
        result.transferred = int(found[1])
        result.files = min(_MAX_FILES, result.files + result.transferred)
    elif found := _CREATED.match(line):
        others = max(0, int(found[1]) - int(found[2] or 0))
        result.files = min(_MAX_FILES, result.files + others)
    elif found := _DELETED.match(line):
        # A daemon before 3.5 prints 0, whatever it has named before.
        result.deleted = max(result.deleted, int(found[1]))
    elif found := _LITERAL.match(line):
        result.literal_bytes = int(found[1])
    elif found := _MATCHED.match(line):
        result.matched_bytes = int(found[1])
    elif found := _BYTES_SENT.match(line):
        result.bytes_sent = int(found[1])
