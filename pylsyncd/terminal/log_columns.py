"""Lays out a log line for a terminal: time, level mark, [destination], text. Pure."""

import logging
import re

from pylsyncd.model.formatting import printable
from pylsyncd.system.logs import NOTICE
from pylsyncd.terminal.colours import Palette

_MARKS = {
    logging.DEBUG: ".",
    logging.INFO: " ",
    NOTICE: "*",
    logging.WARNING: "!",
    logging.ERROR: "X",
    logging.CRITICAL: "X",
}

_NAME_PREFIX = re.compile(r"\[([^][]+)\] ")
_EVENT_PREFIX = re.compile(r"event (\S+) ")

# In characters. A longer name does not widen the column.
_MAX_NAME_WIDTH = 20
_EVENT_MASK_WIDTH = 16
_MIN_TEXT_WIDTH = 30
_WRAP_INDENT = 2

# Commands stay on one line, so that they can be copied; the terminal itself wraps them.
_COMMAND_PREFIXES = ("running: ", "trying: ", "would run: ")


class LogLayout:
    """The columns of the log; the name column grows with the names seen so far."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette
        self._name_width = 0

    def format_message(self, time_of_day: str, level: int, message: str, width: int) -> str:
        """Return a message as lines that fit into ``width`` columns where its words permit.

        Control characters in the message are escaped.
        """
        palette = self._palette
        message = printable(message)
        name, name_column, text = "", "", message
        if found := _NAME_PREFIX.match(message):
            name, text = found[1], message[found.end() :]
            name_column = self._name_column(name)
        elif found := _EVENT_PREFIX.match(message):
            text = f"event {found[1]:{_EVENT_MASK_WIDTH}} {message[found.end() :]}"
        mark = f" {_MARKS.get(level, ' ')} "
        indent = len(time_of_day + mark) + _WRAP_INDENT
        lines = [text]
        if not text.startswith(_COMMAND_PREFIXES):
            lines = wrap(text, width - len(time_of_day + mark + name_column), width - indent)
        sequence = palette.for_level(level)
        start = palette.apply(palette.faint, time_of_day) + palette.apply(sequence, mark)
        start += palette.apply(palette.for_name(name), name_column)
        line_break = "\n" + " " * indent
        return start + line_break.join(palette.apply(sequence, line) for line in lines)

    def _name_column(self, name: str) -> str:
        self._name_width = max(self._name_width, min(len(name) + 2, _MAX_NAME_WIDTH))
        return f"{f'[{name}]':{self._name_width}} "


def wrap(text: str, first_width: int, other_width: int) -> list[str]:
    """Break a text at blanks into lines of at most so many characters; long words stay whole."""
    lines = []
    width = max(first_width, _MIN_TEXT_WIDTH)
    while len(text) > width:
        end = text.rfind(" ", 1, width + 1)
        if end < 0:
            end = text.find(" ", width)
        if end < 0:
            break
        lines.append(text[:end])
        text = text[end + 1 :]
        width = max(other_width, _MIN_TEXT_WIDTH)
    return [*lines, text]
