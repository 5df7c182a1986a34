"""A state file returns exactly what was encoded, and any damage to it is detected."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.directory_id import DirectoryId, MountId
from pylsyncd.model.errors import StateError
from pylsyncd.model.moments import Moment
from pylsyncd.model.move_composition import MAX_MOVES
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.state.destination_state import DestinationState, decode, encode

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in {b".", b".."} and not {0, ord("/")} & set(name)
)
some_paths = st.lists(names, max_size=4).map(b"/".join)
numbers = st.integers(0, 2**64 - 1)
directories = st.builds(DirectoryId, numbers, numbers, st.text(), numbers, st.text())
seconds = st.floats(0.0, 1e12)


@st.composite
def changesets(draw: st.DrawFn) -> MutableChangeset:
    changes = MutableChangeset()
    for path, scope in draw(st.lists(st.tuples(some_paths, st.sampled_from(list(Scope))))):
        changes.add(path, scope)
    for path, scope in draw(st.lists(st.tuples(some_paths, st.sampled_from(list(Scope))))):
        changes.new_content.add(path, scope)
    for path, scope in draw(st.lists(st.tuples(some_paths, st.sampled_from(list(Scope))))):
        changes.deletable.add(path, scope)
    if draw(st.booleans()):
        changes.moves = Moves(*draw(moves_of(changes)))
    return changes


@st.composite
def moves_of(
    draw: st.DrawFn, changes: MutableChangeset
) -> tuple[dict[bytes, Move], MutableScopedPaths]:
    """Return some moves, which become changes, and what was written."""
    moves = {}
    for old, new in draw(st.dictionaries(some_paths, some_paths, max_size=3)).items():
        if old and new and old != new and new not in moves:
            moves[new] = Move(old, *draw(st.tuples(*[st.booleans()] * 3)))
            changes.add(old, Scope.ENTRY)
            changes.add_new_content(new, moves[new].scope)
    written = MutableScopedPaths()
    for path in draw(st.lists(some_paths, max_size=3)):
        written.add(path, Scope.TREE)
    return moves, written


states = st.builds(
    DestinationState,
    confirmed=st.builds(Moment, seconds, seconds, st.text()),
    scanned=st.builds(Moment, seconds, seconds, st.text()),
    source=directories,
    mount_point=st.binary(),
    nested_mounts=st.dictionaries(
        some_paths, st.builds(MountId, st.text(), st.none() | directories)
    ),
    destination=st.none() | directories,
    options_digest=st.text(),
    pending=changesets(),
    source_ctimes=st.dictionaries(some_paths, numbers),
    destination_ctimes=st.dictionaries(some_paths, numbers),
    is_clean_stop=st.booleans(),
    unset_attributes=changesets(),
    is_verified=st.booleans(),
)

STATE = DestinationState(
    confirmed=Moment(1_700_000_000.25, 86400.5, "3c1f"),
    scanned=Moment(1_699_999_000.5, 85400.75, "3c1f"),
    source=DirectoryId(2049, 12, "c0ffee", 47),
    mount_point=b"/srv",
    nested_mounts={b"a/mounted \xff": MountId("ext4 abc /", DirectoryId(2051, 2))},
    destination=DirectoryId(2050, 13),
    options_digest="c0ffee",
    pending=MutableChangeset(),
    source_ctimes={b"b": 2, b"a": 1},
    destination_ctimes={},
    is_clean_stop=True,
    is_verified=True,
)


def members(state: DestinationState) -> dict[str, Any]:
    """Return the fields of a state, with its pending changes as a set that can be compared."""
    found = {name: getattr(state, name) for name in DestinationState.__slots__}
    return found | {
        "pending": (set(state.pending), set(state.pending.new_content), moves_in(state.pending)),
        "unset_attributes": set(state.unset_attributes),
    }


def moves_in(changes: Changeset) -> object:
    moves = changes.moves
    return (dict(moves.by_new_path), set(moves.written)) if moves else None


def with_pending_decoded(pending: Changeset) -> DestinationState:
    """Return what is decoded from a state with these pending changes."""
    return decode(encode(replace(STATE, pending=pending)))


@given(states)
def test_a_state_is_decoded_as_it_was_encoded(state: DestinationState) -> None:
    assert members(decode(encode(state))) == members(state)


@pytest.mark.parametrize("pending", [NOTHING, EVERYTHING])
def test_nothing_and_everything_can_be_pending(pending: MutableChangeset) -> None:
    kept = with_pending_decoded(pending)
    assert set(kept.pending) == set(pending)
    assert kept.pending.is_everything == pending.is_everything


def test_the_entry_of_the_root_can_be_pending() -> None:
    pending = MutableChangeset()
    pending.add(paths.ROOT, Scope.ENTRY)
    assert decode(encode(replace(STATE, pending=pending))).pending.entries == {b"": {b""}}


def test_every_byte_of_a_name_is_kept() -> None:
    name = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    pending = MutableChangeset()
    for known in (name, b"\xc3\xa9", b"\xed\xa0\xbd\xed\xb8\x80", "\U0001f600".encode(), b"\xff\n"):
        pending.add(b"directory/" + known, Scope.ENTRY)
    assert set(with_pending_decoded(pending).pending) == set(pending)


@given(st.binary())
@example(b"")
@example(b"\n")
@example(b"\0" * 4096)
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(StateError):
        decode(content)


@given(states, st.data())
def test_a_changed_byte_is_detected(state: DestinationState, data: st.DataObject) -> None:
    content = bytearray(encode(state))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError, match="damaged"):
        decode(bytes(content))


@given(states, st.data())
def test_a_truncated_file_is_detected(state: DestinationState, data: st.DataObject) -> None:
    content = encode(state)
    with pytest.raises(StateError, match="damaged"):
        decode(content[: data.draw(st.integers(0, len(content) - 1))])


def sealed(body: bytes) -> bytes:
    """Return a file whose checksum is right, so that only its document can be wrong."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def locations(document: Any) -> list[tuple[Any, Any]]:
    """Return every container of a document with each of its keys or positions."""
    if isinstance(document, dict):
        keys: list[Any] = list(document)
    else:
        keys = list(range(len(document))) if isinstance(document, list) else []
    below = [location for key in keys for location in locations(document[key])]
    return [(document, key) for key in keys] + below


