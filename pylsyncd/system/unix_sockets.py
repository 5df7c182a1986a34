"""Unix sockets in a private directory: bound, found, connected to and removed.

An address has at most 107 bytes (unix(7)); a longer path is reached through its open directory.
"""

import fcntl
import os
import re
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.paths import InodeId
from pylsyncd.system import private_files
from pylsyncd.system.private_files import DirectoryPurpose

SOCKET_DIRECTORY = DirectoryPurpose(
    "directory of the control socket", "--control", "who could impersonate the daemon"
)
SOCKET_SUFFIX = ".sock"
# Of the runtime directory that contrib/systemd gives each unit.
_UNIT_SUFFIX = ".service"

MAX_ADDRESS_LENGTH = 107
"""Bytes of a path that a socket can be bound at or connected to directly (unix(7))."""

_MAX_NAME_LENGTH = 255 - len(".new")
_PID_SOCKET_NAME = re.compile(r"[0-9]+\.sock")
_BACKLOG = 128
# Seconds; the lock is held for milliseconds.
_LOCK_TIMEOUT = 10.0


class ControlSocket:
    """A listening socket that only its owner can connect to.

    ``path`` is absolute. If it ends with a slash it is a directory, in which the socket is named
    by the pid, so it is created after the fork. The constructor raises UsageError when the socket
    cannot be created, or when another process listens there.
    """

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._name = name or f"{os.getpid()}{SOCKET_SUFFIX}"
        self.path = os.path.join(directory, self._name)
        shown = paths.printable(os.fsencode(self.path))
        if len(os.fsencode(self._name)) > _MAX_NAME_LENGTH:
            raise UsageError(f"The name of the control socket {shown} is too long: shorten it.")
        self._directory = -1
        self._inode_id: InodeId | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened = private_files.open_directory(os.fsencode(directory), SOCKET_DIRECTORY)
            self._directory = opened
            with _locked(self._directory, shown):
                self._remove_stale_sockets()
                self._bind(shown)
        except OSError as error:
            self.close()
            raise UsageError(
                f"The control socket {shown} cannot be created: {error.strerror or error}. Choose "
                "another socket with --control."
            ) from error
        except BaseException:
            self.close()
            raise

    @property
    def is_in_place(self) -> bool:
        """Whether clients find this socket at its path: others may remove it, or its directory."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return self._inode_id == (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close the socket, and remove its file unless another one has replaced it."""
        self.socket.close()
        directory, self._directory = self._directory, -1
        if directory < 0:
            return
        with suppress(OSError):
            if self._inode_id == _inode_id(directory, self._name):
                os.unlink(self._name, dir_fd=directory)
        os.close(directory)

    def _bind(self, shown: str) -> None:
        """Bind at a temporary name, so that the socket already listens when it gets its own."""
        _refuse_existing(self._directory, self._name, shown)
        directory, temporary = self._directory, f"{self._name}.new"
        # Since this process holds the lock, an existing one is from a daemon that was killed.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        self.socket.bind(_address(directory, temporary))
        try:
            os.chmod(temporary, 0o600, dir_fd=directory)
            self.socket.listen(_BACKLOG)
            self._inode_id = _inode_id(directory, temporary)
            os.rename(temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise

    def _remove_stale_sockets(self) -> None:
        """Remove the sockets of daemons that were killed."""
        directory = self._directory
        for name in filter(_PID_SOCKET_NAME.fullmatch, os.listdir(directory)):
            # One that cannot be removed does no harm.
            with suppress(OSError):
                if _is_socket(directory, name) and not _accepts_connections(directory, name):
                    os.unlink(name, dir_fd=directory)


def check_available(path: str) -> None:
    """Raise UsageError if a :class:`ControlSocket` cannot be created there; used before a fork."""
    directory, name = os.path.split(path)
    descriptor = private_files.open_directory(os.fsencode(directory), SOCKET_DIRECTORY)
    try:
        if name:
            _refuse_existing(descriptor, name, paths.printable(os.fsencode(path)))
    finally:
        os.close(descriptor)


def create_system_directory(path: str) -> None:
    """Create, as root, the directory of all sockets, or let other users list an existing one.

    As systemd creates it: the directories of units and users are in it, and the sockets of root
    have mode 0600. One that cannot be used is left to :func:`check_available`.
    """
    with suppress(OSError):
        os.mkdir(path, 0o755)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if status.st_uid == os.geteuid():
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | 0o055)
        finally:
            os.close(descriptor)


