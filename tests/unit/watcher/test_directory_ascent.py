"""The names that lead up from an open directory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disks import Disk, make_subvolume, requires
from support.mounts import Mounts, can_mount

from pylsyncd.watcher.directory_ascent import ascend, is_below


@pytest.fixture
def deepest(tmp_path: Path) -> Iterator[int]:
    """Yield a directory with others beside it, open."""
    path = tmp_path / "a/b/c"
    path.mkdir(parents=True)
    (tmp_path / "a/other").mkdir()
    (tmp_path / "a/file").touch()
    directory = os.open(path, os.O_PATH)
    yield directory
    os.close(directory)


def names_up_to(top: Path, directory: int) -> list[tuple[bytes | None, bool]]:
    found = []
    for step in ascend(directory):
        found.append((step.name, step.is_there))
        if os.path.samestat(os.fstat(step.parent), top.stat()):
            return found
    pytest.fail(f"{top} is not above")


def test_each_step_has_a_name_and_the_next_directory(tmp_path: Path, deepest: int) -> None:
    assert names_up_to(tmp_path, deepest) == [(b"c", True), (b"b", True), (b"a", True)]


def test_the_steps_end_at_the_top(deepest: int) -> None:
    *_, step = ascend(deepest)
    assert step.name == os.fsencode(Path(os.readlink(f"/proc/self/fd/{deepest}")).parts[1])


def test_a_name_that_is_not_utf_8_is_found(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff")
    os.mkdir(path)
    directory = os.open(path, os.O_PATH)
    assert names_up_to(tmp_path, directory) == [(b"\xff", True)]
    os.close(directory)


def test_a_removed_directory_has_no_name(tmp_path: Path, deepest: int) -> None:
    (tmp_path / "a/b/c").rmdir()
    assert names_up_to(tmp_path, deepest) == [(None, False), (b"b", True), (b"a", True)]


@pytest.mark.skipif(not can_mount(), reason="only root may mount")
def test_the_name_of_a_directory_below_a_mount_does_not_lead_to_it(
    tmp_path: Path, deepest: int
) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "a/b/c")
        assert names_up_to(tmp_path, deepest) == [(b"c", False), (b"b", True), (b"a", True)]


@pytest.mark.skipif(not can_mount(), reason="only root may mount")
def test_each_directory_below_a_mount_has_its_own_name(tmp_path: Path) -> None:
    names = [b"%d" % number for number in range(8)]
    opened = []
    for name in names:
        (tmp_path / "top" / os.fsdecode(name)).mkdir(parents=True)
        opened.append(os.open(tmp_path / "top" / os.fsdecode(name), os.O_PATH))
    with Mounts() as mounts:
        for name in names:
            mounts.mount_tmpfs(tmp_path / "top" / os.fsdecode(name))
        found = [names_up_to(tmp_path / "top", directory) for directory in opened]
        for directory in opened:
            os.close(directory)
    assert found == [[(name, False)] for name in names]


@pytest.mark.skipif(not can_mount(), reason="only root may mount")
def test_a_directory_whose_parent_is_below_a_mount_has_no_name_in_what_is_mounted(
    tmp_path: Path,
) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path)
        (tmp_path / "a/b").mkdir(parents=True)
        hidden = os.open(tmp_path / "a/b", os.O_PATH)
        mounts.mount_tmpfs(tmp_path / "a")
        # One of them has the inode number of the hidden directory.
        for number in range(10):
            (tmp_path / "a" / str(number)).mkdir()
        assert names_up_to(tmp_path, hidden) == [(None, False), (b"a", True)]
        os.close(hidden)


@requires("btrfs")
def test_the_name_of_a_subvolume_is_found(tmp_path: Path) -> None:
    top = tmp_path / "disk"
    top.mkdir()
    with Disk(tmp_path / "image", "btrfs") as disk, Mounts() as mounts:
        mounts.mount_device(disk.attach(), top)
        for name in ("before", "volume", "z"):
            make_subvolume(top / name)
        directory = os.open(top / "volume", os.O_PATH)
        assert names_up_to(top, directory) == [(b"volume", True)]
        os.close(directory)


def test_a_directory_is_below_those_above_it_and_itself(tmp_path: Path, deepest: int) -> None:
    others = [os.open(tmp_path / name, os.O_PATH) for name in (".", "a", "a/b/c", "a/other")]
    assert [is_below(deepest, other) for other in others] == [True, True, True, False]
    for other in others:
        os.close(other)
