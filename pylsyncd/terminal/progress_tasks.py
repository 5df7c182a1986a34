"""Long-running tasks, and their progress as text. Pure."""

from dataclasses import dataclass

from pylsyncd.model.formatting import display_width, format_count, format_size, printable
from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.terminal.source_size import CountedSource, SourceSize

# Seconds without progress after which a speed is out of date, and after which that is shown.
_SPEED_LIFETIME = 3.0
_MIN_SHOWN_SILENCE = 15.0

# How long, and how far, a run must be for an estimate of its end.
_MIN_ESTIMATED_SECONDS = 2.0
_MIN_ESTIMATED_FRACTION = 0.005


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
    source: CountedSource | None = None
    """What rsync looks at; None if that is not known."""
    size: SourceSize | None = None
    """How much that is; None if it is not known, or not yet."""

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0.0 to 1.0; None if it is not known."""
        if not isinstance(self.progress, RsyncProgress):
            return None
        if self.size is None:
            return self.progress.fraction_done
        return _fraction_of(self.progress, self.size)

    def seconds_left(self, now: float) -> float | None:
        """Return how long it takes to the end at this speed; None if it is not known."""
        elapsed, fraction = now - self.since, self.fraction
        if self.size is None or fraction is None or fraction < _MIN_ESTIMATED_FRACTION:
            return None
        return None if elapsed < _MIN_ESTIMATED_SECONDS else elapsed * (1.0 - fraction) / fraction


def _fraction_of(progress: RsyncProgress, size: SourceSize) -> float:
    """Return how much of a source a run has done.

    While most files are sent, their sizes tell it; while most are there already, their number.
    """
    looked_at = progress.entries_total - progress.entries_left
    by_number = looked_at / max(size.entries, progress.entries_total)
    by_bytes = progress.bytes_done / size.total_bytes if size.total_bytes else 0.0
    is_mostly_sent = 2 * progress.files_sent * size.entries >= looked_at * size.files
    has_sizes = is_mostly_sent and progress.bytes_done and size.total_bytes
    return min(1.0, by_bytes if has_sizes else max(by_number, by_bytes))


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


def format_estimate(task: Task, now: float, width: int) -> str:
    """Return the numbers of a task with a total, and what is left, in so many columns at most."""
    assert isinstance(task.progress, RsyncProgress)  # noqa: S101  # for mypy
    assert task.size is not None  # noqa: S101  # likewise
    progress, size = task.progress, task.size
    looked_at = progress.entries_total - progress.entries_left
    files = f"{progress.files_sent:>7,} of {size.files:,} files"
    if not progress.bytes_done:
        files = f"compared {looked_at:,} of {size.entries:,}"
    sizes = f"{format_size(progress.bytes_done):>8} of {format_size(size.total_bytes)}"
    speed = f"{_format_speed(task, progress, now) or format_silence(task, now):<10}"
    seconds = task.seconds_left(now)
    left = "" if seconds is None else f"{format_elapsed(seconds)} left"
    variants = (files, sizes, speed, left), (sizes, speed, left), (sizes, left)
    for parts in variants:
        text = "  ".join(filter(None, parts)).rstrip()
        if display_width(text) <= width:
            return text
    return left


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
