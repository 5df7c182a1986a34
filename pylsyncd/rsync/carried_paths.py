"""What one rsync run carried, as a check of what others write about that run. Pure.

A message is a claim: it may come from a hostile host, or be about a file with a misleading name.
"""

from bisect import bisect_left
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.paths import RelativePath
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules

MAX_FAILED_ENTRIES: Final = 1_000
"""How many listed entries that fail with a directory above them are named one by one.

If there are more, a message for each directory above would name all of them again.
"""


class CarriedPaths:
    """The paths that one run may have touched at the destination."""

    def __init__(
        self,
        entries: Sequence[bytes] | None,
        rules: Rules,
        excluded: AbstractSet[bytes] = frozenset(),
    ) -> None:
        """Create it from the sorted entries of a file list, None for a full sync.

        The run left out the ``excluded`` paths and everything below them; the root cannot be.
        """
        self._entries = entries
        self._rules = rules
        self._excluded = excluded - {paths.ROOT}

    def failing_with(self, path: RelativePath, scope: Scope) -> list[Change] | None:
        """Return the changes that the run has not carried if its rsync failed at ``path``.

        Return none if the run had nothing to do with that path, and None if all may have failed.
        """
        if not path:
            is_carried = scope is Scope.ENTRY or (scope is Scope.LISTING and self._lists_root)
            return [Change(path, scope)] if is_carried else None
        above = tuple(paths.ancestors(path))
        if self._has(path) or self._has(path + b"/"):
            return [] if self._is_left_out(path, above) else [Change(path, scope)]
        if self._is_left_out(path, above) or self._is_excluded_by_rules(path):
            return []
        if self._lists_one_of(above):
            return [Change(path, scope)]
        if below := self._failing_below(path, scope):
            return below
        listed = next((directory for directory in above[:-1] if self._has(directory)), None)
        # rsync deletes what stands there at the destination.
        return [] if listed is None else [Change(listed, Scope.ENTRY)]

    def excludes(self, path: bytes, *, is_directory: bool) -> bool:
        """Return True if the rules exclude what the source has at a path."""
        return self._rules.excludes(path, is_directory=is_directory)

    def _is_left_out(self, path: bytes, above: Sequence[bytes]) -> bool:
        return not self._excluded.isdisjoint((path, *above))

    @property
    def _lists_root(self) -> bool:
        return self._entries is None or self._has(b"")

    def _lists_one_of(self, directories: Sequence[bytes]) -> bool:
        """Return True if the run compared a whole directory of these; the last one is the root."""
        return self._lists_root or any(
            self._has(directory + b"/") for directory in directories[:-1]
        )

    def _failing_below(self, directory: bytes, scope: Scope) -> list[Change]:
        """Return what fails with a directory that rsync creates only for the entries below it."""
        entries = self._entries or ()
        first = bisect_left(entries, directory + b"/")
        last = bisect_left(entries, directory + b"0", first)  # the byte after the slash
        if first == last:
            return []
        if scope is Scope.ENTRY:
            return [Change(directory, Scope.ENTRY)]
        if last - first > MAX_FAILED_ENTRIES:
            return [Change(directory, Scope.TREE)]
        return [_as_change(entry) for entry in entries[first:last]]

    def _is_excluded_by_rules(self, path: bytes) -> bool:
        # The kind of the entry is not known.
        return all(self._rules.excludes(path, is_directory=kind) for kind in (True, False))

    def _has(self, entry: bytes) -> bool:
        if self._entries is None:
            return False
        index = bisect_left(self._entries, entry)
        return index < len(self._entries) and self._entries[index] == entry


def _as_change(entry: bytes) -> Change:
    if entry.endswith(b"/"):
        return Change(entry[:-1], Scope.LISTING)
    return Change(entry, Scope.ENTRY)