@given(states, anything, st.data())
def test_a_document_changed_at_any_location_is_refused_or_valid(
    state: DestinationState, replacement: Any, data: st.DataObject
) -> None:
    document = json.loads(encode(state).partition(b"\n")[2])
    container, key = data.draw(st.sampled_from(locations(document)))
    container[key] = replacement
    try:
        changed = decode(sealed(json.dumps(document).encode()))
    except StateError:
        return
    assert members(decode(encode(changed))) == members(changed)


@given(anything)
def test_any_other_document_is_refused(document: Any) -> None:
    with pytest.raises(StateError, match="is invalid"):
        decode(sealed(json.dumps(document).encode()))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b"9" * 10_000, id="a number too long"),
        pytest.param(b"\xff\xfe", id="not ASCII"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_document_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(StateError, match="is invalid"):
        decode(sealed(body))


def changed_state(**changes: Any) -> bytes:
    document = json.loads(encode(STATE).partition(b"\n")[2])
    return sealed(json.dumps(document | changes).encode())


def with_pending(**changes: Any) -> dict[str, Any]:
    return {"debt": {"entries": {}, "listings": [], "trees": []} | changes}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"source": [1]}, id="half an identity"),
        pytest.param({"source": [1, True]}, id="an inode that is true"),
        pytest.param({"source": [1, -1]}, id="a negative inode"),
        pytest.param({"source": None}, id="no source"),
        pytest.param({"source": [1, 2, "", 0]}, id="half a file system"),
        pytest.param({"source": [1, 2, 3, 0, ""]}, id="a number for a UUID"),
        pytest.param({"source_ctimes": [["../a", 1]]}, id="a ctime outside"),
        pytest.param({"source_ctimes": [["a"]]}, id="no ctime"),
        pytest.param({"destination_ctimes": [["a", -1]]}, id="a negative ctime"),
        pytest.param({"mounts": {"a": ["ext4 abc /"]}}, id="half a mount"),
        pytest.param({"mounts": {"a": [1, None]}}, id="a number for a mount"),
        pytest.param({"is_stopped": 1}, id="a number for a truth"),
        pytest.param({"confirmed": {"wall": 1e999, "running": 1.0, "boot": ""}}, id="no end"),
        pytest.param({"confirmed": {"wall": float("nan"), "running": 1.0, "boot": ""}}, id="NaN"),
        pytest.param({"confirmed": {"wall": 1.0, "boot": ""}}, id="a member is missing"),
        pytest.param({"more": 1}, id="a member too many"),
        pytest.param({"shape": "\ud800"}, id="half a character"),
        pytest.param({"mount": "\udcc3\udca9"}, id="bytes that have a better form"),
        pytest.param(with_pending(trees=["../outside"]), id="a path that leads outside"),
        pytest.param(with_pending(trees=["/etc"]), id="an absolute path"),
        pytest.param(with_pending(trees=["a//b"]), id="a doubled slash"),
        pytest.param(with_pending(listings=["a/."]), id="a dot"),
        pytest.param(with_pending(listings=["a\0"]), id="a NUL"),
        pytest.param(with_pending(entries={"a": ["b/c"]}), id="a path for a name"),
        pytest.param(with_pending(entries={"a": [".."]}), id="the directory above"),
        pytest.param(with_pending(entries={"a": [""]}), id="no name"),
        pytest.param(with_pending(entries={"a": []}), id="no names"),
        pytest.param(with_pending(entries=[]), id="a list of entries"),
    ],
)
def test_an_invalid_value_is_refused(changes: dict[str, Any]) -> None:
    decode(changed_state())
    with pytest.raises(StateError, match="is invalid"):
        decode(changed_state(**changes))


