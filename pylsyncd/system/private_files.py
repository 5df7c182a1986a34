"""Opens directories and files that are ours alone, whatever others may have put in their place.

No symbolic link is followed, and nothing is used that somebody else could have written.
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
"""Bytes beyond which a file is not one of ours: several times what the largest debt takes."""

# Without O_NONBLOCK, opening a FIFO that somebody has put there would never end.
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# Seconds between two attempts to lock what somebody else has locked.
_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class DirectoryPurpose:
    """What a directory is for, in the words of the messages about it."""

    noun: str
    option: str
    """Names another one."""
    risk: str
    """What others could do who can write there."""


STATE_DIRECTORY = DirectoryPurpose(
    "state directory", "--state-dir", "who could have changes lost or replicas overwritten"
)


def open_directory(path: bytes, purpose: DirectoryPurpose = STATE_DIRECTORY) -> int:
    """Open a directory that is only ours to write in, and create it where there is none.

    Raises UsageError when it cannot be used, or when somebody else could write there.
    """
    while path != (shorter := path.removesuffix(b"/.").rstrip(b"/") or path[:1]):
        path = shorter  # With a slash behind it, a symbolic link would be followed.
    shown = paths.printable(path)
    if os.path.islink(path):
        raise UsageError(
            f"The {purpose.noun} {shown} is a symbolic link, which somebody may turn: name the "
            f"directory itself with {purpose.option}."
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
            f"The {purpose.noun} {shown} belongs to the user id {status.st_uid}, and pylsyncd "
            f"runs as {os.geteuid()}: give it to that one with chown, or name another directory "
            f"with {purpose.option}."
        )
    raise UsageError(
        f"The {purpose.noun} {shown} can be written by its group or by all, {purpose.risk}: run "
        f"chmod go-w {shown}, or name another directory with {purpose.option}."
    )


def _create_directory(path: bytes, mode: int) -> None:
    """Create a directory, if it is missing, with those above it; on the disk when this returns.

    Those above it have the usual mode less the umask, for they may be /var/lib.
    """
    above = os.path.dirname(path)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not above:
            raise
        _create_directory(above, 0o755)
        with suppress(FileExistsError):
            os.mkdir(path, mode)
    descriptor = os.open(above or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_directory_for_user(
    path: bytes, uid: int, gid: int, purpose: DirectoryPurpose = STATE_DIRECTORY
) -> None:
    """Make, as root, a directory for the user that the process will be; one that is there stays.

    Raises UsageError when it cannot be made.
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
    """Return the exception for a directory in which something could not be done."""
    return UsageError(
        f"The {purpose.noun} {shown} cannot be used: {error.strerror}. Mend that, or name another "
        f"directory with {purpose.option}."
    )


def try_acquire_lock(descriptor: int) -> bool:
    """Lock an open file and tell whether that was possible: somebody else may have done it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire_lock(descriptor: int, seconds: float) -> bool:
    """Lock an open file, and wait for whoever has it; tell whether that ended in time."""
    deadline = time.monotonic() + seconds
    while not try_acquire_lock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def open_file(directory: int, name: str, flags: int, shown: str) -> int:
    """Open a file in an open directory, for its owner alone if it is created.

    Raises StateError, with ``shown`` for the file, for what pylsyncd cannot have put there.
    """
    try:
        descriptor = os.open(name, flags | _SAFE, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateError(f"{shown} is a symbolic link: remove it.") from error
        raise
    try:
        _refuse_foreign(os.fstat(descriptor), shown)
        if flags & os.O_CREAT:
            os.fchmod(descriptor, 0o600)  # Whatever the umask.
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_foreign(status: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"{shown} is not a regular file: remove it.")
    if status.st_nlink > 1 or status.st_uid != os.geteuid():
        raise StateError(
            f"{shown} has several names or belongs to another user, so that others may have "
            "changed it: remove it."
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
    """Write at the position where an open file stands."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
