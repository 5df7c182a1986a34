"""What pylsyncctl and pylsyncd say to each other: a line of JSON asks, a line of JSON answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pylsyncd.model.errors import PylsyncdError, UsageError

VERSION = 1
"""Of the protocol; it changes when what is said before would be misunderstood."""

MAX_REQUEST_BYTES = 64 << 10
"""Bytes, with the line's end."""

MAX_ANSWER_BYTES = 64 << 20

MAX_WAIT_SECONDS = 86400.0
"""Seconds."""

COMMANDS = (
    "status", "flush", "sync", "pause", "resume", "release", "wait", "log-level", "reload",
)  # fmt: skip


class NoDaemonError(PylsyncdError):
    """There is no daemon that could answer."""


class ProtocolError(PylsyncdError):
    """What came is nothing that this protocol knows."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """What the daemon is asked to do."""

    command: str
    names: Sequence[str] = ()
    """Of destinations; none for all."""
    timeout: float = MAX_WAIT_SECONDS
    """Seconds that a wait may take."""
    level: str = ""
    """Of the log."""


def encode_request(request: ControlRequest) -> bytes:
    """Return a request as a line; raises UsageError when the daemon would not take it."""
    line = json.dumps({"version": VERSION, **asdict(request)}).encode() + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise UsageError("So many names are more than pylsyncd takes at a time: name fewer.")
    return line


def decode_request(line: bytes) -> ControlRequest:
    """Return the request of a line; raises ProtocolError."""
    asked = _object(line, "request")
    version = asked.get("version")
    if version != VERSION:
        raise ProtocolError(
            f"pylsyncctl speaks version {ascii(version)[:20]} of the protocol, and this pylsyncd "
            f"version {VERSION}: restart the daemon, or use the pylsyncctl that came with it."
        )
    command = asked.get("command")
    if command not in COMMANDS:
        raise ProtocolError(f"This pylsyncd does not know the command {ascii(command)[:60]}.")
    names, level = asked.get("names", []), asked.get("level", "")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("The names of a request must be texts.")
    if not isinstance(level, str):
        raise ProtocolError("The level of a request must be a text.")
    return ControlRequest(
        command, tuple(names), _timeout(asked.get("timeout", MAX_WAIT_SECONDS)), level
    )


def encode_answer(answer: Mapping[str, object]) -> bytes:
    """Return an answer as a line."""
    return json.dumps({"version": VERSION, **answer}, allow_nan=False).encode() + b"\n"


def decode_answer(line: bytes) -> Mapping[str, object]:
    """Return the answer of a line; raises ProtocolError, too, with what the daemon refuses."""
    found = _object(line, "answer")
    if (error := found.get("error")) is not None:
        raise ProtocolError(str(error))
    if found.get("version") != VERSION:
        raise ProtocolError("It speaks another version of the protocol: restart it.")
    return found


def _timeout(value: object) -> float:
    # Not True, which Python takes for a number; and nothing is at most NaN.
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return (
            min(float(value), MAX_WAIT_SECONDS) if value <= MAX_WAIT_SECONDS else MAX_WAIT_SECONDS
        )
    raise ProtocolError("The timeout of a request must be a number of seconds.")


def _object(line: bytes, noun: str) -> Mapping[str, object]:
    try:
        found = json.loads(line)
    # Brackets may be nested deeper than Python goes.
    except (ValueError, RecursionError):
        raise ProtocolError(f"The {noun} must be a line of JSON.") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"The {noun} must be an object.")
    return found
