"""Builds the rsync commands. Pure; the facts about options were measured."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import quoting, temporary_names
from pylsyncd.rsync.option_check import compares_contents, may_delete, preserves_hard_links
from pylsyncd.rsync.quoting import Version
from pylsyncd.rules.excludes import Rules

MIN_RSYNC_VERSION: Version = (3, 2, 3)

CURRENT_DIRECTORY: Final = b"./"
"""The source as rsync's argument: rsync runs in it, so a rename of the source does no harm."""

DEFAULT_TIMEOUT = 600.0
"""Seconds without a byte from the peer after which rsync gives up."""

# Seconds for connecting, after which rsync gives up (exit 35, or 255 from ssh).
_CONNECT_TIMEOUT = 30

SSH_KEEP_ALIVE_OPTIONS: Final = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
"""With these, ssh notices within a minute that its peer is gone."""

# BatchMode: a daemon cannot answer ssh's questions.
DEFAULT_REMOTE_SHELL = (
    f"ssh -o BatchMode=yes -o ConnectTimeout={_CONNECT_TIMEOUT} {SSH_KEEP_ALIVE_OPTIONS}"
)

# rsync refuses these (exit 1) unless the destination is an rsync daemon.
_DAEMON_ONLY_OPTIONS = ("--password-file=", "--contimeout=")

# One line for each path: rsync's action, then the name, with odd bytes escaped.
_ITEMIZE_OPTION = b"--out-format=%i %n%L"

# Not -r, which would recurse into every listed directory.
_READ_LIST: Final = (b"--dirs", b"--from0", b"--files-from=-")

PROGRESS_OPTION: Final = b"--info=progress2"
"""Makes rsync print its progress; see `output`.

For 50,000 small files it costs 0.1 s of CPU time on top of 2.1 s.
"""


class ContentComparison(Enum):
    """How rsync finds out whether a file and its copy, of the same size and time, are equal.

    The value is rsync's option for it, empty for none. (Python 3.11.2 replaces an empty tuple.)
    """

    TIMES = b""
    """They are taken for equal."""
    CHECKSUMS = b"--checksum"
    """Both are read before anything is sent, and an equal copy is not touched.

    For 5,000 files of 4 kB or 4 of 64 MB (rsync 3.5.0, local or through a shell) it takes half the
    CPU time of `CONTENTS` or less if the copies are equal, 10 to 30 % more if they differ or are
    missing. But a part of a list that takes an hour to read is an hour without a byte, in which the
    peer gives up.
    """
    CONTENTS = b"--ignore-times"
    """They are sent, by ssh and to a daemon as differences. Each copy is replaced."""


@dataclass(frozen=True, slots=True)
class RsyncCapabilities:
    """What a destination's rsync is able to do, as far as earlier runs have shown."""

    has_delete_missing_args: bool = True
    """It deletes listed paths that are missing (``--delete-missing-args``; not in 3.4.3)."""
    has_mkpath: bool = True
    """It creates missing directories above the destination (``--mkpath``; since 3.2.3)."""


