"""Adding and removing watches on real directories."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.limits import no_more_descriptors

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher import watch_manager
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.watch_manager import WatchManager
from pylsyncd.watcher.watches import WatchResult

LONG_AGO = 0
NEVER = 1 << 62


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "a/b").mkdir(parents=True)
    return path


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    with closing(Inotify()) as instance:
        yield instance


def manager(source: Path, inotify: Inotify, rules: Rules | None = None) -> WatchManager:
    watches = WatchManager(os.fsencode(source), inotify, rules or Rules())
    watches.scan()
    return watches


def test_nothing_below_the_source_is_watched_before_the_first_scan(
    source: Path, inotify: Inotify
) -> None:
    watches = WatchManager(os.fsencode(source), inotify, Rules())
    assert watches.watched_paths() == {b""}
    watches.scan()
    assert watches.watched_paths() == {b"", b"a", b"a/b"}


def test_a_source_that_does_not_exist_cannot_be_watched(source: Path, inotify: Inotify) -> None:
    with pytest.raises(FileNotFoundError):
        WatchManager(os.fsencode(source / "missing"), inotify, Rules())


def test_a_new_directory_is_watched_with_all_below_it(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify)
    (source / "new/deep").mkdir(parents=True)
    assert watches.watch_subtree(watches.tree.root_wd, b"new") is WatchResult.WATCHED
    assert {b"new", b"new/deep"} < watches.watched_paths()


def test_excluded_and_absent_directories_and_files_are_not_watched(
    source: Path, inotify: Inotify
) -> None:
    watches = manager(source, inotify, build_rules([parse_exclude(b"cache/")]))
    (source / "cache").mkdir()
    (source / "file").touch()
    results = [
        watches.watch_subtree(watches.tree.root_wd, name) for name in (b"cache", b"gone", b"file")
    ]
    assert results == [WatchResult.EXCLUDED, WatchResult.ABSENT, WatchResult.ABSENT]


def test_a_directory_whose_parent_has_moved_is_not_watched_under_the_old_path(
    source: Path, inotify: Inotify
) -> None:
    watches = manager(source, inotify)
    parent = watches.tree.find(b"a")
    assert parent is not None
    (source / "a/new").mkdir()
    (source / "a").rename(source / "moved")
    (source / "a/new").mkdir(parents=True)
    assert watches.watch_subtree(parent, b"new") is WatchResult.PARENT_MOVED
    watches.tree.detach(watches.tree.root_wd, b"a")
    assert watches.watch_subtree(parent, b"new") is WatchResult.PARENT_MOVED


def test_a_directory_that_cannot_be_watched_is_recorded_once_and_retried(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = manager(source, inotify)
    key = (watches.tree.root_wd, b"new")
    (source / "new").mkdir()
    (source / "new/file").touch()

    def refuse(_directory: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        add_watch = inotify.add_watch
        new = (source / "new").stat().st_ino

        def refuse_the_new_one(directory: int) -> int:
            is_new = os.fstat(directory).st_ino == new
            return refuse(directory) if is_new else add_watch(directory)

        patch.setattr(inotify, "add_watch", refuse_the_new_one)
        for _ in range(2):
            assert watches.watch_subtree(*key) is WatchResult.UNWATCHABLE
        for changes in (watches.scan([LONG_AGO])[LONG_AGO], watches.retry_unwatched(LONG_AGO)):
            assert any(change.covers(Change(b"new/file", Scope.ENTRY)) for change in changes)
    assert watches.unwatched == {key: errno.ENOSPC}
    assert watches.take_newly_unwatched() == [key]
    assert watches.take_newly_unwatched() == []
    (source / "new/below/deep").mkdir(parents=True)
    assert watches.count_lacking_watches() == 3
    watches.retry_unwatched(LONG_AGO)
    assert watches.unwatched == {}
    assert b"new" in watches.watched_paths()


def test_a_directory_that_cannot_be_listed_is_not_watched_until_it_can(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = manager(source, inotify)
    (source / "new/deep").mkdir(parents=True)
    key = (watches.tree.root_wd, b"new")
    broken, scandir = (source / "new").stat().st_ino, os.scandir

    def refuse(directory: int) -> "os._ScandirIterator[str]":
        if os.fstat(directory).st_ino == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(directory)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert watches.watch_subtree(*key) is WatchResult.UNWATCHABLE
        assert watches.unwatched == {key: errno.EIO}
        assert watches.unwatched_paths() == [b"new"]
        assert set(watches.directories_in_source()) == {b"a", b"new"}
        assert watches.watched_paths() == {b"", b"a", b"a/b"}
        assert watches.is_in_place(*key)
        assert set(watches.scan([NEVER])[NEVER]) == {Change(b"new", Scope.TREE)}
    found = watches.retry_unwatched(LONG_AGO)
    assert Change(b"new", Scope.TREE) in set(found)
    assert watches.watched_paths() == {b"", b"a", b"a/b", b"new", b"new/deep"}
    assert watches.unwatched == {}


def test_without_a_watch_left_only_one_directory_is_retried(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = manager(source, inotify)
    attempts: list[bytes] = []
    codes = {b"one": errno.ENOSPC, b"two": errno.ENOSPC}
    for name in codes:
        (source / os.fsdecode(name)).mkdir()
    add_watch = inotify.add_watch

    def refuse(directory: int) -> int:
        name = os.path.basename(os.readlink(b"/proc/self/fd/%d" % directory))
        if name in codes:
            attempts.append(name)
            raise OSError(codes[name], os.strerror(codes[name]))
        return add_watch(directory)

    monkeypatch.setattr(inotify, "add_watch", refuse)
    for code, expected in ((errno.ENOSPC, 1), (errno.EACCES, 2)):
        codes.update(dict.fromkeys(codes, code))
        for name in codes:
            watches.watch_subtree(watches.tree.root_wd, name)
        attempts.clear()
        watches.retry_unwatched(LONG_AGO)
        assert len(attempts) == expected


def test_unwatched_directories_are_forgotten_when_they_or_their_parents_are_gone(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = manager(source, inotify)
    upper, lower = watches.tree.find(b"a"), watches.tree.find(b"a/b")
    assert upper is not None
    assert lower is not None
    (source / "a/new").mkdir()
    (source / "a/b/new").mkdir()
    add_watch = inotify.add_watch

    def refuse(directory: int) -> int:
        if os.readlink(b"/proc/self/fd/%d" % directory).endswith(b"/new"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return add_watch(directory)

    monkeypatch.setattr(inotify, "add_watch", refuse)
    keys = [(upper, b"new"), (lower, b"new")]
    for key in keys:
        watches.watch_subtree(*key)
    assert set(watches.unwatched) == set(keys)
    assert watches.directories_in_source() == [b"a"]
    assert set(watches.unwatched_paths()) == {b"a/new", b"a/b/new"}
    # It was moved away, and may appear again: there is no path to look at.
    watches.tree.detach(upper, b"b")
    assert watches.unwatched_paths() == [b"a/new"]
    watches.retry_unwatched(LONG_AGO)
    assert set(watches.unwatched) == set(keys)
    # One is not there any more, and the parent of the other is watched no longer.
    (source / "a/new").rmdir()
    watches.remove_subtree(lower)
    watches.retry_unwatched(LONG_AGO)
    assert watches.unwatched == {}


def test_a_removed_subtree_is_not_watched_by_the_kernel(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify)
    wd = watches.tree.find(b"a")
    assert wd is not None
    before = _kernel_watches(inotify)
    watches.remove_subtree(wd)
    assert before - _kernel_watches(inotify) == 2


def _kernel_watches(inotify: Inotify) -> int:
    """Return the number of watches, from proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{inotify.descriptor}").read_text().splitlines()
    return sum(line.startswith("inotify ") for line in lines)


