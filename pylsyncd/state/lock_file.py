"""The content of lock files, and which two replications must not run at once. Pure."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pylsyncd.model import paths
from pylsyncd.model.bounded_json import parse_json
from pylsyncd.model.errors import StateError
from pylsyncd.state.destination_state import decode_name, encode_name


@dataclass(frozen=True, slots=True)
class LockRecord:
    """The source and the destination that a lock is for.

    ``source`` is a real path; ``destination`` is a real path, or ``host:path`` for a remote one. It
    is the same for each way to write the destination.
    """

    source: bytes
    destination: bytes
    is_deleting: bool


def destination_key(source: bytes, destination: bytes) -> str:
    """Return the name of the files of a source and a destination: 16 hexadecimal digits."""
    return hashlib.sha256(source + b"\0" + destination).hexdigest()[:16]


def encode(record: LockRecord, pid: int) -> bytes:
    """Return the content of a lock file."""
    document = {
        "pid": pid,
        "source": encode_name(record.source),
        "destination": encode_name(record.destination),
        "is_deleting": record.is_deleting,
    }
    return json.dumps(document).encode("ascii") + b"\n"


def decode(content: bytes) -> tuple[int, LockRecord]:
    """Return the pid and the record in a lock file; raises StateError if they are not there."""
    try:
        document: Any = parse_json(content)
        return int(document["pid"]), LockRecord(
            decode_name(document["source"]),
            decode_name(document["destination"]),
            bool(document["is_deleting"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StateError("it does not say which process holds it") from error


def conflict_message(ours: LockRecord, theirs: LockRecord, pid: int) -> str:
    """Return why ``ours`` must not run while the process ``pid`` runs ``theirs``; "" if it may.

    Two replications must not copy each other's copies back. And if one of two with the same
    destination deletes, each would delete what the other has copied.
    """
    other = (
        f"another pylsyncd (pid {pid}) replicates {_shown(theirs.source)} to "
        f"{_shown(theirs.destination)}"
    )
    own = f"{_shown(ours.source)} cannot be replicated to {_shown(ours.destination)}"
    if ours.source == theirs.source and ours.destination == theirs.destination:
        return f"{own}: {other} already. Stop it, or remove the destination here."
    if _overlaps(theirs.source, ours.destination) and _overlaps(ours.source, theirs.destination):
        return (
            f"{own}: {other}, so each copy would be copied back again. Replication is one-way: "
            "stop the other pylsyncd, or choose a directory that is not copied back."
        )
    if ours.destination == theirs.destination and (ours.is_deleting or theirs.is_deleting):
        return (
            f"{own}: {other}, and each would delete the files of the other one. Choose another "
            "destination, or disable deletion in both."
        )
    return ""


def _overlaps(source: bytes, destination: bytes) -> bool:
    """Return True if a destination is local, and at, below or above a source."""
    if destination and not destination.startswith(b"/"):
        return False
    one, other = source.strip(b"/"), destination.strip(b"/")
    return paths.covers(one, other) or paths.covers(other, one)


def _shown(path: bytes) -> str:
    return paths.printable(path or b"/")
