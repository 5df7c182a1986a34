"""The settings of the daemon. All validation ends here: what is made is known to be usable."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pylsyncd import endpoints, excludes, paths
from pylsyncd.commands import Rsync
from pylsyncd.endpoints import Destination, Source
from pylsyncd.errors import UsageError
from pylsyncd.excludes import Rules, Step

WINDOW = 60.0
"""Seconds that changes are aggregated."""

MAX_CHANGES = 100_000
"""Distinct changes that end a window early.

rsync reads its list byte by byte, 13 microseconds a name: a list of this length takes it a second
and a half before the first file is sent. More in one run would make later changes wait, and take
more memory here (some 10 MB as it is), without making the run cheaper.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon does; see the README for the meaning of each."""

    source: Source
    destinations: tuple[Destination, ...]
    rsync: Rsync
    window: float = WINDOW
    max_changes: int = MAX_CHANGES
    initial_sync: bool = False
    once: bool = False
    modify: bool = False


def window(text: str) -> float:
    """Convert a window in seconds, from the text that a person wrote."""
    try:
        seconds = float(text)
    except ValueError:
        raise UsageError(
            f"The window must be a number of seconds, such as 60 or 0.5, not {text!r}."
        ) from None
    if not 0.0 < seconds <= _LONGEST_WINDOW:
        raise UsageError(
            f"The window must be more than 0 and at most {_LONGEST_WINDOW:.0f} seconds, not {text}."
        )
    return seconds


def max_changes(text: str) -> int:
    """Convert a number of changes."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"--max-changes must be a whole number from 1 on, not {text!r}.")
    return int(text)


def exclude(text: str) -> tuple[Step, ...]:
    """Convert one exclude pattern, as rsync's --exclude takes it."""
    return excludes.parse_pattern(os.fsencode(text))


def exclude_from(name: str) -> tuple[Step, ...]:
    """Read a file of exclude patterns, as rsync's --exclude-from does."""
    try:
        with open(name, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"The exclude file {name} cannot be read: {error.strerror}.") from None
    try:
        return excludes.parse_lines(content)
    except UsageError as error:
        raise UsageError(f"The exclude file {name}: {error}") from None


def rules(steps: Sequence[tuple[Step, ...]]) -> Rules:
    """Return the rules that were given, in their order."""
    return excludes.build(steps)


def source(text: str) -> Source:
    """Convert and check the source: it is there, a directory, and can be read."""
    found = endpoints.parse_source(os.fsencode(text), cwd=os.getcwdb())
    shown = paths.show(found.path)
    if not os.path.lexists(found.path):
        raise UsageError(f"The source {shown} does not exist.")
    if not os.path.isdir(found.path):
        raise UsageError(f"The source {shown} is not a directory.")
    if not os.access(found.path, os.R_OK | os.X_OK):
        raise UsageError(
            f"The source {shown} cannot be read by this user: read and search permission is needed."
        )
    return found


def destinations(texts: Sequence[str], of: Source) -> tuple[Destination, ...]:
    """Convert the destinations and check them against their source and against each other."""
    return endpoints.parse_destinations(
        [os.fsencode(text) for text in texts],
        of,
        cwd=os.getcwdb(),
        is_directory=os.path.isdir,
        resolve=os.path.realpath,
    )


# A week: longer than that, and it is a backup.
_LONGEST_WINDOW = 604800.0
