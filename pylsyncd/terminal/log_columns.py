"""How a line of the log looks in a terminal: time, mark of the level, [destination], text. Pure."""

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

_NAMED = re.compile(r"\[([^][]+)\] ")
_EVENT = re.compile(r"event (\S+) ")

# In characters. Wider names do not push the texts of all others aside.
_WIDEST_NAME = 20
_WIDEST_MASK = 16
_NARROWEST_TEXT = 30
_FURTHER_IN = 2

# These are for copying: the terminal breaks them without a line end.
_COMMANDS = ("running: ", "trying: ", "would run: ")


class LogLayout:
    """Lays out lines; the column of names grows with the names that come."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette
        self._name_width = 0

    def format_message(self, moment: str, level: int, message: str, width: int) -> str:
        """Return a message as lines that are no wider than so many characters, if that can be.

        ``moment`` is the time as it is to be shown. Nothing in the message is left that a terminal
        would obey.
        """
        palette = self._palette
        message = printable(message)
        name, column, text = "", "", message
        if found := _NAMED.match(message):
            name, text = found[1], message[found.end() :]
            column = self._name_column(name)
        elif found := _EVENT.match(message):
            text = f"event {found[1]:{_WIDEST_MASK}} {message[found.end() :]}"
        mark = f" {_MARKS.get(level, ' ')} "
        indent = len(moment + mark) + _FURTHER_IN
        lines = [text]
        if not text.startswith(_COMMANDS):
            lines = wrap(text, width - len(moment + mark + column), width - indent)
        sequence = palette.for_level(level)
        start = palette.apply(palette.faint, moment) + palette.apply(sequence, mark)
        start += palette.apply(palette.for_name(name), column)
        between = "\n" + " " * indent
        return start + between.join(palette.apply(sequence, line) for line in lines)

    def _name_column(self, name: str) -> str:
        self._name_width = max(self._name_width, min(len(name) + 2, _WIDEST_NAME))
        return f"{f'[{name}]':{self._name_width}} "


def wrap(text: str, first: int, others: int) -> list[str]:
    """Break a text at blanks into lines of so many characters; a longer word stays whole."""
    lines = []
    width = max(first, _NARROWEST_TEXT)
    while len(text) > width:
        end = text.rfind(" ", 1, width + 1)
        if end < 0:
            end = text.find(" ", width)
        if end < 0:
            break
        lines.append(text[:end])
        text = text[end + 1 :]
        width = max(others, _NARROWEST_TEXT)
    return [*lines, text]
