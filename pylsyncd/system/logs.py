"""Logging: the level NOTICE, and the handlers for the log file, syslog and the terminal."""

import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import TextIO

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable
from pylsyncd.system.log_file import LogFile

NOTICE = logging.INFO + 5
"""The level of what an administrator sees by default: start, completion, stop."""

logging.addLevelName(NOTICE, "NOTICE")

FACILITIES = tuple(sorted(logging.handlers.SysLogHandler.facility_names))

_SYSLOG_SOCKET = "/dev/log"

# The priorities of sd-daemon(3) from each level on.
_PRIORITIES = (
    (logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6),
    (logging.NOTSET, 7),
)  # fmt: skip

# The handlers in use, that of the terminal first if there is one.
_handlers: list[logging.Handler] = []


def configure(  # noqa: PLR0913  # each is a target of the log, or belongs to one
    level: int,
    *,
    file: str | None = None,
    syslog: bool = False,
    facility: str = "daemon",
    terminal: logging.Handler | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Log to ``file``, or to the terminal if it is None; with ``syslog``, to syslog as well.

    ``terminal`` is a handler for the terminal instead of plain lines. ``owner`` gets the file if it
    is created here, as (user id, group id). The handlers of an earlier call are closed only when
    this one has succeeded. Raises UsageError when a target cannot be opened.
    """
    opened = [_file_handler(file, owner) if file else terminal or plain_handler(sys.stderr)]
    try:
        if syslog:
            opened.append(_syslog_handler(facility))
    except BaseException:
        if file:
            opened[0].close()
        raise
    root = logging.getLogger()
    for handler in _handlers:
        root.removeHandler(handler)
        if handler not in opened:
            handler.close()
    _handlers[:] = opened
    for handler in opened:
        root.addHandler(handler)
    set_level(level)


def set_level(level: int) -> None:
    """Log only records of this level or a higher one."""
    logging.getLogger().setLevel(level)


def level() -> int:
    """Return the level below which records are not logged."""
    return logging.getLogger().level


def remove_terminal_handler() -> None:
    """Stop logging to the terminal: the process goes to the background."""
    for handler in [*_handlers]:
        if not isinstance(handler, LogFile | _SyslogHandler):
            logging.getLogger().removeHandler(handler)
            _handlers.remove(handler)


class LineFormatter(logging.Formatter):
    """A formatter for lines of date, level and message, in which no message can forge a line.

    The lines of a traceback begin with the same date and level as their message.
    """

    def __init__(self, *, with_level: bool = True) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._with_level = with_level

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, joined."""
        level = f"{record.levelname:<7} " if self._with_level else ""
        prefix = f"{self.formatTime(record, self.datefmt)} {level}"
        return "\n".join(f"{prefix}{line}" for line in message_lines(record, self))


class _SyslogFormatter(logging.Formatter):
    """A formatter that makes one line of each record; syslog adds date and level."""

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(message_lines(record, self))


def message_lines(record: logging.LogRecord, formatter: logging.Formatter) -> list[str]:
    """Return a record's message as one line, followed by the lines of its traceback."""
    lines = [record.getMessage()]
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    for more in (record.exc_text, record.stack_info):
        lines += (more or "").splitlines()
    return [printable(line) for line in lines]


def plain_handler(stream: TextIO) -> logging.Handler:
    """Return a handler that writes plain lines to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(with_level=False))
    return handler


class _JournalFormatter(logging.Formatter):
    """A formatter for the journal, which adds the date: each line begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in message_lines(record, self))


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True if systemd has connected a stream to its journal; see systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def journal_handler(stream: TextIO) -> logging.Handler:
    """Return a handler that writes lines for the journal to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JournalFormatter())
    return handler


def _file_handler(path: str, owner: tuple[int, int] | None) -> logging.Handler:
    try:
        handler = LogFile(path, _report_failure, owner)
    except OSError as error:
        raise UsageError(
            f"The log file {paths.printable(os.fsencode(path))} cannot be opened: "
            f"{error.strerror}. Correct that, or choose another file with --logfile."
        ) from None
    handler.setFormatter(LineFormatter())
    return handler


def _report_failure(text: str) -> None:
    """Report a failure of the log file to standard error and to syslog, if they are there."""
    with suppress(OSError):
        os.write(2, f"pylsyncd: {printable(text)}\n".encode("utf-8", "backslashreplace"))
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, None, None)
    in_use = [handler for handler in _handlers if isinstance(handler, _SyslogHandler)]
    if in_use:
        in_use[0].handle(record)
    elif os.path.exists(_SYSLOG_SOCKET):
        with suppress(OSError), closing(_syslog_handler("daemon")) as handler:
            handler.handle(record)


def _syslog_handler(facility: str) -> logging.Handler:
    # Checked here, since the library's handler would ignore a missing socket.
    if not os.path.exists(_SYSLOG_SOCKET):
        raise UsageError(
            f"syslog cannot be reached: there is no {_SYSLOG_SOCKET}. "
            "Start a syslog daemon, or remove --syslog."
        )
    handler = _SyslogHandler(_SYSLOG_SOCKET, facility)
    handler.ident = "pylsyncd: "
    handler.setFormatter(_SyslogFormatter())
    return handler


class _SyslogHandler(logging.handlers.SysLogHandler):
    """A syslog handler that knows the level NOTICE."""

    def mapPriority(self, levelName: str) -> str:  # noqa: N802, N803  # the library's names
        return "notice" if levelName == "NOTICE" else super().mapPriority(levelName)
