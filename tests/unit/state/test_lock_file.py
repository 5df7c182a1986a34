"""Lock files, and which two replications must not run at the same time."""

import json

import pytest

from pylsyncd.model.errors import StateError
from pylsyncd.state.lock_file import LockRecord, conflict_message, decode, destination_key, encode

PID = 4242


def record(source: bytes, destination: bytes, *, is_deleting: bool = True) -> LockRecord:
    return LockRecord(source, destination, is_deleting)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        pytest.param(record(b"/a", b"/b"), record(b"/a", b"/b"), "already", id="the same"),
        pytest.param(
            record(b"/a", b"/b", is_deleting=False),
            record(b"/a", b"/b"),
            "already",
            id="no deleting",
        ),
        pytest.param(record(b"/a", b"/b"), record(b"/b", b"/a"), "copied back", id="a loop"),
        pytest.param(
            record(b"/a", b"/b", is_deleting=False),
            record(b"/b", b"/a", is_deleting=False),
            "copied back",
            id="a loop, none deleting",
        ),
        pytest.param(
            record(b"/a", b"/b"), record(b"/b/c", b"/a/d"), "copied back", id="a loop below"
        ),
        pytest.param(record(b"/a/d", b"/b/c"), record(b"/b", b"/a"), "copied back", id="above"),
        pytest.param(record(b"/a", b"/b"), record(b"/b", b""), "copied back", id="a loop over /"),
        pytest.param(
            record(b"/a", b"h:/d"),
            record(b"/b", b"h:/d", is_deleting=False),
            "would delete the files of the other one",
            id="two sources, ours deleting",
        ),
        pytest.param(
            record(b"/a", b"/d", is_deleting=False),
            record(b"/b", b"/d"),
            "would delete the files of the other one",
            id="two sources, theirs deleting",
        ),
    ],
)
def test_a_conflict_is_reported_with_the_pid(
    ours: LockRecord, theirs: LockRecord, words: str
) -> None:
    reason = conflict_message(ours, theirs, PID)
    assert words in reason
    assert f"(pid {PID})" in reason


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(record(b"/a", b"/b"), record(b"/a", b"/c"), id="two copies of one source"),
        pytest.param(record(b"/a", b"/b"), record(b"/b", b"/c"), id="a chain"),
        pytest.param(record(b"/b", b"/c"), record(b"/a", b"/b"), id="a chain from its end"),
        pytest.param(record(b"/a", b"/b"), record(b"/bc", b"/ab"), id="names that begin alike"),
        pytest.param(record(b"/a", b"h:/b"), record(b"/b", b"h:/a"), id="a loop by name elsewhere"),
        pytest.param(
            record(b"/a", b"/d", is_deleting=False),
            record(b"/b", b"/d", is_deleting=False),
            id="two sources merged, none deleting",
        ),
    ],
)
def test_without_a_conflict_nothing_is_reported(ours: LockRecord, theirs: LockRecord) -> None:
    assert conflict_message(ours, theirs, PID) == ""


def test_a_record_is_decoded_as_it_was_encoded() -> None:
    written = record(b"/odd \xff\n", b"host:/\xc3\xa9")
    assert decode(encode(written, PID)) == (PID, written)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"\xff",
        b"{}",
        json.dumps({"pid": None, "source": "", "destination": "", "is_deleting": True}).encode(),
        json.dumps({"pid": 1e999, "source": "", "destination": "", "is_deleting": 1}).encode(),
        b'{"pid": NaN, "source": "", "destination": "", "is_deleting": true}',
        b'{"pid": %b, "source": "", "destination": "", "is_deleting": true}' % (b"9" * 5000),
        json.dumps({"pid": 1, "source": 1, "destination": "", "is_deleting": True}).encode(),
    ],
    ids=range(11),
)
def test_a_damaged_lock_file_is_refused(content: bytes) -> None:
    with pytest.raises(StateError):
        decode(content)


def test_keys_differ_and_are_valid_file_names() -> None:
    pairs = [(b"/a", b"/b"), (b"/b", b"/a"), (b"/a/b", b""), (b"", b"/a/b"), (b"/a", b"/b\xff")]
    keys = {destination_key(source, destination) for source, destination in pairs}
    assert len(keys) == len(pairs)
    assert all(set(name) <= set("0123456789abcdef") and len(name) == 16 for name in keys)
