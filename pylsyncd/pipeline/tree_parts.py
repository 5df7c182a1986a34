"""Divides a tree into parts, for several runs that are under way at the same time. Pure.

While the tree is walked, its directories become pieces: a directory with all its entries, or, if
these are too many or too large, some of them. A part is the pieces that one run carries. As long as
much waits, parts are large, since each run takes time to start; at the end they are small, so that
all runs end at about the same time.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Scope

ENTRY_WEIGHT: Final = 16 << 10
"""What an entry adds to its size: about the bytes that could be sent while it is handled."""

MIN_PART_WEIGHT: Final = 64 << 20
"""The weight of the smallest parts: 4,096 entries, or 64 MiB in one file.

A run to a distant host takes up to a second to start.
"""

MAX_PART_WEIGHT: Final = 2 << 30
"""The weight at which a part is complete: 131,072 entries. It bounds the list of a run."""

MAX_WAITING_PIECES: Final = 50_000
"""How many pieces may wait until the walk has to."""


class Piece(NamedTuple):
    """A directory with all its entries, or some of them."""

    directory: bytes
    names: frozenset[bytes] | None
    """The entries; None for all."""
    weight: int


class DirectoryPieces:
    """The entries of one directory that are not in a piece yet."""

    def __init__(self, directory: bytes) -> None:
        self._directory = directory
        self._names: list[bytes] = []
        self._weight = ENTRY_WEIGHT
        self._is_whole = True

    def add(self, name: bytes, size: int) -> Piece | None:
        """Add an entry that is no directory; return a piece if this completes one."""
        self._names.append(name)
        self._weight += ENTRY_WEIGHT + size
        if self._weight < MIN_PART_WEIGHT:
            return None
        self._is_whole = False
        return self._take()

    def leave_out(self) -> None:
        """Let the directory have an entry that no piece may have."""
        self._is_whole = False

    def finish(self) -> Piece | None:
        """Return the last piece, if there is one, once all entries were added."""
        if self._is_whole:
            return Piece(self._directory, None, self._weight)
        return self._take() if self._names else None

    def _take(self) -> Piece:
        piece = Piece(self._directory, frozenset(self._names), self._weight)
        self._names, self._weight = [], ENTRY_WEIGHT
        return piece


@dataclass(frozen=True, slots=True)
class TreePart:
    """What one run carries."""

    pieces: tuple[Piece, ...]
    is_second_attempt: bool = False

    def changes(self) -> Changeset:
        """Return what the run looks at."""
        changes = MutableChangeset()
        for directory, names, _ in self.pieces:
            if names is None:
                changes.add(directory, Scope.LISTING)
            else:
                changes.add_entries(directory, names)
        return changes


class TreeParts:
    """The pieces of a tree that wait for a run."""

    def __init__(self, runs: int) -> None:
        """Create it for so many runs at a time."""
        self._runs = runs
        self._pieces: deque[Piece] = deque()
        self._weight = 0
        self._returned: list[TreePart] = []
        self._is_complete = False
        self._is_divided = False

    def add(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._weight += piece.weight

    def finish(self) -> None:
        """Let the smallest parts be given out: all pieces were added."""
        self._is_complete = True

    @property
    def is_full(self) -> bool:
        """Whether no piece should be added before a part is taken."""
        return len(self._pieces) >= MAX_WAITING_PIECES and self.has_part

    @property
    def has_part(self) -> bool:
        """Whether there is a part for a run; a tree that fits into one has none."""
        if self._returned:
            return True
        if self._is_complete and self._is_divided:
            return bool(self._pieces)
        return len(self._pieces) > 1 and self._weight >= 2 * MIN_PART_WEIGHT

    def take(self) -> TreePart:
        """Remove and return a part."""
        self._is_divided = True
        if self._returned:
            return self._returned.pop()
        target = self._weight // (2 * self._runs)
        target = max(MIN_PART_WEIGHT, min(target, MAX_PART_WEIGHT))
        taken: list[Piece] = []
        weight = 0
        while self._pieces and weight < target:
            # A piece may be as large as the part that it would be added to.
            if taken and weight + self._pieces[0].weight > MAX_PART_WEIGHT:
                break
            taken.append(self._pieces.popleft())
            weight += taken[-1].weight
        self._weight -= weight
        return TreePart(tuple(taken))

    def put_back(self, part: TreePart, *, was_tried: bool) -> bool:
        """Let another run carry a part; return False if two have tried."""
        if part.is_second_attempt and was_tried:
            return False
        is_second_attempt = part.is_second_attempt or was_tried
        self._returned.append(TreePart(part.pieces, is_second_attempt))
        return True
