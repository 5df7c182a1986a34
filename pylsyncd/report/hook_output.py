"""Logs what a command says, of a flood the first and the last lines."""

import logging
from collections import deque

from pylsyncd.model.formatting import format_count, printable
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

# So many lines, and so many bytes of each.
MAX_FIRST_LINES = 50
MAX_LAST_LINES = 50
_LONGEST = 1_000


class HookOutput:
    """Logs lines with a prefix: the first ones as they come, the last ones in the end."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._begun = b""
        self._count = 0
        self._last: deque[bytes] = deque(maxlen=MAX_LAST_LINES)

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        *lines, begun = (self._begun + chunk).split(b"\n")
        # One byte more shows that there was more.
        self._begun = begun[: _LONGEST + 1]
        for line in lines:
            self._take(line)

    def log_remaining(self) -> None:
        """Take what was read last for a line, and show what was kept for the end."""
        self._take(self._begun)
        left_out = self._count - MAX_FIRST_LINES - len(self._last)
        if left_out > 0:
            log.log(NOTICE, "%s: (%s more)", self._prefix, format_count(left_out, "line"))
        for line in self._last:
            self._show(line)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        self._count += 1
        if self._count <= MAX_FIRST_LINES:
            self._show(line)
        else:
            self._last.append(line[: _LONGEST + 1])

    def _show(self, line: bytes) -> None:
        text = line[:_LONGEST].decode("utf-8", "backslashreplace").rstrip()
        more = " ..." if len(line) > _LONGEST else ""
        log.log(NOTICE, "%s: %s%s", self._prefix, printable(text), more)
