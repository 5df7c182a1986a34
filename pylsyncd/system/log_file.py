"""A log file, which whoever rotates logs may rename while it is written."""

import logging
import os
from collections.abc import Callable

from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count
from pylsyncd.system import secure_open

_MODE = 0o640


class LogFile(logging.Handler):
    """Appends each line by one write, to whatever file has the name by then.

    Nothing that goes wrong with the file ends or holds up the daemon. Where a renamed file cannot
    be opened anew, the old one is written on. Lines that cannot be written are counted, and the
    next that can is preceded by one that tells how many are missing. ``complain`` is called once
    for each trouble. ``owner`` is who gets a new file, as (user id, group id), where root opens it.
    Raises OSError when it cannot be opened in the beginning.
    """

    def __init__(
        self,
        path: str,
        complain: Callable[[str], None],
        owner: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._path = path
        self._shown = paths.printable(os.fsencode(path))
        self._complain = complain
        self._owner = owner
        self._descriptor = self._open()
        self._status = os.fstat(self._descriptor)
        self._lost = 0
        self._reason = ""
        self._is_torn = False
        self._is_astray = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  # no message ends whoever has something to say
            line = self._line(f"a message that is a bug, {error!r}: {record.msg!r} {record.args!r}")
        if self._descriptor < 0:
            return
        self._follow()
        if self._lost and self._put(self._missing()):
            self._lost, self._reason = 0, ""
        if not self._put(line):
            self._lost += 1

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

    def _follow(self) -> None:
        """Open the file anew if its name stands for another one, or for none."""
        try:
            if os.path.samestat(os.stat(self._path), self._status):
                self._is_astray = False
                return
        except OSError:
            pass  # Opening it tells why.
        try:
            descriptor = self._open()
        except OSError as error:
            if not self._is_astray:
                self._is_astray = True
                self._tell_astray(error)
            return
        os.close(self._descriptor)
        self._descriptor, self._status = descriptor, os.fstat(descriptor)
        self._is_astray = self._is_torn = False

    def _tell_astray(self, error: OSError) -> None:
        text = (
            f"The log file {self._shown} was renamed or removed, and cannot be opened again: "
            f"{error.strerror}. Until it can, the log goes to the old one."
        )
        self._put(self._line(text))
        self._complain(text)

    def _put(self, line: str) -> bool:
        """Write a line; tell whether that was possible."""
        rest = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._is_torn:
            rest = b"\n" + rest
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._is_torn = not rest[:written].endswith(b"\n")
                rest = rest[written:]
        except OSError as error:
            if not self._reason:
                self._reason = error.strerror or str(error)
                self._complain(
                    f"The log file {self._shown} cannot be written: {self._reason}. pylsyncd goes "
                    "on, and counts the lines that are missing there."
                )
            return False
        return True

    def _missing(self) -> str:
        are = "is" if self._lost == 1 else "are"
        return self._line(f"{format_count(self._lost, 'line')} {are} missing here: {self._reason}.")

    def _line(self, text: str) -> str:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
        return self.format(record)
