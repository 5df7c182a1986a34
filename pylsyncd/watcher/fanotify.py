"""The kernel's fanotify: one mark for a whole file system, and events with handles of directories.

fanotify(7), fanotify_init(2), fanotify_mark(2) and open_by_handle_at(2), which Python has no
functions for. It needs the capabilities CAP_SYS_ADMIN, for a mark on a file system and a queue
without a limit, and CAP_DAC_READ_SEARCH, for a handle.
"""

import ctypes
import errno
import fcntl
import functools
import os
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

# Of linux/fanotify.h.
MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
OVERFLOW: Final = 0x4000
RENAME: Final = 0x10000000
IS_DIRECTORY: Final = 0x40000000

_NAMES = {
    MODIFY: "MODIFY", ATTRIB: "ATTRIB", CLOSE_WRITE: "CLOSE_WRITE", MOVED_FROM: "MOVED_FROM",
    MOVED_TO: "MOVED_TO", CREATE: "CREATE", DELETE: "DELETE", OVERFLOW: "Q_OVERFLOW",
    RENAME: "RENAME", IS_DIRECTORY: "ISDIR",
}  # fmt: skip

# FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE, FAN_REPORT_DIR_FID, FAN_REPORT_NAME
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_INIT_FLAGS = 0x1 | 0x2 | 0x10 | 0x400 | 0x800
# FAN_REPORT_FID, FAN_REPORT_TARGET_FID: from Linux 5.17 on.
_WITH_CHILDREN = 0x200 | 0x1000

# FAN_MARK_ADD, FAN_MARK_FILESYSTEM
_MARK_FLAGS = 0x1 | 0x100

_MASK = MODIFY | ATTRIB | CLOSE_WRITE | CREATE | DELETE | IS_DIRECTORY

# FAN_MARK_ADD, FAN_MARK_IGNORED_SURV_MODIFY, FAN_MARK_IGNORE
_IGNORE_FLAGS = 0x1 | 0x40 | 0x400
_FLUSH_INODE_MARKS = 0x80

# Of the files in a directory (FAN_EVENT_ON_CHILD). Not of moves, which tell what comes to the
# source, nor of directories: one below an ignored one may be in the source.
_IGNORED_MASK = MODIFY | ATTRIB | CLOSE_WRITE | CREATE | DELETE | 0x08000000

# struct fanotify_event_metadata: length, version, reserved, its own length, mask, fd, pid.
_METADATA = struct.Struct("=IBBHQii")
# Only what count_events needs of it.
_LENGTH_AND_MASK = struct.Struct("=I4xQ")
# struct fanotify_event_info_fid: type, padding, length; the fsid; the handle, and the name.
_INFO_HEAD = struct.Struct("=BxH")
_KEY_OFFSET, _HANDLE_OFFSET = 4, 12

# struct file_handle: its size and its type, then its bytes: MAX_HANDLE_SZ at most.
_HANDLE_HEAD = struct.Struct("=Ii")
_MAX_HANDLE = 128
_AT_EMPTY_PATH = 0x1000
_HANDLE_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# Seconds. ext4 and btrfs have ENOMEM, too, for an inode number that a new file is just getting, as
# that of a removed directory soon does on ext4: iget_locked of Linux.
_PAUSES_WITHOUT_INODE = (0.0, 0.0001, 0.001, 0.005, 0.02, 0.05)

_OLD_GROUP_LIMIT: Final = 128

EVENT: Final = struct.Struct("=I4xQ8xB1xH8xI4x")
"""The head of an event, with that of its first name: length, mask; type, length, handle bytes."""

# FAN_EVENT_INFO_TYPE_DFID_NAME, _OLD_DFID_NAME, _NEW_DFID_NAME
_NAMED = frozenset([2, 10, 12])
CHILD: Final = 1
"""The type of a record without a name: FAN_EVENT_INFO_TYPE_FID."""

_READ_SIZE = 65536

FSID_SIZE: Final = 8

