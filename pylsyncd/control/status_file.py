"""The status file, for readers that cannot use the control socket."""

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from pylsyncd.control.protocol import NoDaemonError, NotPermittedError
from pylsyncd.model import paths
from pylsyncd.model.errors import StateError
from pylsyncd.model.status import STATUS_FILE_INTERVAL, Status
from pylsyncd.model.status_json import format_status, parse_status
from pylsyncd.system import private_files
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.system.threads import SupervisedThread

# Seconds.
_CHECK_INTERVAL = 1.0


class StatusFileWriter(SupervisedThread):
    """A thread that writes what ``status()`` returns to a file, as JSON.

    A reader sees the old content or the new, never a part.
    """

    def __init__(
        self,
        file: AtomicFile,
        status: Callable[[], Status],
        on_failed: Callable[[str], None],
        max_age: float = STATUS_FILE_INTERVAL,
        check_interval: float = _CHECK_INTERVAL,
    ) -> None:
        super().__init__("status file", on_failed)
        self._file = file
        self._status = status
        self._max_age = max_age
        self._check_interval = check_interval
        self._stop_requested = threading.Event()
        self._written: tuple[object, ...] = ()
        self._due_at = 0.0

    def work(self) -> None:
        """Write the file after each relevant change, or when it is too old, until stopped."""
        self._file.remove_temporary_files()
        while not self._stop_requested.is_set():
            self.activity.mark_active()
            self._write_if_due(self._status())
            with self.activity.waiting():
                self._stop_requested.wait(self._check_interval)

    def stop(self) -> None:
        """Stop the thread, and write the present status."""
        self._stop_requested.set()
        if self.is_alive():
            self.join()
        self._write(self._status())

    def report_stopped(self) -> None:
        """Write the final status: the daemon has stopped."""
        status = self._status()
        self._write(replace(status, stopped=status.time))

    def _write_if_due(self, status: Status) -> None:
        now, relevant = time.monotonic(), _relevant_fields(status)
        if relevant != self._written or now >= self._due_at:
            self._write(status)
            self._written, self._due_at = relevant, now + self._max_age

    def _write(self, status: Status) -> None:
        self._file.write(format_status(status).encode() + b"\n")


def read_status_file(path: str) -> Status:
    """Return the status that a file holds.

    Raises NoDaemonError if there is no file, NotPermittedError, or StateError if it cannot be read
    or holds no status.
    """
    shown = paths.printable(os.fsencode(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NoDaemonError(
            f"There is no status file {shown}: check that pylsyncd runs with --status-file={shown}."
        ) from None
    except PermissionError:
        raise NotPermittedError(
            f"User id {os.geteuid()} may not read the status file {shown}: run this as root, with "
            "sudo, or let pylsyncd write a file that all users may read with "
            "--status-file-mode=0644."
        ) from None
    except OSError as error:
        raise StateError(f"Cannot read the status file {shown}: {error.strerror}.") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StateError(f"{shown} is not a regular file.")
        content = private_files.read_all(descriptor, shown)
    finally:
        os.close(descriptor)
    try:
        return parse_status(content)
    except StateError as error:
        raise StateError(f"{shown} is not a status file of pylsyncd: {error}.") from error


def _relevant_fields(status: Status) -> tuple[object, ...]:
    """Return the fields whose change is written at once, unlike that of ages and counts."""
    return tuple(
        (
            sync.name, sync.source, sync.held, sync.held_subtrees, sync.is_watching, sync.unwatched,
            tuple(
                (each.name, each.condition, each.error, each.set_aside, each.last_run,
                 each.owes_everything, each.unverified)
                for each in sync.destinations
            ),
        )
        for sync in status.syncs
    )  # fmt: skip
