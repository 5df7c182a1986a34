"""The searches for the names of hard-linked files, each by itself."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
    assert found.changed_paths.keys() == {b"one", b"d/two", b"alone"}
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


@pytest.mark.parametrize("target", ["d", "alone", "missing"])
def test_the_names_of_a_symlink_are_found_whatever_it_points_to(
    source: Path, root: int, target: str
) -> None:
    (source / "link").symlink_to(target)
    os.link(source / "link", source / "d/link", follow_symlinks=False)
    # A rule for directories.
    area = SearchArea(root, build_rules([parse_exclude(b"link/")]))
    linked = file_id((source / "link").lstat())
    names = {b"link", b"d/link"}
    assert LinkedFileFinder(area).find(entries(b"link"))[linked].known_paths == {b"link"}
    for scope in (Scope.LISTING, Scope.TREE):
        changes = MutableChangeset()
        changes.add(b"d", scope)
        assert LinkedFileFinder(area).find(changes)[linked].known_paths == {b"d/link"}
    file = LinkedFile(2)
    search_source(area, {linked: file})
    assert file.known_paths == names
    found = scan_hard_links(area, 0)
    assert found.paths_by_file[linked] == names
    assert found.changed_paths.keys() >= names


@pytest.mark.parametrize(("limit", "is_enough"), [(3, True), (2, False)])
def test_as_many_names_as_can_be_pending_are_found(
    root: int, source: Path, monkeypatch: pytest.MonkeyPatch, limit: int, *, is_enough: bool
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_PENDING_CHANGES", limit)
    area = SearchArea(root, Rules())
    expected = nullcontext() if is_enough else pytest.raises(TooManyNamesError)
    with expected:
        search_source(area, {file_id((source / "one").stat()): LinkedFile(3)})
    with expected:
        LinkedFileFinder(area).find(entries(b"one", b"d/two", b"skipped"))


def test_a_file_that_is_gone_while_its_directory_is_listed_is_skipped(
    source: Path, area: SearchArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    @contextmanager
    def scan_late(directory: int) -> Iterator[list["os.DirEntry[str]"]]:
        with real(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name == "one")
        (source / "one").unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", scan_late)
    found = scan_hard_links(area, 0)
    assert found.paths_by_file == {file_id((source / "d/two").stat()): {b"d/two"}}
    assert b"one" not in found.changed_paths


class Costs:
    """Counts the names that are looked at, and the directories that are listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = self.listings = 0
        self._lstat, self._scandir = os.lstat, os.scandir
        monkeypatch.setattr(os, "lstat", self.lstat)
        monkeypatch.setattr(os, "scandir", self.scandir)

    def lstat(self, path: bytes, *, dir_fd: int) -> os.stat_result:
        self.looks += 1
        return self._lstat(path, dir_fd=dir_fd)

    def scandir(self, directory: int) -> "os._ScandirIterator[str]":
        self.listings += 1
        return self._scandir(directory)


@pytest.mark.parametrize(
    ("existing", "missing", "in_directory", "expected"),
    [
        pytest.param(0, 256, 10, (256, 0), id="one batch"),
        pytest.param(0, 256 + 15, 10, (271, 0), id="few are left"),
        pytest.param(0, 256 + 16, 10, (256, 1), id="enough are left for a listing"),
        pytest.param(0, 256 + 16, 64, (256, 1), id="the largest directory that is listed"),
        pytest.param(0, 256 + 16, 65, (272, 1), id="a larger directory"),
        pytest.param(256 + 16, 0, 0, (272, 0), id="none is missing"),
    ],
)
def test_a_directory_is_listed_when_most_names_are_missing(
    source: Path, area: SearchArea, monkeypatch: pytest.MonkeyPatch,
    existing: int, missing: int, in_directory: int, expected: tuple[int, int],
) -> None:  # fmt: skip
    (source / "e").mkdir()
    for number in range(in_directory):
        (source / f"e/other-{number}").touch()
    for number in range(existing):
        (source / f"e/{number}").touch()
    some = [b"e/%d" % number for number in range(existing + missing)]
    costs = Costs(monkeypatch)
    assert LinkedFileFinder(area).find(entries(*some)) == {}
    assert (costs.looks, costs.listings) == expected


@pytest.mark.parametrize(("missing", "is_listed"), [(128, False), (130, True), (200, True)])
def test_most_names_are_more_than_half_of_them(
    source: Path, area: SearchArea, monkeypatch: pytest.MonkeyPatch, missing: int, *,
    is_listed: bool,
) -> None:  # fmt: skip
    (source / "e").mkdir()
    for number in range(256 - missing):
        (source / f"e/{number}").touch()
    finder = LinkedFileFinder(area)
    finder.find(entries(*(b"e/%d" % number for number in range(256))))
    costs = Costs(monkeypatch)
    finder.find(entries(*(b"f/%d" % number for number in range(16))))
    assert costs.looks == (0 if is_listed else 16)


def test_names_in_a_directory_that_cannot_be_listed_are_looked_at_one_by_one(
    source: Path, area: SearchArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [b"d/%d" % number for number in range(256 + 16)]
    real = os.scandir

    def refuse(directory: int) -> "os._ScandirIterator[str]":
        if os.fstat(directory).st_ino == (source / "d").stat().st_ino:
            raise PermissionError
        return real(directory)

    costs = Costs(monkeypatch)
    monkeypatch.setattr(os, "scandir", refuse)
    LinkedFileFinder(area).find(entries(*some))
    assert costs.looks == len(some)
