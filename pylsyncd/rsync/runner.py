"""Runs rsync, and reads what it says."""

import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pylsyncd.model.formatting import printable
from pylsyncd.rsync.command import PROGRESS_OPTION
from pylsyncd.rsync.output import LineSplitter, RsyncMessages
from pylsyncd.rsync.output import ProgressSplitter, RsyncProgress
from pylsyncd.rsync.stall_detector import StallDetector
from pylsyncd.rsync.version import rsync_environment
from pylsyncd.system import processes
from pylsyncd.system.processes import GracefulStop, Process

# A line of "%i %n%L": what was done, in 11 characters (`>f+++++++++`, `*deleting  `), and the name.
_ITEM = re.compile(rb"[<>ch.*][fdLDS][^ ]{9} |\*deleting   ")
_STATISTIC = re.compile(
    rb"(?:Number of|Total|Literal|Matched|File list) .*?: "
    rb"|sent \d+ bytes|total size is|created \d* ?dir"
)
_TRANSFERRED = re.compile(rb"Number of regular files transferred: (\d+)")
_CREATED = re.compile(rb"Number of created files: (\d+)(?: \(reg: (\d+))?")
_DELETED = re.compile(rb"Number of deleted files: (\d+)")
_DELETION = re.compile(rb"deleting |\*deleting   ")
_BYTES_SENT = re.compile(rb"Total bytes sent: (\d+)")

# The shell's exit status for a program that is not there, and rsync's own ones for a lack of
# processes and for directories that cannot be used.
_NO_PROGRAM = 127
_NO_PROCESS = 14
_NO_DIRECTORY = 3

# Seconds that what an rsync has started has, when that has failed or was ended.
_CLEANING = 1.0


@dataclass(slots=True)
class RunResult:
    """What one rsync did. ``code`` is its exit status, negative for the signal that ended it."""

    exit_status: int = 0
    files: int = 0
    """Files whose content was sent, and links, directories and devices that were created.

    What only got other attributes is not counted: rsync tells that only line by line, and that
    costs it a fifth more CPU (200,000 new files, rsync 3.5.0).
    """
    deleted: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    stall_reason: str = ""
    """What was seen of an rsync that was ended since it made no progress; else empty."""
    messages: RsyncMessages = field(default_factory=RsyncMessages)
    """What rsync said, its counters left out."""


