"""What an rsync's exit means for what it was to carry: one table, a reason in each row.

Exit codes and messages as measured with rsync 3.5.0 and as its manual has them. The first row that
fits counts. What is not in the table is tried again: a failure must never be the end. A reason is
said of the destination: what it means, and where a person can do something, what to do.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.formatting import printable


class Verdict(Enum):
    """What a worker does next. The values are the words in the status and in metrics."""

    DONE = "done"
    """rsync carried everything."""
    RETRY_NOW = "again"
    """The source changed under rsync: retry at once, but not endlessly."""
    PARTIAL = "partial"
    """Some paths failed, the destination works: retry later, or with the next changes."""
    RETRY_LATER = "later"
    """The destination is unreachable or broken: retry after a growing pause."""
    HELD = "held"
    """Only a person can fix it: retry after a long pause, or when released."""
    SOURCE_UNSAFE = "guarded"
    """The source or the destination is not the expected one: run nothing until it is."""


class MissingCapability(Enum):
    """What the rsync of a destination cannot do. The values are words in the status, too."""

    DELETE_MISSING_ARGS = "without_missing_args"
    MKPATH = "without_mkpath"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an rsync exit means: a verdict, ``reason`` in our words and ``message`` in rsync's."""

    verdict: Verdict
    reason: str = ""
    message: str = ""
    missing_capability: MissingCapability | None = None
    """Retry at once without it. The verdict applies if that has been tried."""
    pending: Changeset = NOTHING
    """Changes that are not confirmed."""
    failed: Changeset = NOTHING
    """Changes that failed, while all others that are not pending are confirmed."""

    @property
    def label(self) -> str:
        """The word for it in the status and in metrics."""
        member: Verdict | MissingCapability = self.missing_capability or self.verdict
        return str(member.value)


@dataclass(frozen=True, slots=True)
class _OutcomeRow:
    codes: frozenset[int]
    message: re.Pattern[str]
    outcome: Outcome


def _row(codes: Iterable[int], message: str, verdict: Verdict, reason: str) -> _OutcomeRow:
    return _OutcomeRow(frozenset(codes), re.compile(message), Outcome(verdict, reason))


def _missing(
    codes: Iterable[int], message: str, capability: MissingCapability, reason: str
) -> _OutcomeRow:
    outcome = Outcome(Verdict.RETRY_LATER, reason, missing_capability=capability)
    return _OutcomeRow(frozenset(codes), re.compile(message), outcome)


_SIGNALS = range(-64, 0)

_NOT_LET_IN = "ssh is not let in: see to the key here and to authorized_keys there"
_WRONG_SSH = "ssh cannot be run so: see to its options and its configuration"
_MAY_NOT_RUN = "rsync there may not be run: see to its permissions"
_CANNOT_RUN = "rsync cannot be run: is it installed on both sides?"

