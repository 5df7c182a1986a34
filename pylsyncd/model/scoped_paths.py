"""Paths, each with a scope: how far below it something reaches."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import IntEnum
from typing import NamedTuple

from pylsyncd.model import paths


class Scope(IntEnum):
    """How far below its path a change reaches; a larger scope includes the smaller ones."""

    ENTRY = 0
    """The entry itself: a file's content, or a directory's attributes alone."""
    LISTING = 1
    """A directory's own listing: each of its entries as an ENTRY, removed ones included."""
    TREE = 2
    """Everything at and below the path."""


class Change(NamedTuple):
    """A path, relative to the source, whose copy at a destination may differ."""

    path: bytes
    scope: Scope

    def covers(self, other: "Change") -> bool:
        """Return True if syncing this change syncs the other one as well."""
        if self.scope is Scope.TREE:
            return paths.covers(self.path, other.path)
        if self.path == other.path:
            return self.scope >= other.scope
        return (
            self.scope is Scope.LISTING
            and other.scope is Scope.ENTRY
            and paths.split(other.path)[0] == self.path
        )


def is_at_or_below(path: bytes, tops: AbstractSet[bytes]) -> bool:
    """Return True if a path is at or below one of ``tops``."""
    return path in tops or any(above in tops for above in paths.ancestors(path))


class ScopedPaths:
    """A read-only set of paths, each with a scope.

    Entries are grouped by their directory: inotify reports and rsync takes them that way, and a
    name needs half the memory of a path. The root's own entry is the empty name in the empty
    directory.
    """

    __slots__ = ("entries", "listings", "trees")

    entries: Mapping[bytes, AbstractSet[bytes]]
    listings: AbstractSet[bytes]
    trees: AbstractSet[bytes]

    def __init__(
        self,
        entries: Mapping[bytes, AbstractSet[bytes]],
        listings: AbstractSet[bytes],
        trees: AbstractSet[bytes],
    ) -> None:
        self.entries = entries
        self.listings = listings
        self.trees = trees

    def __iter__(self) -> Iterator[Change]:
        for directory, names in self.entries.items():
            for name in names:
                yield Change(paths.join(directory, name), Scope.ENTRY)
        for path in self.listings:
            yield Change(path, Scope.LISTING)
        for path in self.trees:
            yield Change(path, Scope.TREE)

    def __len__(self) -> int:
        return sum(map(len, self.entries.values())) + len(self.listings) + len(self.trees)

    def __bool__(self) -> bool:
        return bool(self.entries or self.listings or self.trees)

    @property
    def is_everything(self) -> bool:
        """True if the whole source is included."""
        return paths.ROOT in self.trees

    def includes_listing(self, directory: bytes) -> bool:
        """Return True if all entries of a directory are included."""
        return directory in self.listings or self.includes_tree(directory)

    def includes_tree(self, path: bytes) -> bool:
        """Return True if everything at and below a path is included."""
        if not self.trees:
            return False
        return path in self.trees or not self.trees.isdisjoint(paths.ancestors(path))

    def includes_entry(self, path: bytes) -> bool:
        """Return True if the entry at a path is included."""
        directory, name = paths.split(path)
        return (
            name in self.entries.get(directory, ())
            or (bool(path) and directory in self.listings)
            or path in self.listings
            or self.includes_tree(path)
        )

    def split_below(
        self, tops: AbstractSet[bytes], inside: "MutableScopedPaths", outside: "MutableScopedPaths"
    ) -> None:
        """Add all paths to one of two sets: those at or below one of ``tops``, and the others."""
        if self.is_everything:
            outside.trees.add(paths.ROOT)
            return
        for directory, names in self.entries.items():
            if is_at_or_below(directory, tops):
                inside.add_entries(directory, names)
            else:
                below = {name for name in names if paths.join(directory, name) in tops}
                inside.add_entries(directory, below)
                outside.add_entries(directory, names - below)
        for path in self.listings:
            (inside if is_at_or_below(path, tops) else outside).listings.add(path)
        for path in self.trees:
            (inside if is_at_or_below(path, tops) else outside).trees.add(path)


NO_PATHS = ScopedPaths({}, frozenset(), frozenset())


class MutableScopedPaths(ScopedPaths):
    """A set of paths that more can be added to."""

    __slots__ = ()

    entries: dict[bytes, set[bytes]]
    listings: set[bytes]
    trees: set[bytes]

    def __init__(self) -> None:
        super().__init__({}, set(), set())

    def add(self, path: bytes, scope: Scope) -> None:
        """Add one path."""
        if scope is Scope.TREE:
            self.trees.add(path)
        elif scope is Scope.LISTING:
            self.listings.add(path)
        else:
            directory, name = paths.split(path)
            self.entries.setdefault(directory, set()).add(name)

    def add_entries(self, directory: bytes, names: AbstractSet[bytes]) -> None:
        """Add the entry of each of ``names`` in ``directory``."""
        if not names:
            return
        known = self.entries.get(directory)
        if known is None:
            self.entries[directory] = set(names)
        else:
            known |= names

    def add_all(self, other: ScopedPaths) -> None:
        """Add all paths of another set."""
        for directory, names in other.entries.items():
            self.add_entries(directory, names)
        self.listings |= other.listings
        self.trees |= other.trees


class PathsWithExceptions(ScopedPaths):
    """A read-only set of paths whose larger scopes do not reach what is at or below some paths.

    A copy of it, path by path, has no exceptions: it includes more.
    """

    __slots__ = ("_exceptions", "_inside", "_outside")

    def __init__(
        self, outside: MutableScopedPaths, exceptions: AbstractSet[bytes], inside: ScopedPaths
    ) -> None:
        """Create it from the set with the exceptions, and what is included at or below them."""
        both = MutableScopedPaths()
        both.add_all(outside)
        both.add_all(inside)
        super().__init__(both.entries, both.listings, both.trees)
        self._outside = outside
        self._exceptions = exceptions
        self._inside = inside

    @property
    def is_everything(self) -> bool:
        """False: something is excepted."""
        return False

    def includes_listing(self, directory: bytes) -> bool:
        """Return True if all entries of a directory are included, or all but the exceptions."""
        return self._part(directory).includes_listing(directory)

    def includes_tree(self, path: bytes) -> bool:
        """Return True if everything at and below a path is included, or all but the exceptions."""
        return self._part(path).includes_tree(path)

    def includes_entry(self, path: bytes) -> bool:
        """Return True if the entry at a path is included."""
        return self._part(path).includes_entry(path)

    def _part(self, path: bytes) -> ScopedPaths:
        return self._inside if is_at_or_below(path, self._exceptions) else self._outside


def paths_with_exceptions(
    outside: MutableScopedPaths, exceptions: AbstractSet[bytes], inside: ScopedPaths
) -> ScopedPaths:
    """Return ``outside`` without what is at or below the exceptions, and ``inside``, which is.

    ``outside`` names nothing at or below them, but it may reach them from above.
    """
    if any(outside.includes_entry(path) for path in exceptions):
        return PathsWithExceptions(outside, exceptions, inside)
    outside.add_all(inside)
    return outside
