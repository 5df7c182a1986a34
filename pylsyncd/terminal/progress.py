"""Shows what takes long while it is on: directories being armed, whole trees being sent."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pylsyncd.rsync.progress import RsyncProgress
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import SupervisedThread
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress_tasks import Task, WatchProgress, format_log_text

if TYPE_CHECKING:
    from pylsyncd.terminal.progress_bars import ProgressBars

log = logging.getLogger(__name__)

# Seconds between two looks at what there is to show. In a terminal, what takes less than the other
# is not shown at all.
_INTERVAL = 0.2
_BRIEF = 0.5

# Elsewhere: seconds between two lines about the same thing, and before the first.
_LINE_INTERVAL = 10.0

# Seconds that are waited at the end for a terminal that takes nothing.
_PATIENCE = 2.0


class NoProgress:
    """Shows nothing: for a daemon in the background, and with -q."""

    def update_watch_setup(self, sync_name: str, directories: int, limit: int) -> None:
        """Take how many directories of a sync are watched so far, and how many may be."""

    def finish_watch_setup(self, sync_name: str) -> None:
        """Take that all are watched."""

    def update_transfer(self, name: str, transferred: RsyncProgress) -> None:
        """Take how far rsync is with a destination; begin with ``Transferred()``."""

    def finish_transfer(self, name: str) -> None:
        """Take that rsync has ended, well or not."""

    def stop(self) -> None:
        """Show nothing any more, and leave the terminal as it was."""


class ProgressDisplay(NoProgress):
    """Shows it below the log if that goes to a terminal, else by a line of the log now and then.

    Its methods may be called by any thread, and do not wait for the terminal.
    """

    def __init__(self, handler: logging.Handler) -> None:
        """Make one; ``handler`` is what writes the log for people."""
        self._tasks: dict[tuple[type, str], Task] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._closing = threading.Event()
        shown = ProgressFooter(handler) if isinstance(handler, TerminalHandler) else ProgressLog()
        self._part = _DisplayThread(self._next, shown)

    def update_watch_setup(self, sync_name: str, directories: int, limit: int) -> None:
        """Take how many directories of a sync are watched so far, and how many may be."""
        self._take(sync_name, WatchProgress(directories, limit))

    def finish_watch_setup(self, sync_name: str) -> None:
        """Take that all are watched."""
        self._drop(WatchProgress, sync_name)

    def update_transfer(self, name: str, transferred: RsyncProgress) -> None:
        """Take how far rsync is with a destination; begin with ``Transferred()``."""
        self._take(name, transferred)

    def finish_transfer(self, name: str) -> None:
        """Take that rsync has ended, well or not."""
        self._drop(RsyncProgress, name)

    def stop(self) -> None:
        """Show nothing any more, and leave the terminal as it was."""
        with self._lock:
            self._closing.set()
            self._awake.set()
            has_begun = self._part.ident is not None
        if has_begun:
            self._part.join(_PATIENCE)

    def _take(self, name: str, state: WatchProgress | RsyncProgress) -> None:
        now = time.monotonic()
        key = type(state), name
        with self._lock:
            if self._closing.is_set():
                return
            before = self._tasks.get(key)
            if before is None:
                self._tasks[key] = Task(name, state, now, now)
            elif state != before.progress:
                self._tasks[key] = Task(name, state, before.since, now)
            self._awake.set()
            if self._part.ident is None:
                self._part.start()

    def _drop(self, kind: type, name: str) -> None:
        with self._lock:
            self._tasks.pop((kind, name), None)

    def _next(self) -> list[Task] | None:
        """Wait until there is something to show, and return it; None at the end."""
        self._awake.wait()
        if self._closing.wait(_INTERVAL):
            return None
        with self._lock:
            if not self._tasks and not self._closing.is_set():
                # What is there is wiped out before the next wait.
                self._awake.clear()
            return list(self._tasks.values())


class ProgressLog:
    """Tells of each task by a line of the log now and then."""

    def __init__(self) -> None:
        self._told: dict[tuple[float, str], float] = {}

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Tell what is due."""
        told = self._told
        self._told = {}
        for task in tasks:
            # When it began tells a task from a later one of its name.
            key = task.since, task.name
            self._told[key] = told.get(key, task.since)
            if now - self._told[key] >= _LINE_INTERVAL:
                self._told[key] = now
                log.log(NOTICE, "%s", format_log_text(task, now))


class ProgressFooter:
    """Draws the tasks below the log."""

    def __init__(self, handler: TerminalHandler) -> None:
        self._handler = handler
        self._drawing: ProgressBars | None = None

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw them."""
        lasting = [task for task in tasks if now - task.since >= _BRIEF]
        if lasting and self._drawing is None:
            # It takes its time and its memory, and most never need it.
            from pylsyncd.terminal.progress_bars import ProgressBars  # noqa: PLC0415

            self._drawing = ProgressBars(self._handler)
        if self._drawing is not None:
            self._drawing.show(lasting, now)


class _DisplayThread(SupervisedThread):
    """Shows what there is, as long as there is something."""

    def __init__(
        self, following: Callable[[], list[Task] | None], shown: ProgressLog | ProgressFooter
    ) -> None:
        super().__init__("progress display", lambda _name: None)
        self._following = following
        self._shown = shown

    def work(self) -> None:
        """Show until there is nothing more to come."""
        while (tasks := self._following()) is not None:
            self._shown.show(tasks, time.monotonic())
        self._shown.show([], time.monotonic())
