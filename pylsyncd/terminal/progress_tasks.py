"""What takes long, and how that is put into words. Pure."""

from dataclasses import dataclass

from pylsyncd.model.formatting import format_count, format_size, printable
from pylsyncd.rsync.progress import RsyncProgress

# Seconds after which what was last heard of the speed says nothing any more, and after which
# silence is worth a word.
_RECENT = 3.0
_SILENT = 15.0


@dataclass(frozen=True, slots=True)
class WatchProgress:
    """How many directories of a source are watched so far."""

    directories: int
    limit: int
    """How many the kernel allows its user, over all sources; 0 if that is not known."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that takes long. Moments are monotonic."""

    name: str
    """Of a sync, or of a destination."""
    progress: WatchProgress | RsyncProgress
    since: float
    unchanged_since: float
    """When the state was last another one."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0.0 to 1.0; None if nobody knows."""
        return self.progress.fraction_done if isinstance(self.progress, RsyncProgress) else None


def format_log_text(task: Task, now: float) -> str:
    """Return a line for the log."""
    name = f"[{task.name}] " if task.name else ""
    if isinstance(task.progress, WatchProgress):
        limit = f" (limit {task.progress.limit})" if task.progress.limit else ""
        watched = format_count(task.progress.directories, "directory")
        return printable(f"{name}starting: {watched} watched so far{limit}")
    transferred = task.progress
    parts = [
        (
            f"{format_count(transferred.files_sent, 'file')}, "
            f"{format_size(transferred.bytes_done)} so far"
        )
    ]
    if speed := _speed(task, transferred, now):
        parts.append(speed)
    if transferred.entries_total:
        parts.append(f"{format_compared(transferred)} looked at")
    if silence := format_silence(task, now):
        parts.append(silence)
    return printable(f"{name}syncing: {', '.join(parts)}")


def format_details(task: Task, now: float) -> str:
    """Return what is told of it beside its name and share, in columns that keep their places."""
    if isinstance(task.progress, WatchProgress):
        limit = f", limit {task.progress.limit:,}" if task.progress.limit else ""
        return f"{task.progress.directories:,} directories watched{limit}"
    transferred = task.progress
    speed = _speed(task, transferred, now) or format_silence(task, now)
    if not transferred.bytes_done:
        entries = f" {transferred.entries_total:,} entries" if transferred.entries_total else ""
        return f"comparing{entries}  {speed}".rstrip()
    return (
        f"{transferred.files_sent:>7,} files  {format_size(transferred.bytes_done):>8}  {speed:<10}"
    )


def format_compared(transferred: RsyncProgress) -> str:
    """Return how much was compared, of what is known to be there."""
    more = "" if transferred.is_list_complete else " or more"
    return (
        f"{transferred.entries_total - transferred.entries_left} of "
        f"{transferred.entries_total}{more}"
    )


def format_elapsed(seconds: float) -> str:
    """Return a duration: "0:07", "12:34", "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_silence(task: Task, now: float) -> str:
    """Return how long nothing was heard, if that is long."""
    silent = now - task.unchanged_since
    return f"silent {format_elapsed(silent)}" if silent >= _SILENT else ""


def _speed(task: Task, transferred: RsyncProgress, now: float) -> str:
    is_recent = now - task.unchanged_since <= _RECENT
    return (
        f"{format_size(transferred.bytes_per_second)}/s"
        if transferred.bytes_per_second and is_recent
        else ""
    )
