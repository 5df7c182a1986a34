"""Converters from the text of an option to its value. Pure; each raises UsageError with a sentence.

The sentence does not name the option: the caller adds that, with the place where it is set.
"""

import math
import re
import shlex

from pylsyncd.config import quantities
from pylsyncd.config.settings import WatchMethod
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync.command import DeletionTime

LOG_LEVELS = ("error", "warning", "notice", "info", "debug")
"""How much may be logged, from little to much."""

# A window of more than a week, or an interval of more than a year, is a mistake.
_MAX_SECONDS = 604800.0
_MAX_INTERVAL = 366 * 86400.0

_MIN_PERCENT = 0.01
_MAX_PERCENT = 100.0

_PLAIN_NUMBER = re.compile(r"[-+.0-9A-Za-z]+")

_MAX_MODIFY_WINDOW = 7200

# What rsync 3.5.0 accepts for --bwlimit: a size, in KiB if it has no unit.
_RATE = re.compile(
    r"(?P<number>\d{1,9}(\.\d*)?|\.\d+)((?P<unit>[bkmgtp])|[kmgtp](b|ib))?([-+]1)?",
    re.IGNORECASE | re.ASCII,
)
_MIN_RATE = 512

_BEST_EFFORT = re.compile(r"best-effort:[0-7]")
_SWITCHES = {
    **dict.fromkeys(("yes", "true", "on", "1"), True),
    **dict.fromkeys(("no", "false", "off", "0"), False),
}

_MAX_NICENESS = 19
_MAX_PORT = 65535
_MAX_PARALLEL = 16
_ALL_PERMISSIONS = 0o777
_FILE_PERMISSIONS = 0o664


def parse_switch(text: str) -> bool:
    """Convert yes or no."""
    if (value := _SWITCHES.get(text.lower())) is None:
        raise UsageError(f"Expected yes or no, not {text!r}.")
    return value


def parse_deletion(text: str) -> bool | DeletionTime:
    """Convert yes or no, or the only time at which something is deleted."""
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    try:
        return DeletionTime(text.lower())
    except ValueError:
        raise UsageError(f"Expected yes, no, startup or running, not {text!r}.") from None


def parse_watch_method(text: str) -> WatchMethod:
    """Convert the name of a method to watch a source."""
    try:
        return WatchMethod(text.lower())
    except ValueError:
        names = ", ".join(method.value for method in WatchMethod)
        raise UsageError(f"Expected one of {names}, not {text!r}.") from None


def parse_seconds(text: str) -> float:
    """Convert a time of up to a week."""
    return _parse_seconds(text, _MAX_SECONDS)


def parse_interval(text: str) -> float:
    """Convert a time of up to a year, or 0, which has a meaning of its own."""
    return 0.0 if _parse_time(text) == 0.0 else _parse_seconds(text, _MAX_INTERVAL)


def _parse_seconds(text: str, maximum: float) -> float:
    seconds = _parse_time(text)
    if not 0.0 < seconds <= maximum:
        raise UsageError(
            f"Expected more than 0 and at most {maximum:.0f} seconds "
            f"({maximum / 86400:.0f} days), not {text}."
        )
    return seconds


def parse_wait(text: str) -> float:
    """Convert a time from 0 on."""
    seconds = _parse_time(text)
    if not math.isfinite(seconds):
        raise UsageError(f"Expected a shorter time, not {text}.")
    return seconds


def _parse_time(text: str) -> float:
    try:
        return quantities.parse_time(text)
    except ValueError:
        raise UsageError(
            f"Expected a time, such as 60, 0.5, 90s, 5min, 1h or 1d, not {text!r}."
        ) from None


def parse_share(text: str) -> float:
    """Convert a percentage of one processor to a share; 0 means nothing."""
    try:
        percent = float(text if _PLAIN_NUMBER.fullmatch(text) else "")
    except ValueError:
        percent = math.nan
    if not (percent == 0.0 or _MIN_PERCENT <= percent <= _MAX_PERCENT):
        raise UsageError(
            f"Expected a percentage of one processor, 0 or from {_MIN_PERCENT:g} to "
            f"{_MAX_PERCENT:g}, not {text!r}."
        )
    return percent / 100.0


