"""The state directory: files that survive a crash, and locks that end with their process.

No symbolic link is followed, and no file is used that another user could have created.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pylsyncd.model import paths
from pylsyncd.model.errors import StateError, UsageError
from pylsyncd.state import lock_file
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.system import private_files
from pylsyncd.system.private_files import try_acquire_lock

# Unlocked ones are removed, so the patterns match no other files that a user may keep there.
_LOCK_NAME = re.compile(r"[0-9a-f]{16}\.lock")
_TEMPORARY_NAME = re.compile(r".+\.[0-9a-f]{16}\.tmp", re.DOTALL)

# Only the process that holds this lock may examine, take and remove the others.
_GATE_NAME = "gate"
# Seconds; the gate is held for milliseconds.
_GATE_TIMEOUT = 10.0


class StateDirectory:
    """An open state directory, whose files any thread may read and write.

    The constructor creates the directory if it is missing, and removes the temporary files of
    writers that were killed. It raises UsageError when the directory cannot be used, or when
    another user could write there.
    """

    def __init__(self, path: bytes) -> None:
        self._shown = paths.printable(path)
        self._locks: dict[str, int] = {}
        self._descriptor = private_files.open_directory(path)
        try:
            self._remove_temporary_files()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the locks and close the directory; a later write raises OSError."""
        while self._locks:
            private_files.close_locked(self._locks.popitem()[1])
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it is missing; raises StateError."""
        try:
            descriptor = self._open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._show(name)} cannot be opened: {error.strerror}.") from error
        try:
            return private_files.read_all(descriptor, self._show(name))
        finally:
            os.close(descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Replace the content of a file atomically, and sync it to the disk.

        Raises OSError, and the old content stays.
        """
        temporary, descriptor = self._create_temporary_file(name)
        directory = self._descriptor
        try:
            private_files.write_all(descriptor, content)
            os.fsync(descriptor)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)
        os.fsync(directory)

    def acquire_lock(self, record: LockRecord) -> None:
        """Lock a source and destination until this is closed or the process ends.

        Raises UsageError when another pylsyncd holds this lock, or a conflicting one. Acquiring a
        lock again writes the pid of this process, since a fork inherits the lock.
        """
        name = _lock_name(record)
        try:
            with self._gate():
                if name in self._locks:
                    _overwrite(self._locks[name], lock_file.encode(record, os.getpid()))
                else:
                    self._locks[name] = self._open_lock(name, record)
        except StateError as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            raise private_files.unusable_error(self._shown, error) from error

    def release_lock(self, record: LockRecord) -> None:
        """Release the lock of a source and destination."""
        if (descriptor := self._locks.pop(_lock_name(record), None)) is not None:
            private_files.close_locked(descriptor)

    def _open_lock(self, name: str, record: LockRecord) -> int:
        """Return the descriptor of a lock that is now held; raises UsageError for a conflict."""
        descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
        try:
            self._refuse_conflicts(name, descriptor, record)
            _overwrite(descriptor, lock_file.encode(record, os.getpid()))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse_conflicts(self, name: str, descriptor: int, record: LockRecord) -> None:
        if try_acquire_lock(descriptor):
            held = self._held_by_others(name)
        else:
            held = [self._read_lock(name, descriptor)]
        for pid, other in held:
            if message := lock_file.conflict_message(record, other, pid):
                raise UsageError(message)

    def _held_by_others(self, own: str) -> list[tuple[int, LockRecord]]:
        """Return the records of other processes, with their pids, and remove unlocked files."""
        held = []
        for name in os.listdir(self._descriptor):
            if not _LOCK_NAME.fullmatch(name) or name == own or name in self._locks:
                continue
            descriptor = self._open(name, os.O_RDWR)
            try:
                if try_acquire_lock(descriptor):
                    # Lock files are opened only behind the gate: no other process has it open.
                    os.unlink(name, dir_fd=self._descriptor)
                else:
                    held.append(self._read_lock(name, descriptor))
            finally:
                os.close(descriptor)
        return held

    def _read_lock(self, name: str, descriptor: int) -> tuple[int, LockRecord]:
        try:
            return lock_file.decode(private_files.read_all(descriptor, self._show(name)))
        except StateError as error:
            raise StateError(
                f"{self._show(name)} is locked, and {error}: stop the process that locks it."
            ) from error

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Hold the lock without which no other process acquires one."""
        descriptor = self._open(_GATE_NAME, os.O_RDWR | os.O_CREAT)
        try:
            if not private_files.acquire_lock(descriptor, _GATE_TIMEOUT):
                raise StateError(
                    f"{self._show(_GATE_NAME)} has been locked for {_GATE_TIMEOUT:.0f} seconds: "
                    "stop the process that locks it."
                )
            yield
        finally:
            os.close(descriptor)

    def _create_temporary_file(self, name: str) -> tuple[str, int]:
        """Return a new file, locked, so that no other process removes it as a leftover."""
        while True:
            temporary = f"{name}.{secrets.token_hex(8)}.tmp"
            descriptor = self._open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                is_ours = try_acquire_lock(descriptor) and os.fstat(descriptor).st_nlink > 0
            except BaseException:
                os.close(descriptor)
                raise
            if is_ours:
                return temporary, descriptor
            os.close(descriptor)

    def _remove_temporary_files(self) -> None:
        """Remove the temporary files that are not locked; their names are never used again."""
        for name in filter(_TEMPORARY_NAME.fullmatch, os.listdir(self._descriptor)):
            # One that cannot be opened or removed does no harm.
            with suppress(OSError, StateError):
                descriptor = self._open(name, os.O_RDWR)
                try:
                    if try_acquire_lock(descriptor):
                        os.unlink(name, dir_fd=self._descriptor)
                finally:
                    os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        return private_files.open_file(self._descriptor, name, flags, self._show(name))

    def _show(self, name: str) -> str:
        return f"{self._shown}/{paths.printable(os.fsencode(name))}"


def _lock_name(record: LockRecord) -> str:
    return lock_file.destination_key(record.source, record.destination) + ".lock"


def _overwrite(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    private_files.write_all(descriptor, content)
