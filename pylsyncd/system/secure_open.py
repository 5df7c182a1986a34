"""Opens files by path safely as root: follows no symbolic link that another user could change.

Errors are OSErrors whose ``strerror`` completes a sentence that names the file.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

# The limit of the kernel (path_resolution(7)).
_MAX_SYMLINKS = 40

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

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
    directory, name = _resolve(path)
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
    if not _is_protected(directory) and (
        status.st_nlink > 1 or status.st_uid not in {*_trusted_uids(), *owners}
    ):
        raise OSError(
            errno.EPERM,
            "other users can write to its directory, and it has several hard links or belongs to "
            "another user",
        )


def _resolve(path: str) -> tuple[int, str]:
    """Return the open directory that an absolute path leads to, and the name in it."""
    rest = path.split("/")[::-1]
    directory, links = _open_directory("/"), 0
    try:
        while True:
            name = rest.pop()
            if name in {"", "."} and any(rest):
                continue
            target = _read_link(directory, name or ".")
            if target is not None:
                links = _count_symlink(links)
                rest += target.split("/")[::-1]
                name = "/" if target.startswith("/") else "."
            elif not any(rest):
                return directory, name or "."
            above, directory = directory, _open_directory(name, directory)
            os.close(above)
    except BaseException:
        os.close(directory)
        raise


def _count_symlink(links: int) -> int:
    if links == _MAX_SYMLINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return links + 1


def _open_directory(name: str, parent: int | None = None) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


def _read_link(directory: int, name: str) -> str | None:
    """Return the target of a symbolic link; None for anything else, or if there is nothing."""
    try:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            return None
        if not _may_follow(status, os.fstat(directory)):
            raise OSError(
                errno.ELOOP, f"{name} in its path is a symbolic link that other users may change"
            )
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _may_follow(link: os.stat_result, directory: os.stat_result) -> bool:
    is_sticky = directory.st_uid in _trusted_uids() and directory.st_mode & stat.S_ISVTX
    return link.st_uid in _trusted_uids() and (_is_protected(directory) or bool(is_sticky))


def _is_protected(directory: os.stat_result) -> bool:
    """Return True if only root and this user can change the entries of a directory."""
    return directory.st_uid in _trusted_uids() and not directory.st_mode & _WRITABLE_BY_OTHERS


def _trusted_uids() -> set[int]:
    return {0, os.geteuid()}
