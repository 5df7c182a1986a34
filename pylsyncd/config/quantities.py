"""Reads times and sizes as people write them. Pure; an invalid text raises ValueError."""

import re
from fractions import Fraction

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PLAIN = re.compile(rf"\+?{_NUMBER}(?:[eE][-+]?[0-9]+)?")

# As systemd.time(7) has them; the months, which it writes as M, are left out.
_TIME_UNITS = {
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_TIME_PART = re.compile(rf"(\+?{_NUMBER}(?:[eE][-+]?[0-9]+)?) ?([a-z]+) ?")

# rsync(1), --max-size: K is KiB, and KB is 1000. A number of at most 15 digits is converted fast.
_SIZE = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?:b|([kmgtp])(b|ib)?)?([-+]1)?",
    re.IGNORECASE | re.ASCII,
)
_POWERS = {None: 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_time(text: str) -> float:
    """Return a time in seconds: a number, or numbers with units, such as 5min or 1h30min.

    The time may be infinite, if the number has that many digits.
    """
    if _PLAIN.fullmatch(text):
        return float(text)
    seconds, position = 0.0, 0
    while position < len(text) or not text:
        part = _TIME_PART.match(text, position)
        if part is None or part[2] not in _TIME_UNITS:
            raise ValueError(f"no time: {text!r}")
        seconds += float(part[1]) * _TIME_UNITS[part[2]]
        position = part.end()
    return seconds


def parse_size(text: str) -> int:
    """Return a size in bytes, from the notation of rsync's --max-size, such as 1.5G or 100MB."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"no size: {text!r}")
    number, unit, suffix, adjustment = match.groups()
    base = 1000 if suffix and suffix.lower() == "b" else 1024
    size = Fraction(number) * base ** _POWERS[unit and unit.lower()]
    return int(size) + int(adjustment or 0)
