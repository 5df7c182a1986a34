"""Interprets the exit of an rsync: one table from exit status and messages to a verdict.

The exit statuses and messages are measured ones of rsync 3.5.0, or from its manual. The first row
that matches counts. A failure without a row is retried: no failure ends the daemon. Each reason
says what happened and, where an administrator can help, what to do.

Names of files and the text of other programs decide nothing: a row names the writer of the lines
that count, and its words are compared with lines from which names were cut out.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Final

from pylsyncd.model.formatting import printable
from pylsyncd.rsync.message_lines import UNKNOWN_OPTION, MessageOrigin, parse_message, shortened

MAX_INTERPRETED_LINES: Final = 1_000
"""Lines of one run whose words are interpreted; `RsyncMessages` keeps fewer."""


class Verdict(Enum):
    """The next step of a worker. The values are the words in the status and in metrics."""

    DONE = "done"
    """rsync carried everything."""
    RETRY_NOW = "again"
    """The source changed under rsync: retry at once, but not endlessly."""
    PARTIAL = "partial"
    """Some paths failed, the destination works: retry later, or with the next changes."""
    RETRY_LATER = "later"
    """The destination is unreachable or broken: retry after a growing pause."""
    HELD = "held"
    """Only an administrator can fix it: retry after a long pause, or when released."""
    SOURCE_UNSAFE = "guarded"
    """The source or the destination is not the expected one: run nothing until it is."""


class MissingCapability(Enum):
    """A capability that the remote rsync lacks. The values are words in the status, too."""

    DELETE_MISSING_ARGS = "without_missing_args"
    MKPATH = "without_mkpath"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The meaning of an rsync exit: a verdict, our ``reason`` for it, and rsync's ``message``."""

    verdict: Verdict
    reason: str = ""
    message: str = ""
    missing_capability: MissingCapability | None = None
    """Retry at once without it. The verdict applies if that has been tried."""

    @property
    def label(self) -> str:
        """The word for it in the status and in metrics."""
        member: Verdict | MissingCapability = self.missing_capability or self.verdict
        return str(member.value)


@dataclass(frozen=True, slots=True)
class _OutcomeRow:
    codes: frozenset[int]
    origin: MessageOrigin | None
    """The writer of the lines in which the words count; None if no line is necessary."""
    words: re.Pattern[str]
    outcome: Outcome


def _row(
    codes: Iterable[int],
    origin: MessageOrigin | None,
    words: str,
    meaning: Verdict | MissingCapability,
    reason: str,
) -> _OutcomeRow:
    outcome = (
        Outcome(meaning, reason)
        if isinstance(meaning, Verdict)
        else Outcome(Verdict.RETRY_LATER, reason, missing_capability=meaning)
    )
    return _OutcomeRow(frozenset(codes), origin, re.compile(words), outcome)


def _otherwise(codes: Iterable[int], verdict: Verdict, reason: str) -> _OutcomeRow:
    """Return a row for all other runs with these exit statuses."""
    return _row(codes, None, "", verdict, reason)


_SIGNALS = range(-64, 0)

CANNOT_DELETE_BY_NAME: Final = "the remote rsync cannot delete by name (rsync issue 910)"

STALLED_IN_FIFO = "it opened a named pipe that had replaced a file"
"""The reason for stopping an rsync that waits for the other end of a FIFO."""

_LOGIN_REFUSED = "ssh cannot log in: check the key here and authorized_keys there"
_SSH_CONFIGURATION = "ssh refuses its options or configuration: check -e and ssh_config"
_NOT_EXECUTABLE = "the remote rsync is not executable: check its permissions"
RELEASE_COMMAND: Final = "pylsyncctl release DEST"
"""In a reason or message; the report puts the name of the destination into the place of DEST."""

_DELETION_LIMIT = (
    "more would be deleted than --max-delete allows: check whether that is intended, then run "
    + RELEASE_COMMAND
)
UNRESOLVED: Final = "the destination's name cannot be resolved: check its spelling, and DNS"
_UNREACHABLE = "the connection failed: check that the destination is up and reachable"
_FULL = "the destination is full: free space there"
_DAEMON_LOGIN_REFUSED = "the rsync daemon refuses the login: check user and password on both sides"
_CANNOT_RUN = "rsync cannot be run: check that it is installed on both sides"

