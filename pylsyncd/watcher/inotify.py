"""The kernel's inotify through pyinotify's binding: system calls, constants and mask names.

pyinotify's engine is not used: its Notifier decodes names as UTF-8 and fails on others, and it
walks before it watches. This is the only module that imports pyinotify.
"""

import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

import pyinotify

from pylsyncd.model.errors import WatchError
from pylsyncd.system import working_directory

CREATE: int = pyinotify.IN_CREATE
DELETE: int = pyinotify.IN_DELETE
ATTRIB: int = pyinotify.IN_ATTRIB
MOVED_FROM: int = pyinotify.IN_MOVED_FROM
MOVED_TO: int = pyinotify.IN_MOVED_TO
MODIFY: int = pyinotify.IN_MODIFY
CLOSE_WRITE: int = pyinotify.IN_CLOSE_WRITE
DELETE_SELF: int = pyinotify.IN_DELETE_SELF
MOVE_SELF: int = pyinotify.IN_MOVE_SELF
IS_DIRECTORY: int = pyinotify.IN_ISDIR
IGNORED: int = pyinotify.IN_IGNORED
UNMOUNT: int = pyinotify.IN_UNMOUNT
OVERFLOW: int = pyinotify.IN_Q_OVERFLOW

_EVENT_TYPES = (
    CREATE, DELETE, ATTRIB, MOVED_FROM, MOVED_TO, MODIFY, CLOSE_WRITE, DELETE_SELF, MOVE_SELF,
    IGNORED, UNMOUNT, OVERFLOW,
)  # fmt: skip

# IN_MASK_ADD: without it the kernel clears the mask of an existing watch before it sets the new
# one (inotify_update_existing_watch), and an event in between is lost without a trace: up to 175 of
# 15,000, measured with Linux 6.18 on a directory that was watched again all the time. Adding a
# watch again is how a directory is identified.
_WATCH_MASK = (
    CREATE | DELETE | ATTRIB | MOVED_FROM | MOVED_TO | MODIFY | CLOSE_WRITE | DELETE_SELF
    | MOVE_SELF
    | pyinotify.IN_ONLYDIR | pyinotify.IN_DONT_FOLLOW | pyinotify.IN_EXCL_UNLINK
    | pyinotify.IN_MASK_ADD
)  # fmt: skip

# Replaces the mask, which is the only way to take an event from it. See above for what is lost.
_MASK_WITHOUT_MODIFY = _WATCH_MASK & ~(MODIFY | pyinotify.IN_MASK_ADD)

# Adds nothing to the mask of an existing watch.
_IDENTIFYING_MASK = (
    DELETE_SELF | pyinotify.IN_ONLYDIR | pyinotify.IN_DONT_FOLLOW | pyinotify.IN_EXCL_UNLINK
    | pyinotify.IN_MASK_ADD
)  # fmt: skip

# struct inotify_event of inotify(7): descriptor, mask, cookie, length of the padded name.
EVENT_HEADER = struct.Struct("iIII")

# Only what count_events needs of it: unpacking the other numbers doubles the cost.
_MASK_AND_LENGTH = struct.Struct("4xI4xI")

# About 2,000 events. Larger buffers are not faster: glibc maps and unmaps them each time.
_READ_SIZE = 65536

# With the longest name, padded.
_MAX_EVENT_SIZE = EVENT_HEADER.size + 256

# More than any machine produces: writers on two cores create and close files on a tmpfs at about
# 500,000.
_MAX_EVENTS_PER_SECOND = 1_600_000

_LIMITS = "/proc/sys/fs/inotify/"
_SYSCTL_FILE = "/etc/sysctl.d/60-pylsyncd.conf"


