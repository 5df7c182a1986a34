"""A working directory for one thread, for system calls that take a path and no descriptor."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator

# Of linux/sched.h.
_CLONE_FS = 0x200


_thread = threading.local()


@contextlib.contextmanager
def own_working_directory() -> Iterator[None]:
    """Have :func:`go_to` work in this thread, if that is permitted.

    All threads of a process share the working directory, and so do the threads that one starts. The
    calling thread gets its own (unshare(2), CLONE_FS), and returns to where it was at the end.
    """
    try:
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        # Not every container permits it.
        _thread.has_own = ctypes.CDLL(None).unshare(_CLONE_FS) == 0
        yield
    finally:
        if go_to(before):
            _thread.has_own = False
        os.close(before)


def go_to(directory: int) -> bool:
    """Go to an open directory; return False if the thread has no working directory of its own.

    Raises OSError without the permission to search the directory.
    """
    if not getattr(_thread, "has_own", False):
        return False
    os.fchdir(directory)
    return True