_RSYNC, _DAEMON, _SHELL = MessageOrigin.RSYNC, MessageOrigin.DAEMON, MessageOrigin.SHELL

# The words of a line, in which `...` stands for names, begin with the pattern. No pattern has more
# than one `.*`, so its cost is linear.
_WHO = r"rsync: (?:\[\w+\] )?"
_WHY = "rsync: .*: "
_NO_SPACE = f"{_WHY}(?i:no space left|(?:dis[ck] )?quota exceeded)"

_TABLE = (
    # A daemon's rsync exits with 0 in this case, and with 23 if another error occurs.
    _row([0, 23, 24, 25], _RSYNC, "Deletions stopped due to --max-delete", Verdict.HELD,
         _DELETION_LIMIT),
    # Capabilities that its rsync lacks, and that pylsyncd can do without.
    _row([2], _RSYNC, "invalid file mode 00", MissingCapability.DELETE_MISSING_ARGS,
         CANNOT_DELETE_BY_NAME),
    _row([4], _RSYNC, "(?:rsync: )?The server is configured to refuse --delete-missing-args",
         MissingCapability.DELETE_MISSING_ARGS, "the rsync daemon refuses to delete by name"),
    # The only sign that a daemon of 3.2.3 refuses it; exit status 0.
    _row([0], _RSYNC, r'skipping non-regular file "(?:[^"]*/)?\.pylsyncd-probe"',
         MissingCapability.DELETE_MISSING_ARGS, "the rsync daemon ignores deletion by name"),
    _row([1, 2, 4, 12], _RSYNC, ".*--mkpath", MissingCapability.MKPATH,
         "the remote rsync does not support --mkpath"),
    # The source changed under rsync: a new list will fit it.
    _row([2], _RSYNC, "ABORTING due to invalid path|got a block match with no basis file|"
         "File-list index", Verdict.RETRY_NOW, "a directory changed while rsync read it"),
    _otherwise([24], Verdict.RETRY_NOW, "files vanished while rsync read them"),
    # Some paths failed. A destination where no path can be written counts as unreachable.
    _row([23], _RSYNC, f"{_WHY}Read-only file system", Verdict.RETRY_LATER,
         "the destination is mounted read-only: check its disk and its mount options"),
    # Extended attributes that are too large are no sign of it.
    _row([23], _RSYNC, rf"(?!rsync: (?:\[\w+\] )?\w+: \w+xattr){_NO_SPACE}",
         Verdict.RETRY_LATER, _FULL),
    _row([23], _RSYNC, f"{_WHO}read errors mapping .*Input/output error", Verdict.PARTIAL,
         "the source has read errors: check its disk"),
    _row([23], _RSYNC, f"{_WHO}read errors mapping|"
         f"{_WHY}(?:Is a directory|Not a directory|Too many levels)",
         Verdict.RETRY_NOW, "files changed while rsync read them"),
    _row([23], _RSYNC, "ERROR: daemon refused to receive", Verdict.PARTIAL,
         "the rsync daemon excludes some paths: exclude them here as well, or allow them there"),
    _row([23], _RSYNC, r"rsync: \[sender\] .*: Permission denied", Verdict.PARTIAL,
         "some paths of the source cannot be read: give pylsyncd read permission, or exclude them"),
    _row([23], _RSYNC, f"{_WHY}(?i:permission denied|operation not permitted)", Verdict.PARTIAL,
         "some paths cannot be written: check their permissions and owners at the destination"),
    _row([23], _RSYNC, f"{_WHO}(?:mkstemp|rename|symlink|mknod|failed to set times) .*: "
         "No such file", Verdict.PARTIAL,
         "paths vanished while rsync wrote them: find the program that changes the destination"),
    _row([23], _RSYNC, f"cannot delete mount point|{_WHY}Device or resource busy", Verdict.PARTIAL,
         "rsync cannot delete a mount point or a busy path there: unmount or exclude it"),
    _row([23], _RSYNC, "filename overflows max-path len", Verdict.PARTIAL,
         "some paths are longer than the 4095 bytes that rsync takes: shorten or exclude them"),
    _row([23], _RSYNC, r"\[\w+\] cannot convert filename", Verdict.PARTIAL,
         "some names cannot be converted to the remote character set: rename or exclude them"),
    _otherwise([23], Verdict.PARTIAL, "some paths could not be copied: see rsync's message"),
    # The remote shell failed; its machine-readable messages come first. rsync exits with the exit
    # status of the shell if that is known when its output ends, and else with 12: so do a quarter
    # of these runs when the processors are busy (3.5.0).
    _row([12, 255], _SHELL, "Host key verification failed|"
         "@ +WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED", Verdict.HELD,
         "ssh does not know the host key: log in once by hand, or correct known_hosts"),
    _row([12, 255], _SHELL, r"(?:\S+: )?Permission denied \([a-z]|"
         ".*Too many authentication failures", Verdict.HELD, _LOGIN_REFUSED),
    _row([255], _SHELL, r"(?:\S+: )?Permission denied", Verdict.HELD, _LOGIN_REFUSED),
    _row([12, 255], _SHELL, "(?i)ssh: .*(?:could not resolve|name or service not known)",
         Verdict.RETRY_LATER, UNRESOLVED),
    _row([12, 255], _SHELL, "(?i).*bad configuration option|command-line:? line |"
         "no such identity|can't open user config|bad owner or permissions", Verdict.HELD,
         _SSH_CONFIGURATION),
    _row([12, 255], _SHELL, r"unknown option -- |(?:\S+: )?illegal option", Verdict.HELD,
         _SSH_CONFIGURATION),
    _row([12], _SHELL, "ssh: connect to ", Verdict.RETRY_LATER, _UNREACHABLE),
    _otherwise([255], Verdict.RETRY_LATER, _UNREACHABLE),
    _row([12], _SHELL, r"(?i)\S+ .*rsync: permission denied|\S+:\d+: permission denied: ",
         Verdict.HELD, _NOT_EXECUTABLE),
    _row([12], _SHELL, r"(?i).*: (?:command )?not found\.?\s*\Z|\S+:\d+: command not found: ",
         Verdict.HELD, _CANNOT_RUN),
    # An error while writing files, or before: the run was aborted.
    _row([11], _RSYNC, _NO_SPACE, Verdict.RETRY_LATER, _FULL),
    _row([11], _RSYNC, f"{_WHY}(?:Input/output error|Read-only file system)", Verdict.RETRY_LATER,
         "the destination cannot be written: check its disk"),
    _row([11], _RSYNC, rf"{_WHO}mkdir \.\.\.: No such file", Verdict.HELD,
         "a directory above the destination is missing: create it"),
    _row([11], _RSYNC, rf"{_WHO}mkdir \.\.\.", Verdict.HELD,
         "the destination cannot be created: check its path, and the permissions above it"),
    _row([11], _RSYNC, f"{_WHY}(?:Too many open files|Cannot allocate memory)", Verdict.RETRY_LATER,
         "memory or file descriptors ran out: check the limits on both sides"),
    # An rsync daemon refused the connection, or is not running.
    _row([5], _DAEMON, "@ERROR: max connections", Verdict.RETRY_LATER,
         "the rsync daemon is busy: raise 'max connections' in rsyncd.conf there"),
    _row([5], _DAEMON, "@ERROR: Unknown module", Verdict.HELD,
         "the rsync daemon has no such module: check the name here and rsyncd.conf there"),
    _row([5], _DAEMON, "@ERROR: (?:auth failed|.*password)", Verdict.HELD, _DAEMON_LOGIN_REFUSED),
    _row([5], _RSYNC, "(?:rsync|ERROR): .*password", Verdict.HELD, _DAEMON_LOGIN_REFUSED),
    _row([5], _DAEMON, "@ERROR: access denied", Verdict.HELD,
         "the rsync daemon refuses this host: check 'hosts allow' in rsyncd.conf there"),
    _row([5], _DAEMON, "@ERROR: (?:chroot|chdir) failed", Verdict.RETRY_LATER,
         "the directory of the rsync daemon's module is missing: mount or create it"),
    _otherwise([5], Verdict.HELD, "the rsync daemon refuses the connection: check its log"),
    _row([10], _RSYNC, "(?i)rsync: .*(?:name or service not known|name lookup|"
         "temporary failure in name)", Verdict.RETRY_LATER, UNRESOLVED),
    _row([10], _RSYNC, f"{_WHY}Connection refused", Verdict.RETRY_LATER,
         "no rsync daemon listens on the port: check that it is running there"),
    _otherwise([10, 35], Verdict.RETRY_LATER, _UNREACHABLE),
    _otherwise([30], Verdict.RETRY_LATER,
         "the destination stopped responding: check it, and the network"),
    # Options, settings and programs.
    _row([2], _RSYNC, ".*is your shell clean", Verdict.HELD,
         "the login shell at the destination prints text: make a non-interactive login silent"),
    _row([1], _RSYNC, "ERROR: module is read only", Verdict.HELD,
         "the rsync daemon's module is read-only: set 'read only = no' in rsyncd.conf there"),
    _row([4], _RSYNC, "(?:rsync: )?The server is configured to refuse --delete", Verdict.HELD,
         "the rsync daemon refuses to delete: check 'refuse options' there, or use --no-delete"),
    # 14 if rsync still sends its arguments when the exec has failed.
    _row([12, 14], _RSYNC, f"{_WHO}Failed to exec", Verdict.HELD,
         "the remote shell cannot be run: check that it is installed, and the option -e"),
    _row([1, 2, 12, 64], _SHELL, UNKNOWN_OPTION, Verdict.HELD,
         "the program at the destination, or here, is another rsync, such as openrsync: install "
         "rsync from samba.org, and name it with --rsync-option=--rsync-path=PROGRAM or --rsync"),
    _row([12], _RSYNC, "rsync: .*: unknown option|.*(?:invalid rsync-command|has been disabled|"
         "option not supported|are not supported on this )|rsync error: syntax or usage error",
         Verdict.HELD, "the remote rsync refuses its options: check --rsync-option, the rsync "
         "version there, and a forced command for the key"),
    # A permanent fault, or a process that was killed as it started.
    _row([12], _RSYNC, rf"(?:{_WHO})?connection unexpectedly closed \(0 bytes received",
         Verdict.RETRY_LATER,
         "the remote rsync did not start: check that 'rsync --version' works in that login"),
    _otherwise([12], Verdict.RETRY_LATER,
         "the connection broke: check the network, and the log there"),
    _otherwise([1, 4], Verdict.HELD,
         "an option or a setting forbids the run: check --rsync-option"),
    _row([3], _RSYNC, rf".* cannot start in the source|{_WHO}(?:getcwd|change_dir \.\.\.)",
         Verdict.RETRY_LATER,
         "the source cannot be entered: check that it exists and is readable"),
    _row([3], _RSYNC, f"refusing to follow a symlink|{_WHY}Too many levels of symbolic links",
         Verdict.HELD, "the destination's path leads through a symbolic link of another user, or "
         "through a loop of links: remove the link, or name its target as the destination"),
    _otherwise([3], Verdict.HELD,
         "the destination's path cannot be used: check that it is a directory"),
    _otherwise([126], Verdict.HELD, _NOT_EXECUTABLE),
    _otherwise([127], Verdict.HELD, _CANNOT_RUN),
    _otherwise([25], Verdict.HELD, _DELETION_LIMIT),
    # Failures that pass by themselves, or have an unknown cause.
    _otherwise([19, 20, *_SIGNALS], Verdict.RETRY_LATER, "rsync was terminated by a signal"),
    _otherwise([14, 22], Verdict.RETRY_LATER,
         "memory or processes ran out: check the limits on both sides"),
    _otherwise([2, 11, 13, 15, 16, 21], Verdict.RETRY_LATER, "rsync failed: see its message"),
)  # fmt: skip


