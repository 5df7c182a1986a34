"""Joins the moves of two sets of changes, of which one follows the other. Pure.

In the names below, ``earlier`` changes lead from a first state of the source to a middle one, and
``later`` changes from the middle to the last one. The moves of both together lead from paths of the
first state to paths of the last one. A move that is not certain is dropped: then what is at its new
path is a new content. The time is linear in the number of paths.
"""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope, ScopedPaths

MAX_MOVES = 10_000
"""The most moves of a set. One takes 400 bytes."""

MAX_WRITTEN_PATHS = 100_000
"""The most paths that are known to have a new content at and below the new paths of moves."""


class MovedPaths(NamedTuple):
    """A set of changes with known moves, as parts."""

    changes: ScopedPaths
    new_content: ScopedPaths
    moves: Moves


def composed(earlier: MovedPaths, later: MovedPaths) -> Moves | None:
    """Return the moves of both sets together; None if they are too many, or contradict."""
    composition = _Composition(earlier, later)
    if len(composition.new_path_of) < len(later.moves):
        return None
    composition.add_later_moves()
    composition.add_earlier_moves()
    moves = composition.moves
    if not moves:
        return NO_MOVES
    written = composition.written()
    if len(moves) > MAX_MOVES or len(written) > MAX_WRITTEN_PATHS:
        return None
    return without_returned(Moves(moves, written), composition.returned)


class _Composition:
    """The moves of two sets, while they are being joined."""

    def __init__(self, earlier: MovedPaths, later: MovedPaths) -> None:
        self.moves: dict[bytes, Move] = {}
        self.new_path_of = {move.old: path for path, move in later.moves.by_new_path.items()}
        self._earlier = earlier
        self._later = later
        # What is at the new paths of dropped moves.
        self._dropped = MutableScopedPaths()
        self.returned: set[bytes] = set()
        """The paths of what was moved, and is where it was."""

    def add_later_moves(self) -> None:
        """Add the later moves whose old paths were there, under this or another name, at first."""
        known = self._earlier.moves.by_new_path
        for path, move in self._later.moves.by_new_path.items():
            before = known.get(move.old)
            old = self._first_path(move)
            is_new = move.is_new_name and not self._was_touched(path)
            is_written = move.is_written or (before is not None and before.is_written)
            self._add(path, move._replace(is_new_name=is_new, is_written=is_written), old)

    def _was_touched(self, path: bytes) -> bool:
        """Return True if the earlier changes include a path, or a directory above it alone.

        Where such a directory is now, there may have been another one with more in it.
        """
        changes = self._earlier.changes
        return any(changes.includes_entry(each) for each in paths.at_and_above(path) if each)

    def _first_path(self, move: Move) -> bytes | None:
        """Return where what a later move has moved was at first; None if that is not certain."""
        if not move.is_directory and self._was_written(move.old):
            return None
        changes, new_content, moves = self._earlier
        for path in paths.at_and_above(move.old):
            if path in moves.written.trees:
                return None
            before = moves.by_new_path.get(path)
            if before is not None:
                is_same = before.is_directory == (move.is_directory or path != move.old)
                return before.old + move.old[len(path) :] if is_same else None
            if path in changes.trees or path in new_content.trees:
                return None
        return move.old

    def _was_written(self, path: bytes) -> bool:
        """Return True if a file was created or written before the middle, and not only moved."""
        moves = self._earlier.moves
        directory, name = paths.split(path)
        return any(
            directory in some.listings
            or (name in some.entries.get(directory, ()) and path not in moves.by_new_path)
            for some in (self._earlier.new_content, moves.written)
        )

    def add_earlier_moves(self) -> None:
        """Add the earlier moves, with the new paths that the later moves gave to them."""
        for path, move in self._earlier.moves.by_new_path.items():
            above = self._moved_from(path)
            if above is None:
                self._keep(path, move)
            elif above != path:
                self._move_along(path, move, above)

    def _moved_from(self, path: bytes) -> bytes | None:
        """Return the deepest path at or above one of the middle from which a later move leads."""
        if not self.new_path_of:
            return None
        return next((each for each in paths.at_and_above(path) if each in self.new_path_of), None)

    def _keep(self, path: bytes, move: Move) -> None:
        """Add an earlier move whose new path has not changed since, unless it was replaced."""
        changes, new_content, moves = self._later
        directory, name = paths.split(path)
        is_written = name in new_content.entries.get(directory, ())
        is_replaced = directory in new_content.listings or (is_written and move.is_directory)
        if moves or changes.trees or new_content.trees:
            for each in paths.at_and_above(path):
                if each in moves.by_new_path:
                    return
                is_replaced |= each in changes.trees or each in new_content.trees
        move = move._replace(is_written=True) if is_written else move
        self._add(path, move, None if is_replaced else move.old)

    def _move_along(self, path: bytes, move: Move, above: bytes) -> None:
        """Add an earlier move whose new path is below one from which a later move leads."""
        changes, _, moves = self._later
        top, new_path = self.new_path_of[above], self._last_path(path, above)
        if not moves.by_new_path[top].is_directory:
            # A file is there instead of the directory.
            return
        is_replaced = False
        for each in paths.at_and_above(new_path):
            if each in moves.written.trees:
                return
            if each == top:
                break
            if each in moves.by_new_path:
                return
            is_replaced |= each in changes.trees
        directory, name = paths.split(new_path)
        is_written = name in moves.written.entries.get(directory, ())
        is_replaced |= directory in moves.written.listings or (is_written and move.is_directory)
        move = move._replace(is_new_name=False, is_written=move.is_written or is_written)
        self._add(new_path, move, None if is_replaced else move.old)

    def _add(self, path: bytes, move: Move, old: bytes | None) -> None:
        """Add a move from ``old``; drop it if that is None, or where it leads to."""
        if old is None or old == path:
            self._dropped.add(path, move.scope)
            if old is not None:
                self.returned.add(path)
        else:
            self.moves[path] = move._replace(old=old)

    def written(self) -> ScopedPaths:
        """Return the new contents at and below the new paths, apart from the moves themselves."""
        earlier, later = self._earlier, self._later
        found = MutableScopedPaths()
        if self.new_path_of:
            known = earlier.moves.by_new_path.keys()
            self._add_moved_along(_outside(earlier.new_content, known), found)
            self._add_moved_along(earlier.moves.written, found)
            found.add_all(later.moves.written)
            found.add_all(_outside(later.new_content, later.moves.by_new_path.keys()))
            # Also at the paths that later moves lead from: a file that was exchanged for a
            # directory has its event before that of the directory.
            found.add_all(_outside(earlier.moves.written, later.moves.by_new_path.keys()))
        else:
            found.add_all(earlier.moves.written)
            found.add_all(later.new_content)
        found.add_all(self._dropped)
        # It is above all moves, and would hide what is below them.
        found.trees.discard(paths.ROOT)
        written = MutableScopedPaths()
        found.split_below(self.moves.keys(), written, MutableScopedPaths())
        return written

    def _add_moved_along(self, some: ScopedPaths, found: MutableScopedPaths) -> None:
        """Add the last paths of what is at or below the paths from which later moves lead."""
        for directory, names in some.entries.items():
            moved = {name for name in names if paths.join(directory, name) in self.new_path_of}
            for name in moved:
                found.add(self.new_path_of[paths.join(directory, name)], Scope.ENTRY)
            above = self._moved_from(directory)
            if above is not None:
                found.add_entries(self._last_path(directory, above), names - moved)
        for some_paths, scope in ((some.listings, Scope.LISTING), (some.trees, Scope.TREE)):
            for path in some_paths:
                above = self._moved_from(path)
                if above is not None:
                    found.add(self._last_path(path, above), scope)

    def _last_path(self, path: bytes, above: bytes) -> bytes:
        return self.new_path_of[above] + path[len(above) :]


