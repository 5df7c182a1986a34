"""A directory that cannot be opened for a while, as on a file system that does not respond."""

import contextlib
import ctypes
import errno
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import DEADLINE, wait_until

# Of linux/fanotify.h: FAN_CLOEXEC | FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR
_INIT_FLAGS = 0x1 | 0x4
_MARK_ADD = 0x1
_MASK = 0x10000 | 0x40000000

# A test that waits for the directory fails then, instead of waiting for ever.
_TIMEOUT = 2 * DEADLINE


class HeldUpDirectory:
    """A directory that whatever opens it waits for."""

    def __init__(self, group: int) -> None:
        self._group = group
        self._is_closed = threading.Event()

    def __call__(self) -> bool:
        """Return False after a timeout."""
        return not self._is_closed.is_set()

    def wait_until_opened(self) -> None:
        """Wait until a thread waits for the directory."""
        wait_until(lambda: select.select([self._group], [], [], 0.0)[0])

    def close(self) -> None:
        """Let it be opened."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            os.close(self._group)


@contextlib.contextmanager
def held_up(directory: Path) -> Iterator[HeldUpDirectory]:
    """Hold up whatever opens a directory, until the end or a timeout.

    The kernel asks fanotify for a permission, and there is no answer. Needs root.
    """
    functions = ctypes.CDLL(None, use_errno=True)
    group = functions.fanotify_init(_INIT_FLAGS, os.O_RDONLY)
    if group < 0:
        pytest.skip(f"no permission events here: {os.strerror(ctypes.get_errno())}")
    held = HeldUpDirectory(group)
    timer = threading.Timer(_TIMEOUT, held.close)
    try:
        mask, path = ctypes.c_uint64(_MASK), os.fsencode(directory)
        if functions.fanotify_mark(group, _MARK_ADD, mask, -1, path):
            pytest.skip(f"no permission events here: {errno.errorcode[ctypes.get_errno()]}")
        timer.start()
        yield held
    finally:
        timer.cancel()
        held.close()
        if timer.ident is not None:
            timer.join()