def interpret(exit_status: int, messages: Iterable[str], stall_reason: str = "") -> Outcome:
    """Return what an exit status and rsync's messages mean.

    ``stall_reason`` says why the run was stopped as stalled; empty if it was not.
    """
    lines = [*islice(messages, MAX_INTERPRETED_LINES)]
    if stall_reason:
        # A new list has the named pipe as what it is.
        is_in_fifo = stall_reason == STALLED_IN_FIFO
        verdict = Verdict.RETRY_NOW if is_in_fifo else Verdict.RETRY_LATER
        outcome = Outcome(verdict, f"rsync was stopped: {stall_reason}")
    else:
        outcome = _look_up(exit_status, _fixed_words(lines))
    if outcome.verdict is Verdict.DONE:
        return outcome
    return replace(outcome, message=summary(lines))


def has_failed_in_file(exit_status: int, messages: Iterable[str]) -> bool:
    """Return True if the receiver ended the run because it could not write a file.

    The local rsync may exit with the status of its broken connection.
    """
    lines = islice(messages, MAX_INTERPRETED_LINES)
    return exit_status == _WRITE_FAILED or (
        exit_status in _CONNECTION_FAILED and any(map(_ENDED_IN_FILE.match, lines))
    )


_WRITE_FAILED = 11
_CONNECTION_FAILED = frozenset([10, 12])
_ENDED_IN_FILE = re.compile(r"rsync error: error in file IO \(code 11\) at ")


