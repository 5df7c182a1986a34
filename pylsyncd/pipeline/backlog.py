"""What a destination is owed, in bounded memory: directories stand in for what they contain.

The rules, in the order in which they are tried, each only as far as is needed:

* what is covered anyway goes: this loses nothing;
* a directory's LISTING stands in for its entries, the largest groups first: rsync looks at a few
  names more, but no deeper;
* a directory's TREE stands in for whatever changed below, in the deepest directories first and the
  largest groups of a level first: rsync compares all that is there;
* at last the root's TREE is everything.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice

from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.pipeline.optimizer import optimize

MAX_PENDING_CHANGES = 100_000
"""How many changes a destination is owed at most.

They take 10 MB where directories have many, 35 MB where each is alone in its directory; and rsync
takes 13 microseconds for a name on its list, so 1.3 seconds for all, most of which would be saved
by nothing cheaper than a comparison of the whole source.
"""


def collapse(changes: Changeset, limit: int = MAX_PENDING_CHANGES) -> Changeset:
    """Return a set of at most ``limit`` changes that covers ``changes``, which stay as they are.

    They are returned as they are if they fit. Otherwise the new set is made about half as large as
    is allowed, so that whoever collects changes collapses them only once in so many.
    """
    if len(changes) <= limit:
        return changes
    target = max(1, limit // 2)
    smaller = optimize(changes)
    for stand_in in (_with_listings, _with_trees):
        if len(smaller) > target:
            smaller = stand_in(smaller, target)
    return smaller


def _with_listings(changes: Changeset, target: int) -> Changeset:
    """Let listings stand in for entries until ``target`` changes are left, if that does."""
    excess = len(changes) - target
    sizes = {directory: len(names) for directory, names in changes.entries.items()}
    listings: set[bytes] = set()
    for directory in sorted(_several(sizes), key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        listings.add(directory)
        excess -= sizes[directory] - 1
    if not listings:
        return changes
    return optimize(Changeset(changes.entries, listings | changes.listings, changes.trees))


def _with_trees(changes: Changeset, target: int) -> Changeset:
    """Let trees stand in for other changes until ``target`` changes are left.

    None of ``changes`` covers another.
    """
    excess = len(changes) - target
    trees: set[bytes] = set()
    levels = _by_depth(changes)
    at_or_below: dict[bytes, int] = {}
    while excess > 0 and levels:
        for path in levels.pop():
            at_or_below[path] = at_or_below.get(path, 0) + 1
        for path in sorted(_several(at_or_below), key=at_or_below.__getitem__, reverse=True):
            if excess <= 0:
                break
            trees.add(path)
            excess -= at_or_below[path] - 1
            at_or_below[path] = 1
        at_or_below = _one_level_up(at_or_below)
    return optimize(Changeset(changes.entries, changes.listings, trees | changes.trees))


def _several(counts: dict[bytes, int]) -> list[bytes]:
    return [path for path, count in counts.items() if count > 1]


def _one_level_up(counts: dict[bytes, int]) -> dict[bytes, int]:
    above: dict[bytes, int] = {}
    for path, count in counts.items():
        directory, _ = paths.split(path)
        above[directory] = above.get(directory, 0) + count
    return above


def _by_depth(changes: Changeset) -> list[list[bytes]]:
    """Return the paths of all changes by how many names they have: first the root, with none."""
    levels: defaultdict[int, list[bytes]] = defaultdict(list)
    for directory, names in changes.entries.items():
        depth = _depth(directory) + 1
        levels[depth] += [paths.join(directory, name) for name in names if name]
        if b"" in names:
            levels[0].append(paths.ROOT)
    for path in chain(changes.listings, changes.trees):
        levels[_depth(path)].append(path)
    return [levels[depth] for depth in range(max(levels) + 1)]


def _depth(path: bytes) -> int:
    return path.count(b"/") + 1 if path else 0


class Backlog:
    """Changes that are owed, never many more than the limit. Used by one thread at a time.

    Sets that are added may be shared: they are never modified, and one alone is kept as it is.
    """

    __slots__ = ("_bound", "_limit", "_owed", "_own")

    def __init__(self, limit: int = MAX_PENDING_CHANGES) -> None:
        self._limit = limit
        self._owed: Changeset = NOTHING
        # The same, if nobody else has it, so that it may be added to.
        self._own: MutableChangeset | None = None
        # At least as many as there are; to count them takes longer.
        self._bound = 0

    def __len__(self) -> int:
        return len(self._owed)

    def __bool__(self) -> bool:
        return bool(self._owed)

    @property
    def is_everything(self) -> bool:
        """Whether the whole source is owed."""
        return self._owed.is_everything

    @property
    def changes(self) -> Changeset:
        """What is owed, to be looked at only."""
        return self._owed

    @property
    def is_merged(self) -> bool:
        """Whether it is of several sets, of which one may cover what is in another."""
        return self._own is not None

    def add(self, changeset: Changeset) -> None:
        """Owe more changes."""
        if not changeset:
            return
        if changeset.is_everything or self.is_everything:
            self._keep(EVERYTHING)
        elif not self._owed and len(changeset) <= self._limit:
            self._keep(changeset)
        else:
            for part in _parts(changeset, self._limit):
                self._merge(part)

    def take(self) -> Changeset:
        """Hand over all that is owed: then nothing is."""
        owed = self._owed
        self._keep(NOTHING)
        return owed

    def _keep(self, owed: Changeset) -> None:
        self._owed = owed
        self._own = None
        self._bound = len(owed)

    def _merge(self, part: Changeset) -> None:
        if self.is_everything:
            return
        if self._own is None:
            self._own = MutableChangeset()
            self._own.merge(self._owed)
            self._owed = self._own
        self._own.merge(part)
        self._bound += len(part)
        if self._bound > self._limit:
            smaller = collapse(self._own, self._limit)
            self._keep(smaller)
            self._own = smaller if isinstance(smaller, MutableChangeset) else None


def _parts(changeset: Changeset, limit: int) -> Iterator[Changeset]:
    """Yield a set in parts of at most ``limit`` changes."""
    if len(changeset) <= limit:
        yield changeset
        return
    changes = iter(changeset)
    while some := list(islice(changes, limit)):
        part = MutableChangeset()
        for path, scope in some:
            part.add(path, scope)
        yield part