def test_another_format_version_is_named() -> None:
    with pytest.raises(
        StateError, match=r"its format is version 3, and this pylsyncd reads versions 1 to 2\.$"
    ):
        decode(changed_state(version=3))


def test_a_state_file_of_version_1_is_read() -> None:
    document = json.loads(changed_state().partition(b"\n")[2])
    for added in (
        "new_content", "source_ctimes", "destination_ctimes", "unset_attributes", "is_verified",
    ):  # fmt: skip
        del document[added]
    document |= {
        "version": 1,
        "source": [2049, 12],
        "mounts": {"a/mounted \udcff": "ext4 abc /"},
        "destination": [2050, 13],
    }
    state = decode(sealed(json.dumps(document).encode()))
    assert members(state) == members(STATE) | {
        "source": DirectoryId(2049, 12),
        "nested_mounts": {b"a/mounted \xff": MountId("ext4 abc /")},
        "destination": DirectoryId(2050, 13),
        "source_ctimes": {},
        # Such a file is left by a start without an initial sync as well.
        "is_verified": False,
    }
    with pytest.raises(StateError):
        decode(changed_state(version=1))


def test_the_format_of_a_state_file_is_the_documented_one() -> None:
    pending = MutableChangeset()
    pending.add(b"a/b", Scope.ENTRY)
    pending.add(b"c", Scope.LISTING)
    pending.add(b"d", Scope.TREE)
    pending.new_content.add(b"a/b", Scope.ENTRY)
    unset = MutableChangeset()
    unset.add(b"e", Scope.ENTRY)
    state = replace(STATE, pending=pending, unset_attributes=unset)
    assert json.loads(encode(state).partition(b"\n")[2]) == {
        "version": 2,
        "confirmed": {"wall": 1_700_000_000.25, "running": 86400.5, "boot": "3c1f"},
        "scanned": {"wall": 1_699_999_000.5, "running": 85400.75, "boot": "3c1f"},
        "source": [2049, 12, "c0ffee", 47, ""],
        "mount": "/srv",
        "mounts": {"a/mounted \udcff": ["ext4 abc /", [2051, 2, "", 0, ""]]},
        "destination": [2050, 13, "", 0, ""],
        "shape": "c0ffee",
        "debt": {"entries": {"a": ["b"]}, "listings": ["c"], "trees": ["d"]},
        "new_content": {"entries": {"a": ["b"]}, "listings": [], "trees": []},
        "source_ctimes": [["b", 2], ["a", 1]],
        "destination_ctimes": [],
        "is_stopped": True,
        "is_verified": True,
        "unset_attributes": {"entries": {"": ["e"]}, "listings": [], "trees": []},
    }


