"""Amounts and texts as people read them."""

_KILO = 1000


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
    """Return a number of things in words: "1 change", "2 changes", "3 entries", "4 processes"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("s"):
        return f"{count} {noun}es"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def printable(text: str) -> str:
    """Return a text as one line in which nothing is left that a terminal would obey.

    Whoever is at the other end has written it: control characters, line ends and what turns the
    direction of writing are escaped as Python would.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
