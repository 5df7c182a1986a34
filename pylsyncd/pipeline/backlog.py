"""The pending changes of a destination, in bounded memory: directories stand in for contents.

Past the limit these rules are applied in order, each only as often as needed:

* changes that others cover are dropped: nothing is lost;
* the LISTING of a directory stands in for its entries, the largest groups first: rsync compares a
  few more names, but no deeper;
* the TREE of a directory stands in for all changes below it, the deepest directories first and of
  one level the largest groups first: rsync compares everything there;
* finally, the TREE of the root is everything.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, everything_with
from pylsyncd.model.scoped_paths import MutableScopedPaths, ScopedPaths
from pylsyncd.pipeline.optimizer import optimize

MAX_PENDING_CHANGES = 100_000
"""The most changes that are pending for one destination.

They take 10 MB of memory in large directories, 35 MB if each is alone in its directory. rsync reads
a name of its list in 13 microseconds, so all of them in 1.3 seconds.
"""


def collapse(changes: Changeset, limit: int = MAX_PENDING_CHANGES) -> Changeset:
    """Return at most ``limit`` changes that cover ``changes``, which are not modified.

    The same holds for their hints, apart from the changes. A set that fits is returned itself. A
    larger one is reduced to about half the limit, so that a growing set is collapsed rarely.
    """
    if _size(changes) <= limit:
        return changes
    target = max(1, limit // 2)
    smaller = optimize(changes)
    some: ScopedPaths = smaller
    new_content, deletable = smaller.new_content, smaller.deletable
    if len(changes) > limit:
        some = _collapsed(some, target)
    if len(changes.new_content) > limit:
        new_content = _collapsed(new_content, target)
    if len(deletable) > limit:
        deletable = _first(deletable, target)
    if some.is_everything and not (new_content or deletable):
        return EVERYTHING
    return Changeset(some.entries, some.listings, some.trees, new_content, None, deletable)


def _size(changes: Changeset) -> int:
    """Return the number of changes or of hints, whichever are more."""
    return max(len(changes), len(changes.new_content), len(changes.deletable))


def _first(some: ScopedPaths, target: int) -> ScopedPaths:
    """Return ``target`` of the paths: what stood in for the others would delete more than they."""
    first = MutableScopedPaths()
    for path, scope in islice(sorted(some, key=lambda change: -change.scope), target):
        first.add(path, scope)
    return first


def _collapsed(some: ScopedPaths, target: int) -> ScopedPaths:
    """Return about ``target`` paths that cover ``some``, of which none covers another."""
    smaller = some
    for stand_in in (_with_listings, _with_trees):
        if len(smaller) > target:
            smaller = stand_in(smaller, target)
    return smaller


def _with_listings(some: ScopedPaths, target: int) -> ScopedPaths:
    """Replace entries by listings until ``target`` paths are left, or as far as possible."""
    excess = len(some) - target
    sizes = {directory: len(names) for directory, names in some.entries.items()}
    listings: set[bytes] = set()
    for directory in sorted(_groups(sizes), key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        listings.add(directory)
        excess -= sizes[directory] - 1
    if not listings:
        return some
    return optimize(Changeset(some.entries, listings | some.listings, some.trees))


def _with_trees(some: ScopedPaths, target: int) -> ScopedPaths:
    """Replace paths, of which none covers another, by trees until ``target`` are left."""
    excess = len(some) - target
    trees: set[bytes] = set()
    levels = _paths_by_depth(some)
    at_or_below: dict[bytes, int] = {}
    # At the latest the root, whose tree is one path, ends it.
    while excess > 0:
        for path in levels.pop():
            at_or_below[path] = at_or_below.get(path, 0) + 1
        for path in sorted(_groups(at_or_below), key=at_or_below.__getitem__, reverse=True):
            if excess <= 0:
                break
            trees.add(path)
            excess -= at_or_below[path] - 1
            at_or_below[path] = 1
        at_or_below = _sum_by_parent(at_or_below)
    return optimize(Changeset(some.entries, some.listings, trees | some.trees))


def _groups(counts: dict[bytes, int]) -> list[bytes]:
    """Return the directories with more than one change."""
    return [path for path, count in counts.items() if count > 1]


def _sum_by_parent(counts: dict[bytes, int]) -> dict[bytes, int]:
    sums: dict[bytes, int] = {}
    for path, count in counts.items():
        directory, _ = paths.split(path)
        sums[directory] = sums.get(directory, 0) + count
    return sums


def _paths_by_depth(some: ScopedPaths) -> list[list[bytes]]:
    """Return all paths by the number of their names; the root is among those with one."""
    levels: defaultdict[int, list[bytes]] = defaultdict(list)
    for path, _ in some:
        levels[path.count(b"/")].append(path)
    return [[], *(levels[slashes] for slashes in range(max(levels) + 1))]


class Backlog:
    """Pending changes, at most ``limit``. Used by one thread at a time.

    An added set is never modified; a single one is kept without a copy.
    """

    __slots__ = ("_changes", "_limit", "_max_size", "_own")

    def __init__(self, limit: int = MAX_PENDING_CHANGES) -> None:
        self._limit = limit
        self._changes: Changeset = NOTHING
        # The same set if it is no one else's, so that it may be modified.
        self._own: MutableChangeset | None = None
        # An upper bound of the number of changes, and of that of hints: counting takes longer.
        self._max_size = 0

    def __len__(self) -> int:
        return len(self._changes)

    def __bool__(self) -> bool:
        return bool(self._changes)

    @property
    def is_everything(self) -> bool:
        """Whether the whole source is pending."""
        return self._changes.is_everything

    @property
    def changes(self) -> Changeset:
        """The pending changes, which the caller must not modify."""
        return self._changes

    @property
    def is_merged(self) -> bool:
        """Whether it was merged from several sets, so that changes may cover each other."""
        return self._own is not None

    def add(self, changeset: Changeset) -> None:
        """Add changes, with their hints."""
        if not (changeset or changeset.new_content):
            return
        if changeset.is_everything:
            self._add_to_everything(changeset)
        elif self._changes is NOTHING and _size(changeset) <= self._limit:
            self._replace(changeset)
        else:
            for part in _split(changeset, self._limit):
                self._merge(part)

    def take(self) -> Changeset:
        """Remove and return all changes."""
        changes = self._changes
        self._replace(NOTHING)
        return changes

    def _replace(self, changes: Changeset) -> None:
        self._changes = changes
        self._own = None
        self._max_size = _size(changes)

    def _add_to_everything(self, hinted: Changeset) -> None:
        self._replace(collapse(everything_with(self._changes, hinted), self._limit))

    def _merge(self, part: Changeset) -> None:
        if self.is_everything:
            self._add_to_everything(part)
            return
        if self._own is None:
            self._own = MutableChangeset()
            self._own.merge(self._changes)
            self._changes = self._own
        self._own.merge(part)
        self._max_size += _size(part)
        if self._max_size > self._limit:
            smaller = collapse(self._own, self._limit)
            self._replace(smaller)
            self._own = smaller if isinstance(smaller, MutableChangeset) else None


def _split(changeset: Changeset, limit: int) -> Iterator[Changeset]:
    """Yield a set in parts of at most ``limit`` changes and hints each."""
    if _size(changeset) <= limit:
        yield changeset
        return
    changes, hints = iter(changeset), iter(changeset.new_content)
    deletable = iter(changeset.deletable)
    while True:
        part = MutableChangeset()
        for path, scope in islice(changes, limit):
            part.add(path, scope)
        for path, scope in islice(hints, limit):
            part.new_content.add(path, scope)
        for path, scope in islice(deletable, limit):
            part.deletable.add(path, scope)
        if not (part or part.new_content or part.deletable):
            return
        yield part
