"""What an rsync's exit means for what it was to carry: one table, a reason in each row.

Exit codes and messages as measured with rsync 3.5.0 and as its manual has them. The first row that
fits counts. What is not in the table is tried again: a failure must never be the end.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from pylsyncd.changes import NOTHING, Changes, Changeset, Scope


class Verdict(Enum):
    """What to do next."""

    DONE = auto()
    """Everything was carried."""
    AGAIN = auto()
    """The disk changed under rsync: look at it anew at once, but not endlessly."""
    PARTIAL = auto()
    """Some paths failed, the destination works: later, or together with the next changes."""
    LATER = auto()
    """The destination is away: again after a pause that grows."""
    HELD = auto()
    """Only a person can mend it: again after a long pause, or when asked to."""
    WITHOUT_MISSING_ARGS = auto()
    """Again at once, without --delete-missing-args."""
    WITHOUT_MKPATH = auto()
    """Again at once, without --mkpath."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and why: ``reason`` in our words, ``message`` in those of rsync."""

    verdict: Verdict
    reason: str = ""
    message: str = ""
    owed: Changeset = NOTHING
    """What has not been confirmed."""


@dataclass(frozen=True, slots=True)
class _Row:
    codes: frozenset[int]
    message: re.Pattern[str]
    outcome: Outcome


def _row(codes: Iterable[int], message: str, verdict: Verdict, reason: str) -> _Row:
    return _Row(frozenset(codes), re.compile(message), Outcome(verdict, reason))


_SIGNALS = range(-64, 0)

_TABLE = (
    _row([2], "invalid file mode 00", Verdict.WITHOUT_MISSING_ARGS,
         "its rsync cannot delete by name (rsync issue 910)"),
    _row([4], "refuse --delete-missing-args", Verdict.WITHOUT_MISSING_ARGS,
         "it refuses to delete by name"),
    _row([1, 2, 4, 12], "--mkpath", Verdict.WITHOUT_MKPATH,
         "its rsync does not know --mkpath"),
    _row([2], "invalid path from sender|no basis file|File-list index", Verdict.AGAIN,
         "a directory changed while rsync read it"),
    _row([24], "", Verdict.AGAIN, "files went while rsync read them"),
    _row([2], "shell clean", Verdict.HELD,
         "its login shell prints something: see that a non-interactive login is silent"),
    _row([23], "(?i)read-only file system|mkstemp .* permission denied", Verdict.LATER,
         "it cannot be written to"),
    _row([23], "read errors mapping|: Is a directory|: Too many levels",
         Verdict.AGAIN, "files changed while rsync read them"),
    _row([23], "", Verdict.PARTIAL, "some paths could not be copied"),
    _row([255], "(?i)permission denied|host key verification failed", Verdict.HELD,
         "ssh is not let in: see to its key and its known_hosts"),
    _row([255], "", Verdict.LATER, "the connection failed"),
    _row([11], "(?i)no space left|quota", Verdict.LATER, "it is full"),
    _row([11], "mkdir .*No such file", Verdict.HELD, "a directory above it is missing: create it"),
    _row([11], "mkdir ", Verdict.HELD, "its path cannot be used"),
    _row([5], "max connections", Verdict.LATER, "its rsync daemon is busy"),
    _row([5], "", Verdict.HELD, "its rsync daemon refuses: see to its module and its login"),
    _row([10, 30, 35], "", Verdict.LATER, "the connection failed"),
    _row([12], "(?i)unknown option|invalid rsync-command|has been disabled|0 bytes received",
         Verdict.HELD, "its side cannot run rsync with these options"),
    _row([1, 4], "", Verdict.HELD, "an option or a setting there forbids it"),
    _row([3], "", Verdict.HELD, "its path cannot be used"),
    _row([126, 127], "", Verdict.HELD, "rsync cannot be run: is it installed on both sides?"),
    _row([25], "", Verdict.HELD, "more would be deleted than --max-delete permits"),
    _row([20, *_SIGNALS], "", Verdict.LATER, "rsync was ended"),
    _row([11, 12, 13, 14, 15, 16, 19, 21, 22], "", Verdict.LATER, "rsync failed"),
)  # fmt: skip


def interpret(code: int, messages: Iterable[str]) -> Outcome:
    """Return what an exit code and rsync's messages mean."""
    if code == 0:
        return Outcome(Verdict.DONE)
    text = "\n".join(messages)
    for row in _TABLE:
        if code in row.codes and row.message.search(text):
            return row.outcome
    return Outcome(Verdict.LATER, "rsync failed in a way that is not known")


def gist(messages: Iterable[str]) -> str:
    """Return the message that says most: the first complaint, without rsync's closing line."""
    complaints = [line.strip() for line in messages if not _CLOSING.match(line)]
    first = next((line for line in complaints if _COMPLAINT.search(line)), None)
    return first or (complaints[0] if complaints else "")


def vanished(code: int, messages: deque[str], source: bytes) -> Changeset | None:
    """Return what rsync found gone when that is all that went wrong (exit 24).

    None when it is not, or when not all that rsync said was kept or understood.
    """
    if code != _VANISHED or len(messages) == messages.maxlen:
        return None
    gone = Changes()
    prefix = source.rstrip(b"/") + b"/"
    for line in messages:
        if _CLOSING.match(line):
            continue
        found = _GONE.fullmatch(line)
        path = _unescaped(found[1]) if found else b""
        if not path.startswith(prefix):
            return None
        gone.add(path[len(prefix) :], Scope.TREE)
    return gone


def _unescaped(text: str) -> bytes:
    """Return the path that rsync shows as ``text``, in which odd bytes are octal numbers."""
    return re.sub(rb"\\#([0-7]{3})", lambda found: bytes([int(found[1], 8)]), text.encode())


_VANISHED = 24
_GONE = re.compile(r'(?:file|directory) has vanished: "(.*)"')
_CLOSING = re.compile(r"rsync error: |rsync warning: ")
_COMPLAINT = re.compile(r"(?i)^rsync: |@ERROR|denied|refused|failed|cannot|vanished|resolve")
