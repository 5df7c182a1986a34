"""A directory that cannot be opened for a while, as on a file system that does not respond."""

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Of linux/fanotify.h: FAN_CLOEXEC | FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR
_INIT_FLAGS = 0x1 | 0x4
_MARK_ADD = 0x1
_MASK = 0x10000 | 0x40000000

# A test that waits for the directory fails then, instead of waiting for ever.
_TIMEOUT = 30.0


@contextlib.contextmanager
def held_up(directory: Path) -> Iterator[Callable[[], bool]]:
    """Hold up whatever opens a directory; yield a function that returns False after a timeout.

    The kernel asks fanotify for a permission, and there is no answer. Needs root.
    """
    functions = ctypes.CDLL(None, use_errno=True)
    group = functions.fanotify_init(_INIT_FLAGS, os.O_RDONLY)
    if group < 0:
        pytest.skip(f"no permission events here: {os.strerror(ctypes.get_errno())}")
    is_closed = threading.Event()

    def close() -> None:
        if not is_closed.is_set():
            is_closed.set()
            os.close(group)

    timer = threading.Timer(_TIMEOUT, close)
    try:
        mask, path = ctypes.c_uint64(_MASK), os.fsencode(directory)
        if functions.fanotify_mark(group, _MARK_ADD, mask, -1, path):
            pytest.skip(f"no permission events here: {errno.errorcode[ctypes.get_errno()]}")
        timer.start()
        yield lambda: not is_closed.is_set()
    finally:
        timer.cancel()
        close()
        if timer.ident is not None:
            timer.join()