def may_leave_temporary_files(exit_status: int, messages: Iterable[str]) -> bool:
    """Return True if the receiver may have been killed while it wrote a file.

    It leaves ``.name.XXXXXX`` behind then. Not if it has never been reached.
    """
    lines = islice(messages, MAX_INTERPRETED_LINES)
    return exit_status in _SIGNALS or (exit_status > 0 and any(map(_BROKEN_OFF.match, lines)))


_BROKEN_OFF = re.compile(
    rf"(?:{_WHO})?connection unexpectedly closed \([1-9]"
    rf"|{_WHO}(?:read|write) error|(?:\[\w+\] )?io timeout after|rsync error: received SIG"
)


def _fixed_words(lines: Iterable[str]) -> Mapping[MessageOrigin | None, Collection[str]]:
    """Return the fixed words of lines by their writer; of None, one that are not read."""
    words: dict[MessageOrigin | None, dict[str, None]] = {origin: {} for origin in MessageOrigin}
    for parsed in map(parse_message, lines):
        words[parsed.origin][parsed.words] = None
    if any(_HAS_STARTED.match(text) for text in words[MessageOrigin.RSYNC]):
        # The remote shell has done its work: a failure that it reports is another program's.
        words[MessageOrigin.SHELL].clear()
    return {**words, None: ("",)}


