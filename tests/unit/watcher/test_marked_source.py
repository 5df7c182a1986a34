"""The marks of a source, and the scans that take the place of watches."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount
from support.waiting import wait_until

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher import catchup_scan
from pylsyncd.watcher.catchup_scan import ScanPurpose
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.marked_source import MarkedSource, MountMarks
from pylsyncd.watcher.watches import WatchResult

needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root may mount")

RULES = build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"/d/excluded/")])
LONG_AGO = 1  # ns


@pytest.fixture
def source(tmp_path: Path) -> Path:
    skip_without_fanotify(tmp_path)
    source = tmp_path / "source"
    for path in ("d/e", "d/excluded/x", "d/f.tmp", "m"):
        (source / path).mkdir(parents=True)
    (source / "d/f").touch()
    return source


@pytest.fixture
def group() -> Iterator[Fanotify]:
    group = Fanotify()
    yield group
    group.close()


class Watched(MarkedSource):
    """A marked source with the mounts that are found, and the progress that was reported."""

    def __init__(self, source: Path, group: Fanotify) -> None:
        self.mounts: list[bytes] = []
        self.progress: list[int] = []
        self.on_progress: Callable[[], object] = lambda: None
        super().__init__(os.fsencode(source), group, RULES, lambda: self.mounts, self._report)

    def _report(self, count: int) -> None:
        self.progress.append(count)
        self.on_progress()


@pytest.fixture
def watched(source: Path, group: Fanotify) -> Watched:
    return Watched(source, group)


def after_everything() -> int:
    """Return a time to which no ctime comes."""
    return time.time_ns() + 10**12


def test_a_source_that_is_no_directory_cannot_be_marked(source: Path, group: Fanotify) -> None:
    with pytest.raises(NotADirectoryError):
        Watched(source / "d/f", group)


def test_no_directory_has_a_watch_and_each_is_covered(watched: Watched) -> None:
    assert (watched.directory_count, watched.unwatched_count) == (0, 0)
    assert watched.count_lacking_watches() == 0
    assert (watched.unwatched_paths(), watched.take_newly_unwatched()) == ([], [])
    assert set(watched.retry_unwatched(0)) == set()
    assert len(watched.tree) == 0
    assert watched.watch_subtree(b"d", b"e") is WatchResult.WATCHED


def test_the_directories_of_a_source_are_those_on_the_disk(watched: Watched, source: Path) -> None:
    assert set(watched.tree.walk()) == {b"", b"d", b"d/e", b"m"}
    assert next(iter(watched.tree.walk())) == b""
    assert watched.tree.path(b"d") == watched.tree.find(b"d") == b"d"
    assert (watched.tree.child(b"d", b"e"), watched.tree.child(b"", b"d")) == (b"d/e", b"d")
    assert b"anything" in watched.tree
    assert sorted(watched.directories_in_source()) == [b"d", b"m"]
    (source / "d").rename(source / "g")
    assert b"g/e" in set(watched.tree.walk())
    shutil.rmtree(source)
    assert list(watched.tree.walk()) == [b""]
    assert watched.directories_in_source() == []


def test_a_directory_that_goes_during_a_walk_ends_no_walk(watched: Watched, source: Path) -> None:
    (source / "m/n").mkdir()
    walked = []
    for path in watched.tree.walk():
        walked.append(path)
        if path == b"":
            shutil.rmtree(source / "d")
    assert b"m/n" in walked


def test_a_directory_is_opened_if_it_is_there(watched: Watched, source: Path) -> None:
    with watched.opened_watched(b"d/e") as directory:
        assert directory is not None
        assert os.path.samestat(os.fstat(directory), (source / "d/e").stat())
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(directory)
    (source / "link").symlink_to("d")
    for gone in (b"gone", b"d/f", b"link"):
        with watched.opened_watched(gone) as directory:
            assert directory is None
    with pytest.raises(OSError, match="too long"), watched.opened_watched(b"n" * 300):
        pass


def test_files_are_included_by_the_rules(watched: Watched) -> None:
    assert watched.included_files(b"d", [b"f", b"x.tmp"]) == {b"f"}


def test_a_scan_finds_what_has_changed_since(
    watched: Watched, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_scan, "_DIRECTORIES_BETWEEN_PROGRESS_CALLS", 1)
    changes = watched.scan([LONG_AGO, after_everything()])
    first, last = changes[min(changes)], changes[max(changes)]
    assert first.includes_entry(b"d/f")
    assert not last
    assert set(watched.progress) == {0}
    changes = watched.scan([LONG_AGO], b"d/e", ScanPurpose.POLL)
    assert not changes[LONG_AGO].includes_entry(b"d/f")
    (source / "d/e/new").touch()
    changes = watched.scan([LONG_AGO], b"d/e", ScanPurpose.POLL)
    assert changes[LONG_AGO].includes_entry(b"d/e/new")
    with pytest.raises(FileNotFoundError):
        watched.scan([LONG_AGO], b"gone")


def test_a_scan_without_a_time_walks_nothing(watched: Watched) -> None:
    assert watched.scan() == {}
    assert not watched.has_scanned_files
    assert watched.progress == []


@pytest.mark.parametrize("since", [(), (LONG_AGO,)])
def test_another_directory_at_its_path_is_not_scanned(
    watched: Watched, source: Path, since: tuple[int, ...]
) -> None:
    source.rename(source.with_name("away"))
    with pytest.raises(FileNotFoundError):
        watched.scan(since)
    source.mkdir()
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        watched.scan(since)


def test_only_a_scan_of_everything_has_found_all_hard_links(watched: Watched, source: Path) -> None:
    os.link(source / "d/f", source / "d/e/link")
    (source / "other").touch()
    watched.scan([LONG_AGO], b"d")
    assert not watched.has_scanned_files
    (found,) = watched.found_hard_links.take()
    assert list(found.values()) == [{b"d/f", b"d/e/link"}]
    watched.scan([after_everything()])
    assert watched.has_scanned_files
    (found,) = watched.found_hard_links.take()
    assert list(found.values()) == [{b"d/f", b"d/e/link"}]
    (source / "d/f").unlink()
    watched.scan([after_everything()])
    assert watched.found_hard_links.take() == []


def test_a_linked_file_that_changes_during_a_scan_is_found_by_all_names(
    watched: Watched, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_scan, "_DIRECTORIES_BETWEEN_PROGRESS_CALLS", 1)
    # The files of the source itself are looked at before it enters another directory.
    (source / "one").touch()
    os.link(source / "one", source / "two")
    since = time.time_ns()
    watched.on_progress = lambda: os.utime(source / "one", ns=(since, since))
    wait_until(lambda: ctime_of_new_file(source.parent) > since)
    changes = watched.scan([since])[since]
    assert set(changes) == {Change(b"one", Scope.ENTRY), Change(b"two", Scope.ENTRY)}


def ctime_of_new_file(directory: Path) -> int:
    (directory / "probe").unlink(missing_ok=True)
    (directory / "probe").touch()
    return (directory / "probe").stat().st_ctime_ns


@needs_mounts
def test_mounts_are_marked_or_not_and_new_ones_are_told(watched: Watched, source: Path) -> None:
    assert not watched.has_mounts
    assert watched.mark_mounts() == MountMarks([], [])
    assert not watched.has_mounts
    with Mounts() as mounts:
        for name in ("tmpfs", "proc", "bind"):
            (source / name).mkdir()
        mounts.mount_tmpfs(source / "tmpfs")
        mounts.mount_proc(source / "proc")
        mounts.mount_bind(source / "d", source / "bind")
        watched.mounts = [b"tmpfs", b"proc", b"bind", b"gone", b"d/f"]
        assert watched.mark_mounts() == MountMarks([b"proc"], [b"tmpfs"])
        assert watched.has_mounts
        # It has a mark already.
        assert watched.mark_mounts() == MountMarks([b"proc"], [])
        watched.mounts = [b"proc"]
        assert watched.mark_mounts() == MountMarks([b"proc"], [])
        assert not watched.has_mounts


@needs_mounts
def test_a_source_that_is_unmounted_has_lost_its_mark(tmp_path: Path, group: Fanotify) -> None:
    skip_without_fanotify(tmp_path)
    (tmp_path / "source").mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "source")
        (tmp_path / "source/m").mkdir()
        watched = Watched(tmp_path / "source", group)
        mounts.mount_tmpfs(tmp_path / "source/m")
        watched.mounts = [b"m"]
        watched.mark_mounts()
        mounts.unmount(tmp_path / "source/m")
        # The answer is a tenth of a second old at most.
        since = time.monotonic()
        wait_until(lambda: time.monotonic() > since + 0.2)
        assert watched.is_marked
        mounts.unmount(tmp_path / "source")
        wait_until(lambda: not watched.is_marked)
