"""Shows the progress of long tasks: setting up watches, and syncing whole trees."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import SupervisedThread
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress_bars import ProgressBars
from pylsyncd.terminal.progress_tasks import Task, WatchProgress, format_log_text
from pylsyncd.terminal.source_size import CountedSource, SourceCounter

log = logging.getLogger(__name__)

# Seconds between two updates of the display, and between two looks whether a log line is due.
_UPDATE_INTERVAL = 0.2
_LOG_CHECK_INTERVAL = 1.0

# Seconds between two log lines about a task, and before its first.
_LOG_INTERVAL = 10.0

# Seconds. The source of a task that ends earlier is not counted.
_MIN_COUNTED_DURATION = 2.0

# Seconds to wait at the end for a terminal that accepts no output.
_STOP_TIMEOUT = 2.0


class NoProgress:
    """A display that shows nothing: for a daemon in the background, and with -q."""

    def update_watch_setup(self, sync_name: str, directories: int, limit: int) -> None:
        """Set the number of watched directories of a sync, and the kernel's limit."""

    def finish_watch_setup(self, sync_name: str) -> None:
        """Remove the task: all directories of the sync are watched."""

    def update_transfer(
        self, name: str, progress: RsyncProgress, source: CountedSource | None = None
    ) -> None:
        """Set the progress of a destination's rsync; ``RsyncProgress()`` at its start."""

    def finish_transfer(self, name: str) -> None:
        """Remove the task: the destination's rsync has ended."""

    def stop(self) -> None:
        """Stop showing progress, and clear it from the terminal."""


class ProgressDisplay(NoProgress):
    """A display below the log on a terminal, or in log lines every few seconds elsewhere.

    Any thread may call its methods; none of them waits for the terminal.
    """

    def __init__(self, handler: logging.Handler) -> None:
        """Create a display; ``handler`` writes the log to standard error."""
        self._tasks: dict[tuple[type, str], Task] = {}
        self._lock = threading.Lock()
        self._has_tasks = threading.Event()
        self._is_stopping = threading.Event()
        is_terminal = isinstance(handler, TerminalHandler)
        output = ProgressBars(handler) if isinstance(handler, TerminalHandler) else ProgressLog()
        self._update_interval = _UPDATE_INTERVAL if is_terminal else _LOG_CHECK_INTERVAL
        self._thread = _DisplayThread(self._wait_for_tasks, output)
        # Only a terminal shows how much is left.
        self._counter = SourceCounter() if is_terminal else None

    def update_watch_setup(self, sync_name: str, directories: int, limit: int) -> None:
        """Set the number of watched directories of a sync, and the kernel's limit."""
        self._update(sync_name, WatchProgress(directories, limit))

    def finish_watch_setup(self, sync_name: str) -> None:
        """Remove the task: all directories of the sync are watched."""
        self._remove(WatchProgress, sync_name)

    def update_transfer(
        self, name: str, progress: RsyncProgress, source: CountedSource | None = None
    ) -> None:
        """Set the progress of a destination's rsync; ``RsyncProgress()`` at its start."""
        self._update(name, progress, source)

    def finish_transfer(self, name: str) -> None:
        """Remove the task: the destination's rsync has ended."""
        self._remove(RsyncProgress, name)

    def stop(self) -> None:
        """Stop showing progress, and clear it from the terminal."""
        with self._lock:
            self._is_stopping.set()
            self._has_tasks.set()
            is_started = self._thread.ident is not None
        if is_started:
            self._thread.join(_STOP_TIMEOUT)
        if self._counter is not None:
            self._counter.stop(_STOP_TIMEOUT)

    def _update(
        self,
        name: str,
        progress: WatchProgress | RsyncProgress,
        source: CountedSource | None = None,
    ) -> None:
        now = time.monotonic()
        key = type(progress), name
        with self._lock:
            if self._is_stopping.is_set():
                return
            task = self._tasks.get(key)
            if task is None:
                self._tasks[key] = Task(name, progress, now, now, source)
            elif progress != task.progress:
                self._tasks[key] = Task(name, progress, task.since, now, source)
            self._has_tasks.set()
            if self._thread.ident is None:
                self._thread.start()

    def _remove(self, kind: type, name: str) -> None:
        with self._lock:
            self._tasks.pop((kind, name), None)

    def _wait_for_tasks(self) -> list[Task] | None:
        """Return the tasks after the next interval in which there are any; None at the end."""
        self._has_tasks.wait()
        if self._is_stopping.wait(self._update_interval):
            return None
        with self._lock:
            if not self._tasks and not self._is_stopping.is_set():
                # The caller clears the display once more before the next wait.
                self._has_tasks.clear()
            tasks = list(self._tasks.values())
        return tasks if self._counter is None else _with_sizes(tasks, self._counter)


def _with_sizes(tasks: Sequence[Task], counter: SourceCounter) -> list[Task]:
    """Return tasks with the sizes of their sources; those of short ones are not counted."""
    now = time.monotonic()
    counter.keep({task.source.path for task in tasks if task.source is not None})
    return [
        replace(task, size=counter.find(task.source))
        if task.source is not None and now - task.since >= _MIN_COUNTED_DURATION
        else task
        for task in tasks
    ]


class ProgressLog:
    """Progress as log lines, for outputs that are not a terminal."""

    def __init__(self) -> None:
        self._logged_at: dict[tuple[float, str], float] = {}

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Log the tasks whose last line is old enough."""
        logged_at = self._logged_at
        self._logged_at = {}
        for task in tasks:
            # The start time distinguishes a task from a later one of the same name.
            key = task.since, task.name
            self._logged_at[key] = logged_at.get(key, task.since)
            if now - self._logged_at[key] >= _LOG_INTERVAL:
                self._logged_at[key] = now
                log.log(NOTICE, "%s", format_log_text(task, now))


class _DisplayThread(SupervisedThread):
    """The thread that writes progress while there are tasks."""

    def __init__(
        self,
        wait_for_tasks: Callable[[], list[Task] | None],
        output: ProgressLog | ProgressBars,
    ) -> None:
        super().__init__("progress display", lambda _name: None)
        self._wait_for_tasks = wait_for_tasks
        self._output = output

    def work(self) -> None:
        """Show the tasks until the display is stopped, then clear it."""
        while (tasks := self._wait_for_tasks()) is not None:
            self._output.show(tasks, time.monotonic())
        self._output.show([], time.monotonic())
