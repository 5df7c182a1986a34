"""Logs what a hook command prints; of a flood only the first and the last lines."""

import logging
from collections import deque

from pylsyncd.model.formatting import format_count, printable
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

MAX_FIRST_LINES = 50
MAX_LAST_LINES = 50
_MAX_LINE_BYTES = 1_000


class HookOutput:
    """The output of one command: the first lines are logged at once, the last ones at the end."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._partial_line = b""
        self._count = 0
        self._last_lines: deque[bytes] = deque(maxlen=MAX_LAST_LINES)

    def add(self, chunk: bytes) -> None:
        """Add a chunk of output."""
        *lines, partial = (self._partial_line + chunk).split(b"\n")
        # One byte above the limit is kept: it shows that the line was longer.
        self._partial_line = partial[: _MAX_LINE_BYTES + 1]
        for line in lines:
            self._add_line(line)

    def log_remaining(self) -> None:
        """Log the last lines, an unfinished one included, and how many were left out."""
        self._add_line(self._partial_line)
        left_out = self._count - MAX_FIRST_LINES - len(self._last_lines)
        if left_out > 0:
            log.log(NOTICE, "%s: (%s more)", self._prefix, format_count(left_out, "line"))
        for line in self._last_lines:
            self._log_line(line)

    def _add_line(self, line: bytes) -> None:
        if not line.strip():
            return
        self._count += 1
        if self._count <= MAX_FIRST_LINES:
            self._log_line(line)
        else:
            self._last_lines.append(line[: _MAX_LINE_BYTES + 1])

    def _log_line(self, line: bytes) -> None:
        text = line[:_MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip()
        ellipsis = " ..." if len(line) > _MAX_LINE_BYTES else ""
        log.log(NOTICE, "%s: %s%s", self._prefix, printable(text), ellipsis)