class WatchingInstance(Protocol):
    """An inotify instance, or the part that one source has of it. Its creator closes it."""

    @property
    def descriptor(self) -> int:
        """Readable when there are events."""

    def add_watch(self, directory: int) -> int:
        """Watch an open directory and return its watch descriptor, the same each time.

        Raises OSError, with ENOSPC at the limit of watches.
        """

    def add_watch_at(self, directory: int, name: bytes) -> int:
        """Watch the subdirectory of a name in an open directory, likewise; no symlink."""

    def remove_modify(self, directory: int) -> None:
        """Have a watched directory, given by descriptor, report modifications no longer.

        Raises OSError, with EBUSY if another source needs them.
        """

    def identify(self, directory: int) -> int:
        """Return the watch descriptor of an open directory, with a new watch if it had none."""

    def remove_watch(self, wd: int) -> None:
        """Stop watching; no error if the kernel has removed the watch already."""

    def read(self) -> bytes:
        """Return a chunk of whole events, or b"" if the queue is empty."""

    def is_full(self, chunk: bytes) -> bool:
        """Return True if more events may have been in the queue when a chunk was read."""

    def pending_bytes(self) -> int:
        """Return the number of bytes in the event queue."""

    def close(self) -> None:
        """Remove all watches."""


class Inotify:
    """One inotify instance. Its creator closes it. Raises WatchError if there is none left."""

    def __init__(self) -> None:
        binding = pyinotify.INotifyWrapper.create()
        if binding is None:
            raise WatchError("inotify is not available on this system.")
        self.descriptor: int = binding.inotify_init()
        if self.descriptor < 0:
            raise _init_error(binding.get_errno())
        os.set_inheritable(self.descriptor, False)  # noqa: FBT003  # takes no keyword
        os.set_blocking(self.descriptor, False)
        self._get_errno = binding.get_errno
        # The public inotify_add_watch takes only str and encodes it at each call, which costs half
        # as much as the system call; this is the function that it calls in the end.
        self._add_watch = binding._libc.inotify_add_watch  # noqa: SLF001
        self._remove_watch = binding.inotify_rm_watch

    def add_watch(self, directory: int) -> int:
        """Watch an open directory and return its watch descriptor, the same each time.

        The directory is given by descriptor because its name can become a symlink meanwhile, and
        its path can exceed PATH_MAX. Raises OSError, with ENOSPC at the limit of watches.
        """
        return self._set_watch(directory, _WATCH_MASK)

    def add_watch_at(self, directory: int, name: bytes) -> int:
        """Watch the subdirectory of a name in an open directory, likewise; no symlink."""
        return self._set_watch(directory, _WATCH_MASK, name)

    def remove_modify(self, directory: int) -> None:
        """Have a watched directory, given by descriptor, report modifications no longer.

        :meth:`add_watch` has it report them again. Meanwhile any event of it may be lost.
        """
        self._set_watch(directory, _MASK_WITHOUT_MODIFY)

    def identify(self, directory: int) -> int:
        """Return the watch descriptor of an open directory, with a new watch if it had none."""
        return self._set_watch(directory, _IDENTIFYING_MASK)

    def _set_watch(self, directory: int, mask: int, name: bytes = b".") -> int:
        # The kernel finds the working directory in half the time.
        is_there = working_directory.go_to(directory)
        path = name if is_there else b"/proc/self/fd/%d/%b" % (directory, name)
        wd: int = self._add_watch(self.descriptor, path, mask)
        if wd < 0:
            code = self._get_errno()
            raise OSError(code, os.strerror(code))
        return wd

    def remove_watch(self, wd: int) -> None:
        """Stop watching; no error if the kernel has removed the watch already."""
        self._remove_watch(self.descriptor, wd)

    def read(self) -> bytes:
        """Return a chunk of whole events, or b"" if the queue is empty."""
        try:
            return os.read(self.descriptor, _READ_SIZE)
        except BlockingIOError:
            return b""

    @staticmethod
    def is_full(chunk: bytes) -> bool:
        """Return True if more events may have been in the queue when a chunk was read."""
        return len(chunk) > _READ_SIZE - _MAX_EVENT_SIZE

    def pending_bytes(self) -> int:
        """Return the number of bytes in the kernel's event queue."""
        count = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(count, "little")

    def close(self) -> None:
        """Close the instance, which removes all watches."""
        os.close(self.descriptor)


