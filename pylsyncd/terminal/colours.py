"""The terminal's colours: one for each log level and one for each destination. Pure."""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pylsyncd.system.logs import NOTICE

_ESCAPE = "\x1b["

# From the 256 colours, which themes leave alone. Each has a contrast of at least 3 to 1 against
# both white and black (WCAG 2.1 for large text and marks).
_NAME_COLOURS = (32, 64, 133, 30, 99, 169, 28, 100)
_GREY = 244
_AMBER = 136
_RED = 160

# For terminals with 16 colours, whose theme makes them readable.
_BASIC_NAME_COLOURS = (36, 35, 32, 34)


@dataclass(slots=True)
class Palette:
    """The escape sequences that start each kind of text; all empty without colours."""

    reset: str = ""
    faint: str = ""
    level_sequences: Mapping[int, str] = field(default_factory=dict)
    name_sequences: tuple[str, ...] = ()
    _assigned: dict[str, str] = field(default_factory=dict)

    def for_level(self, level: int) -> str:
        """Return the sequence for a log level."""
        return self.level_sequences.get(level, "")

    def for_name(self, name: str) -> str:
        """Return the sequence for a destination: always the same one, and shared only if all are.

        It depends on the name alone, unless an earlier destination has taken that colour.
        """
        if not self.name_sequences:
            return ""
        if name not in self._assigned:
            first = zlib.crc32(name.encode()) % len(self.name_sequences)
            order = [*self.name_sequences[first:], *self.name_sequences[:first]]
            free = [sequence for sequence in order if sequence not in self._assigned.values()]
            self._assigned[name] = (free or order)[0]
        return self._assigned[name]

    def apply(self, sequence: str, text: str) -> str:
        """Return a text between a sequence and the reset sequence."""
        return f"{sequence}{text}{self.reset}" if sequence and text else text


def choose_palette(environ: Mapping[str, str]) -> Palette:
    """Return the colours for a terminal; none if NO_COLOR is set (https://no-color.org)."""
    if environ.get("NO_COLOR"):
        return Palette()
    if "256color" in environ.get("TERM", "") or environ.get("COLORTERM"):
        names = tuple(map(_colour_of_256, _NAME_COLOURS))
        grey, amber, red = map(_colour_of_256, (_GREY, _AMBER, _RED))
    else:
        names = tuple(f"{_ESCAPE}{number}m" for number in _BASIC_NAME_COLOURS)
        grey, amber, red = "", f"{_ESCAPE}33m", f"{_ESCAPE}31m"
    bold = f"{_ESCAPE}1m"
    levels = {
        logging.DEBUG: grey,
        NOTICE: bold,
        logging.WARNING: amber,
        logging.ERROR: red,
        logging.CRITICAL: bold + red,
    }
    return Palette(f"{_ESCAPE}0m", grey, levels, names)


def _colour_of_256(number: int) -> str:
    return f"{_ESCAPE}38;5;{number}m"