class Runner:
    """Runs one rsync at a time; another thread may end it."""

    def __init__(self, marks: Mapping[str, str] | None = None) -> None:
        """Make one; ``marks`` are added to the environment of what is run."""
        self._marks = dict(marks or {})
        self._process: Process | None = None
        # Held by whoever signals or buries the process: its number is another one's afterwards.
        self._lock = threading.Lock()

    def run(  # noqa: PLR0913  # what is not needed for every run has a name and a default
        self,
        command: Sequence[bytes],
        standard_input: bytes,
        on_item: Callable[[str], None] | None = None,
        *,
        directory: int | None = None,
        stall_timeout: float = 900.0,
        on_progress: Callable[[RsyncProgress], None] | None = None,
    ) -> RunResult:
        """Run a command with ``content`` as its standard input, and return what it did.

        ``show`` is called with every line on which rsync says what it did to a path, printable.
        ``directory`` is an open descriptor: rsync runs there whatever its name stands for now.
        After ``silence`` seconds without any progress rsync is ended; that should be longer than
        its own --timeout, which tells more of what is wrong. ``progress`` is called with how far it
        is whenever it says so, if the command asks for that.
        """
        run = RunResult()
        started = time.monotonic()
        try:
            # Who wants it to end meanwhile waits until it can be told.
            with self._lock:
                process = self._process = processes.start_process(
                    command, standard_input, {**rsync_environment(), **self._marks}, directory
                )
        except OSError as error:
            _explain(error, command, directory, run)
            return run
        heed = (on_progress or _pass_over) if PROGRESS_OPTION in command else None
        try:
            self._attend(process, run, _OutputParser(run, on_item, heed), stall_timeout)
        except OSError as error:
            # For lack of a descriptor it could not be heard, and was ended.
            _explain(error, command, directory, run)
        finally:
            self._process = None
        run.seconds = time.monotonic() - started
        return run

    def _attend(
        self, process: Process, run: RunResult, hearing: "_OutputParser", silence: float
    ) -> None:
        """Hear what rsync says until it has ended, with all that it has started."""
        with process:
            try:
                _RunMonitor(process, run, hearing, silence, self.send_signal).wait()
                if not processes.has_succeeded(process.pid):
                    # The side that writes removes what it has begun to write.
                    processes.wait_for_group(process.pid, _CLEANING)
            finally:
                with self._lock:
                    # What it has left behind: a remote shell that does not end, for example.
                    processes.send_signal_to_group(process, signal.SIGKILL)
                    run.exit_status = process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and to all that it has started."""
        with self._lock:
            process = self._process
            if process is not None and process.returncode is None:
                processes.send_signal_to_group(process, number)


def _explain(
    error: OSError, command: Sequence[bytes], directory: int | None, run: RunResult
) -> None:
    """Say why rsync could not be run, with the exit status that it would have had."""
    if directory is not None and error.filename == processes.descriptor_path(directory):
        run.exit_status, what = _NO_DIRECTORY, "cannot start in the source"
    else:
        # A program that is not there is for a person to mend, a lack of resources passes.
        is_missing = isinstance(error, (FileNotFoundError, PermissionError))
        run.exit_status, what = _NO_PROGRAM if is_missing else _NO_PROCESS, "cannot be run"
    run.messages.add(b"%b %b: %b" % (command[0], what.encode(), str(error.strerror).encode()))


class _RunMonitor:
    """Reads what an rsync says until it ends, and ends it when it makes no progress."""

    def __init__(
        self,
        process: Process,
        run: RunResult,
        hearing: "_OutputParser",
        silence: float,
        end: Callable[[signal.Signals], None],
    ) -> None:
        self._process = process
        self._run = run
        self._hearing = hearing
        self._stop = GracefulStop(end)
        self._watch = StallDetector(process.pid, silence)

    def wait(self) -> None:
        """Return when the process has ended, whoever else still holds its outputs open."""
        outputs = (
            (self._process.stdout, self._hearing.lines()),
            (self._process.stderr, LineSplitter(self._run.messages.add)),
        )
        heard = {stream.fileno(): lines for stream, lines in outputs if stream is not None}
        hear = {output: partial(self._hear, lines) for output, lines in heard.items()}
        processes.read_until_exit(self._process, hear, self._mind)
        for lines in heard.values():
            lines.finish()

    def _hear(self, lines: LineSplitter, chunk: bytes) -> None:
        self._watch.record_output()
        lines.feed(chunk)

    def _mind(self) -> float:
        """Stop an rsync that makes no progress; return the seconds until the next check."""
        if self._stop.is_requested:
            return self._stop.kill_if_due()
        self._run.stall_reason = self._watch.stall_reason()
        if self._run.stall_reason:
            self._stop.request(processes.STOP_TIMEOUT)
        return self._watch.check_interval


class _OutputParser:
    """Takes apart what an rsync says on its standard output."""

    def __init__(
        self,
        run: RunResult,
        show: Callable[[str], None] | None,
        progress: Callable[[RsyncProgress], None] | None,
    ) -> None:
        self._run = run
        self._show = show
        self._progress = progress

    def lines(self) -> LineSplitter:
        """Return what is to be fed with the output."""
        if self._progress is None:
            return LineSplitter(self._take)
        return ProgressSplitter(self._take, self._progress)

    def _take(self, line: bytes) -> None:
        """Take a line of the standard output: a counter, a message, or what is to be shown."""
        if _STATISTIC.match(line):
            _count(line, self._run)
            return
        is_deletion = _DELETION.match(line) is not None
        self._run.deleted += is_deletion
        if self._show is not None and _ITEM.match(line):
            self._show(printable(line.decode("ascii", "backslashreplace")))
        elif not is_deletion:
            self._run.messages.add(line)


def _pass_over(_transferred: RsyncProgress) -> None:
    """Take no note of how far it is."""


def _count(line: bytes, run: RunResult) -> None:
    """Take a counter."""
    if found := _TRANSFERRED.match(line):
        run.files += int(found[1])
    elif found := _CREATED.match(line):
        run.files += int(found[1]) - int(found[2] or 0)
    elif found := _DELETED.match(line):
        # A daemon before 3.5 says 0, whatever it has named before.
        run.deleted = max(run.deleted, int(found[1]))
    elif found := _BYTES_SENT.match(line):
        run.bytes_sent = int(found[1])
