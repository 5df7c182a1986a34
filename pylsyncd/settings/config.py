"""The settings of the daemon. All validation ends here: what is made is known to be usable."""

import os
from collections.abc import Sequence

from pylsyncd.model import endpoints, paths
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rules import excludes
from pylsyncd.rules.excludes import Rules, Step
from pylsyncd.system import places

# Longer than a week is no window, longer than a year no interval.
_WEEK = 604800.0
_YEAR = 366 * 86400.0


def window(text: str) -> float:
    """Convert a window in seconds, from the text that a person wrote."""
    return _seconds("The window", text)


def timeout(text: str) -> float:
    """Convert the time without progress after which an rsync is ended."""
    return _seconds("--timeout", text)


def poll_interval(text: str) -> float:
    """Convert the time between two looks at what cannot be watched."""
    return _seconds("--poll-interval", text)


def scan_interval(text: str) -> float:
    """Convert the time between two scans; 0 for none."""
    return 0.0 if text == "0" else _seconds("--scan-interval", text, longest=_YEAR)


def full_sync_interval(text: str) -> float:
    """Convert the time between two full syncs."""
    return _seconds("--full-sync-interval", text, longest=_YEAR)


def _seconds(name: str, text: str, longest: float = _WEEK) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise UsageError(
            f"{name} must be a number of seconds, such as 60 or 0.5, not {text!r}."
        ) from None
    if not 0.0 < seconds <= longest:
        raise UsageError(
            f"{name} must be more than 0 and at most {longest:.0f} seconds, not {text}."
        )
    return seconds


def max_changes(text: str) -> int:
    """Convert a number of changes."""
    return _number("--max-changes", text, least=1)


def max_delete(text: str) -> int:
    """Convert a number of deletions."""
    return _number("--max-delete", text, least=0)


def _number(name: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise UsageError(f"{name} must be a whole number from {least} on, not {text!r}.")
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


def state_dir(
    text: str | None, source: Source, destinations: Sequence[Destination], rules: Rules
) -> bytes:
    """Convert and check the state directory; the default one where none was given.

    It must not be watched, nor deleted as something that the source does not have.
    """
    if text is None:
        # systemd may give a symlink, and nobody else can.
        text = os.path.realpath(places.state_directory(os.environ, os.geteuid()))
    given = os.path.abspath(os.fsencode(text))
    path = os.path.realpath(given)
    advice = "name another one with --state-dir"
    root = os.path.realpath(source.path)
    if (below := _below(root, path)) is not None and not (
        below and rules.excludes(below, is_directory=True)
    ):
        raise UsageError(
            f"The state directory {paths.show(path)} lies in the source, which would be changed by "
            f"each sync: {advice}, or exclude it."
        )
    for destination in destinations:
        if destination.transport is Transport.LOCAL and _below(destination.spot, path) is not None:
            raise UsageError(
                f"The state directory {paths.show(path)} lies in the destination "
                f"{destination.written}, which would delete it: {advice}."
            )
    return given


def _below(top: bytes, path: bytes) -> bytes | None:
    """Return an absolute path relative to ``top``; None when it is not at or below that."""
    if path == top:
        return b""
    prefix = top.rstrip(b"/") + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None
