"""Opens files by their paths as root may: no symbolic link is followed that a stranger may turn.

What is wrong is an OSError, whose ``strerror`` goes on where a sentence has named the file.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# Without O_NONBLOCK, opening a FIFO that somebody has put there would never end.
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An open file and the open directory that it is in; both are its opener's to close."""

    descriptor: int
    directory: int
    name: str
    is_new: bool

    @property
    def is_at_path(self) -> bool:
        """Whether its name still stands for it."""
        try:
            named = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(self.descriptor))

    def close(self) -> None:
        """Close both."""
        os.close(self.descriptor)
        os.close(self.directory)


def open_file(path: str, flags: int, mode: int, owners: Collection[int] = ()) -> OpenedFile:
    """Open a regular file or a device, and create it where there is none, whatever the umask.

    Where others can write to its directory, it must have one name, and belong to root, to us or
    to one of ``owners``. Raises OSError.
    """
    directory, name = _locate(path)
    try:
        descriptor, is_new = _open_or_create(directory, name, flags, mode)
        try:
            _refuse_foreign(os.fstat(descriptor), os.fstat(directory), owners)
        except BaseException:
            os.close(descriptor)
            raise
    except BaseException:
        os.close(directory)
        raise
    return OpenedFile(descriptor, directory, name, is_new)


def _open_or_create(directory: int, name: str, flags: int, mode: int) -> tuple[int, bool]:
    while True:
        try:
            return os.open(name, flags | _SAFE, dir_fd=directory), False
        except FileNotFoundError:
            pass
        try:
            new = os.open(name, flags | _SAFE | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)
        except FileExistsError:
            continue
        os.fchmod(new, mode)
        return new, True


def _refuse_foreign(
    status: os.stat_result, directory: os.stat_result, owners: Collection[int]
) -> None:
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISCHR(status.st_mode):
            return
        raise OSError(errno.EINVAL, "it is not a regular file")
    if not _is_closed(directory) and (
        status.st_nlink > 1 or status.st_uid not in {*_trusted(), *owners}
    ):
        raise OSError(
            errno.EPERM,
            "others can write to its directory, and it has several names or belongs to another "
            "user",
        )


def _locate(path: str) -> tuple[int, str]:
    """Return the open directory that an absolute path leads to, and the name in it."""
    rest = path.split("/")[::-1]
    directory, links = _enter("/"), 0
    try:
        while True:
            name = rest.pop()
            if name in {"", "."} and any(rest):
                continue
            target = _target(directory, name or ".")
            if target is not None:
                links = _count(links)
                rest += target.split("/")[::-1]
                name = "/" if target.startswith("/") else "."
            elif not any(rest):
                return directory, name or "."
            above, directory = directory, _enter(name, directory)
            os.close(above)
    except BaseException:
        os.close(directory)
        raise


def _count(links: int) -> int:
    if links == _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return links + 1


def _enter(name: str, directory: int | None = None) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=directory)


def _target(directory: int, name: str) -> str | None:
    """Return where a symbolic link leads, None for anything else, or nothing."""
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
                errno.ELOOP,
                f"{name} in its path is a symbolic link which others may turn",
            )
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _may_follow(link: os.stat_result, directory: os.stat_result) -> bool:
    is_sticky = directory.st_uid in _trusted() and directory.st_mode & stat.S_ISVTX
    return link.st_uid in _trusted() and (_is_closed(directory) or bool(is_sticky))


def _is_closed(directory: os.stat_result) -> bool:
    """Tell whether only root and we can change what is in a directory."""
    return directory.st_uid in _trusted() and not directory.st_mode & _WRITABLE_BY_OTHERS


def _trusted() -> set[int]:
    return {0, os.geteuid()}
