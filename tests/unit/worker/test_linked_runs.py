"""Copies are moved by rsync alone. With real rsyncs, over every transport."""

import os
from pathlib import Path

import pytest
from support.moving import SIZE, MovingSetup, moving, start_server

from pylsyncd.rsync.moved_files import IsLeftOut
from pylsyncd.worker.linked_runs import (
    LinkedFiles,
    LinkedRun,
    LinkedRuns,
)


@pytest.fixture(scope="module", params=["local", "ssh", "rsyncd"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of destination, whose server runs before a test does."""
    start_server(request.param, request)
    return str(request.param)


def everything(_path: bytes, _is_directory: bool) -> bool:
    return False


def link(
    place: MovingSetup, *groups: LinkedFiles, is_left_out: IsLeftOut = everything
) -> list[LinkedRun]:
    with place.guard.open_checked() as root:
        runs = LinkedRuns(place.session)
        return list(runs.carry(root, place.options, groups, is_left_out))


def directory(old: str, new: str) -> LinkedFiles:
    return LinkedFiles(os.fsencode(old), os.fsencode(new), None, frozenset(), SIZE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("old", "new"),
        ("a/b/old", "new"),
        ("old", "made/for/it/new"),
        ("a/-old ~", "a/ né#;'$(x)"),
        ("-old", "-new"),
    ],
)
def test_a_moved_directory_is_not_sent(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, old: str, new: str
) -> None:
    with moving(tmp_path, kind, request) as place:
        place.write(f"{old}/f", f"{old}/d/g")
        place.make_equal()
        inode = (place.copy / old / "f").stat().st_ino
        place.move(old, new)
        sent_before = place.bytes_sent
        (run,) = link(place, directory(old, new))
        assert (run.moved_files, run.moved_bytes) == (2, 2 * SIZE)
        assert run.is_whole
        assert (run.result.literal_bytes, run.result.transferred) == (0, 0)
        assert place.bytes_sent - sent_before < 2_000
        assert (place.copy / new / "f").stat().st_ino == inode
        # The run of the window deletes it.
        assert (place.copy / old / "f").exists()
