"""Writes the log to a terminal in columns and colours, or to any other stream as plain lines."""

import contextlib
import logging
import os
import re
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from pylsyncd.model.formatting import display_width, printable
from pylsyncd.system.logs import is_journal, journal_handler, plain_handler
from pylsyncd.terminal.colours import Palette, choose_palette
from pylsyncd.terminal.log_columns import LogLayout

# Seconds. The footer is redrawn several times a second. If it was not redrawn for this long, the
# process was stopped, and the lines above the cursor may belong to the shell.
_FOOTER_LIFETIME = 1.0

# Seconds between two redraws of the footer below new log lines.
_FOOTER_REDRAW_INTERVAL = 0.05

# Terminals that rewrap their lines when they become narrower, by the variables that they set.
_WRAPPING_TERMINALS = frozenset({
    "ALACRITTY_WINDOW_ID", "ITERM_SESSION_ID", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "TMUX",
    "VTE_VERSION", "WEZTERM_PANE", "WT_SESSION",
})  # fmt: skip
_WRAPPING_PROGRAMS = frozenset({"Apple_Terminal", "ghostty", "iTerm.app", "vscode", "WezTerm"})

_SEQUENCE = re.compile("\x1b\\[[0-9;]*m")

# For a terminal that does not report its size.
_DEFAULT_COLUMNS, _DEFAULT_LINES = 80, 24


def make_log_handler(stream: TextIO, environ: Mapping[str, str]) -> logging.Handler:
    """Return the log handler for a stream: columns on a terminal, else plain lines.

    The lines for systemd's journal have no date, which it adds, but a priority.
    """
    if is_ansi_terminal(stream, environ):
        return TerminalHandler(
            stream, choose_palette(environ), rewraps_lines=rewraps_lines(environ)
        )
    return journal_handler(stream) if is_journal(stream, environ) else plain_handler(stream)


def is_ansi_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True if a stream is a terminal that understands escape sequences."""
    return stream.isatty() and environ.get("TERM", "dumb") not in {"", "dumb"}


def rewraps_lines(environ: Mapping[str, str]) -> bool:
    """Return True if a terminal is known to rewrap its lines when it becomes narrower.

    GNU screen, xterm and the Linux console cut them off instead, wherever they were started.
    """
    if "STY" in environ or ("XTERM_VERSION" in environ and "TMUX" not in environ):
        return False
    is_marked = not _WRAPPING_TERMINALS.isdisjoint(environ)
    return is_marked or environ.get("TERM_PROGRAM") in _WRAPPING_PROGRAMS


class TerminalHandler(logging.Handler):
    """A log handler that keeps a footer of changing lines below the log.

    The cursor stands on the empty line below the footer and is never hidden, so the terminal stays
    usable however the process ends.

    This is not rich's handler because of its cost: a line takes 12 µs here and 310 µs with
    rich.logging.RichHandler (rich 15.0, Python 3.11), and -d logs a line for each event.
    """

    def __init__(self, stream: TextIO, palette: Palette, *, rewraps_lines: bool = False) -> None:
        super().__init__()
        self._rewraps_lines = rewraps_lines
        self.stream = stream
        self.palette = palette
        self._layout = LogLayout(palette)
        self._timestamp = _Timestamp()
        self._width = _DEFAULT_COLUMNS
        self._footer: list[str] = []
        self._footer_width = 0
        self._drawn_at = self._redrawn_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            text = self._format_record(record)
        except Exception:  # noqa: BLE001  # a faulty logging call, which the library reports
            self.handleError(record)
            return
        self._write(self._above_footer(text))

    def draw_footer(self, lines: Sequence[str], width: int) -> None:
        """Replace the footer by lines of at most ``width`` columns.

        It stays unchanged while the terminal accepts no output (Ctrl-S, a slow line). Nothing is
        drawn while the process is in the background.
        """
        with self._locked():
            if not self._footer and not lines:
                return
            if not self._is_in_foreground():
                self._footer = []
                return
            if not select.select([], [self.stream], [], 0)[1]:
                return
            now = time.monotonic()
            if lines != self._footer or now - self._drawn_at > _FOOTER_LIFETIME:
                up = self._to_footer_start(now)
                self._write(up + "".join(f"{line}\x1b[K\n" for line in lines) + (up and "\x1b[J"))
                self._footer, self._footer_width = list(lines), width
            self._drawn_at = now

    def terminal_size(self) -> os.terminal_size:
        """Return the number of columns and lines of the terminal."""
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        return os.terminal_size((size.columns or _DEFAULT_COLUMNS, size.lines or _DEFAULT_LINES))

    def _format_record(self, record: logging.LogRecord) -> str:
        if self._timestamp.update(record.created):
            self._width = self.terminal_size().columns
        lines = self._layout.format_message(
            self._timestamp.time_of_day, record.levelno, record.getMessage(), self._width
        )
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info).split("\n")
            lines += "".join(f"\n    {printable(line)}" for line in trace)
        return f"{self._timestamp.day_separator}{lines}\n"

    def _above_footer(self, text: str) -> str:
        """Return the output that puts a text above the footer; many texts in a row drop it."""
        if not self._footer:
            return text
        now = time.monotonic()
        up = self._to_footer_start(now)
        footer = ""
        is_too_wide = self._footer_width > self.terminal_size().columns
        if up and not is_too_wide and now - self._redrawn_at >= _FOOTER_REDRAW_INTERVAL:
            self._redrawn_at = self._drawn_at = now
            footer = "".join(f"{line}\n" for line in self._footer)
        else:
            self._footer = []
        return f"{up}\x1b[J{text}{footer}" if up else text

    def _to_footer_start(self, now: float) -> str:
        """Return the sequence that moves the cursor to the start of the footer, if it is there.

        A terminal that became narrower may have wrapped the footer's lines. If that is not known,
        parts of old lines stay, which is better than erasing a line of the log.
        """
        if not self._footer or now - self._drawn_at > _FOOTER_LIFETIME:
            return ""
        rows = len(self._footer)
        if self._rewraps_lines:
            columns = self.terminal_size().columns
            widths = (display_width(_SEQUENCE.sub("", line)) for line in self._footer)
            rows = sum(max(1, -(-width // columns)) for width in widths)
        return f"\r\x1b[{rows}A"

    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            # Not our controlling terminal: job control cannot put us into the background.
            return True

    def _write(self, text: str) -> None:
        # Replication continues when the terminal is gone.
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
    """The time column of the log, formatted only once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._day = ""
        self.time_of_day = ""
        self.day_separator = ""
        """A line of its own when the date has changed, else empty."""

    def update(self, created: float) -> bool:
        """Set the time to that of a record; return True if a new second has begun."""
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
