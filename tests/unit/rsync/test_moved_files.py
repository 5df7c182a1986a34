"""What is below a moved directory is found, for a list of its own."""

import os
from pathlib import Path

import pytest

from pylsyncd.rsync import moved_files
from pylsyncd.rsync.moved_files import IsLeftOut, MovedFiles, find_moved_files
from pylsyncd.system import walk


def nothing(_path: bytes, _is_directory: bool) -> bool:
    return False


def find(source: Path, top: bytes = b"top", is_left_out: IsLeftOut = nothing) -> MovedFiles:
    with walk.opened_root(os.fsencode(source)) as root:
        return find_moved_files(root, top, is_left_out, with_names=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "top/d/empty").mkdir(parents=True)
    for name in ("f", "d/g"):
        (tmp_path / "top" / name).write_bytes(b"x" * 10)
    (tmp_path / "top/link").symlink_to("d")
    os.mkfifo(tmp_path / "top/d/fifo")
    return tmp_path


def test_regular_files_are_found_and_everything_is_counted(source: Path) -> None:
    found = find(source)
    assert sorted(found.names) == [b"d/g", b"f"]
    assert (found.count, found.size, found.entries, found.is_whole) == (2, 20, 7, True)
    assert found.encode() in {b"./f\0./d/g\0", b"./d/g\0./f\0"}


def test_without_names_they_are_counted_alone(source: Path) -> None:
    with walk.opened_root(os.fsencode(source)) as root:
        found = find_moved_files(root, b"top", nothing, with_names=False)
    assert (found.names, found.count, found.size, found.is_whole) == ([], 2, 20, True)


def test_what_is_left_out_is_not_entered(source: Path) -> None:
    found = find(source, is_left_out=lambda path, is_directory: is_directory and path == b"top/d")

    assert (found.names, found.entries) == ([b"f"], 3)


def test_names_that_take_too_much_memory_or_are_too_long_for_rsync_are_left_out(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(moved_files, "_MAX_LIST_BYTES", 1)
        found = find(source)
    assert (found.names, found.count, found.is_whole) == ([b"f"], 1, False)
    monkeypatch.setattr(moved_files, "MAX_LISTED_PATH_BYTES", 2)
    found = find(source)
    assert (found.names, found.size, found.is_whole) == ([b"f"], 10, False)


def test_no_link_is_followed(source: Path) -> None:
    (source / "to").symlink_to("top")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        find(source, b"to")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        find(source, b"top/link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_that_cannot_be_read_makes_it_incomplete(source: Path) -> None:
    (source / "top/d").chmod(0)
    found = find(source)
    (source / "top/d").chmod(0o755)
    assert not found.is_whole
