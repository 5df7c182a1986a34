"""The log in a terminal: columns and colours; anywhere else plain lines."""

import contextlib
import logging
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from pylsyncd.model.formatting import printable
from pylsyncd.system.logs import plain_handler
from pylsyncd.terminal.colours import Palette, choose_palette
from pylsyncd.terminal.log_columns import LogLayout

# Seconds. What is below the log is drawn anew several times in that; if it was not, the process was
# stopped meanwhile, and what stands there now may be the shell's.
_STALE = 1.0

# Seconds between two times that they are written again below a line of the log.
_PUTTING_BACK = 0.05

# Of one that does not tell its size.
_COLUMNS, _LINES = 80, 24


def make_log_handler(stream: TextIO, environ: Mapping[str, str]) -> logging.Handler:
    """Return what writes the log to a stream as it is to be read there."""
    if is_ansi_terminal(stream, environ):
        return TerminalHandler(stream, choose_palette(environ))
    return plain_handler(stream)


def is_ansi_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether a stream is a terminal that obeys escape sequences."""
    return stream.isatty() and environ.get("TERM", "dumb") not in {"", "dumb"}


class TerminalHandler(logging.Handler):
    """Writes the log, and keeps some lines below it that may change.

    The cursor stands on the empty line below those, and is never hidden: whatever becomes of the
    process, the terminal is left as it should be.
    """

    def __init__(self, stream: TextIO, colours: Palette) -> None:
        super().__init__()
        self.stream = stream
        self.palette = colours
        self._layout = LogLayout(colours)
        self._timestamp = _Timestamp()
        self._width = _COLUMNS
        self._below: list[str] = []
        self._below_width = 0
        self._drawn = self._put_back = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            text = self._text(record)
        except Exception:  # noqa: BLE001  # a faulty call of the log, which the library reports
            self.handleError(record)
            return
        self._write(self._above_the_rest(text))

    def draw_footer(self, lines: Sequence[str], width: int) -> None:
        """Put lines of no more than so many characters below the log, in place of those there.

        They are left as they are while the terminal takes nothing (Ctrl-S, a slow line), and none
        are drawn in a terminal that is somebody else's for now.
        """
        with self._locked():
            if not self._below and not lines:
                return
            if not self._is_ours():
                self._below = []
                return
            if not select.select([], [self.stream], [], 0)[1]:
                return
            now = time.monotonic()
            if lines != self._below or now - self._drawn > _STALE:
                up = self._up(now)
                self._write(up + "".join(f"{line}\x1b[K\n" for line in lines) + (up and "\x1b[J"))
                self._below, self._below_width = list(lines), width
            self._drawn = now

    def terminal_size(self) -> os.terminal_size:
        """Return how many columns and lines the terminal has."""
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        return os.terminal_size((size.columns or _COLUMNS, size.lines or _LINES))

    def _text(self, record: logging.LogRecord) -> str:
        if self._timestamp.update(record.created):
            self._width = self.terminal_size().columns
        lines = self._layout.format_message(
            self._timestamp.time_of_day, record.levelno, record.getMessage(), self._width
        )
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info).split("\n")
            lines += "".join(f"\n    {printable(line)}" for line in trace)
        return f"{self._timestamp.day_separator}{lines}\n"

    def _above_the_rest(self, text: str) -> str:
        """Return what writes a text above the lines below, which give way in a flood of texts."""
        if not self._below:
            return text
        now = time.monotonic()
        up = self._up(now)
        below = ""
        if up and now - self._put_back >= _PUTTING_BACK:
            self._put_back = self._drawn = now
            below = "".join(f"{line}\n" for line in self._below)
        else:
            self._below = []
        return f"{up}\x1b[J{text}{below}" if up else text

    def _up(self, now: float) -> str:
        """Return what leads to the beginning of the lines below, if they are still there.

        In a terminal that has become narrower they take more lines, or not, as it likes. Better
        to leave one behind than to wipe out what is not ours.
        """
        is_there = now - self._drawn <= _STALE and self._below_width <= self.terminal_size().columns
        return f"\r\x1b[{len(self._below)}A" if self._below and is_there else ""

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self.stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            # It controls no session of ours: nobody can have put us into the background.
            return True

    def _write(self, text: str) -> None:
        # A terminal that has gone is no reason to stop replicating, or to speak of it.
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


class _Timestamp:
    """The time as it is shown; read often, and put into words once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._day = ""
        self.time_of_day = ""
        self.day_separator = ""
        """A line of its own if another day has begun, else empty."""

    def update(self, created: float) -> bool:
        """Take the time of a record; tell whether another second has begun."""
        self.day_separator = ""
        if int(created) == self._second:
            return False
        self._second = int(created)
        self.time_of_day = time.strftime("%H:%M:%S", time.localtime(created))
        day = time.strftime("%Y-%m-%d", time.localtime(created))
        if self._day and day != self._day:
            self.day_separator = f"---- {day} ----\n"
        self._day = day
        return True
