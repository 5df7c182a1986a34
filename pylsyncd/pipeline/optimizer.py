"""Reduces changes to the minimal changeset. Pure: facts about the disk come in as arguments.

The rules:

* a TREE covers everything at or below it;
* a LISTING covers its directory's own entry, and all entries of the directory;
* a directory's LISTING stands in for its entries when that is cheaper for rsync.

The time is linear in the bytes of the paths, except for one sort of the directories.
"""

from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet

from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.move_composition import moves_apart_from
from pylsyncd.model.scoped_paths import NO_PATHS, MutableScopedPaths, Scope, ScopedPaths

# Microseconds that rsync 3.5.0 takes for a name of its list, for each byte of that name, and for an
# entry of a directory that it lists itself. Measured: rsync reads its list byte by byte.
NAME_COST_US = 13.0
BYTE_COST_US = 0.7
LISTED_ENTRY_COST_US = 7.0

# With fewer names, counting the entries of the directory costs as much as it saves.
MIN_NAMES_FOR_LISTING = 4

EntryCounter = Callable[[bytes, int], int]
"""Returns the number of entries of a directory, counted up to a limit."""


def optimize(changes: Changeset, count_entries: EntryCounter | None = None) -> Changeset:
    """Return the minimal changeset that covers ``changes``, which are not modified.

    Its hints are reduced like the changes, but apart from them. The moves of everything are
    unknown. Without ``count_entries``, no listing replaces names.
    """
    if changes.is_everything and not (changes.new_content or changes.deletable):
        return EVERYTHING
    minimal = MutableChangeset()
    _reduce(changes, minimal, count_entries)
    _reduce(changes.new_content, minimal.new_content)
    _reduce(changes.deletable, minimal.deletable)
    if not minimal.is_everything:
        # What was written is not reduced: a move may lose one that is above it.
        minimal.moves = changes.moves
    return minimal


def optimize_without_hints(changes: Changeset) -> Changeset:
    """Return the minimal changeset without hints that covers ``changes``."""
    minimal = MutableChangeset()
    _reduce(changes, minimal)
    return minimal


def _reduce(
    some: ScopedPaths, minimal: MutableScopedPaths, count_entries: EntryCounter | None = None
) -> None:
    """Add to an empty set the minimal paths that cover all of ``some``."""
    if some.is_everything:
        minimal.trees.add(paths.ROOT)
        return
    minimal.trees |= _topmost(some.trees)
    minimal.listings.update(_outside(some.listings, minimal.trees))
    for directory in _outside(some.entries, minimal.trees):
        names = some.entries[directory]
        if directory in minimal.listings:
            continue
        if count_entries and _listing_is_cheaper(directory, names, count_entries):
            minimal.listings.add(directory)
        else:
            minimal.entries[directory] = set(names)
    _drop_entries(minimal, minimal.trees)
    _drop_entries(minimal, minimal.listings)


def split_below(changes: Changeset, tops: AbstractSet[bytes]) -> tuple[Changeset, Changeset]:
    """Return the changes at or below one of the paths ``tops``, and the others, with their hints.

    What is known of a path below a change of the other part may be among the hints of the first.
    A part keeps the moves that have nothing to do with the other one.
    """
    if not tops or (changes.is_everything and not (changes.new_content or changes.deletable)):
        return NOTHING, changes
    inside, outside = MutableChangeset(), MutableChangeset()
    changes.split_below(tops, inside, outside)
    changes.new_content.split_below(tops, inside.new_content, outside.new_content)
    changes.deletable.split_below(tops, inside.deletable, outside.deletable)
    if changes.moves is not None:
        inside.moves = moves_apart_from(changes.moves, outside, outside.new_content)
        outside.moves = moves_apart_from(changes.moves, inside, inside.new_content)
    return inside, outside