_TABLE = (
    # A daemon's rsync ends with 0 then, and with 23 if something else fails besides.
    _row([0, 23, 24, 25], "Deletions stopped due to --max-delete", Verdict.HELD,
         "more would be deleted than --max-delete allows: see whether that is meant"),
    # What its rsync cannot do, and we can do without.
    _missing([2], "invalid file mode 00", MissingCapability.DELETE_MISSING_ARGS,
         "its rsync cannot delete by name (rsync issue 910)"),
    _missing([4], "refuse --delete-missing-args", MissingCapability.DELETE_MISSING_ARGS,
         "it refuses to delete by name"),
    # A daemon of 3.2.3 that refuses it says so in no other way, and ends with 0.
    _missing([0], r'skipping non-regular file "(?:.*/)?\.pylsyncd-probe"',
         MissingCapability.DELETE_MISSING_ARGS, "it passes over what is to be deleted by name"),
    _missing([1, 2, 4, 12], "--mkpath", MissingCapability.MKPATH,
         "its rsync does not know --mkpath"),
    # The source changed under rsync: a list that is made anew fits it again.
    _row([2], "invalid path from sender|no basis file|File-list index", Verdict.RETRY_NOW,
         "a directory changed while rsync read it"),
    _row([24], "", Verdict.RETRY_NOW, "files went while rsync read them"),
    # Some paths failed. A destination where nothing can be written is as good as away.
    _row([23], "(?i)read-only file system", Verdict.RETRY_LATER,
         "it is on a file system that is mounted read-only: see to its disk and its mount options"),
    _row([23], "(?i)no space left|quota", Verdict.RETRY_LATER, "it is full: free space there"),
    _row([23], "read errors mapping .*Input/output error", Verdict.PARTIAL,
         "the source cannot be read: see to its disk"),
    _row([23], "read errors mapping|: Is a directory|: Not a directory|: Too many levels",
         Verdict.RETRY_NOW, "files changed while rsync read them"),
    _row([23], "daemon refused to receive", Verdict.PARTIAL,
         "its rsync daemon excludes some paths: exclude them here, too, or allow them there"),
    _row([23], r"\[sender\] .*Permission denied", Verdict.PARTIAL,
         "some paths cannot be read: permit it, or exclude them"),
    _row([23], r"(?i)(?:permission denied|operation not permitted)", Verdict.PARTIAL,
         "some paths cannot be written: see to their permissions and owners there"),
    _row([23], "(?:mkstemp|rename|symlink|mknod|set times) .*No such file", Verdict.PARTIAL,
         "paths went while rsync wrote them: see who else changes what is there"),
    _row([23], "cannot delete mount point|resource busy", Verdict.PARTIAL,
         "something is mounted or in use where rsync would delete: unmount or exclude it"),
    _row([23], "max-path len", Verdict.PARTIAL,
         "some paths are longer than the 4095 bytes that rsync takes: shorten or exclude them"),
    _row([23], "cannot convert filename", Verdict.PARTIAL,
         "some names do not exist in its character set: rename or exclude them"),
    _row([23], "", Verdict.PARTIAL, "some paths could not be copied"),
    # A remote shell that does not get there; first of all what is written for programs to read.
    # rsync ends with its exit status if that is known when its output ends, and else with 12: so
    # do a quarter of these runs when the processors are busy (3.5.0).
    _row([12, 255], "(?i)host key verification failed|host identification has changed",
         Verdict.HELD, "ssh does not know its host key: log in once by hand, or mend known_hosts"),
    _row([12, 255], r"(?i)permission denied \([a-z]|too many authentication failures",
         Verdict.HELD, _NOT_LET_IN),
    _row([255], "(?i)permission denied", Verdict.HELD, _NOT_LET_IN),
    _row([12, 255], "(?i)could not resolve|name or service not known", Verdict.RETRY_LATER,
         "its name cannot be resolved: see that it is spelled right and that DNS works"),
    _row([12, 255], "(?i)bad configuration option|command-line: line|no such identity|"
         "can't open user config", Verdict.HELD, _WRONG_SSH),
    _row([255], "(?i)illegal option", Verdict.HELD, _WRONG_SSH),
    _row([12], "(?m)^ssh: connect to ", Verdict.RETRY_LATER, "the connection failed"),
    _row([255], "", Verdict.RETRY_LATER, "the connection failed"),
    _row([12], "(?i)rsync: permission denied", Verdict.HELD, _MAY_NOT_RUN),
    _row([12], "(?i)command not found|rsync: not found", Verdict.HELD, _CANNOT_RUN),
    # An error when files were written, or before: the run broke off.
    _row([11], "(?i)no space left|quota", Verdict.RETRY_LATER, "it is full: free space there"),
    _row([11], "(?i)input/output error|read-only file system", Verdict.RETRY_LATER,
         "it cannot be written to: see to its disk"),
    _row([11], "mkdir .*No such file", Verdict.HELD, "a directory above it is missing: create it"),
    _row([11], "mkdir ", Verdict.HELD,
         "its path cannot be created: see that it is right and may be written to"),
    _row([11], "(?i)too many open files|cannot allocate memory", Verdict.RETRY_LATER,
         "there is a lack of memory or of open files"),
    # Not let in by an rsync daemon, or not there.
    _row([5], "max connections", Verdict.RETRY_LATER, "its rsync daemon is busy"),
    _row([5], "(?i)unknown module", Verdict.HELD,
         "its rsync daemon has no such module: see to the name here and to rsyncd.conf there"),
    _row([5], "(?i)auth failed|password", Verdict.HELD,
         "its rsync daemon refuses the login: see to the user and the password on both sides"),
    _row([5], "(?i)access denied", Verdict.HELD,
         "its rsync daemon does not let this host in: see to 'hosts allow' there"),
    _row([5], "(?i)chroot failed|chdir failed", Verdict.RETRY_LATER,
         "the directory of its module is missing: mount or create it"),
    _row([5], "", Verdict.HELD, "its rsync daemon refuses: see to its log"),
    _row([10], "(?i)name or service not known|name lookup|temporary failure in name",
         Verdict.RETRY_LATER,
         "its name cannot be resolved: see that it is spelled right and that DNS works"),
    _row([10], "(?i)connection refused", Verdict.RETRY_LATER,
         "nobody answers at its port: is its rsync daemon running?"),
    _row([10, 35], "", Verdict.RETRY_LATER, "the connection failed"),
    _row([30], "", Verdict.RETRY_LATER, "it fell silent"),
    # What rsync makes of options, settings and programs.
    _row([2], "shell clean", Verdict.HELD,
         "its login shell prints something: see that a non-interactive login is silent"),
    _row([1], "module is read only", Verdict.HELD,
         "its module is read-only: set 'read only = no' in rsyncd.conf there"),
    _row([4], "refuse --delete", Verdict.HELD,
         "its rsync daemon refuses to delete: see to 'refuse options' there, or use --no-delete"),
    # 14 if its side still sends its arguments when that has failed.
    _row([12, 14], "(?i)failed to exec", Verdict.HELD,
         "the remote shell cannot be run: is it installed, is -e right?"),
    _row([12], "(?i)unknown option|invalid rsync-command|has been disabled|option .*not supported",
         Verdict.HELD, "its side cannot run rsync with these options: see to --rsync-option, to "
         "its rsync's version, and to a forced command for the key"),
    # It may be wrong for good, or have been killed as it started.
    _row([12], r"\(0 bytes received", Verdict.RETRY_LATER,
         "its side did not begin to talk: see that that login can run 'rsync --version' there"),
    _row([12], "", Verdict.RETRY_LATER, "the connection broke"),
    _row([1, 4], "", Verdict.HELD, "an option or a setting forbids it: see to --rsync-option"),
    _row([3], 'cannot start in|getcwd|change_dir "', Verdict.RETRY_LATER,
         "the source cannot be entered: see that it is there and may be read"),
    _row([3], "", Verdict.HELD, "its path cannot be used: see that it is a directory"),
    _row([126], "", Verdict.HELD, _MAY_NOT_RUN),
    _row([127], "", Verdict.HELD, _CANNOT_RUN),
    _row([25], "", Verdict.HELD,
         "more would be deleted than --max-delete allows: see whether that is meant"),
    # The rest passes by itself, or nobody knows better.
    _row([19, 20, *_SIGNALS], "", Verdict.RETRY_LATER, "rsync was ended"),
    _row([14, 22], "", Verdict.RETRY_LATER, "rsync failed for lack of memory or processes"),
    _row([2, 11, 13, 15, 16, 21], "", Verdict.RETRY_LATER, "rsync failed"),
)  # fmt: skip