def test_a_rule_for_directories_excludes_no_file(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify, build_rules([parse_exclude(b"f/"), parse_exclude(b"*.o")]))
    assert watches.included_files(b"a", {b"f", b"x.o", b"g"}) == {b"f", b"g"}
    assert manager(source, inotify).included_files(b"a", {b"f"}) == {b"f"}


def test_what_a_directory_reports_is_changed_only_where_the_tree_has_it(
    source: Path, inotify: Inotify
) -> None:
    watches = manager(source, inotify)
    wd = watches.tree.find(b"a")
    assert wd is not None
    with no_more_descriptors():
        assert not watches.set_reports_modify(wd, is_on=True)
        assert watches.watch_subtree(wd, b"b") is WatchResult.UNWATCHABLE
    (source / "a").rename(source / "moved")
    for _ in range(2):
        assert not watches.set_reports_modify(wd, is_on=True)
        (source / "a").mkdir(exist_ok=True)


def test_a_known_directory_that_was_moved_after_a_scan_is_not_walked(
    source: Path, inotify: Inotify
) -> None:
    watches = manager(source, inotify)
    (source / "a").rename(source / "moved")
    watches.tree.detach(watches.tree.root_wd, b"a")
    (source / "moved/b/unknown").mkdir()
    assert watches.watch_subtree(watches.tree.root_wd, b"moved") is WatchResult.WATCHED
    # The event of the unknown one is in the queue.
    assert watches.watched_paths() == {b"", b"moved", b"moved/b"}


