"""The state directory: files that survive any end of the daemon, and locks that do not.

Nothing here follows a symbolic link or trusts a file that somebody else could have put there.
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

# Exactly ours, since those that nobody holds are removed, and a person may have named a directory
# that holds other things, too.
_LOCK = re.compile(r"[0-9a-f]{16}\.lock")
_TEMPORARY = re.compile(r".+\.[0-9a-f]{16}\.tmp", re.DOTALL)

# Whoever holds this one may look at the locks, take one and remove those that nobody holds.
_GATE = "gate"
# Seconds: what is done behind it takes milliseconds.
_PATIENCE = 10.0


class StateDirectory:
    """An open state directory. Its files can be read and written by any thread.

    Opening it creates it, and removes what writers that were killed have left. Raises UsageError
    when it cannot be used, or when somebody else could write there.
    """

    def __init__(self, path: bytes) -> None:
        self._shown = paths.printable(path)
        self._locks: dict[str, int] = {}
        self._descriptor = private_files.open_directory(path)
        try:
            self._remove_leftovers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give back the locks and the directory; who writes after that gets an OSError."""
        while self._locks:
            os.close(self._locks.popitem()[1])
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None when there is none; StateError if unreadable."""
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
        """Replace the content of a file: whatever happens, it then is the old or the new one.

        It is on the disk when this returns. Raises OSError, and the old content stays.
        """
        temporary, descriptor = self._create_temporary(name)
        try:
            private_files.write_all(descriptor, content)
            os.fsync(descriptor)
            here = self._descriptor
            os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._descriptor)
            raise
        finally:
            os.close(descriptor)
        os.fsync(self._descriptor)

    def acquire_lock(self, claim: LockRecord) -> None:
        """Take the lock of a source and destination until this is closed or the process ends.

        Raises UsageError when another pylsyncd has it, or has one that does not go together with
        it. Claiming once more what this holds writes down the process that it is now: a fork
        inherits the lock.
        """
        name = lock_file.destination_key(claim.source, claim.destination) + ".lock"
        try:
            with self._gate():
                if name in self._locks:
                    _replace(self._locks[name], lock_file.encode(claim, os.getpid()))
                else:
                    self._locks[name] = self._take(name, claim)
        except StateError as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            raise private_files.unusable_error(self._shown, error) from error

    def release_lock(self, claim: LockRecord) -> None:
        """Give back the lock of a source and destination."""
        name = lock_file.destination_key(claim.source, claim.destination) + ".lock"
        if (descriptor := self._locks.pop(name, None)) is not None:
            os.close(descriptor)

    def _take(self, name: str, claim: LockRecord) -> int:
        """Return a lock's descriptor, once nothing stands against it."""
        descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
        try:
            self._refuse_conflicts(name, descriptor, claim)
            _replace(descriptor, lock_file.encode(claim, os.getpid()))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse_conflicts(self, name: str, descriptor: int, claim: LockRecord) -> None:
        is_ours = try_acquire_lock(descriptor)
        others = self._others(name) if is_ours else [self._holder(name, descriptor)]
        for pid, other in others:
            if refusal := lock_file.conflict_message(claim, other, pid):
                raise UsageError(refusal)

    def _others(self, own: str) -> list[tuple[int, LockRecord]]:
        """Return what others hold, with their pid, and remove the locks that nobody holds."""
        held = []
        for name in os.listdir(self._descriptor):
            if not _LOCK.fullmatch(name) or name == own or name in self._locks:
                continue
            descriptor = self._open(name, os.O_RDWR)
            try:
                if try_acquire_lock(descriptor):
                    # All who open it come through the gate: nobody has it open by now.
                    os.unlink(name, dir_fd=self._descriptor)
                else:
                    held.append(self._holder(name, descriptor))
            finally:
                os.close(descriptor)
        return held

    def _holder(self, name: str, descriptor: int) -> tuple[int, LockRecord]:
        try:
            return lock_file.decode(private_files.read_all(descriptor, self._show(name)))
        except StateError as error:
            raise StateError(
                f"{self._show(name)} is locked, and {error}: end the process that locks it."
            ) from error

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Keep all others from claiming meanwhile."""
        descriptor = self._open(_GATE, os.O_RDWR | os.O_CREAT)
        try:
            if not private_files.acquire_lock(descriptor, _PATIENCE):
                raise StateError(
                    f"{self._show(_GATE)} has been locked for {_PATIENCE:.0f} seconds: end the "
                    "process that locks it."
                )
            yield
        finally:
            os.close(descriptor)

    def _create_temporary(self, name: str) -> tuple[str, int]:
        """Return a new file, locked, so that it is not taken for a leftover."""
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

    def _remove_leftovers(self) -> None:
        """Remove the temporary files that nobody holds. No name is ever used again."""
        for name in os.listdir(self._descriptor):
            if not _TEMPORARY.fullmatch(name):
                continue
            # What cannot be opened or removed harms nobody.
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


def _replace(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    private_files.write_all(descriptor, content)
