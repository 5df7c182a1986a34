"""Opens files by path safely as root: follows no symbolic link that another user could change.

Errors are OSErrors whose ``strerror`` completes a sentence that names the file.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

from pylsyncd.system import path_resolution

# O_NONBLOCK: opening a FIFO would otherwise block for ever.
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An open file and its open directory."""

    descriptor: int
    directory: int
    name: str
    is_new: bool

    @property
    def is_at_path(self) -> bool:
        """Whether the name in the directory still refers to this file."""
        try:
            status = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(status, os.fstat(self.descriptor))

    def close(self) -> None:
        """Close the file and its directory."""
        os.close(self.descriptor)
        os.close(self.directory)


def open_file(path: str, flags: int, mode: int, owners: Collection[int] = ()) -> OpenedFile:
    """Open a regular file or a device; if there is none, create it with ``mode`` for any umask.

    If other users can write to its directory, the file must have one link, and belong to root, to
    this user or to one of ``owners``. Raises OSError.
    """
    directory, name = path_resolution.open_parent(path)
    try:
        descriptor, is_new = _open_or_create(directory, name, flags, mode)
        try:
            _refuse_foreign_file(os.fstat(descriptor), os.fstat(directory), owners)
        except BaseException:
            os.close(descriptor)
            raise
    except BaseException:
        os.close(directory)
        raise
    return OpenedFile(descriptor, directory, name, is_new)


def _open_or_create(directory: int, name: str, flags: int, mode: int) -> tuple[int, bool]:
    flags |= _SAFE_FLAGS
    while True:
        try:
            return os.open(name, flags, dir_fd=directory), False
        except FileNotFoundError:
            pass
        try:
            created = os.open(name, flags | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
        except FileExistsError:
            continue
        os.fchmod(created, mode)
        return created, True


def _refuse_foreign_file(
    status: os.stat_result, directory: os.stat_result, owners: Collection[int]
) -> None:
    if stat.S_ISCHR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if not path_resolution.is_protected(directory) and (
        status.st_nlink > 1 or status.st_uid not in {*path_resolution.trusted_uids(), *owners}
    ):
        raise OSError(
            errno.EPERM,
            "other users can write to its directory, and it has several hard links or belongs to "
            "another user",
        )
