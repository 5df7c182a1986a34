"""What a pylsyncd keeps equal to what, and which two of them do not go together. Pure."""

import hashlib
import json
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.model.errors import StateError
from pylsyncd.state.destination_state import decode_name, encode_name


@dataclass(frozen=True, slots=True)
class LockRecord:
    """What one pylsyncd keeps equal to what.

    ``source`` is a real path; ``destination`` is a real path, or ``host:path`` for a remote one:
    the same for the same spot, however it was written.
    """

    source: bytes
    destination: bytes
    is_deleting: bool


def destination_key(source: bytes, destination: bytes) -> str:
    """Return what names the files of a source and destination: 16 hexadecimal digits."""
    return hashlib.sha256(source + b"\0" + destination).hexdigest()[:16]


def encode(claim: LockRecord, pid: int) -> bytes:
    """Return the content of a lock file."""
    document = {
        "pid": pid,
        "source": encode_name(claim.source),
        "destination": encode_name(claim.destination),
        "is_deleting": claim.is_deleting,
    }
    return json.dumps(document).encode("ascii") + b"\n"


def decode(content: bytes) -> tuple[int, LockRecord]:
    """Return the pid and the claim that a lock file tells; raises StateError if it does not."""
    try:
        document = json.loads(content)
        return int(document["pid"]), LockRecord(
            decode_name(document["source"]),
            decode_name(document["destination"]),
            bool(document["is_deleting"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise StateError("it does not tell who holds it") from error


def conflict_message(ours: LockRecord, theirs: LockRecord, pid: int) -> str:
    """Say why ``ours`` must not be kept while the process ``pid`` keeps ``theirs``, or nothing.

    Two of them must not bring each other's copies back. And where one deletes, none else may
    bring anything from another source: each would delete what the other one brings.
    """
    other = (
        f"another pylsyncd (pid {pid}) keeps {_shown(theirs.destination)} equal to "
        f"{_shown(theirs.source)}"
    )
    own = f"{_shown(ours.destination)} cannot be kept equal to {_shown(ours.source)}"
    if ours.source == theirs.source and ours.destination == theirs.destination:
        return f"{own}: {other} already. Stop that one, or leave the destination out here."
    if _overlaps(theirs.source, ours.destination) and _overlaps(ours.source, theirs.destination):
        return (
            f"{own}: {other}, so that each copy would be copied back again. Replication goes one "
            "way: stop that one, or name a directory that is not copied back."
        )
    if ours.destination == theirs.destination and (ours.is_deleting or theirs.is_deleting):
        return (
            f"{own}: {other}, and each would delete what the other one brings. Name another "
            "destination, or have neither of them delete."
        )
    return ""


def _overlaps(source: bytes, destination: bytes) -> bool:
    """Tell whether a destination is here, and at, below or above a source."""
    if destination and not destination.startswith(b"/"):
        return False
    one, other = source.strip(b"/"), destination.strip(b"/")
    return paths.covers(one, other) or paths.covers(other, one)


def _shown(path: bytes) -> str:
    return paths.printable(path or b"/")
