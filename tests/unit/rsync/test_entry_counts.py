"""The numbers of entries that decide whether rsync lists a directory."""

import os
from pathlib import Path

import pytest

from pylsyncd.rsync.entry_counts import EntryCounts

FILES = 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a source with a directory of many files, at some depth."""
    (tmp_path / "a/b").mkdir(parents=True)
    for number in range(FILES):
        (tmp_path / f"a/b/{number}").touch()
    return tmp_path


def count(counts: EntryCounts, directory: bytes, limit: int) -> int:
    with counts.opened() as count_entries:
        return count_entries(directory, limit)


def test_entries_are_counted_up_to_the_limit(source: Path) -> None:
    counts = EntryCounts(os.fsencode(source))
    with counts.opened() as count_entries:
        assert [count_entries(b"", 10), count_entries(b"a/b", 7), count_entries(b"a/b", 99)] == [
            *(1, 7, FILES)
        ]


def test_what_cannot_be_counted_has_too_many(source: Path) -> None:
    (source / "link").symlink_to("a/b")
    counts = EntryCounts(os.fsencode(source))
    assert [count(counts, path, 7) for path in (b"none", b"a/b/1", b"link", b"link/x")] == [7] * 4
    assert count(EntryCounts(os.fsencode(source / "none")), b"", 7) == 7


def test_a_directory_that_had_too_many_is_counted_again_after_some_windows(source: Path) -> None:
    counts = EntryCounts(os.fsencode(source))
    assert count(counts, b"a/b", 7) == 7
    for number in range(FILES):
        (source / f"a/b/{number}").unlink()
    found = [count(counts, b"a/b", 7) for _ in range(FILES)]
    assert found[0] == 7
    assert found[-1] == 0


def test_a_directory_that_had_few_is_counted_each_time(source: Path) -> None:
    counts = EntryCounts(os.fsencode(source))
    assert count(counts, b"a/b", 100) == FILES
    (source / "a/b/one more").touch()
    assert count(counts, b"a/b", 100) == FILES + 1


def test_a_higher_limit_is_counted_at_once(source: Path) -> None:
    counts = EntryCounts(os.fsencode(source))
    assert count(counts, b"a/b", 7) == 7
    assert count(counts, b"a/b", 100) == FILES