def create_directory_for_user(path: str, uid: int, gid: int) -> None:
    """Create, as root, the directory of a socket for the user that root switches to.

    An existing one is kept as it is. Raises UsageError when it cannot be created.
    """
    directory = os.fsencode(os.path.dirname(path))
    if os.path.lexists(directory):
        return
    private_files.create_directory_for_user(directory, uid, gid, SOCKET_DIRECTORY)
    parent = os.path.dirname(directory)
    try:
        status = os.stat(parent)
        if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IXOTH:
            mode = stat.S_IMODE(status.st_mode) | stat.S_IXGRP | stat.S_IXOTH
            os.chmod(parent, mode)  # Root's own sockets there have mode 0600.
    except OSError as error:
        shown = paths.printable(directory)
        raise private_files.unusable_error(shown, error, SOCKET_DIRECTORY) from error


def connect(path: str, timeout: float) -> socket.socket:
    """Return a socket connected to the one that listens at a path; raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        if len(os.fsencode(path)) <= MAX_ADDRESS_LENGTH:
            connection.connect(path)
        else:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            directory = os.open(os.path.dirname(path) or ".", flags)
            try:
                connection.connect(_address(directory, os.path.basename(path)))
            finally:
                os.close(directory)
    except BaseException:
        connection.close()
        raise
    return connection


def find_sockets(directories: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the sockets in directories and one level below, and the unreadable directories.

    In the runtime directory of a unit there may be one more level, for the user of the daemon.
    """
    found: list[str] = []
    unreadable: list[str] = []
    for directory in directories:
        for each in (directory, *_directories_with_sockets(directory)):
            try:
                found += _sockets_in(each)
            except PermissionError:  # noqa: PERF203  # the other directories may be readable
                unreadable.append(each)
            except OSError:
                pass  # It does not exist.
    return found, unreadable


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of the process at the other end (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", packed)[1])


def _directories_with_sockets(directory: str) -> Iterator[str]:
    for each in _subdirectories(directory):
        yield each
        if each.endswith(_UNIT_SUFFIX):
            yield from _subdirectories(each)


def _subdirectories(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(each.path for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _sockets_in(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        named = [each for each in entries if each.name.endswith(SOCKET_SUFFIX)]
    return sorted(
        each.path for each in named if not each.is_symlink() and Path(each.path).is_socket()
    )


def _address(directory: int, name: str) -> str:
    """Return the address of a name in an open directory."""
    address = f"/proc/self/fd/{directory}/{name}"
    if len(os.fsencode(address)) > MAX_ADDRESS_LENGTH:
        raise OSError(f"its name {name} is too long for a socket, shorten it")
    return address


def _inode_id(directory: int, name: str) -> InodeId:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _is_socket(directory: int, name: str) -> bool:
    return stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _refuse_existing(directory: int, name: str, shown: str) -> None:
    """Raise UsageError if there is a file that is not a stale socket."""
    try:
        if not _is_socket(directory, name):
            raise UsageError(
                f"The control socket {shown} cannot be created: there is a file that is not a "
                "socket. Remove it, or choose another socket with --control."
            )
    except FileNotFoundError:
        return
    if _accepts_connections(directory, name):
        raise UsageError(
            f"Another pylsyncd already listens at {shown}: stop it, or choose another socket with "
            "--control."
        )


def _accepts_connections(directory: int, name: str) -> bool:
    """Return True if a process listens at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.0)
        try:
            probe.connect(_address(directory, name))
        except BlockingIOError:  # Its backlog is full.
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


@contextmanager
def _locked(directory: int, shown: str) -> Iterator[None]:
    """Hold the lock of a directory, without which no pylsyncd creates a socket in it."""
    if not private_files.acquire_lock(directory, _LOCK_TIMEOUT):
        raise UsageError(
            f"The directory of the control socket {shown} has been locked for "
            f"{_LOCK_TIMEOUT:.0f} seconds: stop the process that holds the lock."
        )
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)
