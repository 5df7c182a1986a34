"""The kernel's inotify through pyinotify's binding: system calls, constants and mask names.

Not through its engine: the stock Notifier decodes names as UTF-8 and dies on others, and walks
before it watches. This is the only module that imports pyinotify.
"""

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pyinotify

from pylsyncd.model.errors import WatchError

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

# IN_MASK_ADD: without it the kernel empties the mask of a watch that is there already before it
# fills it anew (inotify_update_existing_watch), and an event that comes in between is lost without
# a trace: up to 175 of 15,000, measured with Linux 6.18 while the directory was watched again all
# the time. Watching again is how we tell who a directory is.
_WATCHED = (
    CREATE | DELETE | ATTRIB | MOVED_FROM | MOVED_TO | CLOSE_WRITE | DELETE_SELF | MOVE_SELF
    | pyinotify.IN_ONLYDIR | pyinotify.IN_DONT_FOLLOW | pyinotify.IN_EXCL_UNLINK
    | pyinotify.IN_MASK_ADD
)  # fmt: skip

# struct inotify_event of inotify(7): descriptor, mask, cookie, length of the padded name.
EVENT_HEADER = struct.Struct("iIII")

# Some 2,000 events at a time. Larger buffers are not faster: glibc maps and unmaps them each time.
_READ_SIZE = 65536

_LIMITS = "/proc/sys/fs/inotify/"


class Inotify:
    """One inotify instance, closed by whoever made it."""

    def __init__(self, *, modify: bool = False) -> None:
        binding = pyinotify.INotifyWrapper.create()
        if binding is None:
            raise WatchError("This system has no inotify, so nothing can be watched.")
        self._mask = _WATCHED | (MODIFY if modify else 0)
        self.descriptor: int = binding.inotify_init()
        if self.descriptor < 0:
            raise _no_instance(binding.get_errno())
        os.set_inheritable(self.descriptor, False)  # noqa: FBT003  # takes no keyword
        os.set_blocking(self.descriptor, False)
        self._get_errno = binding.get_errno
        # The public inotify_add_watch takes only str and encodes it anew at each call, at half
        # the price of the system call itself; this is the function that it calls in the end.
        self._add_watch = binding._libc.inotify_add_watch  # noqa: SLF001
        self._remove_watch = binding.inotify_rm_watch

    def add_watch(self, directory: int) -> int:
        """Watch an open directory and return its watch descriptor, the same each time.

        By descriptor, not by name, since between two looks a name can become a symlink, and a
        path can be longer than the kernel takes. Raises OSError, of ENOSPC at the limit of watches.
        """
        wd: int = self._add_watch(self.descriptor, b"/proc/self/fd/%d/." % directory, self._mask)
        if wd < 0:
            code = self._get_errno()
            raise OSError(code, os.strerror(code))
        return wd

    def remove_watch(self, wd: int) -> None:
        """Stop watching; nothing happens where the kernel has stopped by itself."""
        self._remove_watch(self.descriptor, wd)

    def read(self) -> bytes:
        """Return a chunk of whole events, or b"" when there are none now."""
        try:
            return os.read(self.descriptor, _READ_SIZE)
        except BlockingIOError:
            return b""

    def pending_bytes(self) -> int:
        """Return how many bytes of events the kernel holds."""
        count = fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(count, "little")

    def close(self) -> None:
        """End all watches."""
        os.close(self.descriptor)


def read_limit(name: str) -> int:
    """Return one of the kernel's limits: ``max_user_watches``, ``max_queued_events``, ..."""
    with open(_LIMITS + name, encoding="ascii") as file:
        return int(file.read())


def watch_limit_message(directories: int) -> str:
    """Return the sentence for the administrator whose system has no watches left."""
    allowed = read_limit("max_user_watches")
    wanted = max(2 * directories, 2 * allowed)
    return (
        f"The kernel's limit of inotify watches is reached: {directories} directories are watched "
        f"here, fs.inotify.max_user_watches is {allowed} for all programs of this user. "
        f"Raise it: sysctl -w fs.inotify.max_user_watches={wanted}"
    )


def _no_instance(code: int) -> WatchError:
    if code == errno.EMFILE:
        allowed = read_limit("max_user_instances")
        return WatchError(
            f"No inotify instance is left for this user (limit {allowed}). "
            f"Raise it: sysctl -w fs.inotify.max_user_instances={2 * allowed}"
        )
    return WatchError(f"inotify cannot be started: {os.strerror(code)}.")


def decode_events(chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield descriptor, mask and name of each event in a chunk; for people, not for speed."""
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


def mask_names(mask: int) -> str:
    """Return the names of a mask's bits, as ``CREATE|ISDIR``."""
    return "|".join(name for bit, name in _NAMES.items() if mask & bit)
