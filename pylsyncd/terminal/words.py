"""Times as people read them, and the room that texts take in a terminal. Pure."""

import unicodedata

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def format_duration(seconds: float) -> str:
    """Return a time in words: the two largest units that it has."""
    whole = max(0, int(min(seconds, 1e12)))
    for unit, name, below, rest in _UNITS:
        if whole >= unit:
            larger, smaller = whole // unit, whole % unit // below
            return f"{larger} {name} {smaller} {rest}" if smaller else f"{larger} {name}"
    return f"{whole} s"


_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))


def display_width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
