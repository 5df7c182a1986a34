"""A working directory for one thread, for system calls that take a path and no descriptor."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator

# Of linux/sched.h.
_CLONE_FS = 0x200

_libc = ctypes.CDLL(None)
_thread = threading.local()


@contextlib.contextmanager
def own_working_directory() -> Iterator[None]:
    """Have :func:`go_to` work in this thread, if that is permitted.

    All threads of a process share the working directory, and so do the threads that one starts. The
    calling thread gets its own (unshare(2), CLONE_FS), and returns to where it was at the end; to
    the root directory if it may not search that one any more. Within another one it does nothing.
    """
    try:
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if not _has_own() else None
    except OSError:
        before = None
    if before is None:
        yield
        return
    try:
        # Not every container permits it.
        _thread.has_own = _libc.unshare(_CLONE_FS) == 0
        yield
    finally:
        try:
            _return_to(before)
        finally:
            os.close(before)


def go_to(directory: int) -> bool:
    """Go to an open directory; return False if the thread has no working directory of its own.

    Raises OSError without the permission to search the directory.
    """
    if not _has_own():
        return False
    os.fchdir(directory)
    return True


def _has_own() -> bool:
    return getattr(_thread, "has_own", False)


def _return_to(directory: int) -> None:
    if not _has_own():
        return
    _thread.has_own = False
    try:
        os.fchdir(directory)
    except OSError:
        # Where the thread is now, a file system could not be unmounted.
        os.chdir("/")
