"""What is kept of a destination from one run of pylsyncd to the next, and its form on disk.

The first line is the SHA-256 of the rest, which is one JSON document. Paths are UTF-8 there, and
a byte that is not stands as a lone surrogate (PEP 383), which JSON escapes. Whatever was damaged
is noticed: believing a wrong moment would lose changes, and a wrong path could lead outside.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.model.errors import StateError
from pylsyncd.model.moments import Moment
from pylsyncd.model.paths import InodeId

STATE_FORMAT_VERSION = 1

Value = TypeVar("Value")

# More than any clock tells; what follows from a moment can still be computed.
_MOST_SECONDS = 1e12


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is known of a destination.

    Every change before ``confirmed`` is at the destination, or in ``debt``, but for those that no
    event has told: these are before ``scanned``, when a scan began that would have found them.
    ``source`` and ``destination`` are the directories themselves (None for a remote one). ``mount``
    is where the source's file system is mounted, ``mounts`` tells what is mounted where below the
    source. ``shape`` stands for the options and rules that shape the result. ``is_stopped`` tells
    that pylsyncd has ended in order since.
    """

    confirmed: Moment
    scanned: Moment
    source: InodeId
    mount: bytes
    mounts: Mapping[bytes, str]
    destination: InodeId | None
    shape: str
    debt: Changeset
    is_stopped: bool


def encode(state: DestinationState) -> bytes:
    """Return the content of a state file."""
    document = {
        "version": STATE_FORMAT_VERSION,
        "confirmed": _encoded_moment(state.confirmed),
        "scanned": _encoded_moment(state.scanned),
        "source": state.source,
        "mount": encode_name(state.mount),
        "mounts": {encode_name(path): mounted for path, mounted in state.mounts.items()},
        "destination": state.destination,
        "shape": state.shape,
        "debt": _encoded_debt(state.debt),
        "is_stopped": state.is_stopped,
    }
    body = json.dumps(document, sort_keys=True).encode("ascii") + b"\n"
    return _checksum(body) + b"\n" + body


def decode(content: bytes) -> DestinationState:
    """Return the state that a state file holds.

    Raises StateError when that is not, or not exactly, what :func:`encode` has written.
    """
    checksum, _, body = content.partition(b"\n")
    if checksum != _checksum(body):
        raise StateError(
            "The state file is damaged: it was cut short or changed by something other than "
            "pylsyncd (its checksum is not that of its content)."
        )
    try:
        return _state(json.loads(body.decode("ascii")))
    except (ValueError, RecursionError) as error:
        raise StateError(f"The state file cannot be understood: {error}.") from error


def encode_name(name: bytes) -> str:
    """Return a name or path as JSON can hold it."""
    return name.decode("utf-8", "surrogateescape")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii")


def _encoded_moment(moment: Moment) -> dict[str, object]:
    return {
        "wall": float(moment.wall),
        "running": float(moment.running),
        "boot": moment.boot,
    }


def _encoded_debt(debt: Changeset) -> dict[str, object]:
    return {
        "entries": {encode_name(path): _sorted(names) for path, names in debt.entries.items()},
        "listings": _sorted(debt.listings),
        "trees": _sorted(debt.trees),
    }


def _sorted(names: Iterable[bytes]) -> list[str]:
    return [encode_name(name) for name in sorted(names)]


# What follows turns parts of a document into values, and raises ValueError, saying what is wrong.


def _state(document: object) -> DestinationState:
    if isinstance(document, dict) and document.get("version") != STATE_FORMAT_VERSION:
        raise ValueError(
            f"it is of version {document.get('version')!r:.20}, and this pylsyncd reads "
            f"version {STATE_FORMAT_VERSION}"
        )
    members = _members(document, "version", *DestinationState.__slots__)
    destination = members["destination"]
    return DestinationState(
        confirmed=_moment(members["confirmed"]),
        scanned=_moment(members["scanned"]),
        source=_identity(members["source"]),
        mount=decode_name(members["mount"]),
        mounts=_mapping(members["mounts"], _string),
        destination=None if destination is None else _identity(destination),
        shape=_string(members["shape"]),
        debt=_debt(members["debt"]),
        is_stopped=_truth(members["is_stopped"]),
    )


def _moment(value: object) -> Moment:
    members = _members(value, *Moment.__slots__)
    return Moment(_seconds(members["wall"]), _seconds(members["running"]), _string(members["boot"]))


def _debt(value: object) -> Changeset:
    members = _members(value, *Changeset.__slots__)
    entries = _mapping(members["entries"], lambda names: frozenset(_list(names, _entry)))
    for directory, names in entries.items():
        if not names or (directory and paths.ROOT in names):
            _wrong(directory, "a directory with entries")
    trees, listings = members["trees"], members["listings"]
    return Changeset(entries, frozenset(_list(listings, _path)), frozenset(_list(trees, _path)))


def _members(value: object, *names: str) -> dict[str, object]:
    """Return an object that has exactly the members named."""
    if not isinstance(value, dict) or value.keys() != set(names):
        _wrong(value, "an object of " + ", ".join(names))
    return value


def _mapping(value: object, of: Callable[[object], Value]) -> dict[bytes, Value]:
    if not isinstance(value, dict):
        _wrong(value, "an object of paths")
    return {_path(path): of(member) for path, member in value.items()}


def _list(value: object, of: Callable[[object], Value]) -> list[Value]:
    if not isinstance(value, list):
        _wrong(value, "a list")
    return [of(member) for member in value]


def _path(value: object) -> bytes:
    """Return a path that stays below the source; the root is empty."""
    path = decode_name(value)
    if b"\0" in path or (path and not {b"", b".", b".."}.isdisjoint(path.split(b"/"))):
        _wrong(value, "a path below the source")
    return path


def _entry(value: object) -> bytes:
    """Return a name in a directory; the root's own is empty."""
    path = _path(value)
    if b"/" in path:
        _wrong(value, "a name")
    return path


def decode_name(value: object) -> bytes:
    """Return the name or path that :func:`text` has turned into a string."""
    name = _string(value).encode("utf-8", "surrogateescape")
    if encode_name(name) != value:
        _wrong(value, "a name as pylsyncd writes it")
    return name


def _string(value: object) -> str:
    if not isinstance(value, str):
        _wrong(value, "a string")
    value.encode("utf-8", "surrogateescape")
    return value


def _identity(value: object) -> InodeId:
    numbers = _list(value, _number)
    if len(numbers) != len(("device", "directory")):
        _wrong(value, "a device and an inode")
    return numbers[0], numbers[1]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        _wrong(value, "a number of 64 bits")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, float) or math.isnan(value) or not 0.0 <= value <= _MOST_SECONDS:
        _wrong(value, "a number of seconds")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        _wrong(value, "true or false")
    return value


def _wrong(value: object, expected: str) -> NoReturn:
    raise ValueError(f"{value!r:.40} stands where {expected} belongs")
