"""Moves copies by rsync alone: it links what is equal at the old place, and sends nothing of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.moved_files import IsLeftOut, MovedFiles, find_moved_files
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.worker.session import RsyncSession

MIN_LINKED_BYTES: Final = 1_000_000
"""The size from which on a run to link files is worth it.

A run takes 10 to 100 ms, and there is another one for all groups. Through 100 Mbit/s, 1 MB takes
80 ms. (On the loopback, sending would be as fast up to some 50 MB.)
"""

MIN_LINKED_BYTES_PER_FILE: Final = 4_096
"""The mean size of the files from which on a run to link them is worth it.

To link a file takes 50 to 100 µs more than to send an empty one. Through 100 Mbit/s, 1 kB takes as
long, and on the loopback some 10 kB.
"""

MAX_LINKED_RUNS: Final = 20
"""How many runs there are before that of a window."""

# After these, everything that can be carried is there.
_CARRIED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL])

# A remote shell or a remote rsync may expand them, each version in its own way.
_SPECIAL = frozenset(b"*?[]\\`\r\n")

# rsync's exit status for an option that a daemon refuses, or that its peer does not know.
_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class LinkedFiles:
    """Files whose copies have kept their names, below two directories."""

    old: bytes
    new: bytes
    names: tuple[bytes, ...] | None
    """The files; None for all below the directories."""
    new_paths: frozenset[bytes]
    """The moves that it carries."""
    count: int
    size: int

    @property
    def is_worth_a_run(self) -> bool:
        """Whether a run to link them takes less time than sending them."""
        return self.size >= max(MIN_LINKED_BYTES, self.count * MIN_LINKED_BYTES_PER_FILE)


@dataclass(frozen=True, slots=True)
class LinkedRun:
    """What a run to link files has done."""

    linked: LinkedFiles
    found: MovedFiles
    result: RunResult
    is_whole: bool
    """Whether everything is there under its new name."""

    @property
    def moved_files(self) -> int:
        """The number of files that were not sent."""
        return max(0, self.found.count - self.result.transferred)

    @property
    def moved_bytes(self) -> int:
        """The size of the files that were not sent."""
        return max(0, self.found.size - self.result.literal_bytes - self.result.matched_bytes)


class LinkedRuns:
    """The runs to one destination that link copies. Used by the thread of the session."""

    def __init__(self, session: RsyncSession) -> None:
        self._session = session
        self._is_permitted = True

    def permits(self, *some: bytes) -> bool:
        """Return True if the destination can be told these paths."""
        if not self._is_permitted:
            return False
        is_local = self._session.destination.transport is Transport.LOCAL
        return is_local or all(_SPECIAL.isdisjoint(path) for path in some)

    def carry(
        self,
        root: int,
        options: RsyncOptions,
        groups: Sequence[LinkedFiles],
        is_left_out: IsLeftOut,
    ) -> Iterator[LinkedRun]:
        """Link the copies of groups of files, and yield each run that has carried one.

        The destination must have nothing at the new directories, or at the new names in them.
        """
        options = self._session.with_shared_ssh(replace(options, rules=Rules()))
        if not self._create_directories(root, options, {group.new for group in groups} - {b""}):
            return
        for group in groups:
            try:
                run = self._carry_group(root, options, group, is_left_out)
            except OSError:
                # It is on its way to another place.
                continue
            if run is None:
                return
            yield run

    def is_all_there(self, root: int, options: RsyncOptions, group: LinkedFiles) -> bool:
        """Return True if the source has the name of each copy at an old place at the new one.

        Then no deletion of the old place loses anything.
        """
        if group.names is not None:
            return True
        rules = options.rules
        if not (rules.may_exclude_below(group.old) or rules.may_exclude_below(group.new)):
            rules = Rules()
        elif any(rule.matches_full_path for rule in rules.ordered):
            # They would match other paths, relative to the two directories.
            return False
        options = self._session.with_shared_ssh(replace(options, rules=rules).as_dry_run())
        command = options.full_sync_command(
            CURRENT_DIRECTORY, self._destination_of(group.old), RsyncCapabilities(has_mkpath=False)
        )
        try:
            with walk.opened_below(root, group.new) as directory:
                run = self._session.run(directory, command, b"", is_dry_run=True, is_optional=True)
        except OSError:
            return False
        return run.outcome.verdict is Verdict.DONE and not run.result.deleted

    def _create_directories(
        self, root: int, options: RsyncOptions, directories: Iterable[bytes]
    ) -> bool:
        """Make the new directories real ones, so that no run follows a link there."""
        listed = b"".join([b"./" + path + b"\0" for path in sorted(directories)])
        if not listed:
            return True
        command = options.directories_command(CURRENT_DIRECTORY, self._session.destination)
        run = self._session.run(root, command, listed, is_optional=True)
        return run.outcome.verdict is Verdict.DONE

    def _carry_group(
        self, root: int, options: RsyncOptions, group: LinkedFiles, is_left_out: IsLeftOut
    ) -> LinkedRun | None:
        """Run rsync for a group; return None if no other group will succeed either."""
        if group.names is None:
            found = find_moved_files(root, group.new, is_left_out, with_names=True)
        else:
            names = sorted(group.names)
            found = MovedFiles(len(names), group.size, len(names), names)
        command = options.linked_files_command(
            CURRENT_DIRECTORY, self._destination_of(group.new), _relative(group.new, group.old)
        )
        with walk.opened_below(root, group.new) as directory:
            run = self._session.run(directory, command, found.encode(), is_optional=True)
        if run.result.exit_status == _NOT_SUPPORTED:
            self._is_permitted = False
            self._session.run_log.log_missing_capability("--link-dest is refused")
        if run.outcome.verdict not in _CARRIED:
            return None
        is_whole = found.is_whole and run.outcome.verdict is Verdict.DONE
        return LinkedRun(group, found, run.result, is_whole)

    def _destination_of(self, directory: bytes) -> Destination:
        destination = self._session.destination
        if not directory:
            return destination
        # A daemon takes "-x/" for options.
        mark = b"./" if destination.transport is Transport.DAEMON else b""
        return replace(destination, target=destination.target + mark + directory + b"/")


def _relative(directory: bytes, other: bytes) -> bytes:
    """Return the path of another directory, relative to one; both are relative to the same."""
    depth = directory.count(b"/") + 1 if directory else 0
    return b"../" * depth + other or b"./"


def largest_first(groups: Iterable[LinkedFiles]) -> list[LinkedFiles]:
    """Return the groups that are worth a run, up to the limit."""
    worth = [group for group in groups if group.is_worth_a_run]
    return sorted(worth, key=attrgetter("size"), reverse=True)[:MAX_LINKED_RUNS]
