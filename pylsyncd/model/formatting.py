"""Numbers, durations and foreign text as people read them, and their width in a terminal."""

import unicodedata

_KILO = 1000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_DURATION_UNITS = (
    (_DAY, "d", _HOUR, "h"),
    (_HOUR, "h", _MINUTE, "min"),
    (_MINUTE, "min", 1, "s"),
)


def format_size(count: float) -> str:
    """Return a number of bytes: "999 B", "1.5 kB", "20.0 GB"."""
    if count < _KILO:
        return f"{count:.0f} B"
    value, units = count / _KILO, iter(["kB", "MB", "GB"])
    for unit in units:
        if value < _KILO:
            return f"{value:.1f} {unit}"
        value /= _KILO
    return f"{value:.1f} TB"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun: "1 change", "2 changes", "3 entries", "4 processes"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("s"):
        return f"{count} {noun}es"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units: "1 d 1 h", "2 h 5 min", "59 s"."""
    # The order of the arguments makes NaN 0.
    whole = int(max(0.0, min(seconds, 1e12)))
    for unit, name, smaller_unit, smaller_name in _DURATION_UNITS:
        if whole >= unit:
            count, smaller_count = whole // unit, whole % unit // smaller_unit
            first = f"{count} {name}"
            return f"{first} {smaller_count} {smaller_name}" if smaller_count else first
    return f"{whole} s"


def printable(text: str) -> str:
    """Return a text as one line that a terminal cannot interpret.

    The text may come from a peer. Control characters, line ends and bidirectional controls are
    escaped as Python does.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def display_width(text: str) -> int:
    """Return the number of terminal columns that a printable text takes."""
    return sum(map(_character_width, text))


def truncate(text: str, width: int) -> str:
    """Return the longest beginning of a printable text that fits into so many columns."""
    used = 0
    for index, character in enumerate(text):
        used += _character_width(character)
        if used > width:
            return text[:index]
    return text


def shorten(text: str, width: int, mark: str = "…") -> str:
    """Return a printable text that fits into so many columns; one that was cut ends with a mark."""
    if display_width(text) <= width:
        return text
    return truncate(text, width - len(mark)) + mark if width > len(mark) else truncate(text, width)


def fit(text: str, width: int, mark: str = "…") -> str:
    """Return a printable text cut or padded with blanks to exactly so many columns."""
    kept = shorten(text, width, mark)
    return kept + " " * (width - display_width(kept))


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
