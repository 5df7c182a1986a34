"""What is at the path of a mount, or at a path below an open directory."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.limits import no_more_descriptors

from pylsyncd.system import walk
from pylsyncd.watcher.open_mounts import MarkedMount, OpenMount, is_at, open_mount, real_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source/d/e").mkdir(parents=True)
    (tmp_path / "source/f").touch()
    return tmp_path / "source"


@pytest.fixture
def root(source: Path) -> Iterator[int]:
    root = os.open(source, os.O_RDONLY)
    yield root
    os.close(root)


@pytest.fixture
def opened(source: Path) -> Iterator[int]:
    """Yield the directory d/e, open."""
    opened = os.open(source / "d/e", os.O_RDONLY)
    yield opened
    os.close(opened)


def make_gone(source: Path) -> None:
    (source / "d/e").rename(source / "away")


def make_other(source: Path) -> None:
    make_gone(source)
    (source / "d/e").mkdir()


def make_file(source: Path) -> None:
    make_gone(source)
    (source / "d/e").touch()


def make_symlink(source: Path) -> None:
    make_gone(source)
    (source / "d/e").symlink_to("../away")


def make_file_above(source: Path) -> None:
    make_gone(source)
    (source / "d").rmdir()
    (source / "d").touch()


CHANGES = [make_gone, make_other, make_file, make_symlink, make_file_above]


def test_what_is_at_its_path_is_found_there(source: Path, root: int, opened: int) -> None:
    assert OpenMount(opened, None, b"d/e").is_reached(os.fsencode(source))
    assert OpenMount(root, None, b"").is_reached(os.fsencode(source))
    assert is_at(opened, root, b"d/e")
    assert is_at(root, root, b"")
    assert real_path(opened) == os.fsencode(source / "d/e")
    directory = open_mount(root, MarkedMount(b"d/e", walk.inode_id(opened), b""))
    assert directory is not None
    assert os.path.samestat(os.fstat(directory), os.fstat(opened))
    os.close(directory)


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_left_its_path_is_not_found_there(
    source: Path, root: int, opened: int, change: object
) -> None:
    inode = walk.inode_id(opened)
    change(source)  # type: ignore[operator]
    assert not OpenMount(opened, None, b"d/e").is_reached(os.fsencode(source))
    assert not is_at(opened, root, b"d/e")
    assert open_mount(root, MarkedMount(b"d/e", inode, b"")) is None


def test_a_source_that_is_gone_reaches_nothing(source: Path, opened: int) -> None:
    source.rename(source.with_name("away"))
    assert not OpenMount(opened, None, b"d/e").is_reached(os.fsencode(source))


def test_without_descriptors_it_is_unknown(source: Path, root: int, opened: int) -> None:
    inode = walk.inode_id(opened)
    with no_more_descriptors():
        for ask in (
            lambda: OpenMount(opened, None, b"d/e").is_reached(os.fsencode(source)),
            lambda: open_mount(root, MarkedMount(b"d/e", inode, b"")),
        ):
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                ask()


def test_nothing_is_at_a_path_with_a_name_that_is_too_long(root: int, opened: int) -> None:
    assert not is_at(opened, root, b"n" * 245 + b" (deleted)" + b"n")


def test_a_path_that_cannot_be_looked_at_is_unknown(opened: int) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        is_at(opened, 1 << 30, b"d")
    with pytest.raises(FileNotFoundError):
        real_path(1 << 30)
