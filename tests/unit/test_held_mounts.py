"""The mounts of the tests are unmounted, however a test ends."""

import contextlib
import os
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount, held_mounts, mount_points

pytestmark = pytest.mark.skipif(not can_mount(), reason="only root may mount")


def mounts_in(directory: Path) -> list[Path]:
    return [where for where in mount_points().values() if directory in where.parents]


def test_what_is_mounted_in_a_renamed_directory_is_unmounted_there(tmp_path: Path) -> None:
    (tmp_path / "a/b c").mkdir(parents=True)
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "a/b c")
        (tmp_path / "a").rename(tmp_path / "renamed")
        (tmp_path / "a").mkdir()
        assert mounts_in(tmp_path) == [tmp_path / "renamed/b c"]
    assert mounts_in(tmp_path) == []
    assert not held_mounts


def test_of_two_mounts_at_a_path_both_are_unmounted(tmp_path: Path) -> None:
    with contextlib.suppress(AssertionError), Mounts() as mounts:
        for _ in range(2):
            mounts.mount_tmpfs(tmp_path)
        mounts.unmount(tmp_path)
        mounts.mount_tmpfs(tmp_path)
        assert mount_points() == {}
    assert not os.path.ismount(tmp_path)


def test_a_mount_that_another_one_took_along_is_not_unmounted_again(tmp_path: Path) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path)
        (tmp_path / "a").mkdir()
        mounts.mount_tmpfs(tmp_path / "a")
        mounts.unmount(tmp_path, lazy=True)
    assert not held_mounts


def test_a_mount_that_cannot_be_unmounted_leaves_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmount_first(mounts: Mounts, where: Path, *, lazy: bool) -> None:
        if where == tmp_path / "1":
            raise OSError
        unmount(mounts, where, lazy=lazy)

    unmount = Mounts.unmount
    with contextlib.suppress(OSError), Mounts() as mounts:
        for name in "012":
            (tmp_path / name).mkdir()
            mounts.mount_tmpfs(tmp_path / name)
        monkeypatch.setattr(Mounts, "unmount", unmount_first)
    assert mounts_in(tmp_path) == [tmp_path / "1"]
    assert {mount_points()[mount] for mount in held_mounts} == {tmp_path / "1"}
    monkeypatch.undo()
    mounts.unmount(tmp_path / "1")
    assert not held_mounts
