"""Compares destinations with the source, and changes nothing."""

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
from pylsyncd.rsync.outcomes import Verdict, interpret, summary
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.system import walk
from pylsyncd.system.processes import terminate
from pylsyncd.system.threads import SupervisedThread, join_all

log = logging.getLogger(__name__)

# "%i %n%L": eleven letters that say what differs, and the name.
_ITEM = re.compile(r"(?P<what>[<>ch.*].)(?P<how>.{9}) (?P<name>.*)", re.DOTALL)

# How many lines wait for whoever reads them: an rsync that has to wait too long itself loses its
# peer's patience.
_MOST_WAITING = 10_000

# Seconds: between two looks whether a signal has come, from asking an rsync to end to killing it,
# and to going without it, when the kernel does not let it end.
_BEAT = 0.1
_KILL_AFTER = 2.0
_LEAVE_AFTER = 5.0

_Found = queue.Queue[str | None]
"""Lines as they come, and None from each comparison that has ended."""


def verify(sync: SyncSettings, *, checksum: bool) -> Iterator[str]:
    """Yield a line for each path that differs, and for each destination that cannot be asked.

    Nothing means that all are equal. Contents are compared by size and time, with ``checksum`` byte
    by byte. A source that changes meanwhile differs. To be called by the main thread: a signal that
    ends the program raises SystemExit with a sentence, and no rsync is left once this is closed.
    """
    found: _Found = queue.Queue(_MOST_WAITING)
    comparisons = [
        _Comparison(sync, delivery, found, checksum=checksum) for delivery in sync.destinations
    ]
    with _StopSignals() as stop:
        try:
            for comparison in comparisons:
                comparison.start()
            yield from _lines(found, len(comparisons), stop)
        finally:
            _end(comparisons, found)


class _StopSignals:
    """Has the first of the signals that end a program raise SystemExit; the others are ignored.

    At once only where that is harmless: anywhere else it could leave a lock locked for ever, so
    there it waits until somebody asks.
    """

    def __init__(self) -> None:
        # What is ignored remains so: nohup, and a shell that puts a program into the background.
        self._numbers = [
            number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._sentence = ""
        self._is_harmless = False

    def __enter__(self) -> "_StopSignals":  # noqa: PYI034  # typing.Self is younger than Python 3.10
        self._before = [(number, signal.signal(number, self._caught)) for number in self._numbers]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise at once what comes meanwhile."""
        self._is_harmless = True
        try:
            self.heed()
            yield
        finally:
            self._is_harmless = False

    def heed(self) -> None:
        """Raise what has come."""
        if self._sentence:
            raise SystemExit(self._sentence)

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        for each in self._numbers:
            signal.signal(each, signal.SIG_IGN)
        name = signal.Signals(number).name
        self._sentence = f"pylsyncd: stopped ({name}): not all was compared."
        if self._is_harmless:
            self.heed()


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _lines(found: _Found, running: int, stop: _StopSignals) -> Iterator[str]:
    while running:
        stop.heed()
        try:
            line = found.get(timeout=_BEAT)
        except queue.Empty:
            continue
        if line is None:
            running -= 1
            continue
        # Whoever takes it may have to wait for its reader.
        with stop.at_once():
            yield line


def _end(comparisons: Collection["_Comparison"], found: _Found) -> None:
    """Stop the comparisons that still run."""

    def send_signal(number: signal.Signals) -> None:
        for comparison in comparisons:
            comparison.runner.send_signal(number)

    def wait(seconds: float) -> bool:
        # A comparison may wait for room in the queue.
        with contextlib.suppress(queue.Empty):
            while True:
                found.get_nowait()
        return join_all(comparisons, seconds)

    terminate(
        send_signal, wait,
        kill_after=_KILL_AFTER, give_up_after=_LEAVE_AFTER, interval=_BEAT,
    )  # fmt: skip


class _Comparison(SupervisedThread):
    """Compares one destination."""

    def __init__(
        self, sync: SyncSettings, delivery: DestinationSettings, found: _Found, *, checksum: bool
    ) -> None:
        super().__init__(
            delivery.name, lambda _: self._tell("not compared to the end: pylsyncd failed")
        )
        self.runner = Runner()
        self._source = sync.source.path
        self._silence = delivery.rsync.stall_timeout
        self._command = delivery.rsync.compare_command(
            CURRENT_DIRECTORY,
            delivery.destination,
            RsyncCapabilities(has_mkpath=False),
            checksum=checksum,
        )
        self._found = found
        self._count = 0

    def run(self) -> None:
        """Compare, and say when that has ended, in whatever way."""
        super().run()
        self._found.put(None)

    def work(self) -> None:
        """Compare."""
        try:
            run = self._run()
        except OSError as error:
            self._tell(f"not compared: the source cannot be opened: {error.strerror}")
            return
        outcome = interpret(run.exit_status, run.messages, run.stall_reason)
        if outcome.verdict is not Verdict.DONE:
            self._tell(f"not compared to the end: {outcome.reason} ({summary(run.messages)})")
        elif not self._count:
            log.info("[%s] equal", self.name)
        log.debug("[%s] %s", self.name, format_count(self._count, "difference"))

    def _run(self) -> RunResult:
        with walk.opened_root(self._source) as root:
            return self.runner.run(
                self._command, b"", self._take, directory=root, stall_timeout=self._silence
            )

    def _take(self, item: str) -> None:
        if line := _in_words(item):
            self._tell(line)

    def _tell(self, line: str) -> None:
        self._count += 1
        self._found.put(f"[{self.name}] {line}")


def _in_words(item: str) -> str:
    """Return what an itemized line of rsync says, in words."""
    found = _ITEM.fullmatch(item)
    if not found:
        return item
    what, how, name = found["what"], found["how"], found["name"]
    if what == "*d":
        return f"only there: {name}"
    if "+" in how:
        return f"missing there: {name}"
    differing = [word for letter, word in _ATTRIBUTES.items() if letter in how]
    if what[0] in "<>c" and not differing:
        differing = ["content"]
    return f"differs in {', '.join(differing)}: {name}" if differing else ""


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
