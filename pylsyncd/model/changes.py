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


class Changeset:
    """A read-only set of changes, which all destinations share.

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


NOTHING = Changeset({}, frozenset(), frozenset())
EVERYTHING = Changeset({}, frozenset(), frozenset([paths.ROOT]))


_MAX_FORMATTED_CHANGES = 100


def format_changes(changeset: Changeset) -> str:
    """Return the first changes as text: ``entry``, ``listing/`` and ``tree/**``."""
    marks = {Scope.ENTRY: "", Scope.LISTING: "/", Scope.TREE: "/**"}
    first = [
        paths.printable(change.path) + marks[change.scope]
        for change in islice(changeset, _MAX_FORMATTED_CHANGES)
    ]
    return " ".join(first) + (" ..." if len(changeset) > len(first) else "")


class MutableChangeset(Changeset):
    """A set of changes that more can be added to."""

    __slots__ = ()

    entries: dict[bytes, set[bytes]]
    listings: set[bytes]
    trees: set[bytes]

    def __init__(self) -> None:
        super().__init__({}, set(), set())

    def add(self, path: bytes, scope: Scope) -> None:
        """Add one change."""
        if scope is Scope.TREE:
            self.trees.add(path)
        elif scope is Scope.LISTING:
            self.listings.add(path)
        else:
            directory, name = paths.split(path)
            self.entries.setdefault(directory, set()).add(name)

    def add_entries(self, directory: bytes, names: AbstractSet[bytes]) -> None:
        """Add an entry change for each of ``names`` in ``directory``."""
        if not names:
            return
        known = self.entries.get(directory)
        if known is None:
            self.entries[directory] = set(names)
        else:
            known |= names

    def merge(self, other: Changeset) -> None:
        """Add all changes of another set."""
        for directory, names in other.entries.items():
            self.add_entries(directory, names)
        self.listings |= other.listings
        self.trees |= other.trees


def union(*changesets: Changeset) -> MutableChangeset:
    """Return a new set with the changes of all sets."""
    united = MutableChangeset()
    for changeset in changesets:
        united.merge(changeset)
    return united
