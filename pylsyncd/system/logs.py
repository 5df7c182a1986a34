"""Logging: one more level, and where the lines go."""

import logging
import logging.handlers
import os
import sys

from pylsyncd.model.errors import UsageError

NOTICE = logging.INFO + 5
"""What an administrator sees without asking for more: start, completion, stop."""

logging.addLevelName(NOTICE, "NOTICE")

FACILITIES = tuple(sorted(logging.handlers.SysLogHandler.facility_names))

_SYSLOG_SOCKET = "/dev/log"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: "1 change", "2 changes", "3 entries", "4 processes"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("s"):
        return f"{count} {noun}es"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def set_up(level: int, *, syslog: bool, facility: str) -> None:
    """Send what is logged to standard error, and to syslog if asked to.

    Raises UsageError when there is no syslog to send to.
    """
    root = logging.getLogger()
    root.setLevel(level)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root.addHandler(terminal)
    if syslog:
        root.addHandler(_syslog(facility))


def _syslog(facility: str) -> logging.Handler:
    # Asked for here, since the library's handler would go on without a word.
    if not os.path.exists(_SYSLOG_SOCKET):
        raise UsageError(
            f"syslog cannot be reached: there is no {_SYSLOG_SOCKET}. "
            "Start a syslog daemon, or leave --syslog out."
        )
    handler = _SyslogHandler(_SYSLOG_SOCKET, facility)
    handler.ident = "pylsyncd: "
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


class _SyslogHandler(logging.handlers.SysLogHandler):
    """Knows the level that the library does not."""

    def mapPriority(self, levelName: str) -> str:  # noqa: N802, N803  # the library's names
        return "notice" if levelName == "NOTICE" else super().mapPriority(levelName)
