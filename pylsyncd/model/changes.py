"""Changes: paths whose copies at a destination may differ, each with its scope.

A change says "look here", never "do this": rsync compares with the disk when it runs. So merging
is a union, order does not matter, and lost events become a change of larger scope.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from pylsyncd.model import paths
from pylsyncd.model.scoped_paths import NO_PATHS, MutableScopedPaths, Scope, ScopedPaths


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