_HAS_STARTED = re.compile(rf"(?:{_WHO})?connection unexpectedly closed \([1-9]")


def _look_up(exit_status: int, words: Mapping[MessageOrigin | None, Collection[str]]) -> Outcome:
    for row in _TABLE:
        if exit_status in row.codes and any(map(row.words.match, words[row.origin])):
            return row.outcome
    if exit_status == 0:
        return Outcome(Verdict.DONE)
    return Outcome(Verdict.RETRY_LATER, f"rsync failed with the unknown exit status {exit_status}")


def summary(messages: Iterable[str]) -> str:
    """Return the most useful message, printable: the first error, else the first line.

    Noise is shown only if there is no message of rsync, its daemon or the remote shell.
    """
    lines = [line.strip() for line in messages if not _CLOSING.match(line)]
    understood = [line for line in lines if parse_message(line).origin is not MessageOrigin.NOISE]
    # A closed connection is the consequence of what another line says.
    causes = [line for line in understood if not _CLOSED.match(line)]
    candidates = causes or understood or lines
    first_error = next((line for line in candidates if _ERROR.search(shortened(line))), None)
    return printable(first_error or (candidates[0] if candidates else ""))


_CLOSED = re.compile(rf"(?:{_WHO})?connection unexpectedly closed \(")
_CLOSING = re.compile(r"rsync error: |rsync warning: ")
_ERROR = re.compile(r"(?i)^rsync: |@ERROR|denied|refused|failed|cannot|can't|vanished|resolve")
