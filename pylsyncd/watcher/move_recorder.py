"""Records what was moved since the changes were taken last: since the *base*. No I/O.

A directory is known by its watch descriptor: the watch tree has its path at the base and its path
now. A file is known by the descriptor of its directory and its name there; the cookies of its
events tell what it was called before. So paths are built when the changes are taken, and it does
not matter in which order a file, its directory and the directories above were moved.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.move_composition import without_returned
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, ScopedPaths
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.inotify import padded
from pylsyncd.watcher.watch_manager import WatchManager
from pylsyncd.watcher.watch_tree import WatchTree, child_path

MAX_MOVES = 10_000
"""With more of them it is unknown what was moved."""

Place = tuple[int, bytes]
"""The watch descriptor of a directory, and a name there."""

NamesByDirectory = Mapping[int, AbstractSet[bytes]]


class _UsedNames(NamedTuple):
    """The names that were in use at the base or since then."""

    by_directories: AbstractSet[bytes | None]
    """The paths at the base of the directories that have left them."""
    by_files: tuple[NamesByDirectory, ...]
    """The padded names that had events."""


class MoveRecorder:
    """The moves in one source since the base. Used by the thread of the watch manager.

    ``is_eventless(path)`` returns True if changes at or below a path may have no events.
    """

    def __init__(
        self, watches: WatchManager, rules: Rules, is_eventless: Callable[[bytes], bool]
    ) -> None:
        self._watches = watches
        self._tree = watches.tree
        self._rules = rules
        self._is_eventless = is_eventless
        self.is_unknown = False
        """Whether events since the base are missing, so that any moves are unknown."""
        # The paths at the base of files whose new name is not known yet, by cookie.
        self._leaving: dict[int, bytes] = {}
        # The same of moved files, by their new names, padded.
        self._arrived: dict[Place, bytes] = {}
        # The names at which directories have appeared or disappeared, and whether they were free.
        self._free_names: dict[Place, bool] = {}
        self._appeared: set[Place] = set()
        # The paths at the base of the directories that have left their places, as events tell.
        self._vacated: set[bytes] = set()
        self._base_directories: dict[int, bytes | None] = {}

    def record_left(self, cookie: int, place: Place, *, is_new: bool) -> None:
        """Record that a file has left a padded name; ``is_new`` if it was not there at the base."""
        old = self._arrived.pop(place, None)
        if old is None and not is_new:
            old = self._base_path(place)
        if old is not None and len(self._leaving) < MAX_MOVES:
            self._leaving[cookie] = old

    def record_arrived(self, cookie: int, place: Place) -> None:
        """Record that a file has got a padded name.

        It is not certain that it is the one whose event has the same cookie: two equal events are
        one if no other comes between, whatever their cookies are, and a file that came from outside
        has replaced the first. So the new name has a new content in any case.
        """
        old = self._leaving.pop(cookie, None)
        if old is None or len(self._arrived) >= MAX_MOVES:
            self._arrived.pop(place, None)
        else:
            self._arrived[place] = old

    def record_directory_left(self, wd: int, name: bytes) -> None:
        """Record the event that a directory has left a name, or was deleted."""
        self._free_names.setdefault((wd, name), False)
        if (directory := self._base_directory(wd)) is not None:
            self._vacated.add(paths.join(directory, name))

    def record_directory_arrived(self, wd: int, name: bytes, *, is_free: bool) -> None:
        """Record that a directory is at a name; ``is_free`` if there was none before."""
        self._free_names.setdefault((wd, name), is_free)
        self._appeared.add((wd, name))

    def take(
        self, marks: ScopedPaths, written: NamesByDirectory, others: NamesByDirectory
    ) -> Moves | None:
        """Return the moves since the base, and make this moment the base; None if unknown.

        ``marks`` are the files with new contents. ``written`` and ``others`` have the padded names
        of the files that had events.
        """
        moves: Moves | None = NO_MOVES
        if self._rules.depends_on_directory and self._tree.left_since_base:
            # What was excluded in between is unknown.
            self.is_unknown = True
        if self.is_unknown:
            moves = None
        elif self._arrived or self._tree.left_since_base:
            left = {*self._tree.left_since_base.values()}
            moves = self._find_moves(marks, _UsedNames(left, (written, others)))
        self._set_base()
        return moves

    def _set_base(self) -> None:
        self._leaving.clear()
        self._arrived.clear()
        self._free_names.clear()
        self._appeared.clear()
        self._vacated.clear()
        self._base_directories.clear()
        self._tree.set_base()
        self.is_unknown = False

    def _find_moves(self, marks: ScopedPaths, used: _UsedNames) -> Moves | None:
        unknown: set[bytes] = set()
        moves = self._moved_directories(unknown, used)
        self._add_files(moves, used)
        if not moves:
            return NO_MOVES
        if len(moves) > MAX_MOVES:
            return None
        written = MutableScopedPaths()
        marks.split_below(moves.keys(), written, MutableScopedPaths())
        written.trees |= unknown
        return without_returned(Moves(moves, written), self._returned())

    def _returned(self) -> set[bytes]:
        """Return the paths of what has left its place, and is there again."""
        directories = self._tree.left_since_base.items()
        found = {old for wd, old in directories if old is not None and old == self._tree.path(wd)}
        return found | {
            old for place, old in self._arrived.items() if old == _path(self._tree, place)
        }

    def _moved_directories(self, unknown: set[bytes], used: _UsedNames) -> dict[bytes, Move]:
        """Return the moves of directories; add those below that came otherwise to ``unknown``."""
        moves: dict[bytes, Move] = {}
        found = {
            path: (wd, old)
            for wd, old in self._tree.left_since_base.items()
            if (path := self._tree.path(wd)) is not None
        }
        for path in sorted(found, key=paths.tree_sort_key):
            wd, old = found[path]
            above = _nearest_above(path, moves)
            if old == (path if above is None else moves[above].old + path[len(above) :]):
                # It is where it was, or where the move of a directory above has taken it.
                continue
            if old is not None and old != path and self._is_certain(path, old):
                moves[path] = Move(old, is_directory=True, is_new_name=self._is_new_name(wd, used))
            elif above is not None:
                unknown.add(path)
        for path in self._unknown_directories() if moves else ():
            if path not in moves and _nearest_above(path, moves) is not None:
                unknown.add(path)
        return moves

    def _is_certain(self, path: bytes, old: bytes) -> bool:
        """Return True if a directory has at a path all that it had at its old path, and no more."""
        if self._is_eventless(path) or self._is_eventless(old):
            return False
        # A directory can be found at a place without having left another one: by a bind mount.
        return old in self._vacated

    def _unknown_directories(self) -> Iterator[bytes]:
        """Yield the paths of directories that are no moved ones, or whose changes are unknown."""
        for wd, name in chain(self._appeared, self._watches.unwatched):
            if wd not in self._tree or (path := child_path(self._tree, wd, name)) is None:
                continue
            child = self._tree.child(wd, name)
            if child is None or self._tree.base_path(child) is None:
                yield path

    def _add_files(self, moves: dict[bytes, Move], used: _UsedNames) -> None:
        """Add the moves of files."""
        for place, old in self._arrived.items():
            path = _path(self._tree, place)
            if path is None or path == old or path in moves or self._is_left_out(path, old):
                continue
            # No event says that a file was replaced; but a new directory had none.
            directory = place[0]
            is_new = self._tree.base_path(directory) != self._tree.path(directory)
            is_new = is_new and self._is_new_name(directory, used)
            moves[path] = Move(old, is_directory=False, is_new_name=is_new, is_written=True)

    def _is_left_out(self, *some: bytes) -> bool:
        return any(
            self._rules.matches(path, is_directory=False) or self._is_eventless(path)
            for path in some
        )

    def _is_new_name(self, wd: int, used: _UsedNames) -> bool:
        """Return True if nothing was at the present path of a directory at the base."""
        place = self._tree.place(wd)
        if place is None:
            return False
        parent, name = place
        if self._tree.base_path(parent) != self._tree.path(parent):
            return self._is_new_name(parent, used)
        has_file_event = any(padded(name) in names.get(parent, ()) for names in used.by_files)
        is_used = has_file_event or self._tree.path(wd) in used.by_directories
        return self._free_names.get(place, False) and not is_used

    def _base_path(self, place: Place) -> bytes | None:
        """Return the path of a padded name at the base; None if its directory had none."""
        directory = self._base_directory(place[0])
        return None if directory is None else paths.join(directory, place[1].rstrip(b"\0"))

    def _base_directory(self, wd: int) -> bytes | None:
        """Return the path of a directory at the base, which may be removed later."""
        if wd not in self._base_directories:
            self._base_directories[wd] = self._tree.base_path(wd)
        return self._base_directories[wd]


def _path(tree: WatchTree, place: Place) -> bytes | None:
    """Return the path of a padded name."""
    return child_path(tree, place[0], place[1].rstrip(b"\0"))


def _nearest_above(path: bytes, moves: Mapping[bytes, Move]) -> bytes | None:
    """Return the nearest directory above a path that was moved."""
    return next((above for above in paths.ancestors(path) if above in moves), None)
