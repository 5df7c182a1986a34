"""What colours a terminal gets: by level, and one for each destination. Pure."""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pylsyncd.system.logs import NOTICE

_ESCAPE = "\x1b["

# From the table of 256 that terminals do not let their users change. Each stands out from white and
# from black with a contrast of at least 3 to 1 (WCAG 2.1 for large text and marks).
_OF_NAMES = (32, 64, 133, 30, 99, 169, 28, 100)
_GREY = 244
_AMBER = 136
_RED = 160

# The few that every terminal has are as readable as their user has made them.
_OF_NAMES_FEW = (36, 35, 32, 34)


@dataclass(slots=True)
class Palette:
    """The escape sequences that begin each kind of text; all empty where there are no colours."""

    reset: str = ""
    faint: str = ""
    level_sequences: Mapping[int, str] = field(default_factory=dict)
    name_sequences: tuple[str, ...] = ()
    _assigned: dict[str, str] = field(default_factory=dict)

    def for_level(self, number: int) -> str:
        """Return the one for a level of logging."""
        return self.level_sequences.get(number, "")

    def for_name(self, name: str) -> str:
        """Return the one for a destination: always the same, and its own as long as there are any.

        It depends on the name alone unless another one that came earlier has it.
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
        """Return a text between a sequence and its end."""
        return f"{sequence}{text}{self.reset}" if sequence and text else text


def choose_palette(environ: Mapping[str, str]) -> Palette:
    """Return the colours for a terminal; none if NO_COLOR is set (https://no-color.org)."""
    if environ.get("NO_COLOR"):
        return Palette()
    if "256color" in environ.get("TERM", "") or environ.get("COLORTERM"):
        names = tuple(map(_of_256, _OF_NAMES))
        grey, amber, red = map(_of_256, (_GREY, _AMBER, _RED))
    else:
        names = tuple(f"{_ESCAPE}{number}m" for number in _OF_NAMES_FEW)
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


def _of_256(number: int) -> str:
    return f"{_ESCAPE}38;5;{number}m"
