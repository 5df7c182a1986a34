"""The searches for the names of hard-linked files, each by itself."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher import hard_link_search
from pylsyncd.watcher.hard_link_search import (
    HardLinkCollector,
    LinkedFile,
    LinkedFileFinder,
    SearchArea,
    TooManyNamesError,
    file_id,
    scan_hard_links,
    search_source,
    stat_existing,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "d").mkdir(parents=True)
    (path / "one").touch()
    os.link(path / "one", path / "d/two")
    os.link(path / "one", path / "skipped")
    (path / "alone").touch()
    return path


@pytest.fixture
def root(source: Path) -> Iterator[int]:
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def area(root: int) -> SearchArea:
    return SearchArea(root, build_rules([parse_exclude(b"/skipped")]))


def entries(*names: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for name in names:
        changes.add(name, Scope.ENTRY)
    return changes


def test_a_linked_file_has_all_names_when_they_are_as_many_as_its_links() -> None:
    file = LinkedFile(2, {b"one"})
    assert not file.has_all_names
    file.known_paths.add(b"two")
    assert file.has_all_names


def test_a_collector_takes_no_more_names_than_the_limit(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_HARD_LINK_NAMES", 2)
    status = (source / "one").stat()
    collector = HardLinkCollector()
    assert [collector.add(status, path) for path in (b"one", b"d/two", b"third")] == [
        True, True, False,
    ]  # fmt: skip
    assert collector.paths_by_file == {file_id(status): {b"one", b"d/two"}}


def test_the_finder_returns_the_changed_names_of_linked_files_alone(
    source: Path, area: SearchArea
) -> None:
    found = LinkedFileFinder(area).find(entries(b"one", b"alone", b"missing"))
    assert found == {file_id((source / "one").stat()): LinkedFile(3, {b"one"})}


def test_the_finder_names_no_excluded_path_but_returns_its_file(
    source: Path, area: SearchArea
) -> None:
    found = LinkedFileFinder(area).find(entries(b"skipped"))
    assert found == {file_id((source / "one").stat()): LinkedFile(3, set())}


def test_a_search_adds_all_names_that_are_not_excluded(source: Path, area: SearchArea) -> None:
    file = LinkedFile(3, {b"one"})
    search_source(area, {file_id((source / "one").stat()): file})
    assert file.known_paths == {b"one", b"d/two"}


def test_a_search_with_too_many_names_is_aborted(
    source: Path, area: SearchArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_PENDING_CHANGES", 1)
    file = LinkedFile(3)
    with pytest.raises(TooManyNamesError):
        search_source(area, {file_id((source / "one").stat()): file})


def test_a_scan_returns_all_linked_files_and_the_paths_that_changed(
    source: Path, area: SearchArea
) -> None:
    found = scan_hard_links(area, 0)
    assert found.paths_by_file == {file_id((source / "one").stat()): {b"one", b"d/two"}}
    assert found.changed_paths == {b"one", b"d/two", b"alone"}
    assert not found.is_over_limit
    assert not scan_hard_links(area, time.time_ns() + 10**9).changed_paths


def test_a_scan_with_too_many_changed_names_is_over_the_limit(
    root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_PENDING_CHANGES", 2)
    found = scan_hard_links(SearchArea(root, Rules()), 0)
    assert found.is_over_limit
    assert len(found.changed_paths) == 3


def test_paths_through_a_symlink_do_not_count_as_existing(source: Path, root: int) -> None:
    (source / "link").symlink_to("d")
    some = [b"d/two", b"link/two", b"link", b"missing", b"missing/two"]
    assert [path for path, _ in stat_existing(root, some)] == [b"link", b"d/two"]