def test_a_path_that_no_program_can_use_is_not_saved() -> None:
    longest, too_long = b"x" * paths.MAX_PATH_BYTES, b"x" * (paths.MAX_PATH_BYTES + 1)
    pending = MutableChangeset()
    for path in (longest, too_long):
        pending.add(path + b"/entry", Scope.ENTRY)
        pending.add(path, Scope.LISTING)
        pending.add(path, Scope.TREE)
    ctimes = {longest: 1, too_long: 2}
    state = replace(STATE, pending=pending, source_ctimes=ctimes, destination_ctimes=ctimes)
    found = decode(encode(state))
    assert {change.path for change in found.pending} == {longest, longest + b"/entry"}
    assert found.source_ctimes == found.destination_ctimes == {longest: 1}


def moved(*pairs: list[object]) -> dict[str, Any]:
    """Return members of a document with moves from ``o`` and ``p``."""
    return {
        "debt": {"entries": {"": ["o", "p"]}, "listings": [], "trees": ["n", "m"]},
        "moves": {
            "moved": pairs,
            "written": {"entries": {}, "listings": ["n/written"], "trees": []},
        },
    }


PAIR = ["n", "o", True, True, False]


def test_moves_are_kept_with_what_was_written_below_them() -> None:
    pending = decode(changed_state(**moved(PAIR, ["m", "p", True, False, False]))).pending
    assert pending.moves is not None
    assert pending.moves.by_new_path == {
        b"n": Move(b"o", is_directory=True, is_new_name=True),
        b"m": Move(b"p", is_directory=True, is_new_name=False),
    }
    assert pending.moves.written.listings == {b"n/written"}


def test_only_pending_moves_are_a_member_that_earlier_releases_do_not_know() -> None:
    pending = MutableChangeset()
    pending.add(b"a", Scope.ENTRY)
    for moves in (None, NO_MOVES):
        pending.moves = moves
        assert b'"moves"' not in encode(replace(STATE, pending=pending))
        assert with_pending_decoded(pending).pending.moves is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(moved(["n", "../o", True, True, False]), id="an old path outside"),
        pytest.param(moved(["/n", "o", True, True, False]), id="an absolute new path"),
        pytest.param(moved(["n", "", True, True, False]), id="the root moved"),
        pytest.param(moved(["n", "n", True, True, False]), id="moved to itself"),
        pytest.param(moved(["n", "o", True, True]), id="a flag is missing"),
        pytest.param(moved(["n", "o", 1, True, False]), id="a number for a truth"),
        pytest.param(moved(), id="no move"),
        pytest.param(moved(PAIR, PAIR), id="moved twice"),
        pytest.param(moved(PAIR, ["m", "o", True, True, False]), id="moved to two paths"),
        pytest.param(moved(["x", "o", True, True, False]), id="a new path without a change"),
        pytest.param(moved(["n", "x", True, True, False]), id="an old path without a change"),
        pytest.param(moved(["p", "o", True, True, False]), id="a directory that is an entry"),
        pytest.param({"moves": None}, id="nothing"),
        pytest.param({"moves": {"moved": []}}, id="no contents"),
        pytest.param(
            moved(*([f"n/{i}", f"n/old{i}", False, True, False] for i in range(MAX_MOVES + 1))),
            id="too many",
        ),
        pytest.param({"version": 1, **moved(PAIR)}, id="version 1"),
    ],
)
def test_invalid_moves_are_refused(changes: dict[str, Any]) -> None:
    decode(changed_state(**moved(PAIR)))
    with pytest.raises(StateError, match="is invalid"):
        decode(changed_state(**changes))
