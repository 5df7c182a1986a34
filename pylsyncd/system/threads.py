"""Threads that report when they fail, and the monitor that reports the ones that are stuck."""

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pylsyncd.model.formatting import printable

log = logging.getLogger(__name__)

# Longer than a slow disk takes to list its largest directory.
STUCK_THREAD_TIMEOUT = 900.0
"""Seconds without activity after which a thread is reported as stuck."""

_CHECK_INTERVAL = 5.0

# The limits of what is kept and logged of an unforeseen exception: its text may come from a peer.
_MAX_FRAMES = 30
_MAX_TRACEBACK_LINES = 100
_MAX_LINE_LENGTH = 300

# How many different tracebacks a CrashLog logs.
_MAX_TRACEBACKS = 20


class StoppedError(Exception):
    """The work was abandoned because its thread has to stop."""


class ThreadLimitError(RuntimeError):
    """The system permits no more threads; the text tells what to do."""


class ActivityTimer:
    """The time since a thread was last active. One thread sets it, any thread reads it."""

    def __init__(self) -> None:
        self._busy_since: float | None = None

    def mark_active(self) -> None:
        """Restart the timer: the thread makes progress."""
        self._busy_since = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Stop the timer during a wait that may take any time."""
        self._busy_since = None
        try:
            yield
        finally:
            self.mark_active()

    @property
    def inactive_seconds(self) -> float:
        """Seconds since the last activity; 0.0 during a wait."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since


@dataclass(frozen=True, slots=True)
class Crash:
    """The unforeseen exception that ended a thread."""

    error: str
    """Its type and text, printable."""
    place: str = ""
    """Its type and where it was raised: the same for the same bug, whatever the text is."""
    traceback: str = ""

    @classmethod
    def from_exception(cls, error: BaseException) -> "Crash":
        """Describe an exception; never raises, even if memory is short."""
        name = type(error).__name__
        try:
            summary = traceback.TracebackException.from_exception(error, limit=-_MAX_FRAMES)
            where = [f"{frame.filename}:{frame.lineno}" for frame in summary.stack[-1:]]
            text = " ".join("".join(summary.format_exception_only()).split())
            lines = "".join(summary.format()).splitlines()[-_MAX_TRACEBACK_LINES:]
            return cls(
                printable(text[:_MAX_LINE_LENGTH]),
                " ".join([name, *where]),
                "\n".join(line[:_MAX_LINE_LENGTH] for line in lines),
            )
        except BaseException:  # noqa: BLE001  # whatever it is, the first one is reported
            return cls(name, name)


class CrashLog:
    """Logs the crashes of a thread and its replacements: the traceback of each bug once."""

    def __init__(self) -> None:
        self._places: set[str] = set()

    def report(self, crash: Crash, message: str, *, is_news: bool) -> None:
        """Log a crash; a repetition as a warning if it is news, else only for verbose logs."""
        if crash.place in self._places or len(self._places) >= _MAX_TRACEBACKS:
            log.log(logging.WARNING if is_news else logging.INFO, "%s", message)
            return
        self._places.add(crash.place)
        record = log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (message,), None)
        # The exception itself would keep all objects of the dead thread alive.
        record.exc_text = crash.traceback
        log.handle(record)


