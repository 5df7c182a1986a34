"""Records what was moved in a marked source since the changes were taken last: since the *base*.

The event of a rename has the handle of what was renamed, and events that are merged have the same
one. So what is known of the order of events is enough: the first rename of a directory names its
place at the base. Where it is now is looked up. No I/O of its own.

A lookup may be ahead of the events. The kernel queues the event of a rename before it gives up the
locks of both parents. So all directories that were looked up have to be read once more, which
waits for these locks: if no directory has an event by then, the paths belong together.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.move_composition import without_returned
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope, ScopedPaths
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.fanotify import Event
from pylsyncd.watcher.handle_paths import FoundPath
from pylsyncd.watcher.move_recorder import MAX_MOVES

_MAX_LOOKED_UP = 1000

# Of directories that were moved, one in the other.
_MAX_DEPTH = 100


class Place(NamedTuple):
    """The key of a directory, and a name there."""

    directory: bytes
    name: bytes


class HandleMoves:
    """The moves in one source since the base. Used by the thread of the watcher.

    ``is_eventless(path)`` returns True if changes at or below a path may have no events.
    """

    def __init__(self, rules: Rules, is_eventless: Callable[[bytes], bool]) -> None:
        self._rules = rules
        self._is_eventless = is_eventless
        self.is_unknown = False
        """Whether events since the base are missing, so that any moves are unknown."""
        # The places of directories at the base, by their own keys.
        self._directories: dict[bytes, Place] = {}
        self._new: set[bytes] = set()
        # The places of files at the base and now; None if a file was not there at the base.
        self._files: dict[bytes, tuple[Place | None, Place]] = {}

    def record_new_directory(self, event: Event) -> None:
        """Record that a directory was created."""
        if self._has_room(event):
            self._new.add(event.child)

    def record_directory(self, event: Event) -> None:
        """Record that a directory was renamed."""
        if self._has_room(event):
            self._directories.setdefault(event.child, Place(event.directory, event.name))

    def record_file(self, event: Event, *, is_new: bool) -> None:
        """Record that a file was renamed; ``is_new`` if its old name was not there at the base.

        Whatever is wrong about a file is noticed: its new name has a new content in any case.
        """
        if self._has_room(event):
            old = None if is_new else Place(event.directory, event.name)
            old = self._files.get(event.child, (old,))[0]
            self._files[event.child] = old, Place(event.new_directory, event.new_name)

    def _has_room(self, event: Event) -> bool:
        recorded = len(self._directories) + len(self._files) + len(self._new)
        is_known = bool(event.child) and recorded < MAX_MOVES
        self.is_unknown |= not is_known
        return is_known

    def take(
        self,
        find: Callable[[bytes], Collection[FoundPath]],
        marks: ScopedPaths,
        appeared: Collection[bytes],
    ) -> "FoundMoves":
        """Return the moves since the base, and make this moment the base.

        ``find`` returns the paths of a directory. ``marks`` are the files with new contents, and
        ``appeared`` the paths at which directories are that may not have been there.
        """
        search = _MoveSearch(self._rules, self._is_eventless, self._directories, self._new, find)
        is_unknown = self.is_unknown
        if self._rules.depends_on_directory and self._directories:
            # What was excluded in between is unknown.
            is_unknown = True
        if is_unknown:
            moves: Moves | None = None
        else:
            moves = search.find_moves(self._files, marks, appeared)
        self.is_unknown = False
        self._directories, self._files, self._new = {}, {}, set()
        return FoundMoves(moves, search.looked_up)


class FoundMoves(NamedTuple):
    """The result of looking for moves."""

    moves: Moves | None
    """None if they are unknown."""
    looked_up: set[bytes]
    """The directories of which no rename may have an event to come."""


class _MoveSearch:
    """The search for the moves of one set of changes."""

    def __init__(
        self,
        rules: Rules,
        is_eventless: Callable[[bytes], bool],
        moved: Mapping[bytes, Place],
        new: Collection[bytes],
        find: Callable[[bytes], Collection[FoundPath]],
    ) -> None:
        self._rules = rules
        self._is_eventless = is_eventless
        self._moved = moved
        self._new = new
        self._find = find
        self.looked_up: set[bytes] = set()
        self._bases: dict[bytes, bytes | None] = {}
        self._by_path: dict[bytes, bytes] = {}

    def find_moves(
        self,
        files: Mapping[bytes, tuple[Place | None, Place]],
        marks: ScopedPaths,
        appeared: Collection[bytes],
    ) -> Moves | None:
        """Return the moves; None if they are unknown."""
        for key in self._moved:
            if (path := self._path(key)) is not None:
                self._by_path[path] = key
        returned: set[bytes] = set()
        unknown: set[bytes] = set()
        moves = self._moved_directories(unknown, returned)
        if moves:
            unknown |= {
                path
                for path in appeared
                if path not in self._by_path and _nearest_above(path, moves) is not None
            }
        self._add_files(moves, files, returned)
        if not moves:
            return NO_MOVES
        if len(moves) > MAX_MOVES or len(self.looked_up) > _MAX_LOOKED_UP:
            return None
        written = MutableScopedPaths()
        marks.split_below(moves.keys(), written, MutableScopedPaths())
        written.trees |= unknown
        for path, move in moves.items():
            if not move.is_directory:
                # The event of its new name was dropped if its directory was a foreign one then.
                written.add(path, Scope.ENTRY)
        return without_returned(Moves(moves, written), returned)

    def _moved_directories(self, unknown: set[bytes], returned: set[bytes]) -> dict[bytes, Move]:
        """Return the moves of directories; add those below that came otherwise to ``unknown``."""
        moves: dict[bytes, Move] = {}
        for path in sorted(self._by_path, key=paths.tree_sort_key):
            old = self._base_path(self._by_path[path])
            above = _nearest_above(path, moves)
            if old == path:
                returned.add(path)
            if old == (path if above is None else moves[above].old + path[len(above) :]):
                # It is where it was, or where the move of a directory above has taken it.
                continue
            if old is not None and old != path and self._is_certain(path, old):
                moves[path] = Move(old, is_directory=True, is_new_name=False)
            elif above is not None:
                unknown.add(path)
        return moves

    def _is_certain(self, *some: bytes) -> bool:
        return not any(
            self._is_eventless(path) or self._rules.excludes(path, is_directory=True)
            for path in some
        )

    def _add_files(
        self,
        moves: dict[bytes, Move],
        files: Mapping[bytes, tuple[Place | None, Place]],
        returned: set[bytes],
    ) -> None:
        """Add the moves of files."""
        for old_place, place in files.values():
            if old_place is None:
                continue
            above, old_above = self._path(place.directory), self._base_path_of(old_place)
            if above is None or old_above is None:
                continue
            path, old = paths.join(above, place.name), old_above
            if path == old:
                returned.add(path)
            elif path not in moves and not self._is_left_out(path, old):
                moves[path] = Move(old, is_directory=False, is_new_name=False, is_written=True)

    def _is_left_out(self, *some: bytes) -> bool:
        return any(
            self._rules.matches(path, is_directory=False) or self._is_eventless(path)
            for path in some
        )

    def _path(self, key: bytes) -> bytes | None:
        """Return the only path of a directory now; None if it has none, several, or a long one."""
        found = tuple(self._find(key))
        if len(found) != 1 or found[0].is_above or not found[0].is_lasting:
            return None
        path = found[0].path
        if len(path) > paths.MAX_PATH_BYTES:
            return None
        self.looked_up.add(path)
        return path

    def _base_path(self, key: bytes, depth: int = 0) -> bytes | None:
        """Return the path of a directory at the base; None if it is unknown."""
        if key not in self._bases:
            # A directory that seems to be below itself has no path.
            self._bases[key] = None
            self._bases[key] = self._find_base_path(key, depth)
        return self._bases[key]

    def _base_path_of(self, place: Place, depth: int = 0) -> bytes | None:
        above = self._base_path(place.directory, depth)
        return None if above is None else paths.join(above, place.name)

    def _find_base_path(self, key: bytes, depth: int) -> bytes | None:
        if depth > _MAX_DEPTH or key in self._new:
            return None
        if key in self._moved:
            return self._base_path_of(self._moved[key], depth + 1)
        path = self._path(key)
        if path is None:
            return None
        for above in paths.at_and_above(path):
            if above in self._by_path:
                base = self._base_path(self._by_path[above], depth + 1)
                return None if base is None else base + path[len(above) :]
        return path


def _nearest_above(path: bytes, moves: Mapping[bytes, Move]) -> bytes | None:
    """Return the nearest directory above a path that was moved."""
    return next((above for above in paths.ancestors(path) if above in moves), None)
