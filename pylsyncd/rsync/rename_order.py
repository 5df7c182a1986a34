"""Orders the renames of copies, so that each finds its old name, and its new name free. Pure.

Old paths are those before all moves, new paths those after all. So a new path may be taken until
another copy is renamed, and an old one may be below a directory whose copy has been renamed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
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
    fail, if only nothing is replaced but a file by a file, or an empty directory by a directory. A
    directory may be exchanged for another one with something in it (see `find_displaced`).
    Moves that wait for each other, such as exchanged names, or for what is not moved have no step.
    All others have one: as each takes a copy to the place where it stays, none blocks another.
    """
    copies = _Copies(pairs)
    steps: list[RenameStep] = []
    waiting: dict[bytes, list[bytes]] = defaultdict(list)
    ready = deque(copies.moved)
    while ready:
        new = ready.popleft()
        blocking = copies.find_blocking(new)
        if blocking is not None:
            waiting[blocking].append(new)
            continue
        old, after = copies.locate(new)
        copies.rename(new, len(steps))
        steps.append(RenameStep(old, new, pairs[new].is_directory, after))
        ready.extend(waiting.pop(new, ()))
    return steps


def find_displaced(
    steps: Sequence[RenameStep], done: AbstractSet[int], exchanged: AbstractSet[int]
) -> frozenset[bytes]:
    """Return the paths at which something else is than before, apart from the moves.

    ``done`` are the indexes of the steps that were made, ``exchanged`` those of them by which a
    directory with something in it got the name that was left. If several are renamed in a row, it
    goes from one to the next.
    """
    displaced: set[bytes] = set()
    for index in sorted(done):
        old, new = steps[index].old, steps[index].new
        displaced.discard(new)
        inside = [path for path in displaced if paths.covers(old, path)]
        displaced.difference_update(inside)
        displaced.update(new + path[len(old) :] for path in inside)
        if index in exchanged:
            displaced.add(old)
    return frozenset(displaced)


@dataclass(slots=True, eq=False)
class _Copy:
    """A copy that is known to be there."""

    parent: _Copy | None = None
    name: bytes = b""
    children: dict[bytes, _Copy] = field(default_factory=dict)
    new: bytes | None = None
    """The new path, as long as it is not renamed."""
    step: int | None = None
    """The index of the step that has renamed it."""

    def child(self, name: bytes) -> _Copy:
        """Return the child of a name; it is made if it is missing."""
        if name not in self.children:
            self.children[name] = _Copy(self, name)
        return self.children[name]


class _Copies:
    """What is known of the copies: those that are moved, and the directories above them."""

    def __init__(self, pairs: Mapping[bytes, Move]) -> None:
        self._root = _Copy()
        self.moved: dict[bytes, _Copy] = {}
        """What is to be renamed, by new path. What went to two paths goes to the first."""
        for new, move in pairs.items():
            copy = self._make(move.old)
            if copy.new is None and new and move.old:
                copy.new = new
                self.moved[new] = copy

    def find_blocking(self, new: bytes) -> bytes | None:
        """Return the new path of a move that a copy waits for before it takes its new path, if any.

        Another copy leaves the new path, a path above it, or a directory that is there; or brings a
        directory above it. The path itself stands for what never leaves.
        """
        copy: _Copy | None = self._root
        names = new.split(b"/")
        for depth, name in enumerate(names, 1):
            copy = copy.children.get(name) if copy is not None else None
            if copy is not None and copy.new is not None:
                return copy.new
            above = b"/".join(names[:depth])
            if above in self.moved and self.moved[above].new is not None and above != new:
                return above
        # An empty directory can be replaced: everything below must leave.
        while copy is not None and copy.children:
            copy = next(iter(copy.children.values()))
            if copy.new is not None:
                return copy.new
            if not copy.children:
                return new
        return None

    def locate(self, new: bytes) -> tuple[bytes, int | None]:
        """Return where a copy is now, and the step that has brought it there."""
        names = []
        step = None
        copy = self.moved[new]
        while copy.parent is not None:
            if step is None:
                step = copy.step
            names.append(copy.name)
            copy = copy.parent
        return b"/".join(reversed(names)), step

    def rename(self, new: bytes, step: int) -> None:
        """Take a copy to its new path."""
        copy = self.moved[new]
        if copy.parent is not None:
            del copy.parent.children[copy.name]
        parent, copy.name = paths.split(new)
        copy.parent = self._make(parent)
        copy.parent.children[copy.name] = copy
        copy.new, copy.step = None, step

    def _make(self, path: bytes) -> _Copy:
        copy = self._root
        for name in filter(None, path.split(b"/")):
            copy = copy.child(name)
        return copy