class SupervisedThread(threading.Thread):
    """A thread that runs :meth:`work`; if that raises, it logs and calls ``on_failed(name)``.

    It does so for every exception: a thread must not end unnoticed.
    """

    def __init__(
        self, name: str, on_failed: Callable[[str], None], activity: ActivityTimer | None = None
    ) -> None:
        # A daemon thread, so that one which cannot be stopped does not keep the process alive.
        super().__init__(name=name, daemon=True)
        self.on_failed = on_failed
        self.activity = activity or ActivityTimer()
        self.crash: Crash | None = None
        """What :meth:`work` has raised."""

    def start(self) -> None:
        """Start the thread. Raises ThreadLimitError."""
        try:
            super().start()
        except RuntimeError as error:
            if self.ident is not None:
                raise
            raise ThreadLimitError(
                f"Cannot start the thread {self.name}: the limit of threads is reached. Raise it "
                "(TasksMax= in the systemd unit, or ulimit -u before pylsyncd starts), or divide "
                "the syncs among several pylsyncd."
            ) from error

    def run(self) -> None:
        """Run :meth:`work` until it returns or raises."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # it is logged
            self.crash = Crash.from_exception(error)
            try:
                if isinstance(error, ThreadLimitError):
                    log.error("%s", error)  # noqa: TRY400  # it is not about the program
                else:
                    self.report_crash(self.crash)
            finally:
                self.on_failed(self.name)

    def report_crash(self, crash: Crash) -> None:
        """Log what :meth:`work` has raised."""
        message = f"{self.name} failed. This is a bug in pylsyncd: please report it."
        CrashLog().report(crash, message, is_news=True)

    def work(self) -> None:
        """Do the work of the thread; each subclass overrides it."""
        raise NotImplementedError


def join_all(threads: Iterable[threading.Thread], timeout: float) -> bool:
    """Wait up to ``timeout`` seconds for running threads; return True if all have ended."""
    deadline = time.monotonic() + timeout
    living = [thread for thread in threads if thread.is_alive()]
    for thread in living:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in living)


@dataclass(slots=True)
class _MonitoredThread:
    name: str
    activity: ActivityTimer
    on_stuck: Callable[[str], None] | None
    is_stuck: bool = False

    def check(self, timeout: float) -> None:
        """Report if the thread has become stuck, or is active again."""
        seconds = self.activity.inactive_seconds
        was_stuck, self.is_stuck = self.is_stuck, seconds >= timeout
        if self.is_stuck and not was_stuck:
            log.error(
                "[%s] no progress for %.0f s: check that the file systems of the source and of "
                "local destinations respond.", self.name, seconds,
            )  # fmt: skip
            if self.on_stuck is not None:
                self.on_stuck(self.name)
        elif was_stuck and not self.is_stuck:
            log.warning("[%s] makes progress again.", self.name)


class ThreadMonitor(SupervisedThread):
    """The thread that reports stuck threads.

    A thread is stuck when it was not active for ``timeout`` seconds. ``on_all_active()`` is called
    at each check that finds no stuck thread.
    """

    def __init__(
        self,
        on_failed: Callable[[str], None],
        timeout: float = STUCK_THREAD_TIMEOUT,
        interval: float = _CHECK_INTERVAL,
        on_all_active: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("thread monitor", on_failed)
        self._timeout = timeout
        self._interval = interval
        self._on_all_active = on_all_active
        # By thread, None being the main one: two threads may have the same name.
        self._monitored: dict[SupervisedThread | None, _MonitoredThread] = {}
        self._lock = threading.Lock()
        self._stop_requested = threading.Event()

    def add_thread(
        self, thread: SupervisedThread, on_stuck: Callable[[str], None] | None = None
    ) -> None:
        """Monitor a running thread until it ends; ``on_stuck(name)`` is called if it is stuck."""
        with self._lock:
            self._monitored[thread] = _MonitoredThread(thread.name, thread.activity, on_stuck)

    def add_main_thread(self, activity: ActivityTimer) -> None:
        """Monitor the main thread."""
        with self._lock:
            self._monitored[None] = _MonitoredThread("main", activity, None)

    @property
    def stuck_names(self) -> tuple[str, ...]:
        """The names of the threads that were stuck at the last check; any thread may ask."""
        return tuple(thread.name for thread in self._living_threads() if thread.is_stuck)

    def work(self) -> None:
        """Check all threads at each interval, until stopped."""
        while not self._stop_requested.wait(self._interval):
            living = self._living_threads()
            for thread in living:
                thread.check(self._timeout)
            if not any(thread.is_stuck for thread in living):
                self._on_all_active()

    def stop(self) -> None:
        """Stop the monitor."""
        self._stop_requested.set()
        if self.is_alive():
            self.join()

    def _living_threads(self) -> list[_MonitoredThread]:
        """Forget the threads that have ended, and return the others."""
        with self._lock:
            for thread in [*self._monitored]:
                if thread is not None and not thread.is_alive():
                    del self._monitored[thread]
            return list(self._monitored.values())
