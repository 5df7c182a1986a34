"""Collects the events of fanotify by the keys of directories, which have no paths yet."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from pylsyncd.watcher import fanotify
from pylsyncd.watcher.fanotify import CREATE, EVENT, MOVED_FROM, MOVED_TO, Event
from pylsyncd.watcher.foreign_directories import ForeignDirectories
from pylsyncd.watcher.handle_moves import HandleMoves

_SPECIAL: Final = fanotify.RENAME | fanotify.OVERFLOW

# So that the head of an event without a name can be read at the end of a chunk.
_END = bytes(EVENT.size)

_KEY_START, _NAME_START = 28, 44
_INFO_START = 24

Masks: TypeAlias = Mapping[bytes, Mapping[bytes, int]]
"""The masks of all events of a name, by the key of its directory and the name."""


class HandleEvents:
    """The events since the last changes were taken. Those of foreign directories are dropped."""

    def __init__(
        self, foreign: ForeignDirectories, moves: HandleMoves, on_overflow: Callable[[], None]
    ) -> None:
        """Create it; moves are recorded in ``moves``."""
        self._foreign = foreign
        self._moves = moves
        self._on_overflow = on_overflow
        self._files: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
        self.directories: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
        """The events of directories; see `Masks`."""

    def __bool__(self) -> bool:
        return bool(self._files or self.directories)

    def take(self) -> tuple[Masks, Masks]:
        """Return the events of files and of directories, and forget them."""
        taken = self._files, self.directories
        self._files, self.directories = defaultdict(dict), defaultdict(dict)
        return taken

    def add(self, chunk: bytes) -> None:
        """Add a chunk of whole events."""
        files, foreign, dropped = self._files, self._foreign.keys, []
        unpack, is_directory = EVENT.unpack_from, fanotify.IS_DIRECTORY
        position, end = 0, len(chunk)
        chunk += _END
        while position < end:
            length, mask, kind, info_length, handle_bytes = unpack(chunk, position)
            name_start = position + _NAME_START + handle_bytes
            key = chunk[position + _KEY_START : name_start]
            if mask & _SPECIAL:
                self._process_special(chunk[position : position + length])
            elif key in foreign:
                dropped.append(key)
            # An event of a file alone follows the one of a name that it has lost.
            elif kind != fanotify.CHILD:
                name = chunk[name_start : position + _INFO_START + info_length].rstrip(b"\0")
                names = self.directories[key] if mask & is_directory else files[key]
                names[name] = names.get(name, 0) | mask
                if mask & is_directory and mask & CREATE:
                    (event,) = fanotify.decode_events(chunk[position : position + length])
                    self._moves.record_new_directory(event)
            position += length
        if dropped:
            self._foreign.count_dropped(dropped)

    def _process_special(self, chunk: bytes) -> None:
        """Process the event of a rename, or of an overflow."""
        (event,) = fanotify.decode_events(chunk)
        if event.mask & fanotify.OVERFLOW:
            self._moves.is_unknown = True
            self._on_overflow()
            return
        foreign = self._foreign.keys
        if event.directory not in foreign or event.new_directory not in foreign:
            self._record_move(event)
        names = self.directories if event.mask & fanotify.IS_DIRECTORY else self._files
        for key, name, mask in (
            (event.directory, event.name, MOVED_FROM),
            (event.new_directory, event.new_name, MOVED_TO),
        ):
            # What moves from one foreign directory to another one stays outside.
            if key not in foreign:
                names[key][name] = names[key].get(name, 0) | mask

    def _record_move(self, event: Event) -> None:
        if event.mask & fanotify.IS_DIRECTORY:
            self._moves.record_directory(event)
        elif event.directory not in self._foreign.keys:
            known = self._files[event.directory].get(event.name, 0)
            self._moves.record_file(event, is_new=bool(known & (CREATE | MOVED_TO)))


def moved_in(directories: Masks) -> list[bytes]:
    """Return the keys of the directories in which directories were moved."""
    return [
        key
        for key, masks in directories.items()
        if any(mask & (MOVED_FROM | MOVED_TO) for mask in masks.values())
    ]
