"""Changes: paths whose copies at a destination may differ, each with its scope.

A change says "look here", never "do this": rsync compares with the disk when it runs. So merging
is a union, order does not matter, and lost events become a change of larger scope.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from pylsyncd.model import paths
from pylsyncd.model.move_composition import MovedPaths, composed
from pylsyncd.model.moves import NO_MOVES, Moves
from pylsyncd.model.scoped_paths import (
    NO_PATHS,
    MutableScopedPaths,
    Scope,
    ScopedPaths,
    is_at_or_below,
    paths_with_exceptions,
)


class Changeset(ScopedPaths):
    """A read-only set of changes, which all destinations share, with its hints.

    A hint is a set of paths of its own: what else is known of some of the changes. It is merged,
    reduced and bounded like the changes, but apart from them. A path in it that is no change has no
    meaning: it may stand for changes in bounded memory.
    """

    __slots__ = ("deletable", "moves", "new_content")

    new_content: ScopedPaths
    """The hint that a content was written or moved here: what is regular there may differ from its
    copy although size and time agree. All other changes can be told by size and time."""
    moves: Moves | None
    """The hint that some of the new contents were elsewhere before; None if that is unknown."""
    deletable: ScopedPaths
    """The hint that what the source lacks of these paths was deleted there, at a time whose
    deletions are carried. With ``delete = startup`` or ``running``, nothing else is deleted."""

    def __init__(  # noqa: PLR0913, PLR0917  # the changes, and a hint each
        self,
        entries: Mapping[bytes, AbstractSet[bytes]],
        listings: AbstractSet[bytes],
        trees: AbstractSet[bytes],
        new_content: ScopedPaths = NO_PATHS,
        moves: Moves | None = None,
        deletable: ScopedPaths = NO_PATHS,
    ) -> None:
        super().__init__(entries, listings, trees)
        self.new_content = new_content
        self.moves = moves
        self.deletable = deletable

    def with_new_content(self, new_content: ScopedPaths) -> "Changeset":
        """Return the same changes with another hint of new contents, and unknown moves."""
        return Changeset(self.entries, self.listings, self.trees, new_content, None, self.deletable)

    def with_moves(self, moves: Moves | None) -> "Changeset":
        """Return the same changes, with the same hint of new contents and other moves."""
        return Changeset(
            self.entries, self.listings, self.trees, self.new_content, moves, self.deletable
        )

    def with_deletable(self, deletable: ScopedPaths) -> "Changeset":
        """Return the same changes, with the same other hints and another one of deletions."""
        return Changeset(
            self.entries, self.listings, self.trees, self.new_content, self.moves, deletable
        )

    def after_moves(
        self, carried: AbstractSet[bytes], displaced: AbstractSet[bytes] = frozenset()
    ) -> "Changeset":
        """Return the same changes, with unknown moves and the new contents that are left.

        The moves to the paths ``carried`` are believed: what is at such a path has no new content
        for them, apart from what was written there, or moved there by another move. At the paths
        ``displaced``, everything may differ.
        """
        if not self.moves:
            return self.with_moves(None)
        believed = self.moves.by_new_path.keys() & carried
        if not believed:
            return self.with_moves(None)
        left, inside = MutableScopedPaths(), MutableScopedPaths()
        self.new_content.split_below(believed, MutableScopedPaths(), left)
        self.moves.written.split_below(believed, inside, MutableScopedPaths())
        for path, move in self.moves.by_new_path.items():
            if path not in believed:
                (inside if is_at_or_below(path, believed) else left).add(path, move.scope)
        for path in displaced:
            (inside if is_at_or_below(path, believed) else left).add(path, Scope.TREE)
        new_content = paths_with_exceptions(left, believed, inside)
        trees = self.trees | displaced
        return Changeset(self.entries, self.listings, trees, new_content, None, self.deletable)


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

    deletable: MutableScopedPaths
    new_content: MutableScopedPaths

    def __init__(self) -> None:
        super().__init__()
        self.new_content = MutableScopedPaths()
        self.moves = None
        self.deletable = MutableScopedPaths()

    def add_new_content(self, path: bytes, scope: Scope) -> None:
        """Add one change with the hint that its content is new."""
        self.add(path, scope)
        self.new_content.add(path, scope)

    def merge(self, other: Changeset) -> None:
        """Add all changes of another set, which are later ones, with their hints."""
        self.moves = _merged_moves(self, other)
        self.add_all(other)
        self.new_content.add_all(other.new_content)
        self.deletable.add_all(other.deletable)


def _merged_moves(earlier: Changeset, later: Changeset) -> Moves | None:
    """Return the moves of two sets as one set; None if they are unknown."""
    if not (earlier or earlier.new_content):
        return later.moves
    if not (later or later.new_content):
        return earlier.moves
    if earlier.moves is None or later.moves is None:
        return None
    if not (earlier.moves or later.moves):
        return NO_MOVES
    return composed(
        MovedPaths(earlier, earlier.new_content, earlier.moves),
        MovedPaths(later, later.new_content, later.moves),
    )


def union(*changesets: Changeset) -> MutableChangeset:
    """Return a new set with the changes of all sets, and their hints."""
    united = MutableChangeset()
    for changeset in changesets:
        united.merge(changeset)
    return united


def everything_with(*hinted: Changeset) -> Changeset:
    """Return the change of everything, with the hints of other changes."""
    new_content, deletable = MutableScopedPaths(), MutableScopedPaths()
    for changeset in hinted:
        new_content.add_all(changeset.new_content)
        deletable.add_all(changeset.deletable)
    if not (new_content or deletable):
        return EVERYTHING
    return EVERYTHING.with_new_content(new_content).with_deletable(deletable)