def test_what_is_watched_is_in_place_until_it_is_replaced(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify)
    root = watches.tree.root_wd
    assert watches.is_in_place(root, b"a")
    assert not watches.is_in_place(root, b"unknown")
    (source / "a").rename(source / "moved")
    assert not watches.is_in_place(root, b"a")
    (source / "a").mkdir()
    assert not watches.is_in_place(root, b"a")


def test_a_scan_removes_the_watches_of_missing_directories_and_adds_those_of_new_ones(
    source: Path, inotify: Inotify
) -> None:
    watches = manager(source, inotify)
    (source / "a/b").rmdir()
    (source / "c").mkdir()
    watches.scan()
    assert watches.watched_paths() == {b"", b"a", b"c"}


def test_a_scan_without_a_ctime_looks_at_no_file(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify)
    assert not watches.has_scanned_files
    (source / "file").touch()
    os.link(source / "file", source / "link")
    assert watches.scan() == {}
    assert watches.found_hard_links.take() == []
    changes = watches.scan([LONG_AGO])[LONG_AGO]
    assert any(change.covers(Change(b"file", Scope.ENTRY)) for change in changes)
    assert watches.has_scanned_files
    assert watches.scan() == {}
    ((names,),) = [found.values() for found in watches.found_hard_links.take()]
    assert names == {b"file", b"link"}
    assert watches.found_hard_links.take() == []


def test_a_scan_of_a_replaced_source_raises(source: Path, inotify: Inotify) -> None:
    watches = manager(source, inotify)
    source.rename(source.with_name("old"))
    source.mkdir()
    with pytest.raises(OSError, match="Stale"):
        watches.scan()


def test_a_walk_reports_progress_and_empties_the_event_queue(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    counts: list[int] = []
    watches = WatchManager(os.fsencode(source), inotify, Rules(), counts.append)
    (source / "file").touch()
    assert not watches.events
    watches.scan()
    assert counts == [2, 3]
    assert inotify.pending_bytes() == 0
    assert watches.events
    assert b"file" in watches.events.take_next()
    assert not watches.events
    assert watches.events.take_next() == b""


def test_progress_is_reported_after_so_many_directories(
    source: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 2)
    counts: list[int] = []
    WatchManager(os.fsencode(source), inotify, Rules(), counts.append).scan()
    assert counts == [3]