def with_hints_of(changes: Changeset, hinted: ScopedPaths) -> Changeset:
    """Return the changes with what ``hinted`` contains of them as the hint of a new content."""
    if not changes or not hinted:
        return changes.with_new_content(NO_PATHS)
    new_content = MutableScopedPaths()
    for path, scope in changes:
        if is_included(path, scope, hinted):
            new_content.add(path, scope)
    within = ScopedPaths(changes.entries, changes.listings, changes.trees)
    for path, scope in hinted:
        if is_included(path, scope, within):
            new_content.add(path, scope)
    return changes.with_new_content(new_content)


def hints_about(changes: ScopedPaths, hinted: ScopedPaths) -> ScopedPaths:
    """Return what hints say of some changes.

    A hint about a change reaches as far as it says, however small the change is; of a hint about
    something above a change, what the change includes is returned.
    """
    if not changes or not hinted:
        return NO_PATHS
    about = MutableScopedPaths()
    for path, scope in hinted:
        if is_included(path, Scope.ENTRY, changes):
            about.add(path, scope)
    for path, scope in changes:
        for smaller in reversed(Scope):
            if smaller <= scope and is_included(path, smaller, hinted):
                about.add(path, smaller)
                break
    return about


def is_included(path: bytes, scope: Scope, some: ScopedPaths) -> bool:
    """Return True if ``some`` covers a path and what its scope reaches."""
    if scope is Scope.TREE:
        return some.includes_tree(path)
    return some.includes_listing(path) if scope is Scope.LISTING else some.includes_entry(path)


def without_covered(changes: Changeset, others: Changeset) -> Changeset:
    """Return ``changes``, with their hints, without those that one of ``others`` covers."""
    if others.is_everything:
        return NOTHING
    if not (changes and others) or changes.is_everything:
        return changes
    rest = MutableChangeset()
    rest.merge(split_below(changes, others.trees)[1])
    rest.listings -= others.listings
    for directory in others.listings:
        rest.entries.pop(directory, None)
    _drop_entries(rest, others.listings)
    for directory in others.entries.keys() & rest.entries.keys():
        rest.entries[directory] -= others.entries[directory]
        if not rest.entries[directory]:
            del rest.entries[directory]
    return with_hints_of(rest, rest.new_content)


def _topmost(trees: Iterable[bytes]) -> set[bytes]:
    """Return the paths that are not below another one."""
    topmost: set[bytes] = set()
    last = None
    for path in sorted(trees, key=paths.tree_sort_key):
        if last is None or not paths.covers(last, path):
            topmost.add(path)
            last = path
    return topmost


def _outside(directories: Iterable[bytes], topmost: set[bytes]) -> list[bytes]:
    """Return the directories that are not at or below one of the ``topmost`` trees."""
    if not topmost:
        return list(directories)
    outside = []
    tree = None
    marked = [(paths.tree_sort_key(path), False, path) for path in directories]
    marked += [(paths.tree_sort_key(path), True, path) for path in topmost]
    # A tree comes before the directories below it, and before a directory of the same path.
    marked.sort(key=lambda mark: (mark[0], not mark[1]))
    for _, is_tree, path in marked:
        if is_tree:
            tree = path
        elif tree is None or not paths.covers(tree, path):
            outside.append(path)
    return outside


def _listing_is_cheaper(
    directory: bytes, names: Collection[bytes], count_entries: EntryCounter
) -> bool:
    if len(names) < MIN_NAMES_FOR_LISTING:
        return False
    length = sum(map(len, names)) + len(names) * len(directory)
    break_even = int((NAME_COST_US * len(names) + BYTE_COST_US * length) / LISTED_ENTRY_COST_US)
    return count_entries(directory, break_even + 1) <= break_even


def _drop_entries(some: MutableScopedPaths, covered: Iterable[bytes]) -> None:
    """Remove the entries of the ``covered`` paths themselves."""
    for path in covered:
        directory, name = paths.split(path)
        names = some.entries.get(directory)
        if names is not None:
            names.discard(name)
            if not names:
                del some.entries[directory]
