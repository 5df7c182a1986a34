"""Changes of larger scope, for retries of runs that fail without naming a path. Pure.

The steps: the changes themselves; the directories that they are in; the trees of these; everything.
"""

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset, everything_with
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import optimize

LAST_STEP = 3
"""The step after which nothing larger is left."""


def widened(changes: Changeset, step: int) -> Changeset:
    """Return changes that cover ``changes``, ``step`` steps larger."""
    if not step or changes.is_everything:
        return changes
    if step >= LAST_STEP:
        return everything_with(changes)
    wider = with_parent_listings(changes)
    if step > 1:
        trees = MutableChangeset()
        for path in wider.listings:
            trees.add(path, Scope.TREE)
        wider.merge(trees)
    # What a failed run has left at the old paths is unknown.
    wider.moves = None
    return optimize(wider)


def with_parent_listings(changes: Changeset) -> MutableChangeset:
    """Return the changes, and the listing of each directory that has one of them as an entry."""
    wider = MutableChangeset()
    wider.merge(changes)
    if changes.is_everything:
        return wider
    wider.listings |= changes.entries.keys()
    for path in (*changes.listings, *changes.trees):
        if path:
            wider.listings.add(paths.split(path)[0])
    return wider
