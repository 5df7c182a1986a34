"""Changes: paths whose copies at a destination may differ, each with its scope.

A change says "look here", never "do this": rsync compares with the disk when it runs. So merging
is a union, order does not matter, and lost events become a change of larger scope.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import IntEnum
from itertools import islice
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


NO_PATHS = ScopedPaths({}, frozenset(), frozenset())


class Changeset(ScopedPaths):
    """A read-only set of changes, which all destinations share, with its hints.

    A hint is a set of paths of its own: what else is known of some of the changes. It is merged,
    reduced and bounded like the changes, but apart from them. A path in it that is no change has no
    meaning: it may stand for changes in bounded memory.
    """

    __slots__ = ("new_content",)

    new_content: ScopedPaths
    """The hint that a content was written or moved here: what is regular there may differ from its
    copy although size and time agree. All other changes can be told by size and time."""

    def __init__(
        self,
        entries: Mapping[bytes, AbstractSet[bytes]],
        listings: AbstractSet[bytes],
        trees: AbstractSet[bytes],
        new_content: ScopedPaths = NO_PATHS,
    ) -> None:
        super().__init__(entries, listings, trees)
        self.new_content = new_content

    def with_new_content(self, new_content: ScopedPaths) -> "Changeset":
        """Return the same changes with another hint."""
        return Changeset(self.entries, self.listings, self.trees, new_content)


NOTHING = Changeset({}, frozenset(), frozenset())
EVERYTHING = Changeset({}, frozenset(), frozenset([paths.ROOT]))
ALL_NEW = EVERYTHING.with_new_content(EVERYTHING)
"""The change of a directory that is another one than before."""


_MAX_FORMATTED_CHANGES = 100


def format_changes(changeset: Changeset) -> str:
    """Return the first changes as text: ``entry``, ``listing/`` and ``tree/**``."""
    marks = {Scope.ENTRY: "", Scope.LISTING: "/", Scope.TREE: "/**"}
    first = [
        paths.printable(change.path) + marks[change.scope]
        for change in islice(changeset, _MAX_FORMATTED_CHANGES)
    ]
    return " ".join(first) + (" ..." if len(changeset) > len(first) else "")


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


class MutableChangeset(MutableScopedPaths, Changeset):
    """A set of changes that more can be added to."""

    __slots__ = ()

    new_content: MutableScopedPaths

    def __init__(self) -> None:
        super().__init__()
        self.new_content = MutableScopedPaths()

    def add_new_content(self, path: bytes, scope: Scope) -> None:
        """Add one change with the hint that its content is new."""
        self.add(path, scope)
        self.new_content.add(path, scope)

    def merge(self, other: Changeset) -> None:
        """Add all changes of another set, with their hints."""
        self.add_all(other)
        self.new_content.add_all(other.new_content)


def union(*changesets: Changeset) -> MutableChangeset:
    """Return a new set with the changes of all sets, and their hints."""
    united = MutableChangeset()
    for changeset in changesets:
        united.merge(changeset)
    return united


def everything_with(*hinted: Changeset) -> Changeset:
    """Return the change of everything, with the hints of other changes."""
    new_content = MutableScopedPaths()
    for changeset in hinted:
        new_content.add_all(changeset.new_content)
    return EVERYTHING.with_new_content(new_content) if new_content else EVERYTHING