def interpret(exit_status: int, messages: Iterable[str], stall_reason: str = "") -> Outcome:
    """Return what an exit code and rsync's messages mean.

    ``stalled`` is what was seen of an rsync that was ended because it made no progress.
    """
    if stall_reason:
        # What a named pipe has replaced, a new list names as what it is.
        verdict = Verdict.RETRY_NOW if "named pipe" in stall_reason else Verdict.RETRY_LATER
        return Outcome(verdict, f"rsync was stuck and has been ended: {stall_reason}")
    text = "\n".join(messages)
    for row in _TABLE:
        if exit_status in row.codes and row.message.search(text):
            return row.outcome
    if exit_status == 0:
        return Outcome(Verdict.DONE)
    return Outcome(
        Verdict.RETRY_LATER, f"rsync failed in a way that is not known (exit {exit_status})"
    )


def summary(messages: Iterable[str]) -> str:
    """Return the message that says most: the first complaint, without rsync's closing line.

    It can be shown: what is not printable is escaped.
    """
    complaints = [line.strip() for line in messages if not _CLOSING.match(line)]
    first = next((line for line in complaints if _COMPLAINT.search(line)), None)
    return printable(first or (complaints[0] if complaints else ""))


_CLOSING = re.compile(r"rsync error: |rsync warning: ")
_COMPLAINT = re.compile(r"(?i)^rsync: |@ERROR|denied|refused|failed|cannot|can't|vanished|resolve")
