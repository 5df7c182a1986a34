"""Unix sockets in a directory that is ours alone: made, found, reached and removed.

An address holds 107 bytes (unix(7)); what is longer is reached through the open directory.
"""

import fcntl
import os
import re
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.system import private_files
from pylsyncd.system.private_files import DirectoryPurpose

SOCKET_DIRECTORY = DirectoryPurpose(
    "directory of the control socket", "--control", "who could take the daemon's place"
)
SOCKET_SUFFIX = ".sock"

MAX_ADDRESS_LENGTH = 107
"""Bytes of a path that a socket can be bound at or connected to directly (unix(7))."""

_LONGEST_NAME = 255 - len(".new")
_BY_PID = re.compile(r"[0-9]+\.sock")
_BACKLOG = 128
# Seconds: what is done under the lock takes milliseconds.
_PATIENCE = 10.0


class ControlSocket:
    """A socket that listens at a path, for its owner alone.

    ``path`` is absolute. One that ends with a slash is a directory, in which the socket is called
    by the process: so it is to be made after a fork. Raises UsageError when it cannot be made, or
    when somebody listens there already.
    """

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._name = name or f"{os.getpid()}{SOCKET_SUFFIX}"
        self.path = os.path.join(directory, self._name)
        shown = paths.printable(os.fsencode(self.path))
        if len(os.fsencode(self._name)) > _LONGEST_NAME:
            raise UsageError(f"The name of the control socket {shown} is too long: shorten it.")
        self._directory = private_files.open_directory(os.fsencode(directory), SOCKET_DIRECTORY)
        self._identity: paths.InodeId | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _alone(self._directory, shown):
                self._remove_stale()
                self._bind(shown)
        except OSError as error:
            self.close()
            raise UsageError(
                f"The control socket {shown} cannot be made: {error.strerror or error}. Name "
                "another one with --control."
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take no more connections, and remove the socket's file if it still is this one's."""
        self.socket.close()
        directory, self._directory = self._directory, -1
        if directory < 0:
            return
        with suppress(OSError):
            if self._identity == _identity(directory, self._name):
                os.unlink(self._name, dir_fd=directory)
        os.close(directory)

    def _bind(self, shown: str) -> None:
        """Bind under another name, so that under its own the socket listens from the start on."""
        _refuse_taken(self._directory, self._name, shown)
        temporary = f"{self._name}.new"
        # Only a daemon that was killed under the lock can have left it.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=self._directory)
        self.socket.bind(_address(self._directory, temporary))
        try:
            os.chmod(temporary, 0o600, dir_fd=self._directory)
            self.socket.listen(_BACKLOG)
            self._identity = _identity(self._directory, temporary)
            here = self._directory
            os.rename(temporary, self._name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._directory)
            raise

    def _remove_stale(self) -> None:
        """Remove the sockets of daemons that have died."""
        for name in os.listdir(self._directory):
            if not _BY_PID.fullmatch(name):
                continue
            # What cannot be looked at or removed harms nobody.
            with suppress(OSError):
                if _is_socket(self._directory, name) and not _is_answered(self._directory, name):
                    os.unlink(name, dir_fd=self._directory)


def check_available(path: str) -> None:
    """See whether a :class:`ControlSocket` can be made, before a fork; raises UsageError if not."""
    directory, name = os.path.split(path)
    descriptor = private_files.open_directory(os.fsencode(directory), SOCKET_DIRECTORY)
    try:
        if name:
            _refuse_taken(descriptor, name, paths.printable(os.fsencode(path)))
    finally:
        os.close(descriptor)


def create_directory_for_user(path: str, uid: int, gid: int) -> None:
    """Make, as root, the directory of a socket for the user that the process will be.

    One that is there already stays as it is. Raises UsageError when it cannot be made.
    """
    directory = os.fsencode(os.path.dirname(path))
    if os.path.lexists(directory):
        return
    private_files.create_directory_for_user(directory, uid, gid, SOCKET_DIRECTORY)
    above = os.path.dirname(directory)
    try:
        status = os.stat(above)
        if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IXOTH:
            mode = stat.S_IMODE(status.st_mode) | stat.S_IXGRP | stat.S_IXOTH
            os.chmod(above, mode)  # Root's own sockets are in it, with mode 0600.
    except OSError as error:
        raise private_files.unusable_error(
            paths.printable(directory), error, SOCKET_DIRECTORY
        ) from error


def connect(path: str, timeout: float) -> socket.socket:
    """Return a socket that is connected to whoever listens at a path; raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout)
    try:
        if len(os.fsencode(path)) <= MAX_ADDRESS_LENGTH:
            made.connect(path)
        else:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            directory = os.open(os.path.dirname(path) or ".", flags)
            try:
                made.connect(_address(directory, os.path.basename(path)))
            finally:
                os.close(directory)
    except BaseException:
        made.close()
        raise
    return made


def find_sockets(directories: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the sockets in directories and one level below, and what may not be looked into."""
    found: list[str] = []
    shut: list[str] = []
    for directory in directories:
        _look_into(directory, found, shut)
        for name in _names(directory, []):
            below = os.path.join(directory, name)
            if os.path.isdir(below) and not os.path.islink(below):
                _look_into(below, found, shut)
    return found, shut


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of who is at the other end of a connection (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", packed)[1])


def _look_into(directory: str, found: list[str], shut: list[str]) -> None:
    for name in _names(directory, shut):
        path = os.path.join(directory, name)
        with suppress(FileNotFoundError):
            if name.endswith(SOCKET_SUFFIX) and stat.S_ISSOCK(os.lstat(path).st_mode):
                found.append(path)


def _names(directory: str, shut: list[str]) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except PermissionError:
        shut.append(directory)
    except OSError:
        pass  # It is not there.
    return []


def _address(directory: int, name: str) -> str:
    """Return the address of a name in an open directory, whatever becomes of the directory's."""
    address = f"/proc/self/fd/{directory}/{name}"
    if len(os.fsencode(address)) > MAX_ADDRESS_LENGTH:
        raise OSError(f"its name {name} is too long for a socket, shorten it")
    return address


def _identity(directory: int, name: str) -> paths.InodeId:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _is_socket(directory: int, name: str) -> bool:
    return stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _refuse_taken(directory: int, name: str, shown: str) -> None:
    """Raise UsageError when a name is somebody's: a stale socket is nobody's."""
    try:
        if not _is_socket(directory, name):
            raise UsageError(
                f"The control socket {shown} cannot be made: something else is there. Remove it, "
                "or name another socket with --control."
            )
    except FileNotFoundError:
        return
    if _is_answered(directory, name):
        raise UsageError(
            f"A pylsyncd listens at {shown} already: stop it, or name another socket with "
            "--control."
        )


def _is_answered(directory: int, name: str) -> bool:
    """Tell whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.0)
        try:
            probe.connect(_address(directory, name))
        except BlockingIOError:  # So many wait that there is no place for another.
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


@contextmanager
def _alone(directory: int, shown: str) -> Iterator[None]:
    """Keep all others from making sockets in a directory meanwhile."""
    if not private_files.acquire_lock(directory, _PATIENCE):
        raise UsageError(
            f"The directory of the control socket {shown} has been locked for "
            f"{_PATIENCE:.0f} seconds: end the process that locks it."
        )
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)
