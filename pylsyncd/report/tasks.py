"""What takes long, and how that is put into words. Pure."""

from dataclasses import dataclass

from pylsyncd.model.wording import counted, printable, size
from pylsyncd.rsync.progress import Transferred

# Seconds after which what was last heard of the speed says nothing any more, and after which
# silence is worth a word.
_RECENT = 3.0
_SILENT = 15.0


@dataclass(frozen=True, slots=True)
class Armed:
    """How many directories of a source are watched so far."""

    directories: int
    limit: int
    """How many the kernel allows its user, over all sources; 0 if that is not known."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that takes long. Moments are monotonic."""

    name: str
    """Of a sync, or of a destination."""
    state: Armed | Transferred
    began: float
    heard: float
    """When the state was last another one."""

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0.0 to 1.0; None if nobody knows."""
        return self.state.share if isinstance(self.state, Transferred) else None


def sentence(task: Task, now: float) -> str:
    """Return a line for the log."""
    name = f"[{task.name}] " if task.name else ""
    if isinstance(task.state, Armed):
        limit = f" (limit {task.state.limit})" if task.state.limit else ""
        watched = counted(task.state.directories, "directory")
        return printable(f"{name}starting: {watched} watched so far{limit}")
    transferred = task.state
    parts = [f"{counted(transferred.files, 'file')}, {size(transferred.bytes)} so far"]
    if speed := _speed(task, transferred, now):
        parts.append(speed)
    if transferred.total:
        parts.append(f"{looked_at(transferred)} looked at")
    if silence := silence_of(task, now):
        parts.append(silence)
    return printable(f"{name}syncing: {', '.join(parts)}")


def details(task: Task, now: float) -> str:
    """Return what is told of it beside its name and share, in columns that keep their places."""
    if isinstance(task.state, Armed):
        limit = f", limit {task.state.limit:,}" if task.state.limit else ""
        return f"{task.state.directories:,} directories watched{limit}"
    transferred = task.state
    speed = _speed(task, transferred, now) or silence_of(task, now)
    if not transferred.bytes:
        entries = f" {transferred.total:,} entries" if transferred.total else ""
        return f"comparing{entries}  {speed}".rstrip()
    return f"{transferred.files:>7,} files  {size(transferred.bytes):>8}  {speed:<10}"


def looked_at(transferred: Transferred) -> str:
    """Return how much was compared, of what is known to be there."""
    more = "" if transferred.is_listed else " or more"
    return f"{transferred.total - transferred.left} of {transferred.total}{more}"


def elapsed(seconds: float) -> str:
    """Return a duration: "0:07", "12:34", "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def silence_of(task: Task, now: float) -> str:
    """Return how long nothing was heard, if that is long."""
    silent = now - task.heard
    return f"silent {elapsed(silent)}" if silent >= _SILENT else ""


def _speed(task: Task, transferred: Transferred, now: float) -> str:
    is_recent = now - task.heard <= _RECENT
    return f"{size(transferred.rate)}/s" if transferred.rate and is_recent else ""
