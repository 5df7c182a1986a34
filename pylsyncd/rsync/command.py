"""Builds the rsync commands. Pure; the facts behind each option are measured ones."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.rsync import quoting, temporary_names
from pylsyncd.rsync.option_check import may_delete, preserves_hard_links
from pylsyncd.rsync.quoting import Version
from pylsyncd.rules.excludes import Rules

MIN_RSYNC_VERSION: Version = (3, 2, 3)

CURRENT_DIRECTORY: Final = b"./"
"""The source, for an rsync that runs in it: what its name stands for meanwhile is no matter."""

DEFAULT_TIMEOUT = 600.0
"""Seconds of silence from its peer after which rsync gives up, where nothing else is said."""

# Seconds for connecting, after which rsync gives up (exit 35, or 255 from ssh).
_CONNECT_TIMEOUT = 30

SSH_KEEP_ALIVE_OPTIONS: Final = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
"""Has ssh notice within a minute that its peer is gone."""

# No questions, since nobody is there to answer.
DEFAULT_REMOTE_SHELL = (
    f"ssh -o BatchMode=yes -o ConnectTimeout={_CONNECT_TIMEOUT} {SSH_KEEP_ALIVE_OPTIONS}"
)

# rsync refuses to run (exit 1) when these stand before any other destination than a daemon.
_DAEMON_ONLY_OPTIONS = ("--password-file=", "--contimeout=")

# One line for every path that rsync acts on: what, then the name, with odd bytes escaped.
_ITEMIZE_OPTION = b"--out-format=%i %n%L"

PROGRESS_OPTION: Final = b"--info=progress2"
"""Makes rsync tell how far it is; see `progress`.

For 50,000 small files it takes 0.1 s of CPU more, on top of 2.1 s.
"""


@dataclass(frozen=True, slots=True)
class RsyncCapabilities:
    """What a destination's rsync understands, as far as it has been seen."""

    has_delete_missing_args: bool = True
    """It deletes listed paths that are missing (``--delete-missing-args``, not in 3.4.3)."""
    has_mkpath: bool = True
    """It creates missing directories above the destination (``--mkpath``, from 3.2.3 on)."""


