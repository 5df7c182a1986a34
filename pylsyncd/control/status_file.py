"""The status as a file, for those who cannot or would not ask the socket."""

import os
import stat
import threading
import time
from collections.abc import Callable

from pylsyncd.control.protocol import NoDaemonError
from pylsyncd.model import paths
from pylsyncd.model.errors import StateError
from pylsyncd.model.status import Status
from pylsyncd.model.status_json import format_status, parse_status
from pylsyncd.system import private_files
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.system.threads import SupervisedThread

MAX_STATUS_FILE_AGE = 10.0
"""Seconds after which the file is written although nothing has changed: its age tells."""

# Seconds between two looks at whether it has.
_LOOK = 1.0


class StatusFileWriter(SupervisedThread):
    """Keeps a file that holds what ``status()`` returns, as ``pylsyncctl status --json`` prints it.

    Its readers see the old content or the new, never a part.
    """

    def __init__(
        self,
        path: str,
        status: Callable[[], Status],
        failed: Callable[[str], None],
        interval: float = MAX_STATUS_FILE_AGE,
        look: float = _LOOK,
    ) -> None:
        super().__init__("status file", failed)
        self._file = AtomicFile(os.fsencode(path), "status file")
        self._status = status
        self._interval = interval
        self._look = look
        self._end = threading.Event()
        self._written: tuple[object, ...] = ()
        self._due = 0.0

    def work(self) -> None:
        """Write whenever it is time to, until stopped."""
        self._file.remove_temporary_files()
        while not self._end.is_set():
            self.activity.mark_active()
            self._look_at(self._status())
            with self.activity.waiting():
                self._end.wait(self._look)

    def stop(self) -> None:
        """Write for the last time, and end."""
        self._end.set()
        if self.is_alive():
            self.join()
        self._write(self._status())

    def _look_at(self, status: Status) -> None:
        now, found = time.monotonic(), _substance(status)
        if found != self._written or now >= self._due:
            self._write(status)
            self._written, self._due = found, now + self._interval

    def _write(self, status: Status) -> None:
        self._file.write(format_status(status).encode() + b"\n")


def read_status_file(path: str) -> Status:
    """Return the status that a file holds.

    Raises AbsentError when there is no file, StateError when it cannot be read or holds none.
    """
    shown = paths.printable(os.fsencode(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NoDaemonError(
            f"There is no status file {shown}: see that pylsyncd runs with --status-file={shown}."
        ) from None
    except OSError as error:
        raise StateError(f"The status file {shown} cannot be read: {error.strerror}.") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StateError(f"{shown} is not a regular file.")
        content = private_files.read_all(descriptor, shown)
    finally:
        os.close(descriptor)
    try:
        return parse_status(content)
    except StateError as error:
        raise StateError(f"{shown} is no status file of pylsyncd: {error}.") from error


def _substance(status: Status) -> tuple[object, ...]:
    """Return what of a status is worth a new file at once: not what only counts on."""
    return tuple(
        (
            sync.name, sync.source, sync.held, sync.is_watching, sync.unwatched,
            tuple(
                (each.name, each.condition, each.error, each.last_run, each.owes_everything)
                for each in sync.destinations
            ),
        )
        for sync in status.syncs
    )  # fmt: skip
