"""Builds the rsync commands. Pure; the facts about options were measured."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import arguments, quoting
from pylsyncd.rsync.arguments import encode
from pylsyncd.rsync.option_check import (
    compares_contents,
    may_delete,
    preserves_hard_links,
    writes_in_place,
)
from pylsyncd.rsync.quoting import Version
from pylsyncd.rules.excludes import Rules

MIN_RSYNC_VERSION: Version = (3, 2, 3)

CURRENT_DIRECTORY: Final = b"/proc/self/cwd/"
"""The source as rsync's argument: rsync starts in it, and stays, whatever is at its path by then.

With ``./`` it asks for the path of the directory and goes there again by the path (measured with
3.2.7 and 3.5.0), so that a link that takes the place of a directory of it leads elsewhere.
"""

DEFAULT_TIMEOUT = 600.0
"""Seconds without a byte from the peer after which rsync gives up."""

SSH_KEEP_ALIVE_OPTIONS: Final = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
"""With these, ssh notices within a minute that its peer is gone."""

# BatchMode: a daemon cannot answer ssh's questions.
DEFAULT_REMOTE_SHELL = (
    f"ssh -o BatchMode=yes -o ConnectTimeout={arguments.CONNECT_TIMEOUT} {SSH_KEEP_ALIVE_OPTIONS}"
)

# rsync refuses these (exit 1) unless the destination is an rsync daemon.
_DAEMON_ONLY_OPTIONS = ("--password-file=", "--contimeout=")

# One line for each path: rsync's action, then the name, with odd bytes escaped.
_ITEMIZE_OPTION = b"--out-format=%i %n%L"

# Not -r, which would recurse into every listed directory. rsync says when its list is complete,
# here alone: this is no option of the remote side.
_READ_LIST: Final = (b"--dirs", b"--from0", b"--files-from=-", b"--info=flist1")

# Neither links nor devices: they are skipped, although a list has them.
_FILES_AND_DIRECTORIES: Final = b"-ptgo"

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


class DeletionTime(Enum):
    """When something is deleted at a destination, if not at any time. The value is the option's."""

    STARTUP = "startup"
    """In the full sync of a start alone."""
    RUNNING = "running"
    """What is deleted while the source is watched, and nothing that only a comparison finds."""


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
    detects_renames: bool = True
    """What was moved in the source is moved at the destination, where that is possible."""
    nice: int = 0
    """The niceness of the local rsync, as for nice(1)."""
    ionice: str = ""
    """Its I/O scheduling class: ``idle``, or ``best-effort:0`` to ``best-effort:7``."""
    bandwidth_limit: str = ""
    """The rate of a run, as ``--bwlimit`` takes it."""
    parallel: int = 1
    """How many runs at a time carry the parts of a full sync."""
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
    delete_only: DeletionTime | None = None
    """When something is deleted; then only what the hint of a changeset names. None for always."""
    deletes_named: bool = False
    """Delete the missing paths of a list, but nothing that a listing finds."""
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
    def has_exact_times(self) -> bool:
        """True if each copy gets the time of its file, and any other time counts as different."""
        return not self.time_tolerance_ns and arguments.keeps_times(self.extra_options)

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
        if self.deletes_named and capabilities.has_delete_missing_args:
            # With --force, it deletes missing directories, too.
            mode += [b"--force", b"--delete-missing-args", *self._limit_options()]
        elif not self.delete:
            mode += [b"--force", b"--ignore-missing-args"]
        elif capabilities.has_delete_missing_args:
            # Either option alone silently keeps a missing directory.
            mode += [*self._deletion_options(), b"--delete-missing-args"]
        else:
            mode += [*self._deletion_options(), b"--ignore-missing-args"]
        return self._command(b"-lptgoD", mode, source, destination, excluded)

    def for_part(self) -> "RsyncOptions":
        """Return the options of a run that is under way together with the others of `parallel`."""
        return replace(
            self,
            bandwidth_limit=arguments.divided_rate(self.bandwidth_limit, self.parallel),
            extra_options=tuple(
                arguments.divided_rate_option(option, self.parallel)
                for option in self.extra_options
            ),
        )

    def part_command(
        self,
        source: bytes,
        destination: Destination,
        capabilities: RsyncCapabilities,
        *,
        create_parents: bool,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Return the command that sends the paths of a list, a part of a full sync.

        It deletes nothing, and replaces no directory by a file.
        """
        mode = [b"--mkpath"] if create_parents and capabilities.has_mkpath else []
        mode += [PROGRESS_OPTION] if self.show_progress else []
        return self._sending_command(b"-lptgoD", mode, source, destination, excluded)

    def large_files_command(self, source: bytes, destination: Destination) -> list[bytes]:
        """Return the command that sends the files of a list, read from standard input.

        It deletes nothing, and replaces no directory by a file.
        """
        return self._sending_command(b"-lptgoD", [], source, destination)

    def directories_command(self, source: bytes, destination: Destination) -> list[bytes]:
        """Return the command that creates the directories of a list, and all above them.

        At the destination, each of these is a directory afterwards: a symbolic link or a file that
        is in its place goes. It deletes nothing else.
        """
        return self._sending_command(_FILES_AND_DIRECTORIES, [], source, destination)

    def linked_files_command(
        self, source: bytes, destination: Destination, old: bytes
    ) -> list[bytes]:
        """Return the command that sends the files of a list, if ``old`` has no equal ones.

        ``old`` is a directory at the destination, relative to that of this command. A file there
        that equals one of the list, by its name, size, time and attributes, becomes a hard link; a
        copy if files are written in place, which would change all links.
        """
        way = b"--copy-dest=" if writes_in_place(self.extra_options) else b"--link-dest="
        return self._sending_command(_FILES_AND_DIRECTORIES, [way + old], source, destination)

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
        is_shown = self.delete and self.delete_only is not DeletionTime.RUNNING
        options = replace(self.as_dry_run(), itemize=True, comparison=comparison, delete=is_shown)
        return options.full_sync_command(source, destination, capabilities)

    def _sending_command(
        self,
        archive: bytes,
        mode: Sequence[bytes],
        source: bytes,
        destination: Destination,
        excluded: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Return a command for a list that deletes nothing."""
        deleting = {encode(option) for option in self.extra_options if may_delete(option)}
        mode = [*_READ_LIST, b"--ignore-missing-args", *mode]
        command = self._command(archive, mode, source, destination, excluded)
        return [argument for argument in command if argument not in deleting]

    def _command(
        self,
        archive: bytes,
        mode: Sequence[bytes],
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
            *arguments.priority_arguments(self.nice, self.ionice),
            encode(self.program),
            archive,
            arguments.counters_option(transport),
            b"--no-h",
            *([_ITEMIZE_OPTION] if self.itemize else []),
            arguments.modify_window_option(transport, self.modify_window),
            b"--timeout=%d" % math.ceil(self.timeout),
            *([b"--dry-run"] if self.dry_run else []),
            *mode,
            *arguments.exclude_arguments(excluded, self.in_flight),
            *self.rules.arguments(),
            *self._transport_options(destination),
            *([encode(f"--bwlimit={self.bandwidth_limit}")] if self.bandwidth_limit else []),
            *map(encode, extra_options),
            *([self.comparison.value] if self.comparison.value else []),
            b"--",
            source.rstrip(b"/") + b"/",
            quoting.target_argument(destination, self.version),
        ]

    def _deletion_options(self) -> list[bytes]:
        if not self.delete:
            return []
        # rsync refuses two options that say when.
        is_chosen = any(may_delete(option) for option in self.extra_options if option != "--force")
        when = [b"--delete-after"] if self.deletes_last and not is_chosen else []
        return [b"--delete", *when, *self._limit_options()]

    def _limit_options(self) -> list[bytes]:
        return [] if self.max_delete is None else [b"--max-delete=%d" % self.max_delete]

    def _transport_options(self, destination: Destination) -> list[bytes]:
        if destination.transport is Transport.DAEMON:
            return arguments.daemon_options(self.password_file)
        if destination.transport is Transport.LOCAL:
            return []
        is_secluded = quoting.needs_secluded_args(destination, self.version)
        return [encode(f"--rsh={self.rsh}"), *([b"-s"] if is_secluded else [])]
