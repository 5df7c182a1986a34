"""A log file that other programs may rename while it is written (logrotate(8))."""

import logging
import os
from collections.abc import Callable

from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count
from pylsyncd.system import secure_open

_MODE = 0o640


class LogFile(logging.Handler):
    """A log handler that appends each line with one write(2), and reopens a renamed file.

    A failure of the file neither ends nor delays the daemon. If a renamed file cannot be opened
    again, the old one stays in use. Lines that cannot be written are counted, and the next line
    that can is preceded by a line with their number. ``on_failure(text)`` is called once for each
    kind of failure. A file that root creates is given to ``owner``, as (user id, group id). The
    constructor raises OSError when the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        on_failure: Callable[[str], None],
        owner: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._path = path
        self._shown = paths.printable(os.fsencode(path))
        self._on_failure = on_failure
        self._owner = owner
        self._descriptor = self._open()
        self._status = os.fstat(self._descriptor)
        self._missing_lines = 0
        self._write_error = ""
        self._is_line_incomplete = False
        self._has_failed_to_reopen = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  # a faulty message must not end its thread
            line = self._own_line(
                f"A log message is faulty, a bug: {error!r}: {record.msg!r} {record.args!r}"
            )
        if self._descriptor < 0:
            return
        self._reopen_if_renamed()
        if self._missing_lines and self._write(self._missing_lines_note()):
            self._missing_lines, self._write_error = 0, ""
        if not self._write(line):
            self._missing_lines += 1

    def close(self) -> None:
        """Close the file."""
        with self.lock:  # type: ignore[union-attr]  # None before the constructor only
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)
        super().close()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND
        owners = (self._owner[0],) if self._owner else ()
        file = secure_open.open_file(self._path, flags, _MODE, owners)
        os.close(file.directory)
        try:
            if self._owner and file.is_new and os.geteuid() == 0:
                os.fchown(file.descriptor, *self._owner)
        except BaseException:
            os.close(file.descriptor)
            raise
        return file.descriptor

    def _reopen_if_renamed(self) -> None:
        """Open the path again if another file, or none, is there now."""
        try:
            if os.path.samestat(os.stat(self._path), self._status):
                self._has_failed_to_reopen = False
                return
        except OSError:
            pass  # Opening it fails for the same reason, or creates it.
        try:
            descriptor = self._open()
        except OSError as error:
            if not self._has_failed_to_reopen:
                self._has_failed_to_reopen = True
                self._report_failed_reopen(error)
            return
        os.close(self._descriptor)
        self._descriptor, self._status = descriptor, os.fstat(descriptor)
        self._has_failed_to_reopen = self._is_line_incomplete = False

    def _report_failed_reopen(self, error: OSError) -> None:
        text = (
            f"The log file {self._shown} was renamed or removed, and cannot be opened again: "
            f"{error.strerror}. Until it can, the log goes to the old file."
        )
        self._write(self._own_line(text))
        self._on_failure(text)

    def _write(self, line: str) -> bool:
        """Write a line; return True if all of it was written."""
        rest = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._is_line_incomplete:
            rest = b"\n" + rest
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._is_line_incomplete = not rest[:written].endswith(b"\n")
                rest = rest[written:]
        except OSError as error:
            if not self._write_error:
                self._write_error = error.strerror or str(error)
                self._on_failure(
                    f"The log file {self._shown} cannot be written: {self._write_error}. pylsyncd "
                    "continues, and counts the missing lines."
                )
            return False
        return True

    def _missing_lines_note(self) -> str:
        are = "is" if self._missing_lines == 1 else "are"
        count = format_count(self._missing_lines, "line")
        return self._own_line(f"{count} {are} missing here: {self._write_error}.")

    def _own_line(self, text: str) -> str:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        return self.format(record)
