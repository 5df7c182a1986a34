"""Changes: the paths whose copies at a destination may differ, and how far below them.

A change says "look here", never "do this": rsync compares with the disk when it runs. So merging
is a union, order does not matter, and every loss of knowledge is a change of larger scope.
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
    """A directory's own listing: each of its entries as an ENTRY, names that went included."""
    TREE = 2
    """Everything at and below the path."""


class Change(NamedTuple):
    """A path, relative to the source, whose copy at a destination may differ."""

    path: bytes
    scope: Scope

    def covers(self, other: "Change") -> bool:
        """Tell whether whoever looks at this change has looked at the other, too."""
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
    """A set of changes, to be read only: one object is shared by all destinations.

    Entries are grouped by the directory that they stand in, since they come so from inotify and go
    so to rsync, and since a name costs half the memory of a path. The root's own entry is the
    empty name in the empty directory.
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
        """Whether this asks for the whole source."""
        return paths.ROOT in self.trees


NOTHING = Changeset({}, frozenset(), frozenset())
EVERYTHING = Changeset({}, frozenset(), frozenset([paths.ROOT]))


def format_changes(changeset: Changeset) -> str:
    """Return the first changes of a set as text: a file, a directory/ listed, a tree/**."""
    marks = {Scope.ENTRY: "", Scope.LISTING: "/", Scope.TREE: "/**"}
    first = [
        paths.printable(change.path) + marks[change.scope]
        for change in islice(changeset, _MOST_SHOWN)
    ]
    return " ".join(first) + (" ..." if len(changeset) > len(first) else "")


_MOST_SHOWN = 100


class MutableChangeset(Changeset):
    """Changes being collected."""

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
