"""What is kept on disk of a destination, and its file format.

The first line is the SHA-256 of the rest, which is one JSON document. Paths in it are UTF-8; a byte
that is not UTF-8 is a lone surrogate (PEP 383), which JSON escapes. Any damage is detected: a wrong
time would lose changes, and a wrong path could lead out of the source.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pylsyncd.model import paths
from pylsyncd.model.bounded_json import parse_json
from pylsyncd.model.changes import Changeset
from pylsyncd.model.directory_id import DirectoryId, MountId
from pylsyncd.model.errors import StateError
from pylsyncd.model.moments import Moment
from pylsyncd.model.move_composition import MAX_MOVES
from pylsyncd.model.moves import Move, Moves
from pylsyncd.model.paths import MAX_PATH_BYTES, PathError, RelativePath
from pylsyncd.model.scoped_paths import NO_PATHS, ScopedPaths

STATE_FORMAT_VERSION = 2

# The members that an older version does not write, by the version that added them. Of a directory,
# version 1 has only the device and the inode; of a mount, the fingerprint.
_ADDED_IN_VERSION = {
    "new_content": 2, "source_ctimes": 2, "destination_ctimes": 2, "unset_attributes": 2,
    "is_verified": 2,
}  # fmt: skip

# A member that is there only if something pending was moved, so that earlier releases, which refuse
# members that they do not know, read all other files. A file without it does not tell moves.
_MOVES = "moves"

# The same of what may be deleted, with delete = running. Of a full sync that may delete everything
# nothing is kept: each start makes another one.
_DELETABLE = "deletable"

Value = TypeVar("Value")

# More than any clock shows, yet small enough to compute with.
_MAX_SECONDS = 1e12


@dataclass(frozen=True, slots=True)
class DestinationState:
    """What is known of a destination.

    Each change before ``confirmed`` is at the destination or in ``pending``. For changes that
    inotify does not report that holds only before ``scanned``, the start of the last scan for them.
    """

    confirmed: Moment
    scanned: Moment
    source: DirectoryId
    mount_point: bytes
    """Of the file system that the source is on."""
    nested_mounts: Mapping[bytes, MountId]
    """The mount points below the source, and what is mounted there."""
    destination: DirectoryId | None
    """None for a remote directory."""
    options_digest: str
    """A digest of the options and rules that determine the copy."""
    pending: Changeset
    source_ctimes: Mapping[bytes, int]
    """Ctimes that were seen in the source, in nanoseconds, by path."""
    destination_ctimes: Mapping[bytes, int]
    """The same of a local destination."""
    is_clean_stop: bool
    """Whether pylsyncd has shut down since, rather than been killed."""
    unset_attributes: ScopedPaths = NO_PATHS
    """What is at the destination without some attributes, which could not be set."""
    is_verified: bool = False
    """Whether the destination was ever carried as a whole. Version 1 does not tell it: a start
    without an initial sync has left the same file as a completed one."""


def encode(state: DestinationState) -> bytes:
    """Return the content of a state file."""
    document = {
        "version": STATE_FORMAT_VERSION,
        "confirmed": _encode_moment(state.confirmed),
        "scanned": _encode_moment(state.scanned),
        "source": _encode_directory(state.source),
        "mount": encode_name(state.mount_point),
        "mounts": {
            encode_name(path): [mount.fingerprint, _encode_directory(mount.directory)]
            for path, mount in state.nested_mounts.items()
        },
        "destination": _encode_directory(state.destination),
        "shape": state.options_digest,
        "debt": _encode_paths(state.pending),
        "new_content": _encode_paths(state.pending.new_content),
        "source_ctimes": _encode_ctimes(state.source_ctimes),
        "destination_ctimes": _encode_ctimes(state.destination_ctimes),
        "is_stopped": state.is_clean_stop,
        "unset_attributes": _encode_paths(state.unset_attributes),
        "is_verified": state.is_verified,
    }
    if state.pending.moves:
        document[_MOVES] = _encode_moves(state.pending.moves)
    deletable = state.pending.deletable
    if deletable and not deletable.is_everything:
        document[_DELETABLE] = _encode_paths(deletable)
    body = json.dumps(document).encode("ascii") + b"\n"
    return _checksum(body) + b"\n" + body


def decode(content: bytes) -> DestinationState:
    """Return the state in a state file; raises StateError unless :func:`encode` has written it."""
    checksum, _, body = content.partition(b"\n")
    if checksum != _checksum(body):
        raise StateError(
            "The state file is damaged: it was truncated or changed by another program (its "
            "checksum does not match its content)."
        )
    try:
        return _decode_state(parse_json(body.decode("ascii")))
    except ValueError as error:
        raise StateError(f"The state file is invalid: {error}.") from error


def encode_name(name: bytes) -> str:
    """Return a name or path as a string for JSON."""
    return name.decode("utf-8", "surrogateescape")


def decode_name(value: object) -> bytes:
    """Return the name or path that :func:`encode_name` has made a string of."""
    name = _string(value).encode("utf-8", "surrogateescape")
    if encode_name(name) != value:
        _refuse(value, "a name as pylsyncd writes it")
    return name


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode("ascii")


def _encode_moment(moment: Moment) -> dict[str, object]:
    return {"wall": float(moment.wall), "running": float(moment.running), "boot": moment.boot}


def _encode_directory(directory: DirectoryId | None) -> list[object] | None:
    if directory is None:
        return None
    return [
        directory.device, directory.inode, directory.uuid, directory.fsid, directory.origin,
    ]  # fmt: skip


def _encode_ctimes(ctimes: Mapping[bytes, int]) -> list[list[object]]:
    # A list keeps the order, in which the last ones are at the end.
    return [
        [encode_name(path), ctime] for path, ctime in ctimes.items() if len(path) <= MAX_PATH_BYTES
    ]


def _encode_paths(some: ScopedPaths) -> dict[str, object]:
    return {
        "entries": {
            encode_name(path): _sorted(names)
            for path, names in some.entries.items()
            if len(path) <= MAX_PATH_BYTES
        },
        "listings": _sorted(some.listings),
        "trees": _sorted(some.trees),
    }


def _encode_moves(moves: Moves) -> dict[str, object]:
    return {
        "moved": [
            [
                encode_name(path), encode_name(move.old), move.is_directory, move.is_new_name,
                move.is_written,
            ]
            for path, move in sorted(moves.by_new_path.items())
            if max(len(path), len(move.old)) <= MAX_PATH_BYTES
        ],
        "written": _encode_paths(moves.written),
    }  # fmt: skip


def _sorted(names: Iterable[bytes]) -> list[str]:
    # No program can use a longer path, so it is never copied.
    return [encode_name(name) for name in sorted(names) if len(name) <= MAX_PATH_BYTES]


# Each of the following functions checks a part of a document and returns its value. They raise
# ValueError, with what is wrong.


def _decode_state(document: object) -> DestinationState:
    version = document.get("version") if isinstance(document, dict) else STATE_FORMAT_VERSION
    if type(version) is not int or not 1 <= version <= STATE_FORMAT_VERSION:
        raise ValueError(
            f"its format is version {version!r:.20}, and this pylsyncd reads versions 1 to "
            f"{STATE_FORMAT_VERSION}"
        )
    members = _object(
        document, "version", "confirmed", "scanned", "source", "mount", "mounts", "destination",
        "shape", "debt", "is_stopped",
        *(name for name, added in _ADDED_IN_VERSION.items() if added <= version),
        *(
            name for name in (_MOVES, _DELETABLE)
            if version > 1 and isinstance(document, dict) and name in document
        ),
    )  # fmt: skip
    new_content = _paths(members["new_content"]) if "new_content" in members else NO_PATHS
    return DestinationState(
        confirmed=_moment(members["confirmed"]),
        scanned=_moment(members["scanned"]),
        source=_directory_id(members["source"]),
        mount_point=decode_name(members["mount"]),
        nested_mounts=_path_mapping(members["mounts"], _mount_id),
        destination=_optional(members["destination"], _directory_id),
        options_digest=_string(members["shape"]),
        pending=_changeset(_paths(members["debt"]), new_content, members),
        source_ctimes=_ctimes(members.get("source_ctimes", [])),
        destination_ctimes=_ctimes(members.get("destination_ctimes", [])),
        is_clean_stop=_boolean(members["is_stopped"]),
        unset_attributes=(
            _paths(members["unset_attributes"]) if "unset_attributes" in members else NO_PATHS
        ),
        is_verified=_boolean(members.get("is_verified", False)),
    )


def _moment(value: object) -> Moment:
    members = _object(value, "wall", "running", "boot")
    return Moment(_seconds(members["wall"]), _seconds(members["running"]), _string(members["boot"]))


def _changeset(
    some: ScopedPaths, new_content: ScopedPaths, members: Mapping[str, object]
) -> Changeset:
    deletable = _paths(members[_DELETABLE]) if _DELETABLE in members else NO_PATHS
    changes = Changeset(some.entries, some.listings, some.trees, new_content, None, deletable)
    return changes.with_moves(_moves(members[_MOVES], changes)) if _MOVES in members else changes


def _moves(value: object, changes: Changeset) -> Moves:
    """Return the moves of changes, which must cover both paths: these are compared afterwards."""
    members = _object(value, "moved", "written")
    moved = _list(members["moved"], _path_and_move)
    by_new_path, old_paths = dict(moved), {move.old for _, move in moved}
    if not 0 < len(by_new_path) == len(old_paths) == len(moved) <= MAX_MOVES:
        _refuse(members["moved"], f"1 to {MAX_MOVES} moves of different paths")
    for path, move in moved:
        is_included = changes.includes_tree if move.is_directory else changes.includes_entry
        # A directory that is gone is an entry.
        left = move.old, *paths.ancestors(move.old)
        if not (is_included(path) and any(map(changes.includes_entry, left))):
            _refuse(path, "a move that is a change")
    return Moves(by_new_path, _paths(members["written"]))


def _path_and_move(value: object) -> tuple[bytes, Move]:
    if not isinstance(value, list) or len(value) != len(("path", *Move._fields)):
        _refuse(value, "a move")
    path, old = _path(value[0]), _path(value[1])
    if not path or not old or path == old:
        _refuse(value, "a move from one path to another")
    return path, Move(old, *map(_boolean, value[2:]))


def _paths(value: object) -> ScopedPaths:
    members = _object(value, "entries", "listings", "trees")
    entries = _path_mapping(members["entries"], lambda names: frozenset(_list(names, _entry_name)))
    for directory, names in entries.items():
        if not names or (directory and paths.ROOT in names):
            _refuse(directory, "a directory with entries")
    trees, listings = members["trees"], members["listings"]
    return ScopedPaths(entries, frozenset(_list(listings, _path)), frozenset(_list(trees, _path)))


def _object(value: object, *keys: str) -> dict[str, object]:
    """Return an object that has exactly these keys."""
    if not isinstance(value, dict) or value.keys() != set(keys):
        _refuse(value, "an object of " + ", ".join(keys))
    return value


def _path_mapping(value: object, decode_value: Callable[[object], Value]) -> dict[bytes, Value]:
    if not isinstance(value, dict):
        _refuse(value, "an object of paths")
    return {_path(path): decode_value(member) for path, member in value.items()}


def _list(value: object, decode_item: Callable[[object], Value]) -> list[Value]:
    if not isinstance(value, list):
        _refuse(value, "a list")
    return [decode_item(member) for member in value]


def _path(value: object) -> bytes:
    """Return a path below the source; empty for the root."""
    try:
        return RelativePath(decode_name(value))
    except PathError:
        _refuse(value, "a path below the source")


def _entry_name(value: object) -> bytes:
    """Return a name in a directory; empty for the root itself."""
    path = _path(value)
    if b"/" in path:
        _refuse(value, "a name")
    return path


def _string(value: object) -> str:
    if not isinstance(value, str):
        _refuse(value, "a string")
    value.encode("utf-8", "surrogateescape")
    return value


def _directory_id(value: object) -> DirectoryId:
    match value:
        case [device, inode]:
            uuid, fsid, origin = "", 0, ""
        case [device, inode, uuid, fsid, origin]:
            pass
        case _:
            _refuse(value, "what identifies a directory")
    return DirectoryId(
        _number(device), _number(inode), _string(uuid), _number(fsid), _string(origin)
    )


def _mount_id(value: object) -> MountId:
    if isinstance(value, str):
        return MountId(_string(value))
    if not isinstance(value, list) or len(value) != len(("fingerprint", "directory")):
        _refuse(value, "what identifies a mount")
    return MountId(_string(value[0]), _optional(value[1], _directory_id))


def _ctimes(value: object) -> dict[bytes, int]:
    return dict(_list(value, _path_and_ctime))


def _path_and_ctime(value: object) -> tuple[bytes, int]:
    if not isinstance(value, list) or len(value) != len(("path", "ctime")):
        _refuse(value, "a path and a ctime")
    return _path(value[0]), _number(value[1])


def _optional(value: object, decode_value: Callable[[object], Value]) -> Value | None:
    return None if value is None else decode_value(value)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        _refuse(value, "a 64-bit number")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, float) or math.isnan(value) or not 0.0 <= value <= _MAX_SECONDS:
        _refuse(value, "a number of seconds")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        _refuse(value, "true or false")
    return value


def _refuse(value: object, expected: str) -> NoReturn:
    raise ValueError(f"it contains {value!r:.40} instead of {expected}")
