"""Renames below open directories, through no symbolic link.

Nothing is replaced but a regular file by another, and an empty directory by another. A directory
with something in it is exchanged.
"""

import contextlib
import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator

from pylsyncd.model import paths
from pylsyncd.system import walk

# linux/fs.h: fail with EEXIST if the new name is there.
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2

# Of a kernel or a file system without the flag, such as NFS (renameat2(2)).
_NOT_SUPPORTED = frozenset([errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])

# Of rename(2) onto a directory that is not empty; EEXIST is POSIX's other choice.
_NOT_EMPTY = frozenset([errno.ENOTEMPTY, errno.EEXIST])

# A directory is no more accessible than that until rsync sets its attributes.
_MODE_OF_PARENTS = 0o700

# renameat2(2) on them fails otherwise if the process may call it.
_NO_DIRECTORY, _NO_NAME = -1, b""


class RenameUnsupportedError(OSError):
    """Neither the kernel nor the file system renames without replacing."""


def rename_below(root: int, old: bytes, new: bytes, *, is_directory: bool) -> bool:
    """Rename a directory or a regular file; both paths are relative to an open directory.

    Return True if what was at the new path is at the old one now: a directory that is not empty.
    Missing directories above the new path are created. Raises RenameUnsupportedError where every
    rename would fail, or another OSError, also if something of another type is at either path, or
    if directories have to be exchanged where the file system cannot do it.
    """
    if paths.covers(old, new):
        raise OSError(errno.ELOOP, "it cannot be moved into itself")
    old_parent, old_name = paths.split(old)
    new_parent, new_name = paths.split(new)
    with walk.opened_below(root, old_parent) as old_directory:
        status = _expect(old_directory, old_name, is_directory=is_directory)
        with _opened_or_created(root, new_parent) as new_directory:
            try:
                _rename(old_directory, old_name, new_directory, new_name)
            except FileExistsError:
                replaced = _expect(new_directory, new_name, is_directory=is_directory)
                if os.path.samestat(status, replaced):
                    # rename(2) does nothing then, and succeeds.
                    raise
                return _replace_or_exchange(old_directory, old_name, new_directory, new_name)
    return False


def _replace_or_exchange(old_directory: int, old: bytes, new_directory: int, new: bytes) -> bool:
    """Rename something over something of its type; return True if they were exchanged instead."""
    try:
        os.rename(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
    else:
        return False
    number = _call_renameat2(old_directory, old, new_directory, new, _RENAME_EXCHANGE)
    if number:
        raise OSError(number, os.strerror(number))
    return True


def _expect(directory: int, name: bytes, *, is_directory: bool) -> os.stat_result:
    """Return the status of a name if it is a directory, or a regular file, as expected."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    is_expected = stat.S_ISDIR if is_directory else stat.S_ISREG
    if not is_expected(status.st_mode):
        raise OSError(errno.EEXIST, "something of another type is there")
    return status


@contextlib.contextmanager
def _opened_or_created(root: int, path: bytes) -> Iterator[int]:
    """Open the directory at a relative path, and create what is missing of it."""
    directory = os.dup(root)
    try:
        for name in filter(None, path.split(b"/")):
            try:
                child = walk.open_child(directory, name)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, _MODE_OF_PARENTS, dir_fd=directory)
                child = walk.open_child(directory, name)
            os.close(directory)
            directory = child
        yield directory
    finally:
        os.close(directory)


def _rename(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    number = _call_renameat2(old_directory, old, new_directory, new, _RENAME_NOREPLACE)
    if not number:
        return
    is_unsupported = number in _NOT_SUPPORTED or (
        # A seccomp filter that does not know the call forbids it.
        number == errno.EPERM
        and _call_renameat2(_NO_DIRECTORY, _NO_NAME, _NO_DIRECTORY, _NO_NAME, _RENAME_NOREPLACE)
        == errno.EPERM
    )
    raise (RenameUnsupportedError if is_unsupported else OSError)(number, os.strerror(number))


def _call_renameat2(
    old_directory: int, old: bytes, new_directory: int, new: bytes, flag: int
) -> int:
    """Call renameat2(2), which Python has no function for; return its error number, or 0."""
    function = _find_renameat2()
    if function is None:
        return errno.ENOSYS
    if not function(old_directory, old, new_directory, new, flag):
        return 0
    return ctypes.get_errno()


@functools.cache
def _find_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Return the function of the C library; None before glibc 2.28."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = (
            ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
        )  # fmt: skip
    return function
