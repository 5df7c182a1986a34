"""Directories and files that only this user can write.

No symbolic link is followed, and no file is used that another user could have written.
"""

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.model.errors import StateError, UsageError

MAX_FILE_SIZE = 64 << 20
"""Bytes that a file may have: several times the size of the largest backlog."""

# O_NONBLOCK: opening a FIFO would otherwise block for ever.
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_LOCK_POLL_INTERVAL = 0.01


@dataclass(frozen=True, slots=True)
class DirectoryPurpose:
    """What a directory is for, as the messages about it say."""

    noun: str
    option: str
    """The option that chooses another directory."""
    risk: str
    """What other users could do if they could write there."""


STATE_DIRECTORY = DirectoryPurpose(
    "state directory", "--state-dir", "who could have changes lost or copies overwritten"
)


def open_directory(path: bytes, purpose: DirectoryPurpose = STATE_DIRECTORY) -> int:
    """Open a directory that only this user can write; create it if it is missing.

    Raises UsageError when it cannot be used, or when another user could write there.
    """
    while path != (shorter := path.removesuffix(b"/.").rstrip(b"/") or path[:1]):
        path = shorter  # With a slash at the end, a symbolic link would be followed.
    shown = paths.printable(path)
    if os.path.islink(path):
        raise UsageError(
            f"The {purpose.noun} {shown} is a symbolic link, which could be changed: name its "
            f"target with {purpose.option}."
        )
    try:
        _create_directory(path, 0o700)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        raise unusable_error(shown, error, purpose) from error
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return descriptor
    os.close(descriptor)
    if status.st_uid != os.geteuid():
        raise UsageError(
            f"The {purpose.noun} {shown} belongs to the user id {status.st_uid}, but pylsyncd "
            f"runs as {os.geteuid()}: run chown {os.geteuid()} {shown}, or choose another "
            f"directory with {purpose.option}."
        )
    raise UsageError(
        f"The {purpose.noun} {shown} is writable by other users, {purpose.risk}: run "
        f"chmod go-w {shown}, or choose another directory with {purpose.option}."
    )


def _create_directory(path: bytes, mode: int) -> None:
    """Create a directory and its missing parents, and sync them to the disk.

    The parents get the usual mode less the umask, since one of them may be /var/lib.
    """
    parent = os.path.dirname(path)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not parent:
            raise
        _create_directory(parent, 0o755)
        with suppress(FileExistsError):
            os.mkdir(path, mode)
    descriptor = os.open(parent or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_directory_for_user(
    path: bytes, uid: int, gid: int, purpose: DirectoryPurpose = STATE_DIRECTORY
) -> None:
    """Create, as root, a directory for the user that root switches to; keep an existing one.

    Raises UsageError when it cannot be created.
    """
    if os.path.lexists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.mkdir(path, 0o700)
        os.chown(path, uid, gid, follow_symlinks=False)
    except OSError as error:
        raise unusable_error(paths.printable(path), error, purpose) from error


def unusable_error(
    shown: str, error: OSError, purpose: DirectoryPurpose = STATE_DIRECTORY
) -> UsageError:
    """Return the exception for a directory in which ``error`` occurred."""
    return UsageError(
        f"The {purpose.noun} {shown} cannot be used: {error.strerror}. Correct that, or choose "
        f"another directory with {purpose.option}."
    )


def try_acquire_lock(descriptor: int) -> bool:
    """Lock an open file with flock(2); return False if another open file holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire_lock(descriptor: int, timeout: float) -> bool:
    """Lock an open file, waiting up to ``timeout`` seconds; return True if it is locked then."""
    deadline = time.monotonic() + timeout
    while not try_acquire_lock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOCK_POLL_INTERVAL)
    return True


def close_locked(descriptor: int) -> None:
    """Release the lock of an open file, and close it.

    To close it is not enough: a program that another thread starts has it open until its exec.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def open_file(directory: int, name: str, flags: int, shown: str) -> int:
    """Open a file in an open directory; a new file gets mode 0600.

    Raises StateError, with ``shown`` for the file, for a file that pylsyncd cannot have created.
    """
    try:
        descriptor = os.open(name, flags | _SAFE_FLAGS, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateError(f"{shown} is a symbolic link: remove it.") from error
        raise
    try:
        _refuse_foreign_file(os.fstat(descriptor), shown)
        if flags & os.O_CREAT:
            os.fchmod(descriptor, 0o600)  # For any umask.
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_foreign_file(status: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"{shown} is not a regular file: remove it.")
    if status.st_nlink > 1 or status.st_uid != os.geteuid():
        raise StateError(
            f"{shown} has several hard links or belongs to another user, so its content cannot be "
            "trusted: remove it."
        )


def read_all(descriptor: int, shown: str) -> bytes:
    """Return the content of an open file; raises StateError when it cannot be read."""
    try:
        size = os.fstat(descriptor).st_size
        if size <= MAX_FILE_SIZE:
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
    except OSError as error:
        raise StateError(f"{shown} cannot be read: {error.strerror}.") from error
    raise StateError(f"{shown} is too large ({size} bytes): remove it.")


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of ``content`` at the current position of an open file."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