def parse_positive_count(text: str) -> int:
    """Convert a whole number from 1 on."""
    return _parse_number(text, 1)


def parse_count(text: str) -> int:
    """Convert a whole number from 0 on."""
    return _parse_number(text, 0)


def parse_niceness(text: str) -> int:
    """Convert a niceness, from 0 to 19."""
    return _parse_number(text, 0, _MAX_NICENESS)


def parse_modify_window(text: str) -> int:
    """Convert the seconds that equal times may differ, from -1 to two hours."""
    # The hour of daylight saving time by which FAT may be off, with some seconds.
    if text == "-1":
        return -1
    try:
        seconds = quantities.parse_time(text)
    except ValueError:
        seconds = math.inf
    if not (seconds <= _MAX_MODIFY_WINDOW and seconds.is_integer()):
        raise UsageError(
            f"Expected -1, or whole seconds from 0 to {_MAX_MODIFY_WINDOW}, not {text}."
        )
    return int(seconds)


def parse_port(text: str) -> int:
    """Convert a TCP port."""
    return _parse_number(text, 1, _MAX_PORT)


def parse_parallel(text: str) -> int:
    """Convert a number of runs at the same time."""
    return _parse_number(text, 1, _MAX_PARALLEL)


def _parse_number(text: str, minimum: int, maximum: int = 10**15) -> int:
    # The length is checked first: int() refuses thousands of digits with a message of its own.
    if text.isascii() and text.isdigit() and len(text) <= len(str(maximum)):
        number = int(text)
        if minimum <= number <= maximum:
            return number
    allowed = f"of at least {minimum}" if maximum > _MAX_PORT else f"from {minimum} to {maximum}"
    raise UsageError(f"Expected a whole number {allowed}, not {text!r}.")


def parse_size(text: str) -> int:
    """Convert a size to bytes."""
    try:
        size = quantities.parse_size(text)
    except ValueError:
        size = 0
    if size <= 0:
        raise UsageError(f"Expected a size, such as 500000, 100M, 1.5G or 2GB, not {text!r}.")
    return size


def check_rate(text: str) -> str:
    """Check a limit for rsync's ``--bwlimit`` and return it."""
    match = _RATE.fullmatch(text)
    if not match:
        raise UsageError(
            f"Expected a rate as for rsync's --bwlimit, such as 500k or 1.5m, not {text!r}."
        )
    is_in_bytes = (match["unit"] or "").lower() == "b"
    if is_in_bytes and 0 < float(match["number"]) < _MIN_RATE:
        raise UsageError(
            f"rsync accepts no rate below {_MIN_RATE} bytes per second: raise {text!r}."
        )
    return text


def check_io_class(text: str) -> str:
    """Check an I/O scheduling class for ionice(1) and return it."""
    if text != "idle" and not _BEST_EFFORT.fullmatch(text):
        raise UsageError(
            f"Expected idle, or best-effort:N with N from 0 (first) to 7 (last), not {text!r}."
        )
    return text


def parse_umask(text: str) -> int:
    """Convert a umask."""
    if not re.fullmatch(r"0{0,2}[0-7]{1,3}", text):
        raise UsageError(f"Expected permissions in octal, such as 022, not {text!r}.")
    return int(text, 8) & _ALL_PERMISSIONS


def parse_file_mode(text: str) -> int:
    """Convert the permissions of a file that only its owner and its group may be able to write."""
    if not re.fullmatch(r"0{0,2}[0-7]{1,3}", text) or int(text, 8) & ~_FILE_PERMISSIONS:
        raise UsageError(f"Expected permissions in octal, from 000 to 664, not {text!r}.")
    return int(text, 8)


def check_log_level(text: str) -> str:
    """Check a log level and return it."""
    return check_choice(LOG_LEVELS, text)


def check_choice(choices: tuple[str, ...], text: str) -> str:
    """Check that a text is one of several and return it."""
    if text not in choices:
        raise UsageError(f"Expected one of {', '.join(choices)}, not {text!r}.")
    return text


def split_command(text: str) -> tuple[str, ...]:
    """Split a command into words, with a shell's quoting but no other feature of a shell."""
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"Cannot split the command {text!r} into words: {error}.") from None
    if not command or not command[0]:
        raise UsageError("The command is empty: remove the option.")
    return command
