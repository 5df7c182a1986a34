"""Counts events by type, for those who want to know: nobody else pays for it."""

import struct
from collections import Counter
from collections.abc import Mapping

from pylsyncd.watcher import inotify

_EVERY_TYPE = (
    inotify.CREATE, inotify.DELETE, inotify.ATTRIB, inotify.MOVED_FROM, inotify.MOVED_TO,
    inotify.MODIFY, inotify.CLOSE_WRITE, inotify.DELETE_SELF, inotify.MOVE_SELF, inotify.IGNORED,
    inotify.UNMOUNT, inotify.OVERFLOW,
)  # fmt: skip

# Of inotify.HEADER only what is needed: to make the other numbers costs as much again.
_MASK_AND_LENGTH = struct.Struct("4xI4xI")


def count_events(chunk: bytes, masks: Counter[int]) -> None:
    """Add the masks of a chunk of whole events, as the kernel hands them out."""
    unpack, size = _MASK_AND_LENGTH.unpack_from, _MASK_AND_LENGTH.size
    seen = []
    position, end = 0, len(chunk)
    while position < end:
        mask, length = unpack(chunk, position)
        seen.append(mask)
        position += size + length
    masks.update(seen)


def events_by_type(masks: Mapping[int, int]) -> dict[str, int]:
    """Return how many events there were of each type, as inotify(7) names them without "IN_".

    What a directory did counts as what a file did. Types that have not occurred are there, too.
    Any thread may ask, while another one counts.
    """
    counts = dict.fromkeys(map(inotify.mask_names, _EVERY_TYPE), 0)
    for mask, number in dict(masks).items():
        name = inotify.mask_names(mask & ~inotify.IS_DIRECTORY)
        counts[name] = counts.get(name, 0) + number
    return counts