def read_limit(name: str) -> int:
    """Return one of the kernel's limits: ``max_user_watches``, ``max_queued_events``, ..."""
    with open(_LIMITS + name, encoding="ascii") as file:
        return int(file.read())


def queue_seconds() -> float:
    """Return the time in which the events of an empty queue cannot overflow it."""
    return read_limit("max_queued_events") / _MAX_EVENTS_PER_SECOND


def watch_limit_message(directories: int, lacking: int = 0) -> str:
    """Return the message for an administrator whose user has no watches left.

    ``lacking`` is the number of directories that need a watch and have none; 0 if it is unknown.
    """
    limit = read_limit("max_user_watches")
    # As many again for other sources and programs, and for directories to come.
    wanted = 2 * max(directories, limit + lacking)
    more = f"{lacking} more" if lacking else "all others"
    setting = f"fs.inotify.max_user_watches={wanted}"
    return (
        f"The limit of inotify watches is reached: {directories} directories are watched here, "
        f"{more} need a watch, and fs.inotify.max_user_watches is {limit} for all programs "
        f"of this user. To raise it now, run `sysctl -w {setting}`; pylsyncd then watches the "
        f"rest. To keep it after a reboot, run `echo {setting} >> {_SYSCTL_FILE}`."
    )


def _init_error(code: int) -> WatchError:
    # If there is no descriptor for the file either, it is not the limit of instances.
    with contextlib.suppress(OSError):
        if code == errno.EMFILE:
            limit = read_limit("max_user_instances")
            return WatchError(
                "This user has no inotify instances left (fs.inotify.max_user_instances is "
                f"{limit}). Raise the limit: sysctl -w fs.inotify.max_user_instances={2 * limit}"
            )
    return WatchError(f"Cannot create an inotify instance: {os.strerror(code)}.")


def decode_events(chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield descriptor, mask and name of each event in a chunk; for the debug log, not fast."""
    position = 0
    while position < len(chunk):
        wd, mask, _, length = EVENT_HEADER.unpack_from(chunk, position)
        position += EVENT_HEADER.size
        yield wd, mask, chunk[position : position + length].rstrip(b"\0")
        position += length


_NAMES = {
    bit: name.removeprefix("IN_")
    for flags in pyinotify.EventsCodes.FLAG_COLLECTIONS.values()
    for name, bit in flags.items()
}


def padded(name: bytes) -> bytes:
    """Return a name as events have it: with NULs up to a multiple of the size of a header."""
    size = EVENT_HEADER.size
    return name.ljust((len(name) // size + 1) * size, b"\0")


def mask_names(mask: int) -> str:
    """Return the names of the bits in a mask, as ``CREATE|ISDIR``."""
    return "|".join(name for bit, name in _NAMES.items() if mask & bit)


def count_events(chunk: bytes, mask_counts: Counter[int]) -> None:
    """Add the events of a chunk to the number of events for each mask."""
    unpack, size = _MASK_AND_LENGTH.unpack_from, _MASK_AND_LENGTH.size
    masks = []
    position, end = 0, len(chunk)
    while position < end:
        mask, length = unpack(chunk, position)
        masks.append(mask)
        position += size + length
    mask_counts.update(masks)


def events_by_type(mask_counts: Mapping[int, int]) -> dict[str, int]:
    """Return the number of events of each type, by the names of inotify(7) without "IN_".

    Events of directories count like those of files. Types without an event have the number 0.
    Another thread may count meanwhile.
    """
    counts = dict.fromkeys(map(mask_names, _EVENT_TYPES), 0)
    for mask, number in dict(mask_counts).items():
        name = mask_names(mask & ~IS_DIRECTORY)
        counts[name] = counts.get(name, 0) + number
    return counts
