"""The protocol of the control socket: a request is one line of JSON, and so is its answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pylsyncd.model.bounded_json import parse_json
from pylsyncd.model.errors import PylsyncdError, UsageError

VERSION = 1
"""Protocol version; changes only when older peers would misunderstand a message."""

MAX_REQUEST_BYTES = 64 << 10
"""Including the newline."""

MAX_ANSWER_BYTES = 64 << 20

MAX_ERROR_CHARACTERS = 10_000
"""Of an answer that is an error: a configuration file may have many."""

MAX_WAIT_SECONDS = 86400.0

COMMANDS = (
    "status", "flush", "sync", "pause", "resume", "release", "wait", "log-level", "reload",
)  # fmt: skip


class NoDaemonError(PylsyncdError):
    """No daemon is running that could answer."""


class NotPermittedError(PylsyncdError):
    """The user may not see whether a daemon runs, or may not control it."""


class ProtocolError(PylsyncdError):
    """A message is malformed, or an answer carries an error."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A command for the daemon; the fields are keys of its JSON object."""

    command: str
    names: Sequence[str] = ()
    """Names of destinations; empty for all."""
    timeout: float = MAX_WAIT_SECONDS
    """Seconds, for the command wait."""
    level: str = ""
    """For the command log-level."""


def encode_request(request: ControlRequest) -> bytes:
    """Return a request as a line; raises UsageError if it is too long for the daemon."""
    line = json.dumps({"version": VERSION, **asdict(request)}).encode() + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise UsageError("Too many names for one request: name fewer destinations at a time.")
    return line


def decode_request(line: bytes) -> ControlRequest:
    """Return the request of a line; raises ProtocolError."""
    fields = _parse_object(line, "request", has_bounded_numbers=False)
    version = fields.get("version")
    if version != VERSION:
        raise ProtocolError(
            f"pylsyncctl speaks version {ascii(version)[:20]} of the protocol, and this pylsyncd "
            f"version {VERSION}: restart the daemon, or use the pylsyncctl that came with it."
        )
    command = fields.get("command")
    if command not in COMMANDS:
        raise ProtocolError(f"This pylsyncd does not know the command {ascii(command)[:60]}.")
    names, level = fields.get("names", []), fields.get("level", "")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("The names of a request must be strings.")
    if not isinstance(level, str):
        raise ProtocolError("The level of a request must be a string.")
    timeout = _parse_timeout(fields.get("timeout", MAX_WAIT_SECONDS))
    return ControlRequest(command, tuple(names), timeout, level)


def encode_answer(answer: Mapping[str, object]) -> bytes:
    """Return an answer as a line."""
    return json.dumps({"version": VERSION, **answer}, allow_nan=False).encode() + b"\n"


def decode_answer(line: bytes) -> Mapping[str, object]:
    """Return the answer of a line; raises ProtocolError if it is malformed or carries an error."""
    fields = _parse_object(line, "answer")
    if (error := fields.get("error")) is not None:
        raise ProtocolError(str(error)[:MAX_ERROR_CHARACTERS])
    if fields.get("version") != VERSION:
        raise ProtocolError("The daemon speaks another version of the protocol: restart it.")
    return fields


def _parse_timeout(value: object) -> float:
    # bool is a subclass of int. NaN fails every comparison.
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(min(value, MAX_WAIT_SECONDS))
    raise ProtocolError("The timeout of a request must be a number of seconds.")


def _parse_object(
    line: bytes, noun: str, *, has_bounded_numbers: bool = True
) -> Mapping[str, object]:
    try:
        found = parse_json(line, has_bounded_numbers=has_bounded_numbers)
    except ValueError:
        raise ProtocolError(f"The {noun} must be a line of JSON.") from None
    if not isinstance(found, dict):
        raise ProtocolError(f"The {noun} must be an object.")
    return found
