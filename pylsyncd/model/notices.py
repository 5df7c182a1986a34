"""Notices about a destination, for hooks."""

from dataclasses import dataclass
from enum import Enum

from pylsyncd.model.changes import NOTHING, Changeset


class NoticeKind(Enum):
    """The kind of event; the value is its name for hooks."""

    BEFORE = "before"
    """A transfer is about to start."""
    BATCH = "batch"
    """A transfer has completed."""
    ERROR = "error"
    """The first failure, or one for a different reason than the last."""
    HELD = "held"
    """A failure that needs an administrator."""
    RECOVERY = "recovery"
    """The destination has recovered from a failure."""
    REPAIR = "repair"
    """What others had changed at the destination was undone."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An event at a destination."""

    kind: NoticeKind
    name: str
    """The destination's name in the log."""
    target: str
    """The destination as it is configured."""
    source: bytes
    reason: str = ""
    """The cause of an error or of being held, as part of a sentence."""
    message: str = ""
    """rsync's message for an error or when held, printable."""
    code: int = 0
    """rsync's exit status."""
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    moved_files: int = 0
    """Files that were moved there, and so not sent."""
    moved_bytes: int = 0
    changeset: Changeset = NOTHING
    """The changes of the transfer."""
