"""Compares destinations with the source and changes nothing (--check)."""

import contextlib
import logging
import queue
import re
import signal
from collections.abc import Collection, Iterator
from types import FrameType

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.formatting import format_count
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities
from pylsyncd.rsync.outcomes import Verdict, interpret
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.system import walk
from pylsyncd.system.processes import terminate
from pylsyncd.system.threads import SupervisedThread, join_all
from pylsyncd.worker.failure_reporter import addressed

log = logging.getLogger(__name__)

# "%i %n%L": eleven letters that tell what differs, and the name.
_ITEM = re.compile(r"(?P<kind>[<>ch.*].)(?P<attributes>.{9}) (?P<name>.*)", re.DOTALL)

_TRUSTED = " (contents of the same size and time are taken for equal without --checksum)"

_ATTRIBUTES = {
    "c": "content",
    "s": "size",
    "t": "time",
    "T": "time",
    "p": "mode",
    "o": "owner",
    "g": "group",
    "u": "access time",
    "a": "ACL",
    "x": "extended attributes",
}

# A slow reader makes rsync wait once so many lines are queued; a long wait makes its peer time out.
_MAX_QUEUED_LINES = 10_000

# Seconds: between two checks for a signal; from SIGTERM to SIGKILL; to giving up on an rsync that
# waits for a file system that does not respond.
_SIGNAL_CHECK_INTERVAL = 0.1
_KILL_AFTER = 2.0
_GIVE_UP_AFTER = 5.0

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_LineQueue = queue.Queue[str | None]
"""Lines of the report, and None from each comparison that has ended."""


def compare_destinations(sync: SyncSettings, *, checksum: bool) -> Iterator[str]:
    """Yield a line for each path that differs and each destination that cannot be compared.

    No line means that all copies are equal. Contents are compared by size and time, with
    ``checksum`` byte by byte. What changes during the comparison is reported as different. Call it
    from the main thread: the first SIGINT, SIGTERM or SIGHUP raises SystemExit. When the iterator
    is closed, no rsync is running.
    """
    lines: _LineQueue = queue.Queue(_MAX_QUEUED_LINES)
    comparisons = [
        _Comparison(sync, settings, lines, checksum=checksum) for settings in sync.destinations
    ]
    with _StopSignals() as signals:
        try:
            for comparison in comparisons:
                comparison.start()
            yield from _read_lines(lines, len(comparisons), signals)
        finally:
            _stop(comparisons, lines)


class _StopSignals:
    """The handlers of the signals that stop the program: the first signal raises SystemExit.

    It is raised at once only inside `raised_at_once`; elsewhere, where that could leave a lock
    locked, `check` raises it.
    """

    def __init__(self) -> None:
        # An ignored signal stays ignored: under nohup, and for a background job of a shell.
        self._numbers = [
            number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._message = ""
        self._can_raise = False

    def __enter__(self) -> "_StopSignals":  # noqa: PYI034  # typing.Self needs Python 3.11
        self._before = [(number, signal.signal(number, self._handle)) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    @contextlib.contextmanager
    def raised_at_once(self) -> Iterator[None]:
        """Raise SystemExit as soon as a signal arrives."""
        self._can_raise = True
        try:
            self.check()
            yield
        finally:
            self._can_raise = False

    def check(self) -> None:
        """Raise SystemExit if a signal has arrived."""
        if self._message:
            raise SystemExit(self._message)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        for each in self._numbers:
            signal.signal(each, signal.SIG_IGN)
        name = signal.Signals(number).name
        self._message = f"pylsyncd: stopped by {name} before the comparison was complete."
        if self._can_raise:
            self.check()


def _read_lines(lines: _LineQueue, running: int, signals: _StopSignals) -> Iterator[str]:
    while running:
        signals.check()
        try:
            line = lines.get(timeout=_SIGNAL_CHECK_INTERVAL)
        except queue.Empty:
            continue
        if line is None:
            running -= 1
            continue
        # The caller may block while it writes the line.
        with signals.raised_at_once():
            yield line


def _stop(comparisons: Collection["_Comparison"], lines: _LineQueue) -> None:
    """Stop the comparisons that are still running."""

    def send_signal(number: signal.Signals) -> None:
        for comparison in comparisons:
            comparison.runner.send_signal(number)

    def wait(seconds: float) -> bool:
        # A comparison may be waiting for room in the queue.
        with contextlib.suppress(queue.Empty):
            while True:
                lines.get_nowait()
        return join_all(comparisons, seconds)

    terminate(
        send_signal, wait,
        kill_after=_KILL_AFTER, give_up_after=_GIVE_UP_AFTER, interval=_SIGNAL_CHECK_INTERVAL,
    )  # fmt: skip


class _Comparison(SupervisedThread):
    """The thread that compares one destination."""

    def __init__(
        self,
        sync: SyncSettings,
        settings: DestinationSettings,
        lines: _LineQueue,
        *,
        checksum: bool,
    ) -> None:
        super().__init__(
            settings.name, lambda _: self._report("comparison incomplete: pylsyncd failed")
        )
        self.runner = Runner()
        self._source = sync.source.path
        self._destination = settings.destination
        self._options = settings.rsync
        self._is_exact = checksum or settings.rsync.compares_contents
        self._command = settings.rsync.compare_command(
            CURRENT_DIRECTORY,
            settings.destination,
            RsyncCapabilities(has_mkpath=False),
            checksum=checksum,
        )
        self._lines = lines
        self._count = 0

    def run(self) -> None:
        """Compare, then put None into the queue, even after a failure."""
        super().run()
        self._lines.put(None)

    def work(self) -> None:
        """Compare the destination with the source."""
        try:
            run = self._run_rsync()
        except OSError as error:
            self._report(f"not compared: cannot open the source: {error.strerror}")
            return
        outcome = interpret(run.exit_status, run.messages, run.stall_reason)
        if outcome.verdict is not Verdict.DONE:
            outcome = addressed(outcome, self._destination)
            self._report(f"comparison incomplete: {outcome.reason} ({outcome.message})")
        elif not self._count:
            log.info("[%s] equal%s", self.name, "" if self._is_exact else _TRUSTED)
        log.debug("[%s] %s", self.name, format_count(self._count, "difference"))

    def _run_rsync(self) -> RunResult:
        with walk.opened_root(self._source) as root:
            return self.runner.run(
                self._command, b"", self._on_item,
                directory=root, stall_timeout=self._options.stall_timeout,
            )  # fmt: skip

    def _on_item(self, item: str) -> None:
        if line := _describe_item(item):
            self._report(line)

    def _report(self, line: str) -> None:
        self._count += 1
        self._lines.put(f"[{self.name}] {line}")


def _describe_item(item: str) -> str:
    """Return an itemized line of rsync in words; empty if nothing that matters differs."""
    found = _ITEM.fullmatch(item)
    if not found:
        return item
    kind, attributes, name = found["kind"], found["attributes"], found["name"]
    if kind == "*d":
        return f"only at the destination: {name}"
    if "+" in attributes:
        return f"missing at the destination: {name}"
    differing = [word for letter, word in _ATTRIBUTES.items() if letter in attributes]
    if kind[0] in "<>c" and not differing:
        differing = ["content"]
    return f"differs in {', '.join(differing)}: {name}" if differing else ""
