"""Resolves paths name by name, so that no other user decides where they lead as root.

The kernel follows every symbolic link in a path (path_resolution(7)). Here a link is followed only
if no other user can have made or replaced it: it belongs to root or to this user, in a directory
that no other user can write, or that is sticky. A directory may also be reached through a link
whose owner owns the directory, too: that link leads only to what its owner has already.

Errors are OSErrors whose ``strerror`` completes a sentence that names the path.
"""

import errno
import os
import stat
from dataclasses import dataclass

from pylsyncd.model.formatting import printable
from pylsyncd.system import users

# The limit of the kernel (path_resolution(7)).
_MAX_SYMLINKS = 40

_FOR_RESOLVING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOR_READING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeLinkError(OSError):
    """A path leads through a symbolic link that another user may change."""

    def __init__(self, name: str, reason: str = "") -> None:
        shown = printable(name)
        super().__init__(
            errno.ELOOP,
            f"{shown} in its path is a symbolic link that other users may change{reason}",
        )


def open_directory(path: str) -> int:
    """Open a directory for reading. Raises UnsafeLinkError, or another OSError.

    Links are followed whose owner owns the directory that they lead to, too.
    """
    directory = resolve_directory(path)
    try:
        return os.open(".", _FOR_READING, dir_fd=directory)
    finally:
        os.close(directory)


def resolve_directory(path: str) -> int:
    """Open a directory like :func:`open_directory`, but only to resolve names in it (``O_PATH``).

    It need not be readable.
    """
    resolver = _Resolver(follows_to_owner=True)
    start = os.open("/" if path.startswith("/") else ".", _FOR_RESOLVING | os.O_DIRECTORY)
    try:
        return resolver.enter(start, path)
    finally:
        os.close(start)


def open_parent(path: str) -> tuple[int, str]:
    """Return the open directory of the file that an absolute path leads to, and the file's name.

    There is no link of that name, and perhaps no file. The directory is open to resolve names only
    (``O_PATH``). Raises UnsafeLinkError, or another OSError.
    """
    resolver = _Resolver(follows_to_owner=False)
    directory = os.open("/", _FOR_RESOLVING | os.O_DIRECTORY)
    try:
        while True:
            above, name = os.path.split(path)
            parent, directory = directory, resolver.enter(directory, above)
            os.close(parent)
            link = resolver.read_link(directory, name or ".")
            if link is None:
                return directory, name or "."
            path = link.target
    except BaseException:
        os.close(directory)
        raise


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link that was read."""

    name: str
    target: str
    owner: int
    is_safe: bool
    """Only root or this user can have made it, and can replace it."""


class _Resolver:
    """Resolves one path; counts the links in it."""

    def __init__(self, *, follows_to_owner: bool) -> None:
        self._follows_to_owner = follows_to_owner
        self._link_count = 0

    def enter(self, directory: int, path: str) -> int:
        """Return the open directory that a path leads to, relative to an open one."""
        current = (
            os.open("/", _FOR_RESOLVING | os.O_DIRECTORY)
            if path.startswith("/")
            else os.dup(directory)
        )
        for name in path.split("/"):
            if name in {"", "."}:
                continue
            try:
                following = self._enter_name(current, name)
            finally:
                os.close(current)
            current = following
        return current

    def read_link(self, directory: int, name: str) -> _Link | None:
        """Return a link that may be followed; None for anything else, or if there is nothing."""
        try:
            opened = os.open(name, _FOR_RESOLVING, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(opened)
            if not stat.S_ISLNK(status.st_mode):
                return None
            is_safe = _is_safe(status, os.fstat(directory))
            if not (is_safe or self._follows_to_owner):
                raise UnsafeLinkError(name)
            self._count_link()
            return _Link(name, os.readlink("", dir_fd=opened), status.st_uid, is_safe)
        finally:
            os.close(opened)

    def _enter_name(self, directory: int, name: str) -> int:
        try:
            return os.open(name, _FOR_RESOLVING | os.O_DIRECTORY, dir_fd=directory)
        except NotADirectoryError:
            link = self.read_link(directory, name)
            if link is None:
                raise
        target = self.enter(directory, link.target)
        owner = os.fstat(target).st_uid
        if not (link.is_safe or owner == link.owner):
            os.close(target)
            owners = f"the user id {link.owner}, but its target belongs to the user id {owner}"
            raise UnsafeLinkError(name, f", and belongs to {owners}")
        return target

    def _count_link(self) -> None:
        if self._link_count == _MAX_SYMLINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._link_count += 1


def _is_safe(link: os.stat_result, directory: os.stat_result) -> bool:
    """Return True if only root and this user can have made a link, and can replace it."""
    is_sticky = directory.st_uid in trusted_uids() and directory.st_mode & stat.S_ISVTX
    return link.st_uid in trusted_uids() and (is_protected(directory) or bool(is_sticky))


def is_protected(status: os.stat_result, uid: int | None = None) -> bool:
    """Return True if only root and a user can write a file, or the entries of a directory.

    Without ``uid``, it is the user of this process.
    """
    uid = os.geteuid() if uid is None else uid
    if status.st_uid not in {0, uid} or status.st_mode & stat.S_IWOTH:
        return False
    return not status.st_mode & stat.S_IWGRP or users.is_private_group(status.st_gid, uid)


def trusted_uids() -> set[int]:
    """Return the user ids of root and of this process."""
    return {0, os.geteuid()}
