"""Orders the renames of copies, so that each finds its old name, and its new name free. Pure.

Old paths are those before all moves, new paths those after all. So a new path may be taken until
another copy is renamed, and an old one may be below a directory whose copy has been renamed.
"""

import contextlib
import graphlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.moves import Move


class RenameStep(NamedTuple):
    """One rename at a destination, in a sequence of them."""

    old: bytes
    """Where the copy is at that time."""
    new: bytes
    is_directory: bool
    after: int | None = None
    """The index of the step that has brought the copy to ``old``. If that fails, the step is
    skipped: something else may be there."""


def order_renames(pairs: Mapping[bytes, Move]) -> Sequence[RenameStep]:
    """Return the renames that carry the moves to the new paths ``pairs``.

    A step renames what was at the old path of its move before the first step, whichever other steps
    fail, if only no step replaces anything at its new path. Moves that wait for each other, such as
    exchanged names, have no step.
    """
    plan = _Plan(pairs)
    for new in _sort(_Places(pairs).find_predecessors()):
        plan.add(new)
    return plan.steps


class _Places:
    """The places that the moves leave and take."""

    def __init__(self, pairs: Mapping[bytes, Move]) -> None:
        self._pairs = pairs
        self._left: dict[bytes, list[bytes]] = defaultdict(list)
        for new, move in pairs.items():
            self._left[move.old].append(new)
        # Where an old path is after the directory above it was renamed.
        self._moved = {new: self._moved_with_parent(move.old) for new, move in pairs.items()}
        for new, (place, _) in self._moved.items():
            if place:
                self._left[place].append(new)

    def find_predecessors(self) -> Mapping[bytes, set[bytes]]:
        """Return, for each new path, those that are renamed before it."""
        predecessors: dict[bytes, set[bytes]] = {new: set() for new in self._pairs}
        for new, move in self._pairs.items():
            before = predecessors[new]
            before.update(
                each for path in paths.at_and_above(new) for each in self._left.get(path, ())
            )
            before.update(path for path in paths.ancestors(new) if path in self._pairs)
            for other in self._landing_above(move.old, self._moved[new]):
                predecessors[other].add(new)
        for new, before in predecessors.items():
            before.discard(new)
        return predecessors

    def _moved_with_parent(self, old: bytes) -> tuple[bytes, bytes]:
        """Return where the next renamed directory above a path takes it, and its new path."""
        for above in paths.ancestors(old):
            if above in self._left:
                taken_to = self._left[above][0]
                return taken_to + old[len(above) :], taken_to
        return b"", b""

    def _landing_above(self, old: bytes, moved: tuple[bytes, bytes]) -> Iterator[bytes]:
        """Yield the new paths that would cover what a move takes."""
        yield from (path for path in paths.at_and_above(old) if path in self._pairs)
        place, taken_to = moved
        for path in paths.at_and_above(place):
            if path == taken_to:
                break
            if path in self._pairs:
                yield path


def _sort(predecessors: Mapping[bytes, set[bytes]]) -> Iterator[bytes]:
    """Yield new paths after their predecessors; none that is in a circle or waits for one."""
    sorter = graphlib.TopologicalSorter(predecessors)
    # It still returns what does not wait for a circle.
    with contextlib.suppress(graphlib.CycleError):
        sorter.prepare()
    while ready := sorter.get_ready():
        yield from ready
        sorter.done(*ready)


class _Plan:
    """The steps so far."""

    def __init__(self, pairs: Mapping[bytes, Move]) -> None:
        self._pairs = pairs
        self.steps: list[RenameStep] = []
        self._index_by_old: dict[bytes, int] = {}
        # The new paths of the steps, and all directories above them.
        self._taken: set[bytes] = set()
        self._above_taken: set[bytes] = set()

    def add(self, new: bytes) -> None:
        """Add the step of a move, unless it is unsure what would be renamed."""
        move = self._pairs[new]
        old, after = self._locate(move.old)
        bound = self.steps[after].new if after is not None else None
        covers_old = any(path in self._taken for path in _below(bound, old))
        carries_others = old in self._above_taken or old in self._taken
        is_possible = not (paths.covers(old, new) or paths.covers(new, old))
        if not is_possible or covers_old or carries_others:
            return
        self._index_by_old.setdefault(move.old, len(self.steps))
        self.steps.append(RenameStep(old, new, move.is_directory, after))
        self._taken.add(new)
        self._above_taken.update(paths.ancestors(new))

    def _locate(self, old: bytes) -> tuple[bytes, int | None]:
        """Return where a copy is after the steps so far, and the step that has brought it there."""
        for above in paths.at_and_above(old):
            index = self._index_by_old.get(above)
            if index is not None:
                return self.steps[index].new + old[len(above) :], index
        return old, None


def _below(directory: bytes | None, path: bytes) -> Iterator[bytes]:
    """Yield a path and those above it, up to a directory, which is not among them."""
    for above in paths.at_and_above(path):
        if above == directory:
            break
        yield above
