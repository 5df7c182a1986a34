"""The walk of repairs visits every directory once, in parts, whatever happens in between."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.worker.repair_walk import WalkLimits, WalkPart, next_part

UNLIMITED = 1_000_000
NAMES = ["a", "a/b", "a/b/c", "a-b", "a-b/x", "b", "b/\u00e4", "b/z", "c"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    for name in NAMES:
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def part(
    root: int, position: bytes | None, count: int = UNLIMITED, entries: int = UNLIMITED
) -> WalkPart:
    return next_part(root, Rules(), position, WalkLimits(count, entries))


def all_parts(root: int, count: int) -> Iterator[list[bytes]]:
    position = None
    while True:
        found = part(root, position, count)
        yield found.directories
        if found.is_last:
            return
        position = found.directories[-1]


ALL = sorted([b"", *map(os.fsencode, NAMES)], key=paths.tree_sort_key)


def test_all_directories_are_visited_parents_first(root: int) -> None:
    assert part(root, None) == WalkPart(ALL, is_last=True)


@pytest.mark.parametrize("count", range(1, len(ALL) + 2))
def test_parts_of_any_size_make_the_whole(root: int, count: int) -> None:
    parts = list(all_parts(root, count))
    assert [path for each in parts for path in each] == ALL
    assert all(len(each) == count for each in parts[:-1])


def test_a_part_ends_with_the_directory_that_reaches_the_number_of_entries(root: int) -> None:
    # The source has five entries, and the directory a one.
    assert part(root, None, entries=6).directories == [b"", b"a"]
    assert part(root, None, entries=1).directories == [b""]


def test_the_walk_goes_on_behind_a_position_that_is_gone(root: int, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "a")
    assert part(root, b"a/b/c").directories == [b"a-b", b"a-b/x", b"b", b"b/z", b"b/\xc3\xa4", b"c"]
    assert part(root, b"a/b/c").directories[0] == part(root, b"a").directories[0]


def test_a_directory_in_a_files_place_and_a_symlink_are_not_followed(
    root: int, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert part(root, b"").directories[0] == b"a-b"
    assert part(root, b"a").directories[0] == b"a-b"


def test_what_is_excluded_or_left_out_is_not_visited(root: int) -> None:
    rules = build_rules([parse_exclude(b"/a/")])
    found = next_part(root, rules, None, WalkLimits(UNLIMITED, UNLIMITED), {b"b"})
    assert found == WalkPart([b"", b"a-b", b"a-b/x", b"c"], is_last=True)


def test_behind_the_last_directory_there_is_nothing(root: int) -> None:
    assert part(root, b"c") == WalkPart([], is_last=True)
