"""What is told of a destination to those who asked for it: hooks, for example."""

from dataclasses import dataclass
from enum import Enum

from pylsyncd.model.changes import NOTHING, Changeset


class NoticeKind(Enum):
    """What has happened; the value is its name for hooks."""

    BATCH = "batch"
    """A run has carried what it was to carry."""
    ERROR = "error"
    """The first failure since all was well, or one for another reason."""
    HELD = "held"
    """The same, when only a person can mend it."""
    RECOVERY = "recovery"
    """All is well again after a failure."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What has happened to a destination."""

    kind: NoticeKind
    name: str
    """The destination's, as in the log."""
    target: str
    """The destination as it was written by the user."""
    source: bytes
    reason: str = ""
    """Why, as a part of a sentence: for an error and when held."""
    message: str = ""
    """What rsync said, printable; for an error and when held."""
    code: int = 0
    """rsync's exit status."""
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0
    seconds: float = 0.0
    changeset: Changeset = NOTHING
    """What the run was to carry."""
