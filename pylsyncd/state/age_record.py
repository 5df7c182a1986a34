"""Records ctimes of a source and its copy, and finds at a start that one is an older copy."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, islice

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rules.excludes import Rules
from pylsyncd.state.seen_ctimes import SeenCtimes, find_older
from pylsyncd.system import walk
from pylsyncd.watcher import mounts
from pylsyncd.watcher.identification import read_directory_id, real_path
from pylsyncd.watcher.source_guard import SourceGuard, SourceIdentity

# Of each run, and at most between two confirmations.
_MAX_PATHS_OF_RUN = 8
_MAX_CARRIED = 32


class AgeRecord:
    """The ctimes that were seen in a source and in a local destination.

    A catch-up by ctime finds nothing in a volume that was restored from an older image while
    pylsyncd did not run: all in it is older than the last run. And a local destination that was
    restored lacks what later runs have carried.
    """

    def __init__(self, guard: SourceGuard, destination: Destination, rules: Rules) -> None:
        self._guard = guard
        self._local_target = (
            destination.target if destination.transport is Transport.LOCAL else None
        )
        self._rules = rules
        self._carried: list[bytes] = []
        self.source = SeenCtimes()
        self.destination = SeenCtimes()

    def resume_from(self, source: Mapping[bytes, int], destination: Mapping[bytes, int]) -> None:
        """Continue from the ctimes of an earlier run."""
        self.source, self.destination = SeenCtimes(source), SeenCtimes(destination)

    def record_run(self, changeset: Changeset) -> None:
        """Record some paths of what is about to be carried."""
        self._carried = [*_some_paths(changeset), *self._carried][:_MAX_CARRIED]
        if changeset.is_everything:
            # The source may have been replaced.
            self.source.clear()
            self.destination.clear()

    def look(self, source: SourceIdentity, *, is_complete: bool) -> None:
        """Look at what was carried of a source since the last call.

        If all of it was carried at some time and nothing is known yet, look for the newest entries.
        """
        carried, self._carried = self._carried, []
        with contextlib.suppress(OSError), walk.opened_root(self._guard.source) as root:
            if read_directory_id(root).is_same(source.directory):
                held = self._guard.held_subtrees
                tops = [paths.ROOT, *(path for path in source.nested_mounts if path not in held)]
                self._look(self.source, root, carried, tops if is_complete else ())
        if self._local_target is not None:
            with contextlib.suppress(OSError), walk.opened_root(self._local_target) as root:
                self._look(self.destination, root, carried, [paths.ROOT] if is_complete else ())

    def _look(
        self, seen: SeenCtimes, root: int, carried: Collection[bytes], tops: Collection[bytes]
    ) -> None:
        if tops and not seen:
            seen.look_through(root, tops, self._is_excluded)
        seen.look_at(root, carried)

    def _is_excluded(self, path: bytes, is_directory: bool) -> bool:  # noqa: FBT001  # a callback
        return bool(self._rules) and self._rules.matches(path, is_directory=is_directory)

    def find_older_copy(
        self,
        source: Mapping[bytes, int],
        destination: Mapping[bytes, int],
        changed_mounts: Collection[bytes],
    ) -> str:
        """Return why the source or the destination must be an older copy; empty if neither is.

        That is decided by the ctimes of an earlier run. What is below ``changed_mounts``, or held,
        does not count. The guard must have accepted the source.
        """
        with contextlib.suppress(OSError):
            without = self._guard.find_directories_without_ctimes()
            unknown = {*self._guard.held_subtrees, *changed_mounts, *without}
            known = {
                path: ctime
                for path, ctime in source.items()
                if unknown.isdisjoint((path, *paths.ancestors(path)))
            }
            with walk.opened_root(self._guard.source) as root:
                older = find_older(root, known)
            if older is not None:
                return _reason("source", older)
        with contextlib.suppress(OSError):
            if self._local_target is not None:
                with walk.opened_root(self._local_target) as root:
                    older = find_older(root, destination) if _has_ctimes(root) else None
                if older is not None:
                    return _reason("destination", older)
        return ""


def _some_paths(changeset: Changeset) -> Iterator[bytes]:
    """Yield a few paths, of different directories."""
    entries = (
        paths.join(directory, name)
        for directory, names in changeset.entries.items()
        for name in islice(names, 1)
    )
    return islice(chain(entries, changeset.listings, changeset.trees), _MAX_PATHS_OF_RUN)


def _has_ctimes(root: int) -> bool:
    return not mounts.lacks_ctimes(mounts.mount_of(real_path(root), mounts.read_mounts()).fs_type)


def _reason(what: str, path: bytes) -> str:
    return (
        f"the {what} was restored from an older copy (when pylsyncd ran last, "
        f"{paths.printable(path)} was newer)"
    )
