"""Whether this machine permits fanotify."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.marked_source import MarkedSource

# No permission, an old kernel, or a file system without handles. Anything else is a fault of ours.
_NOT_POSSIBLE = frozenset([
    errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EMFILE,
    errno.EOPNOTSUPP, errno.ENODEV, errno.EXDEV, errno.EOVERFLOW,
])  # fmt: skip


def skip_without_fanotify(directory: Path) -> None:
    """Skip the test if fanotify does not work here, or not on a directory's file system."""
    try:
        group = Fanotify()
    except OSError as error:
        _skip_if_known(error)
    try:
        MarkedSource(os.fsencode(directory), group, Rules())
    except OSError as error:
        _skip_if_known(error)
    finally:
        group.close()


def _skip_if_known(error: OSError) -> NoReturn:
    """Skip the test if an error tells that fanotify does not work here; raise any other one."""
    if error.errno not in _NOT_POSSIBLE:
        raise error
    pytest.skip(f"fanotify does not work here, or not on this file system: {error.strerror}")


def skip_without_ignore_marks(group: Fanotify, directory: int) -> None:
    """Have the events of an open directory ignored; skip the test if the kernel is too old."""
    try:
        group.ignore_files_in(directory)
    except OSError as error:
        pytest.skip(f"the kernel ignores no directories: {error.strerror}")