@dataclass(frozen=True, slots=True)
class RsyncOptions:
    """The program and the options that all runs share."""

    program: str
    version: Version
    rsh: str = DEFAULT_REMOTE_SHELL
    share_ssh: bool = True
    """Its runs may use one ssh connection, which stays open between them."""
    nice: int = 0
    """How much rsync here yields of the processor to others, as nice(1) counts."""
    ionice: str = ""
    """How it yields of the disks: ``idle`` or ``best-effort:0`` to ``best-effort:7``."""
    bandwidth_limit: str = ""
    """The rate of a run, as ``--bwlimit`` takes it."""
    password_file: str = ""
    """For rsync daemons: an absolute path, since rsync runs in the source."""
    in_flight: frozenset[bytes] = frozenset()
    """Files that another run sends meanwhile: they are left out, and nothing is deleted that may be
    what they are written to there, until they are complete. Each costs three arguments."""
    extra_options: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    delete: bool = True
    dry_run: bool = False
    itemize: bool = False
    """It prints what it does to each path."""
    show_progress: bool = False
    """When it is offered the whole tree, it tells how far it is."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds without a byte from the peer after which rsync gives up (exit 30)."""
    max_delete: int | None = None
    """How much one run may delete. rsync stops there and says so (exit 25; 0 if its other end is a
    daemon, rsync 3.5.0), but sends everything else.

    It cannot tell how much more it would have deleted: the number that it calls skipped leaves out
    what lies below a directory that it has skipped. For that there is `trial`.
    """

    @property
    def stall_timeout(self) -> float:
        """Seconds of rsync's own silence after which it is stuck.

        More than it has with its peer: as long as it is not stuck, it tells itself what is wrong.
        """
        return 1.5 * self.timeout

    @property
    def preserves_hard_links(self) -> bool:
        """Whether rsync makes hard links at the destination of those at the source."""
        return preserves_hard_links(self.extra_options)

    def full_sync_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Return the command that offers the whole tree.

        Paths in ``without``, with all that is below them, are neither sent nor deleted. Each costs
        two arguments: keep them to some 1,000, since Linux refuses to start a program with more
        than 2 MB of arguments (E2BIG). One longer than 4,000 bytes would not be left out.
        """
        command = self._leading_arguments(destination, b"-rlptgoD", capabilities, mkpath=True)
        command += [PROGRESS_OPTION] if self.show_progress else []
        command += self._deletion_options() or [b"--force"]
        return self._append_trailing_arguments(command, source, destination, excluded)

    def file_list_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        create_parents: bool,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Return the command that offers the paths of a list, read from standard input.

        For ``without`` see `full`: what is listed below such a path is left out, too.
        """
        command = self._leading_arguments(
            destination, b"-lptgoD", capabilities, mkpath=create_parents
        )
        # Not -r, which would recurse into every listed directory.
        command += [b"--dirs", b"--from0", b"--files-from=-"]
        if not self.delete:
            command += [b"--force", b"--ignore-missing-args"]
        elif capabilities.has_delete_missing_args:
            # Alone, either of the two leaves a missing directory as it is, without a word.
            command += [*self._deletion_options(), b"--delete-missing-args"]
        else:
            command += [*self._deletion_options(), b"--ignore-missing-args"]
        return self._append_trailing_arguments(command, source, destination, excluded)

    def large_files_command(self, source: bytes, destination: Destination) -> list[bytes]:
        """Return the command that sends the files of a list, read from standard input.

        It deletes nothing, and puts no file into a directory's place.
        """
        command = self._leading_arguments(
            destination, b"-lptgoD", RsyncCapabilities(), mkpath=False
        )
        command += [b"--dirs", b"--from0", b"--files-from=-", b"--ignore-missing-args"]
        unwanted = {_encode(option) for option in self.extra_options if may_delete(option)}
        command = self._append_trailing_arguments(command, source, destination, ())
        return [argument for argument in command if argument not in unwanted]

    def probe_command(
        self, source: bytes, destination: Destination, capabilities: RsyncCapabilities
    ) -> list[bytes]:
        """Return the command that tries a list and changes nothing."""
        return self.as_dry_run().file_list_command(
            source, destination, capabilities, create_parents=True
        )

    def as_dry_run(self) -> "RsyncOptions":
        """Return the same for runs that change nothing, to see how much they would delete.

        The count ("Number of deleted files") is the one of a real run or larger, whether deletion
        is by name, by a listed directory or by a full sync, and over every transport (rsync 3.5.0);
        of older daemons, the names of what is deleted are counted.
        It is larger by directories that a real run would keep for what the rules protect in them.
        Files that come while a real run is on can only make that one delete less.
        """
        return replace(self, dry_run=True, max_delete=None, itemize=False, show_progress=False)

    def compare_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        checksum: bool,
    ) -> list[bytes]:
        """Return the command that changes nothing and prints a line for each path that differs.

        Times and sizes are compared, with ``checksum`` the contents, too. What is only at the
        destination is among the lines if it would be deleted.
        """
        command = replace(self.as_dry_run(), itemize=True).full_sync_command(
            source, destination, capabilities
        )
        if checksum:
            command.insert(command.index(b"--"), b"--checksum")
        return command

    def _leading_arguments(
        self,
        destination: Destination,
        archive: bytes,
        capabilities: RsyncCapabilities,
        *,
        mkpath: bool,
    ) -> list[bytes]:
        command = [*self._priority_arguments(), _encode(self.program), archive]
        command += [_counters_option(destination.transport), b"--no-h"]
        if self.itemize:
            command.append(_ITEMIZE_OPTION)
        timeout = math.ceil(self.timeout)
        command += [_nanoseconds_option(destination.transport), b"--timeout=%d" % timeout]
        if self.dry_run:
            command.append(b"--dry-run")
        if mkpath and capabilities.has_mkpath:
            command.append(b"--mkpath")
        return command

    def _priority_arguments(self) -> list[bytes]:
        """Return what makes rsync yield to others; each becomes the next one: the pid stays."""
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
        return [b"--delete", *limit]

    def _append_trailing_arguments(
        self,
        command: list[bytes],
        source: bytes,
        destination: Destination,
        without: Iterable[bytes],
    ) -> list[bytes]:
        # The first rule that matches decides: so these stand before those of the user.
        command += [
            b"--filter=P " + temporary_names.temporary_pattern(path)
            for path in sorted(self.in_flight)
        ]
        left_out = [*without, *sorted(self.in_flight)]
        command += [b"--exclude=" + rule for path in left_out for rule in _exact_patterns(path)]
        command += self.rules.arguments()
        command += self._transport_options(destination)
        if self.bandwidth_limit:
            command.append(_encode(f"--bwlimit={self.bandwidth_limit}"))
        command += [
            _encode(option)
            for option in self.extra_options
            if destination.transport is Transport.DAEMON
            or not option.startswith(_DAEMON_ONLY_OPTIONS)
        ]
        target = quoting.target_argument(destination, self.version)
        return [*command, b"--", source.rstrip(b"/") + b"/", target]

    def _transport_options(self, destination: Destination) -> list[bytes]:
        if destination.transport is Transport.DAEMON:
            # Without TCP_NODELAY, the small packets of a list wait 40 ms for each other.
            password = [f"--password-file={self.password_file}"] if self.password_file else []
            return [
                b"--sockopts=TCP_NODELAY", b"--contimeout=%d" % _CONNECT_TIMEOUT, *map(_encode,
                password)
            ]  # fmt: skip
        if destination.transport is Transport.LOCAL:
            return []
        options = [_encode(f"--rsh={self.rsh}")]
        if quoting.needs_secluded_args(destination, self.version):
            options.append(b"-s")
        return options


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _exact_patterns(path: bytes) -> tuple[bytes, bytes]:
    """Return rules that match one path, and what is below it, whatever its bytes are.

    The second is needed for what is listed: rsync compares that with the rules as a whole path,
    and asks no rule about the directories above it.
    """
    escaped = temporary_names.escape_wildcards(path)
    # To rsync a backslash is an escape only in patterns that have a wildcard.
    itself = escaped if re.search(rb"[*?[]", path) else path
    return b"/" + itself, b"/" + escaped + b"/**"


def _counters_option(transport: Transport) -> bytes:
    """Return the option by which rsync tells how much it has done.

    A daemon of 3.2.3, 3.2.7 or 3.4.1 counts no deletions (3.5.0 does), but names them if asked to.
    """
    return b"--info=stats2,del" if transport is Transport.DAEMON else b"--info=stats2"


def _nanoseconds_option(transport: Transport) -> bytes:
    """Return the option without which a second change within a second would not be seen.

    Sent verbatim to a remote side, since older ones do not take the short form that rsync makes
    of it; but not locally, where any -M breaks the protocol from a list of 1,000 entries on.
    """
    return b"--modify-window=-1" if transport is Transport.LOCAL else b"-M--modify-window=-1"
