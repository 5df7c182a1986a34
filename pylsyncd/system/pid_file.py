"""The pid file: the daemon holds a lock on it, and writes its pid into it."""

import errno
import os
import re
from collections.abc import Collection
from contextlib import suppress

from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.system import secure_open
from pylsyncd.system.private_files import try_acquire_lock
from pylsyncd.system.secure_open import OpenedFile

_MODE = 0o644
_MAX_LENGTH = 64
_CONTENT = re.compile(rb"\s*([0-9]{0,20})\s*")


class PidFile:
    """A pid file, locked until it is closed or the last process that has it open has ended.

    ``path`` is absolute. An unlocked file is taken over, whatever pid is in it: a lock ends with
    its process, while a pid is used again. The file may belong to root, to this user or to one of
    the user ids ``owners``. The constructor raises UsageError when the file is locked, with the
    pid, or cannot be used.
    """

    def __init__(self, path: str, owners: Collection[int] = ()) -> None:
        self._shown = paths.printable(os.fsencode(path))
        self._written_pid: int | None = None
        self._is_closed = False
        try:
            self._file = self._open_locked(path, owners)
        except OSError as error:
            raise UsageError(
                f"The pid file {self._shown} cannot be used: {error.strerror}. Correct that, or "
                "choose another file with --pidfile."
            ) from None

    def write(self) -> None:
        """Write the pid of this process; from now on only this process removes the file."""
        pid = os.getpid()
        try:
            os.ftruncate(self._file.descriptor, 0)
            os.pwrite(self._file.descriptor, b"%d\n" % pid, 0)
        except OSError as error:
            raise PylsyncdError(
                f"The pid file {self._shown} cannot be written: {error.strerror}."
            ) from None
        self._written_pid = pid

    def close(self) -> None:
        """Remove the file, or empty it where its directory is not writable; release the lock.

        In a fork of the process whose pid is in the file, only close the descriptors.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._written_pid in {None, os.getpid()} and self._file.is_at_path:
            with suppress(OSError):
                _remove_or_empty(self._file)
        self._file.close()

    def _open_locked(self, path: str, owners: Collection[int]) -> OpenedFile:
        while True:
            file = secure_open.open_file(path, os.O_RDWR, _MODE, owners)
            try:
                self._acquire_lock(file.descriptor)
                # Its last owner may have removed it between the open and the lock.
                if file.is_at_path:
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _acquire_lock(self, descriptor: int) -> None:
        content = _CONTENT.fullmatch(os.pread(descriptor, _MAX_LENGTH, 0))
        if content is None:
            raise UsageError(
                f"The pid file {self._shown} contains something else than a pid, and is not "
                "overwritten: remove it, or choose another file with --pidfile."
            )
        if not try_acquire_lock(descriptor):
            pid = content[1].decode()
            holder = f"pid {pid}" if pid else "its pid is not written yet"
            raise UsageError(
                f"pylsyncd is already running ({holder}): it has locked the pid file "
                f"{self._shown}. Stop it, or choose another pid file with --pidfile."
            )


def _remove_or_empty(file: OpenedFile) -> None:
    try:
        os.unlink(file.name, dir_fd=file.directory)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        os.ftruncate(file.descriptor, 0)
