"""Long-running tasks, and their progress as text. Pure."""

from dataclasses import dataclass

from pylsyncd.model.formatting import format_count, format_size, printable
from pylsyncd.rsync.output import RsyncProgress

# Seconds without progress after which a speed is out of date, and after which that is shown.
_SPEED_LIFETIME = 3.0
_MIN_SHOWN_SILENCE = 15.0


@dataclass(frozen=True, slots=True)
class WatchProgress:
    """How many directories of a source are watched so far."""

    directories: int
    limit: int
    """The user's limit of the kernel for all sources together; 0 if it is not known."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that takes long: the start of a source, or an rsync."""

    name: str
    """The name of the sync or of the destination."""
    progress: WatchProgress | RsyncProgress
    since: float
    """The start, as monotonic time."""
    unchanged_since: float
    """The last change of the progress, as monotonic time."""

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0.0 to 1.0; None if it is not known."""
        return self.progress.fraction_done if isinstance(self.progress, RsyncProgress) else None


def format_log_text(task: Task, now: float) -> str:
    """Return the progress of a task as a log message."""
    name = f"[{task.name}] " if task.name else ""
    if isinstance(task.progress, WatchProgress):
        limit = f" (limit {task.progress.limit})" if task.progress.limit else ""
        watched = format_count(task.progress.directories, "directory")
        return printable(f"{name}starting: {watched} watched so far{limit}")
    progress = task.progress
    parts = [
        f"{format_count(progress.files_sent, 'file')}, {format_size(progress.bytes_done)} so far"
    ]
    if speed := _format_speed(task, progress, now):
        parts.append(speed)
    if progress.entries_total:
        parts.append(f"{format_compared(progress)} compared")
    if silence := format_silence(task, now):
        parts.append(silence)
    return printable(f"{name}syncing: {', '.join(parts)}")


def format_details(task: Task, now: float) -> str:
    """Return the numbers beside a task's bar, in columns of constant width."""
    if isinstance(task.progress, WatchProgress):
        limit = f", limit {task.progress.limit:,}" if task.progress.limit else ""
        return f"{task.progress.directories:,} directories watched{limit}"
    progress = task.progress
    speed = _format_speed(task, progress, now) or format_silence(task, now)
    if not progress.bytes_done:
        entries = f" {progress.entries_total:,} entries" if progress.entries_total else ""
        return f"comparing{entries}  {speed}".rstrip()
    size = format_size(progress.bytes_done)
    return f"{progress.files_sent:>7,} files  {size:>8}  {speed:<10}"


def format_compared(progress: RsyncProgress) -> str:
    """Return how many of the known entries rsync has compared."""
    more = "" if progress.is_list_complete else " or more"
    return f"{progress.entries_total - progress.entries_left} of {progress.entries_total}{more}"


def format_elapsed(seconds: float) -> str:
    """Return a duration: "0:07", "12:34", "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_silence(task: Task, now: float) -> str:
    """Return how long the progress has not changed; empty if that is not long."""
    silence = now - task.unchanged_since
    return f"silent {format_elapsed(silence)}" if silence >= _MIN_SHOWN_SILENCE else ""


def _format_speed(task: Task, progress: RsyncProgress, now: float) -> str:
    is_recent = now - task.unchanged_since <= _SPEED_LIFETIME
    rate = progress.bytes_per_second
    return f"{format_size(rate)}/s" if rate and is_recent else ""
