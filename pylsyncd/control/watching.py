"""Shows lines again and again, at the same place of a terminal."""

import os
import sys
import time
from collections.abc import Callable, Sequence

# ECMA-48, and DEC's mode 7: lines that are too long are cut off by the terminal.
_CLEAR = "\x1b[2J"
_HOME = "\x1b[H"
_TO_THE_LINES_END = "\x1b[K"
_TO_THE_SCREENS_END = "\x1b[J"
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"


def show_repeatedly(lines: Callable[[], Sequence[str]], interval: float) -> None:
    """Show what ``lines()`` returns every so many seconds, until somebody interrupts it.

    Where there is no terminal, one after the other, with an empty line in between.
    """
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        sys.stdout.write(_CLEAR)
    try:
        while True:
            shown = lines()
            sys.stdout.write(_redrawn(shown) if is_terminal else _listed(shown))
            sys.stdout.flush()
            time.sleep(interval)
    except KeyboardInterrupt:
        if is_terminal:
            # Below what the terminal has shown for the key.
            sys.stdout.write("\n")


def _redrawn(lines: Sequence[str]) -> str:
    height = os.get_terminal_size(sys.stdout.fileno()).lines or len(lines) + 1
    shown = "".join(f"{line}{_TO_THE_LINES_END}\r\n" for line in lines[: height - 1])
    return f"{_HOME}{_CUT}{shown}{_WRAP}{_TO_THE_SCREENS_END}"


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in (*lines, ""))