def _outside(some: ScopedPaths, tops: AbstractSet[bytes]) -> ScopedPaths:
    """Return the paths that are not at or below one of ``tops``."""
    if not tops:
        return some
    outside = MutableScopedPaths()
    some.split_below(tops, MutableScopedPaths(), outside)
    return outside


def moves_apart_from(moves: Moves, changes: ScopedPaths, new_content: ScopedPaths) -> Moves:
    """Return the moves that have nothing to do with other changes of the same time.

    What these have not touched is what it was, whichever part is carried first. A dropped move is a
    new content.
    """
    if not moves or not (changes or new_content):
        return moves
    above = _at_or_above(changes) | _at_or_above(new_content)
    return _without(
        moves,
        {
            path
            for path, move in moves.by_new_path.items()
            if any(
                each in above or changes.includes_entry(each) or new_content.includes_entry(each)
                for each in (path, move.old)
            )
        },
    )


def moves_after_failure(moves: Moves, new_content: ScopedPaths) -> Moves:
    """Return the moves that are true still if some of the changes were carried, and no move was.

    That are those from old paths at, above and below which the changes bring nothing new. All else
    that a run may have done there is to delete.
    """
    above = _at_or_above(new_content)
    return _without(
        moves,
        {
            path
            for path, move in moves.by_new_path.items()
            if move.old in above or new_content.includes_entry(move.old)
        },
    )


def without_returned(moves: Moves, returned: AbstractSet[bytes]) -> Moves:
    """Return the moves of directories below which nothing is where it was.

    A move of another directory would take a copy along that is at its place already.
    """
    above = {each for path in returned for each in paths.ancestors(path)}
    dropped = {path for path, move in moves.by_new_path.items() if move.old in above}
    return _without(moves, dropped) if dropped else moves


def _without(moves: Moves, dropped: AbstractSet[bytes]) -> Moves:
    """Return moves without some of them, at whose new paths is a new content then."""
    contents = MutableScopedPaths()
    contents.add_all(moves.written)
    kept: dict[bytes, Move] = {}
    for path, move in moves.by_new_path.items():
        if path in dropped:
            contents.add(path, move.scope)
        else:
            kept[path] = move
    if not kept:
        return NO_MOVES
    written = MutableScopedPaths()
    contents.split_below(kept.keys(), written, MutableScopedPaths())
    return Moves(kept, written)


def _at_or_above(some: ScopedPaths) -> set[bytes]:
    """Return each path of a set, with all directories above it."""
    found = {
        paths.join(directory, name) for directory, names in some.entries.items() for name in names
    }
    for start in (*some.entries, *some.listings, *some.trees):
        for path in paths.at_and_above(start):
            if path in found:
                # What is above it was added, or will be with its directory.
                break
            found.add(path)
    return found
