"""The state of repairs survives a restart, and whatever is in its file does no harm."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pylsyncd.state.repair_state import RepairFile, RepairState
from pylsyncd.state.state_directory import StateDirectory

STATE = RepairState(1_000.5, b"a/\xff\n", 12, 3, 900.25)


def document(**members: object) -> bytes:
    """Return the content of a file in which some members differ."""
    valid = {
        "version": 1, "round_start": 1.0, "position": "a", "directories": 1, "deleted": 0,
        "compared_since": None,
    }  # fmt: skip
    return json.dumps({**valid, **members}).encode()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    with closing(StateDirectory(os.fsencode(tmp_path / "state"))) as made:
        yield made


@pytest.mark.parametrize("state", [STATE, RepairState()])
def test_a_saved_state_is_loaded(directory: StateDirectory, state: RepairState) -> None:
    RepairFile(directory, "key").save(state)
    assert RepairFile(directory, "key").load() == state
    assert RepairFile(directory, "other").load() == RepairState()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
        document(position="../x"),
        document(position=5),
        document(round_start=-1.0),
        document(round_start=None),
        document(directories=True),
        document(deleted=-1),
        document(compared_since="now"),
    ],
)
def test_a_file_that_holds_no_state_is_ignored(directory: StateDirectory, content: bytes) -> None:
    directory.write("key.repair", content)
    assert RepairFile(directory, "key").load() == RepairState()


def test_a_complete_file_is_used(directory: StateDirectory) -> None:
    directory.write("key.repair", document())
    assert RepairFile(directory, "key").load() == RepairState(1.0, b"a", 1)


def test_a_state_that_cannot_be_saved_raises_nothing(directory: StateDirectory) -> None:
    directory.close()
    RepairFile(directory, "key").save(STATE)
