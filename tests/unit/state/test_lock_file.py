"""Which two pylsyncds do not go together."""

import json

import pytest

from pylsyncd.model.errors import StateError
from pylsyncd.state.lock_file import LockRecord, conflict_message, decode, destination_key, encode

PID = 4242


def claim(source: bytes, destination: bytes, *, is_deleting: bool = True) -> LockRecord:
    return LockRecord(source, destination, is_deleting)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        pytest.param(claim(b"/a", b"/b"), claim(b"/a", b"/b"), "already", id="the same"),
        pytest.param(
            claim(b"/a", b"/b", is_deleting=False), claim(b"/a", b"/b"), "already", id="no deleting"
        ),
        pytest.param(claim(b"/a", b"/b"), claim(b"/b", b"/a"), "copied back", id="a loop"),
        pytest.param(
            claim(b"/a", b"/b", is_deleting=False),
            claim(b"/b", b"/a", is_deleting=False),
            "copied back",
            id="a loop, none deleting",
        ),
        pytest.param(
            claim(b"/a", b"/b"), claim(b"/b/c", b"/a/d"), "copied back", id="a loop below"
        ),
        pytest.param(claim(b"/a/d", b"/b/c"), claim(b"/b", b"/a"), "copied back", id="above"),
        pytest.param(claim(b"/a", b"/b"), claim(b"/b", b""), "copied back", id="a loop over /"),
        pytest.param(
            claim(b"/a", b"h:/d"),
            claim(b"/b", b"h:/d", is_deleting=False),
            "would delete the files of the other one",
            id="two sources, ours deleting",
        ),
        pytest.param(
            claim(b"/a", b"/d", is_deleting=False),
            claim(b"/b", b"/d"),
            "would delete the files of the other one",
            id="two sources, theirs deleting",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    ours: LockRecord, theirs: LockRecord, words: str
) -> None:
    reason = conflict_message(ours, theirs, PID)
    assert words in reason
    assert f"(pid {PID})" in reason


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(claim(b"/a", b"/b"), claim(b"/a", b"/c"), id="two copies of one source"),
        pytest.param(claim(b"/a", b"/b"), claim(b"/b", b"/c"), id="a chain"),
        pytest.param(claim(b"/b", b"/c"), claim(b"/a", b"/b"), id="a chain from its end"),
        pytest.param(claim(b"/a", b"/b"), claim(b"/bc", b"/ab"), id="names that begin alike"),
        pytest.param(claim(b"/a", b"h:/b"), claim(b"/b", b"h:/a"), id="a loop by name elsewhere"),
        pytest.param(
            claim(b"/a", b"/d", is_deleting=False),
            claim(b"/b", b"/d", is_deleting=False),
            id="two sources merged, none deleting",
        ),
    ],
)
def test_what_goes_together_is_not_refused(ours: LockRecord, theirs: LockRecord) -> None:
    assert conflict_message(ours, theirs, PID) == ""


def test_a_claim_is_written_and_read_as_it_is() -> None:
    written = claim(b"/odd \xff\n", b"host:/\xc3\xa9")
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
        json.dumps({"pid": 1, "source": 1, "destination": "", "is_deleting": True}).encode(),
    ],
    ids=range(9),
)
def test_a_lock_file_that_tells_nothing_is_refused(content: bytes) -> None:
    with pytest.raises(StateError):
        decode(content)


def test_keys_differ_and_are_fit_for_file_names() -> None:
    pairs = [(b"/a", b"/b"), (b"/b", b"/a"), (b"/a/b", b""), (b"", b"/a/b"), (b"/a", b"/b\xff")]
    keys = {destination_key(source, destination) for source, destination in pairs}
    assert len(keys) == len(pairs)
    assert all(set(name) <= set("0123456789abcdef") and len(name) == 16 for name in keys)
