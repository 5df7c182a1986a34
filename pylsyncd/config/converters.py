"""Texts that a person wrote to values. Pure; each raises UsageError with a sentence.

The sentences do not name the option, since whoever asks knows it.
"""

import re
import shlex

from pylsyncd.config.option import LOG_LEVELS
from pylsyncd.model.errors import UsageError

# Longer than a week is no window, longer than a year no interval.
_WEEK = 604800.0
_YEAR = 366 * 86400.0

_PLAIN = re.compile(r"[-+.0-9A-Za-z]+")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.IGNORECASE | re.ASCII)

# What rsync 3.5.0 takes for --bwlimit: a size, in KiB where no unit is written.
_RATE = re.compile(
    r"(?P<number>\d{1,9}(\.\d*)?|\.\d+)((?P<unit>[bkmgtp])|[kmgtp](b|ib))?([-+]1)?",
    re.IGNORECASE | re.ASCII,
)
_LEAST_RATE = 512

_BEST_EFFORT = re.compile(r"best-effort:[0-7]")
_SWITCHES = {
    **dict.fromkeys(("yes", "true", "on", "1"), True),
    **dict.fromkeys(("no", "false", "off", "0"), False),
}

_MOST_NICE = 19
_LAST_PORT = 65535
_ALL_PERMISSIONS = 0o777


def parse_switch(text: str) -> bool:
    """Convert a yes or no."""
    if (found := _SWITCHES.get(text.lower())) is None:
        raise UsageError(f"It must be yes or no, not {text!r}.")
    return found


def parse_seconds(text: str) -> float:
    """Convert a time of up to a week."""
    return _seconds(text, _WEEK)


def parse_interval(text: str) -> float:
    """Convert a time of up to a year; 0 for never."""
    return 0.0 if text == "0" else _seconds(text, _YEAR)


def _seconds(text: str, longest: float) -> float:
    try:
        # Python would also take underscores, blanks and the digits of other scripts.
        number = float(text if _PLAIN.fullmatch(text) else "")
    except ValueError:
        raise UsageError(
            f"A number of seconds is needed, such as 60 or 0.5, not {text!r}."
        ) from None
    if not 0.0 < number <= longest:
        raise UsageError(f"It must be more than 0 and at most {longest:.0f} seconds, not {text}.")
    return number


def parse_positive_count(text: str) -> int:
    """Convert a number of things of which there is at least one."""
    return _number(text, 1)


def parse_count(text: str) -> int:
    """Convert a number of things of which there may be none."""
    return _number(text, 0)


def parse_niceness(text: str) -> int:
    """Convert how nice a process is."""
    return _number(text, 0, _MOST_NICE)


def parse_port(text: str) -> int:
    """Convert a port."""
    return _number(text, 1, _LAST_PORT)


def _number(text: str, least: int, most: int = 10**15) -> int:
    # The length first: int() refuses thousands of digits in its own words.
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
        number = int(text)
        if least <= number <= most:
            return number
    to = "on" if most > _LAST_PORT else f"to {most}"
    raise UsageError(f"A whole number from {least} {to} is needed, not {text!r}.")


def parse_size(text: str) -> int:
    """Convert a size to bytes."""
    found = _SIZE.fullmatch(text)
    number = int(found[1]) * _UNITS[found[2].upper()] if found else 0
    if not number:
        raise UsageError(f"A size is needed, such as 500000, 100M or 2G, not {text!r}.")
    return number


def check_rate(text: str) -> str:
    """Check a limit as rsync's ``--bwlimit`` takes it."""
    found = _RATE.fullmatch(text)
    if not found:
        raise UsageError(f"A rate as rsync takes it is needed, such as 500k or 1.5m, not {text!r}.")
    is_bytes = (found["unit"] or "").lower() == "b"
    if is_bytes and 0 < float(found["number"]) < _LEAST_RATE:
        raise UsageError(f"rsync takes no rate below {_LEAST_RATE} bytes a second, not {text!r}.")
    return text


def check_io_class(text: str) -> str:
    """Check a class of input and output as ionice(1) has them."""
    if text != "idle" and not _BEST_EFFORT.fullmatch(text):
        raise UsageError(
            f"It must be idle, or best-effort:N with N from 0 (first) to 7 (last), not {text!r}."
        )
    return text


def parse_umask(text: str) -> int:
    """Convert a umask."""
    if not re.fullmatch(r"0{0,2}[0-7]{1,3}", text):
        raise UsageError(f"Permissions in octal are needed, such as 022, not {text!r}.")
    return int(text, 8) & _ALL_PERMISSIONS


def check_log_level(text: str) -> str:
    """Check how much is to be logged."""
    return check_choice(LOG_LEVELS, text)


def check_choice(choices: tuple[str, ...], text: str) -> str:
    """Check that a text is one of several."""
    if text not in choices:
        raise UsageError(f"It must be one of {', '.join(choices)}, not {text!r}.")
    return text


def split_command(text: str) -> tuple[str, ...]:
    """Split a command into its words, by a shell's quoting and nothing else of a shell."""
    try:
        found = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"The command {text!r} has a fault: {error}.") from None
    if not found or not found[0]:
        raise UsageError("The command is empty: leave it out.")
    return found
