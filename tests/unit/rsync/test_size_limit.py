"""Files above the size limit are found, and nothing else is mistaken for one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.rsync.size_limit import SizeLimit

LIMIT = SizeLimit(100, preserves_hard_links=False)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Yield an open directory with files at and above the limit."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/at-limit").write_bytes(b"x" * 100)
    for name in ("d/large", "d/other", "large"):
        (tmp_path / name).write_bytes(b"x" * 101)
    (tmp_path / "d/symlink").symlink_to("large")
    (tmp_path / "d/directory").mkdir()
    os.truncate(tmp_path / "d/other", 1 << 40)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "is_exceeded"),
    [
        (b"large", True),
        (b"d/large", True),
        (b"d/at-limit", False),
        (b"d/symlink", False),
        (b"d/directory", False),
        (b"missing", False),
        (b"large/x", False),
    ],
)
def test_only_a_regular_file_above_the_limit_exceeds_it(
    root: int, path: bytes, *, is_exceeded: bool
) -> None:
    assert LIMIT.is_exceeded_at(root, path) is is_exceeded


def test_a_hard_linked_file_exceeds_the_limit_only_if_links_are_not_preserved(root: int) -> None:
    os.link("large", "second", src_dir_fd=root, dst_dir_fd=root)
    assert LIMIT.is_exceeded_at(root, b"second")
    assert not SizeLimit(100, preserves_hard_links=True).is_exceeded_at(root, b"second")


def test_the_large_files_of_a_directory_are_found_without_those_left_out(root: int) -> None:
    found = LIMIT.large_files_in(root, b"d", lambda path: path == b"d/other")
    assert found == {b"d/large"}
    assert LIMIT.large_files_in(root, b"", lambda _path: False) == {b"large"}


@pytest.mark.parametrize("path", [b"missing", b"large", b"d/symlink"])
def test_a_path_that_is_no_directory_has_no_large_files(root: int, path: bytes) -> None:
    assert LIMIT.large_files_in(root, path, lambda _path: False) == set()