# The handle of the top directory of a btrfs: the id of its inode (BTRFS_FIRST_FREE_OBJECTID) and of
# its tree (BTRFS_FS_TREE_OBJECTID), any generation; FILEID_BTRFS_WITHOUT_PARENT.
_BTRFS_TOP = _HANDLE_HEAD.pack(20, 0x4D) + struct.pack("=QQI", 256, 5, 0)


class Event(NamedTuple):
    """One event. Several that are queued for the same name at a time are one."""

    mask: int
    directory: bytes
    """The *key* of the directory: its file system's id, and its handle there."""
    name: bytes
    """``.`` for the directory itself."""
    new_directory: bytes = b""
    new_name: bytes = b""
    """The other end of a rename; else empty."""
    child: bytes = b""
    """The key of what has the name, where the kernel tells it."""


class Fanotify:
    """One fanotify group. Its creator closes it. Raises OSError where it is not available."""

    def __init__(self) -> None:
        function = _find("fanotify_init", ctypes.c_uint, ctypes.c_uint)
        try:
            self.descriptor = _checked(function(_INIT_FLAGS | _WITH_CHILDREN, _FILE_FLAGS))
            self.tells_children = True
            """Whether the event of a rename tells what was renamed."""
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.descriptor = _checked(function(_INIT_FLAGS, _FILE_FLAGS))
            self.tells_children = False
        self._mark = _find(
            "fanotify_mark",
            ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p,
        )  # fmt: skip

    def add_mark(self, directory: int) -> bytes:
        """Have all changes on the file system of an open directory reported.

        Return the id of that file system in the events. Raises OSError if the file system has no
        handles or no mark is permitted.
        """
        try:
            self._add_mark(directory)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return _fsid_of(directory)
        # A subvolume of btrfs has an id of its own, and the mark is on the whole file system.
        top = open_handle(directory, _BTRFS_TOP)
        try:
            self._add_mark(top)
            return _fsid_of(top)
        finally:
            os.close(top)

    def _add_mark(self, directory: int) -> None:
        try:
            self._set_mark(directory, _MARK_FLAGS, _MASK | RENAME)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 5.17.
            self._set_mark(directory, _MARK_FLAGS, _MASK | MOVED_FROM | MOVED_TO)

    def ignore_files_in(self, directory: int) -> None:
        """Have the events of the files in a directory dropped, except for their moves.

        Raises OSError if that is not possible: before Linux 6.0.
        """
        self._set_mark(directory, _IGNORE_FLAGS, _IGNORED_MASK)

    def ignore_nothing(self) -> None:
        """Have all events reported again."""
        _checked(self._mark(self.descriptor, _FLUSH_INODE_MARKS, 0, -1, b"/"))

    def _set_mark(self, directory: int, flags: int, mask: int) -> None:
        _checked(self._mark(self.descriptor, flags, mask, directory, b"."))

    def marked_devices(self) -> set[bytes]:
        """Return the marked file systems: the kernel removes the mark of an unmounted one."""
        with open(f"/proc/self/fdinfo/{self.descriptor}", "rb") as lines:
            return {line.split()[1] for line in lines if line.startswith(b"fanotify sdev:")}

    def read(self) -> bytes:
        """Return a chunk of whole events, or b"" if the queue is empty."""
        try:
            return os.read(self.descriptor, _READ_SIZE)
        except BlockingIOError:
            return b""

    def pending_events(self) -> int:
        """Return the number of events in the kernel's queue."""
        count = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0")
        # It counts the metadata alone: fanotify_ioctl of Linux.
        return int.from_bytes(count, sys.byteorder) // _METADATA.size

    def close(self) -> None:
        """Close the group, which removes all marks."""
        os.close(self.descriptor)


