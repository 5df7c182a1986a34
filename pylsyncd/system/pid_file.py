"""The pid file: who has it locked runs, and its content says who that is."""

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
_LONGEST = 64
_CONTENT = re.compile(rb"\s*([0-9]{0,20})\s*")


class PidFile:
    """A pid file, locked until this is closed or the last process that has it open has ended.

    ``path`` is absolute. One that nobody has locked is taken over, whatever pid is in it: a lock
    does not outlive its process, a pid may by now be somebody else's. ``owners`` are user ids that
    it may belong to besides root and us. Raises UsageError when somebody has it, naming the pid,
    or when it cannot be used.
    """

    def __init__(self, path: str, owners: Collection[int] = ()) -> None:
        self._shown = paths.printable(os.fsencode(path))
        self._writer: int | None = None
        self._is_closed = False
        try:
            self._file = self._take(path, owners)
        except OSError as error:
            raise UsageError(
                f"The pid file {self._shown} cannot be used: {error.strerror}. Mend that, or name "
                "another one with --pidfile."
            ) from None

    def write(self) -> None:
        """Write down this process, which from now on is the one that may remove the file."""
        pid = os.getpid()
        try:
            os.ftruncate(self._file.descriptor, 0)
            os.pwrite(self._file.descriptor, b"%d\n" % pid, 0)
        except OSError as error:
            raise PylsyncdError(
                f"The pid file {self._shown} cannot be written: {error.strerror}."
            ) from None
        self._writer = pid

    def close(self) -> None:
        """Remove the file, or empty it where its directory is not ours to write in; unlock it.

        A copy of this in a process that has not written itself down closes it only.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._writer in {None, os.getpid()} and self._file.is_at_path:
            with suppress(OSError):
                _remove(self._file)
        self._file.close()

    def _take(self, path: str, owners: Collection[int]) -> OpenedFile:
        while True:
            file = secure_open.open_file(path, os.O_RDWR, _MODE, owners)
            try:
                self._lock(file.descriptor)
                # Whoever had it may have removed it after it was opened here.
                if file.is_at_path:
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _lock(self, descriptor: int) -> None:
        found = _CONTENT.fullmatch(os.pread(descriptor, _LONGEST, 0))
        if found is None:
            raise UsageError(
                f"The pid file {self._shown} holds something else than a pid, and is not "
                "overwritten: remove it, or name another one with --pidfile."
            )
        if not try_acquire_lock(descriptor):
            raise UsageError(self._refusal(found[1].decode()))

    def _refusal(self, pid: str) -> str:
        who = f"pid {pid}" if pid else "its pid is not written yet"
        return (
            f"pylsyncd runs already ({who}): it has locked the pid file {self._shown}. Stop that "
            "one, or name another pid file with --pidfile."
        )


def _remove(file: OpenedFile) -> None:
    try:
        os.unlink(file.name, dir_fd=file.directory)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        os.ftruncate(file.descriptor, 0)
