"""What is kept on disk of the repairs of a destination: how far the walk is, and since when.

It decides when a directory is compared once more, and never what is confirmed: so a file that is
damaged or missing only makes a round begin from the start.
"""

import json
import logging
import math
from dataclasses import dataclass

from pylsyncd.model.bounded_json import parse_json
from pylsyncd.model.errors import StateError
from pylsyncd.model.paths import PathError, RelativePath
from pylsyncd.state.destination_state import decode_name, encode_name
from pylsyncd.state.state_directory import StateDirectory

log = logging.getLogger(__name__)

_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class RepairState:
    """How far the repairs of a destination are. Times are in seconds since the epoch."""

    round_start: float = 0.0
    """When the present round started; 0.0 if there is none."""
    position: bytes | None = None
    """The last directory that was compared in it; None before the first one."""
    directories: int = 0
    """How many directories were compared in it."""
    deleted: int = 0
    """How many paths it has deleted."""
    compared_since: float | None = None
    """The whole of the destination was compared with the source since; None if never."""


class RepairFile:
    """The file with the state of the repairs of one destination."""

    def __init__(self, directory: StateDirectory, key: str) -> None:
        self._directory = directory
        self._name = key + ".repair"

    def load(self) -> RepairState:
        """Return the state that was saved; a state without a round if it cannot be used."""
        try:
            content = self._directory.read(self._name)
            return RepairState() if content is None else _decode(content)
        except (StateError, ValueError, PathError):
            return RepairState()

    def save(self, state: RepairState) -> None:
        """Save a state; after a failure the next start repeats what was done since."""
        try:
            self._directory.write(self._name, _encode(state))
        except OSError as error:
            log.debug("%s cannot be written: %s", self._name, error.strerror)


def _encode(state: RepairState) -> bytes:
    position = None if state.position is None else encode_name(state.position)
    document = {
        "version": _FORMAT_VERSION, "round_start": state.round_start, "position": position,
        "directories": state.directories, "deleted": state.deleted,
        "compared_since": state.compared_since,
    }  # fmt: skip
    return json.dumps(document).encode("ascii") + b"\n"


def _decode(content: bytes) -> RepairState:
    document = parse_json(content.decode("ascii"))
    if not isinstance(document, dict) or document.get("version") != _FORMAT_VERSION:
        raise ValueError("another format")
    position, since = document.get("position"), document.get("compared_since")
    return RepairState(
        _seconds(document.get("round_start")),
        None if position is None else RelativePath(decode_name(position)),
        _count(document.get("directories")),
        _count(document.get("deleted")),
        None if since is None else _seconds(since),
    )


def _seconds(value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value) or value < 0.0:
        raise ValueError("no time")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no count")
    return value