def read_group_limit() -> int:
    """Return how many groups a user may have."""
    try:
        with open("/proc/sys/fs/fanotify/max_user_groups", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        # Before Linux 5.13 it cannot be read, and is 128.
        return _OLD_GROUP_LIMIT


def open_handle(mount: int, handle: bytes) -> int:
    """Open the directory of a handle, as a path only; ``mount`` is open on the same file system.

    Raises OSError, with ESTALE if the directory is gone.
    """
    function = _find("open_by_handle_at", ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    for pause in _PAUSES_WITHOUT_INODE:
        try:
            return _checked(function(mount, handle, _HANDLE_FLAGS))
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        time.sleep(pause)
    return _checked(function(mount, handle, _HANDLE_FLAGS))


def handle_of(directory: int) -> bytes:
    """Return the handle of an open directory: its size and its type, four bytes each, its bytes.

    Raises OSError if its file system has none.
    """
    function = _find(
        "name_to_handle_at",
        ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_int,
    )  # fmt: skip
    handle = ctypes.create_string_buffer(_HANDLE_HEAD.pack(_MAX_HANDLE, 0), 8 + _MAX_HANDLE)
    _checked(function(directory, b"", handle, ctypes.byref(ctypes.c_int()), _AT_EMPTY_PATH))
    size, _ = _HANDLE_HEAD.unpack_from(handle.raw)
    return handle.raw[: _HANDLE_HEAD.size + size]


def decode_events(chunk: bytes) -> Iterator[Event]:
    """Yield the events of a chunk; those without a name, such as an overflow, with empty ones."""
    position, end = 0, len(chunk)
    while position < end:
        length, _, _, at, mask, _, _ = _METADATA.unpack_from(chunk, position)
        position, at = position + length, position + at
        found: list[bytes] = []
        child = b""
        while at < position:
            kind, info_length = _INFO_HEAD.unpack_from(chunk, at)
            if kind in _NAMED:
                handle_bytes, _ = _HANDLE_HEAD.unpack_from(chunk, at + _HANDLE_OFFSET)
                start = at + _HANDLE_OFFSET + _HANDLE_HEAD.size + handle_bytes
                name = chunk[start : at + info_length]
                found += chunk[at + _KEY_OFFSET : start], name[: name.index(b"\0")]
            elif kind == CHILD:
                handle_bytes, _ = _HANDLE_HEAD.unpack_from(chunk, at + _HANDLE_OFFSET)
                child_end = at + _HANDLE_OFFSET + _HANDLE_HEAD.size + handle_bytes
                child = chunk[at + _KEY_OFFSET : child_end]
            at += info_length
        key, name, new_key, new_name, *_ = *found, b"", b"", b"", b""
        yield Event(mask, key, name, new_key, new_name, child)


def number_of_events(chunk: bytes) -> int:
    """Return the number of events in a chunk."""
    count, position = 0, 0
    while position < len(chunk):
        position += _LENGTH_AND_MASK.unpack_from(chunk, position)[0]
        count += 1
    return count


def mask_names(mask: int) -> str:
    """Return the names of the bits in a mask, as ``CREATE|ISDIR``."""
    return "|".join(name for bit, name in _NAMES.items() if mask & bit)


def count_events(chunk: bytes, mask_counts: Counter[int]) -> None:
    """Add the events of a chunk to the number of events for each mask, as inotify has them.

    What was several events and was merged counts once for each of its bits.
    """
    masks = []
    unpack, position, end = _LENGTH_AND_MASK.unpack_from, 0, len(chunk)
    while position < end:
        length, mask = unpack(chunk, position)
        masks.append(mask)
        position += length
    for mask, count in Counter(masks).items():
        for bit in _NAMES.keys() - {IS_DIRECTORY, RENAME}:
            if mask & bit:
                mask_counts[bit | mask & IS_DIRECTORY] += count
        if mask & RENAME:
            for bit in (MOVED_FROM, MOVED_TO):
                mask_counts[bit | mask & IS_DIRECTORY] += count


def _fsid_of(directory: int) -> bytes:
    """Return the id of the file system of an open directory, as events have it."""
    fsid = os.fstatvfs(directory).f_fsid
    return struct.pack("=II", fsid & 0xFFFFFFFF, fsid >> 32)


@functools.cache
def _find(name: str, *types: type) -> "ctypes._NamedFuncPointer":
    """Return a function of the C library."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.argtypes = types
    return function  # type: ignore[no-any-return]


def _checked(result: int) -> int:
    """Return the result of a system call; raise OSError if it has failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
