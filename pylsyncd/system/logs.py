"""Logging: one more level, and where the lines go."""

import logging
import logging.handlers
import os
import sys
from contextlib import closing, suppress
from typing import TextIO

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable
from pylsyncd.system.log_file import LogFile

NOTICE = logging.INFO + 5
"""What an administrator sees without asking for more: start, completion, stop."""

logging.addLevelName(NOTICE, "NOTICE")

FACILITIES = tuple(sorted(logging.handlers.SysLogHandler.facility_names))

_SYSLOG_SOCKET = "/dev/log"

# What set_up has made: where the log goes, the terminal first when it goes there.
_handlers: list[logging.Handler] = []


def configure(  # noqa: PLR0913  # each of them is a place, or how to get there
    level: int,
    *,
    file: str | None = None,
    syslog: bool = False,
    facility: str = "daemon",
    terminal: logging.Handler | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Send what is logged to a file, or to the terminal where none is named; and to syslog.

    ``terminal`` is a handler for the terminal, instead of plain lines. ``owner`` gets the file if
    it is created here, as (user id, group id). What an earlier call has set up is given up only
    when this one has succeeded. Raises UsageError when the log cannot go there.
    """
    made = [_file(file, owner) if file else terminal or plain_handler(sys.stderr)]
    try:
        if syslog:
            made.append(_syslog(facility))
    except BaseException:
        if file:
            made[0].close()
        raise
    root = logging.getLogger()
    for handler in _handlers:
        root.removeHandler(handler)
        if handler not in made:
            handler.close()
    _handlers[:] = made
    for handler in made:
        root.addHandler(handler)
    set_level(level)


def set_level(level: int) -> None:
    """Log what is of this level, or of a higher one."""
    logging.getLogger().setLevel(level)


def remove_terminal_handler() -> None:
    """Log no more to the terminal: the process goes to the background."""
    for handler in [*_handlers]:
        if not isinstance(handler, LogFile | _SyslogHandler):
            logging.getLogger().removeHandler(handler)
            _handlers.remove(handler)


class LineFormatter(logging.Formatter):
    """Makes lines with the date, the level and the message, of which nothing can make two.

    What follows a message, as a traceback, are further lines with the same beginning.
    """

    def __init__(self, *, tells_level: bool = True) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._tells_level = tells_level

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, joined."""
        level = f"{record.levelname:<7} " if self._tells_level else ""
        head = f"{self.formatTime(record, self.datefmt)} {level}"
        return "\n".join(f"{head}{line}" for line in message_lines(record, self))


class _SyslogFormatter(logging.Formatter):
    """Makes one line of all: syslog adds date and level."""

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(message_lines(record, self))


def message_lines(record: logging.LogRecord, formatter: logging.Formatter) -> list[str]:
    """Return a record's message as one line, and the lines of its traceback."""
    lines = [record.getMessage()]
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    for more in (record.exc_text, record.stack_info):
        lines += (more or "").splitlines()
    return [printable(line) for line in lines]


def plain_handler(stream: TextIO) -> logging.Handler:
    """Return what writes plain lines to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(tells_level=False))
    return handler


def _file(path: str, owner: tuple[int, int] | None) -> logging.Handler:
    try:
        handler = LogFile(path, _complain, owner)
    except OSError as error:
        raise UsageError(
            f"The log file {paths.printable(os.fsencode(path))} cannot be opened: "
            f"{error.strerror}. "
            "Mend that, or name another one with --logfile."
        ) from None
    handler.setFormatter(LineFormatter())
    return handler


def _complain(text: str) -> None:
    """Say that the log file does not work, by whatever other way there is."""
    # The terminal, where there is one.
    with suppress(OSError):
        os.write(2, f"pylsyncd: {printable(text)}\n".encode("utf-8", "backslashreplace"))
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, None, None)
    ways = [handler for handler in _handlers if isinstance(handler, _SyslogHandler)]
    if ways:
        ways[0].handle(record)
    elif os.path.exists(_SYSLOG_SOCKET):
        with suppress(OSError), closing(_syslog("daemon")) as way:
            way.handle(record)


def _syslog(facility: str) -> logging.Handler:
    # Asked for here, since the library's handler would go on without a word.
    if not os.path.exists(_SYSLOG_SOCKET):
        raise UsageError(
            f"syslog cannot be reached: there is no {_SYSLOG_SOCKET}. "
            "Start a syslog daemon, or leave --syslog out."
        )
    handler = _SyslogHandler(_SYSLOG_SOCKET, facility)
    handler.ident = "pylsyncd: "
    handler.setFormatter(_SyslogFormatter())
    return handler


class _SyslogHandler(logging.handlers.SysLogHandler):
    """Knows the level that the library does not."""

    def mapPriority(self, levelName: str) -> str:  # noqa: N802, N803  # the library's names
        return "notice" if levelName == "NOTICE" else super().mapPriority(levelName)