@dataclass(frozen=True, slots=True)
class RsyncOptions:
    """The rsync program and the options that all runs to one destination share."""

    program: str
    version: Version
    rsh: str = DEFAULT_REMOTE_SHELL
    share_ssh: bool = True
    """Runs may use one ssh connection, which stays open between them."""
    nice: int = 0
    """The niceness of the local rsync, as for nice(1)."""
    ionice: str = ""
    """Its I/O scheduling class: ``idle``, or ``best-effort:0`` to ``best-effort:7``."""
    bandwidth_limit: str = ""
    """The rate of a run, as ``--bwlimit`` takes it."""
    password_file: str = ""
    """For rsync daemons: an absolute path, since rsync runs in the source."""
    in_flight: frozenset[bytes] = frozenset()
    """Files that another run is sending. They are excluded, and their temporary files at the
    destination are protected from deletion. Each costs three arguments."""
    modify_window: int | None = None
    """How many seconds two times that count as equal may differ; 0 stands for the same second, and
    -1 for the same nanosecond. None is -1 until something else turns out."""
    extra_options: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    last: Rules = field(default_factory=Rules)
    """Rules that exclude the files that are sent last from the runs before; see `Publisher`."""
    delete: bool = True
    deletes_last: bool = False
    """Delete what a listed directory or a full sync finds only after everything was sent."""
    dry_run: bool = False
    comparison: ContentComparison = ContentComparison.TIMES
    itemize: bool = False
    """Print what is done to each path."""
    show_progress: bool = False
    """Print the progress of full syncs."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds without a byte from the peer after which rsync gives up (exit 30)."""
    max_delete: int | None = None
    """How many paths one run may delete. At the limit rsync stops deleting and says so (exit 25;
    0 if its peer is a daemon, rsync 3.5.0), but sends everything else.

    It cannot say how many more it would have deleted: the number that it calls skipped leaves out
    the contents of skipped directories. For that number there is `as_dry_run`.
    """

    @property
    def stall_timeout(self) -> float:
        """Seconds without progress after which rsync counts as stalled.

        Longer than ``timeout``, because rsync's own error message says more.
        """
        return 1.5 * self.timeout

    @property
    def preserves_hard_links(self) -> bool:
        """True if rsync recreates the source's hard links at the destination."""
        return preserves_hard_links(self.extra_options)

    @property
    def time_tolerance_ns(self) -> int:
        """The nanoseconds below which two different times may count as equal."""
        is_exact = self.modify_window is None or self.modify_window < 0
        return 0 if is_exact else ((self.modify_window or 0) + 1) * 1_000_000_000

    @property
    def compares_contents(self) -> bool:
        """True if every run compares contents, because the administrator wants it."""
        return compares_contents(self.extra_options)

    def full_sync_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Return the command that offers the whole tree.

        Paths in ``excluded``, with everything below them, are neither sent nor deleted. Each costs
        two arguments. Keep them to some 1,000: Linux refuses to start a program with more than
        2 MB of arguments (E2BIG). rsync ignores an exclude of more than 4,000 bytes.
        """
        mode = [b"--mkpath"] if capabilities.has_mkpath else []
        mode += [PROGRESS_OPTION] if self.show_progress else []
        mode += self._deletion_options() or [b"--force"]
        return self._command(b"-rlptgoD", mode, source, destination, excluded)

    def file_list_command(  # noqa: PLR0913  # the optional ones are passed by name
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        create_parents: bool,
        excluded: Iterable[bytes] = (),
        only_deletes: bool = False,
    ) -> list[bytes]:
        """Return the command that offers the paths of a list, read from standard input.

        For ``excluded`` see `full_sync_command`; listed paths below them are left out, too. With
        ``only_deletes`` it deletes what it would delete otherwise, but opens and sends no file.
        """
        mode = [b"--mkpath"] if create_parents and capabilities.has_mkpath else []
        mode += _READ_LIST
        mode += [b"--existing", b"--ignore-existing"] if only_deletes else []
        if not self.delete:
            mode += [b"--force", b"--ignore-missing-args"]
        elif capabilities.has_delete_missing_args:
            # Either option alone silently keeps a missing directory.
            mode += [*self._deletion_options(), b"--delete-missing-args"]
        else:
            mode += [*self._deletion_options(), b"--ignore-missing-args"]
        return self._command(b"-lptgoD", mode, source, destination, excluded)

    def large_files_command(self, source: bytes, destination: Destination) -> list[bytes]:
        """Return the command that sends the files of a list, read from standard input.

        It deletes nothing, and replaces no directory by a file.
        """
        mode = [*_READ_LIST, b"--ignore-missing-args"]
        deleting = {_encode(option) for option in self.extra_options if may_delete(option)}
        command = self._command(b"-lptgoD", mode, source, destination)
        return [argument for argument in command if argument not in deleting]

    def probe_command(
        self, source: bytes, destination: Destination, capabilities: RsyncCapabilities
    ) -> list[bytes]:
        """Return the command that tries a list and changes nothing."""
        return self.as_dry_run().file_list_command(
            source, destination, capabilities, create_parents=True
        )

    def as_dry_run(self) -> "RsyncOptions":
        """Return the options of a dry run, which shows how much a real run would delete.

        Its count ("Number of deleted files") is never smaller than a real run's, whether deletion
        is by name, by a listed directory or by a full sync, and over every transport (rsync 3.5.0).
        For older daemons, the names of deleted paths are counted. The count includes directories
        that a real run keeps because the rules protect something in them. Files created while the
        real run is under way can only make it delete less.
        """
        return replace(
            self, dry_run=True, max_delete=None, comparison=ContentComparison.TIMES, itemize=False,
            show_progress=False,
        )  # fmt: skip

    def compare_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        checksum: bool,
    ) -> list[bytes]:
        """Return the command that changes nothing and prints a line for each path that differs.

        It compares times and sizes, with ``checksum`` the contents, too. Paths that only the
        destination has are among the lines if a run would delete them.
        """
        comparison = ContentComparison.CHECKSUMS if checksum else ContentComparison.TIMES
        options = replace(self.as_dry_run(), itemize=True, comparison=comparison)
        return options.full_sync_command(source, destination, capabilities)

    def _command(
        self,
        archive: bytes,
        mode: list[bytes],
        source: bytes,
        destination: Destination,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        transport = destination.transport
        extra_options = [
            option
            for option in self.extra_options
            if transport is Transport.DAEMON or not option.startswith(_DAEMON_ONLY_OPTIONS)
        ]
        return [
            *self._priority_arguments(),
            _encode(self.program),
            archive,
            _counters_option(transport),
            b"--no-h",
            *([_ITEMIZE_OPTION] if self.itemize else []),
            _modify_window_option(transport, self.modify_window),
            b"--timeout=%d" % math.ceil(self.timeout),
            *([b"--dry-run"] if self.dry_run else []),
            *mode,
            *self._filter_options(excluded),
            *self._transport_options(destination),
            *([_encode(f"--bwlimit={self.bandwidth_limit}")] if self.bandwidth_limit else []),
            *map(_encode, extra_options),
            *([self.comparison.value] if self.comparison.value else []),
            b"--",
            source.rstrip(b"/") + b"/",
            quoting.target_argument(destination, self.version),
        ]

    def _priority_arguments(self) -> list[bytes]:
        """Return the nice and ionice that start rsync; each execs the next, so the pid stays."""
        words = [b"nice", b"-n", b"%d" % self.nice] if self.nice else []
        if self.ionice:
            name, _, level = self.ionice.partition(":")
            words += [b"ionice", b"-c", b"3" if name == "idle" else b"2"]
            words += [b"-n", level.encode()] if level else []
        return words

    def _deletion_options(self) -> list[bytes]:
        if not self.delete:
            return []
        limit = [] if self.max_delete is None else [b"--max-delete=%d" % self.max_delete]
        # rsync refuses two options that say when.
        is_chosen = any(may_delete(option) for option in self.extra_options if option != "--force")
        when = [b"--delete-after"] if self.deletes_last and not is_chosen else []
        return [b"--delete", *when, *limit]

    def _filter_options(self, excluded: Iterable[bytes]) -> list[bytes]:
        """Return the options that exclude paths; the first match decides, so the rules are last."""
        in_flight = sorted(self.in_flight)
        protected = [temporary_names.temporary_pattern(path) for path in in_flight]
        patterns = [each for path in (*excluded, *in_flight) for each in _exact_patterns(path)]
        return [
            *(b"--filter=P " + pattern for pattern in protected),
            *(b"--exclude=" + pattern for pattern in patterns),
            *self.rules.arguments(),
        ]

    def _transport_options(self, destination: Destination) -> list[bytes]:
        if destination.transport is Transport.DAEMON:
            # Without TCP_NODELAY, the small packets of a list wait 40 ms for each other.
            options = [b"--sockopts=TCP_NODELAY", b"--contimeout=%d" % _CONNECT_TIMEOUT]
            # The greeting of the daemon would be on the same output as rsync's own lines.
            options.append(b"--no-motd")
            if self.password_file:
                options.append(_encode(f"--password-file={self.password_file}"))
            return options
        if destination.transport is Transport.LOCAL:
            return []
        is_secluded = quoting.needs_secluded_args(destination, self.version)
        return [_encode(f"--rsh={self.rsh}"), *([b"-s"] if is_secluded else [])]


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _exact_patterns(path: bytes) -> tuple[bytes, bytes]:
    """Return the patterns that match exactly one path, and everything below it.

    Listed paths need the second: rsync compares the rules with the whole listed path only, not
    with the directories above it.
    """
    escaped = temporary_names.escape_wildcards(path)
    # rsync takes a backslash for an escape only in patterns that have a wildcard.
    itself = escaped if re.search(rb"[*?[]", path) else path
    return b"/" + itself, b"/" + escaped + b"/**"


def _counters_option(transport: Transport) -> bytes:
    """Return the option that makes rsync print how much it has done.

    A daemon of 3.2.3, 3.2.7 or 3.4.1 counts no deletions (3.5.0 does), but names them if asked to.
    """
    return b"--info=stats2,del" if transport is Transport.DAEMON else b"--info=stats2"


def _modify_window_option(transport: Transport, window: int | None) -> bytes:
    """Return the option that says which times count as equal.

    Without -1, rsync misses a second change within one second. It is sent verbatim to a remote
    side, because older ones reject the short form that rsync makes of it; but not locally, where
    any -M breaks the protocol from a list of 1,000 entries on.
    """
    option = b"--modify-window=%d" % (-1 if window is None else window)
    return option if transport is Transport.LOCAL else b"-M" + option
