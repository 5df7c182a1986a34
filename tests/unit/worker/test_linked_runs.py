"""Copies are moved by rsync alone. With real rsyncs, over every transport."""

import os
from pathlib import Path

import pytest
from support.moving import SIZE, MovingSetup, moving, start_server
from support.rsync_features import installed_version
from support.servers import RsyncDaemon, Unavailable

from pylsyncd.rsync.moved_files import IsLeftOut
from pylsyncd.worker.linked_runs import (
    MAX_LINKED_RUNS,
    MIN_LINKED_BYTES,
    MIN_LINKED_BYTES_PER_FILE,
    LinkedFiles,
    LinkedRun,
    LinkedRuns,
    largest_first,
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
    return LinkedFiles(os.fsencode(old), os.fsencode(new), None, frozenset(), 1, SIZE)


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


def test_files_of_one_directory_are_moved_to_another(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    with moving(tmp_path, kind, request) as place:
        place.write("f", "g", "a/stays")
        place.make_equal()
        for name in "fg":
            place.move(name, f"b/c/{name}")
        group = LinkedFiles(b"", b"b/c", (b"f", b"g"), frozenset([b"b/c/f"]), 2, 2 * SIZE)
        (run,) = link(place, group)
        assert (run.moved_files, run.result.transferred) == (2, 0)
        for name in "fg":
            place.move(f"b/c/{name}", f"a/{name}")
        (place.copy / "f").unlink()
        group = LinkedFiles(b"b/c", b"a", (b"f", b"g"), frozenset([b"a/f"]), 2, 2 * SIZE)
        (run,) = link(place, group)
        assert (run.moved_files, run.result.transferred) == (2, 0)
        for name in "fg":
            place.move(f"a/{name}", name)
        (run,) = link(place, LinkedFiles(b"a", b"", (b"f", b"g"), frozenset(), 2, 2 * SIZE))
        assert run.moved_files >= 1
        assert (place.copy / "f").stat().st_ino == (place.copy / "a/f").stat().st_ino


def test_no_link_at_the_destination_is_followed(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    with moving(tmp_path, kind, request) as place:
        place.write("old/f", "old/g", "d/x")
        place.make_equal()
        place.move("old", "d/new")
        elsewhere = place.copy.with_name(f"{place.copy.name}-elsewhere")
        elsewhere.mkdir()
        (place.copy / "d/x").unlink()
        (place.copy / "d").rmdir()
        (place.copy / "d").symlink_to(elsewhere)
        link(place, directory("old", "d/new"))
        assert os.listdir(elsewhere) == []
        assert (place.copy / "d/new/f").stat().st_size == SIZE


def test_a_changed_file_is_sent_and_counted_apart(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    with moving(tmp_path, kind, request) as place:
        place.write("old/f", "old/g", "old/h")
        place.make_equal()
        place.move("old", "new")
        place.write("new/g", size=SIZE + 1)
        (run,) = link(place, directory("old", "new"))
        assert (run.moved_files, run.moved_bytes) == (2, 2 * SIZE)
        assert (place.copy / "new/g").read_bytes() == (place.source / "new/g").read_bytes()
        assert (place.copy / "old/g").stat().st_size == SIZE


def test_the_largest_groups_come_first_and_small_ones_not_at_all() -> None:
    sizes = [MIN_LINKED_BYTES + number for number in range(-5, MAX_LINKED_RUNS + 3)]
    groups = [LinkedFiles(b"o", b"n", None, frozenset(), 1, size) for size in sizes]
    expected = sorted(sizes, reverse=True)[:MAX_LINKED_RUNS]
    assert [group.size for group in largest_first(groups)] == expected
    assert largest_first(groups[:5]) == []


def test_a_run_to_link_many_small_files_is_not_worth_it() -> None:
    size = 1000 * MIN_LINKED_BYTES_PER_FILE
    groups = [LinkedFiles(b"o", b"n", None, frozenset(), count, size) for count in (1000, 1001)]
    assert largest_first(groups) == groups[:1]


def test_a_daemon_without_chroot_links_copies(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if installed_version() == (3, 4, 3):
        pytest.skip("rsync 3.4.3 cannot do that (rsync issue 915)")
    for name in ("module", "server", "place"):
        (tmp_path / name).mkdir()
    options = {"rsyncd": {"use chroot": "no"}}
    try:
        server = RsyncDaemon(tmp_path / "server", {"rsyncd": tmp_path / "module"}, options)
        with server, moving(tmp_path / "place", "rsyncd", request, server=server) as place:
            place.write("a/old/f", "a/old/d/g")
            place.make_equal()
            place.move("a/old", "b/c/new")
            (run,) = link(place, directory("a/old", "b/c/new"))
            assert (run.moved_files, run.result.transferred) == (2, 0)
    except Unavailable as reason:
        pytest.skip(str(reason))
