"""Opening watched directories, and keeping some of them open."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.watching import WatchedSource

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.watcher.inotify import Inotify


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "a/b").mkdir(parents=True)
    return path


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    with closing(Inotify()) as instance:
        yield instance


@pytest.fixture
def watched(source: Path, inotify: Inotify) -> WatchedSource:
    return WatchedSource(os.fsencode(source), inotify)


def wd_of(watched: WatchedSource, path: bytes) -> int:
    wd = watched.watches.tree.find(path)
    assert wd is not None
    return wd


def on_each_watch(inotify: Inotify, act: Callable[[bytes], object]) -> None:
    """Call ``act(path)`` whenever a directory is going to be watched."""
    add_watch = inotify.add_watch

    def watch(directory: int) -> int:
        act(os.readlink(b"/proc/self/fd/%d" % directory))
        return add_watch(directory)

    inotify.add_watch = watch  # type: ignore[method-assign]


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_directory_is_opened_only_where_the_tree_has_it(
    source: Path, watched: WatchedSource
) -> None:
    watches, wd = watched.watches, wd_of(watched, b"a")
    with watches.opened_watched(wd) as directory:
        assert directory is not None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"), watches.opened_watched(wd):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    (source / "a").rename(source / "moved")
    for _ in range(2):
        with watches.opened_watched(wd) as directory:
            assert directory is None
        (source / "a").mkdir(exist_ok=True)


def test_a_directory_is_opened_once_in_a_context(watched: WatchedSource) -> None:
    directories, wd = watched.watches.directories, wd_of(watched, b"a")
    before = open_count()
    with directories:
        first = directories.find(wd, b"a")
        with directories:
            assert directories.find(wd, b"a") == first
        assert directories.find(wd, b"a") == first
        assert open_count() > before
    assert open_count() == before


def test_a_directory_that_was_replaced_is_not_opened(source: Path, watched: WatchedSource) -> None:
    directories, wd = watched.watches.directories, wd_of(watched, b"a")
    before = open_count()
    (source / "a").rename(source / "moved")
    (source / "a").mkdir()
    with directories:
        assert directories.find(wd, b"a") is None
        assert directories.find(wd, b"moved") is not None
    with directories, pytest.raises(FileNotFoundError):
        directories.find(wd, b"gone")
    assert open_count() == before
    assert Path("/proc/thread-self/cwd").readlink() == Path.cwd()


def test_few_directories_stay_open(source: Path, inotify: Inotify) -> None:
    for number in range(100):
        (source / f"d{number}").mkdir()
    watched = WatchedSource(os.fsencode(source), inotify)
    before = open_count()
    counts: list[int] = []
    on_each_watch(inotify, lambda _: counts.append(open_count()))
    for number in range(100):
        (source / f"d{number}/new").mkdir()
    watched.process_events()
    assert len(counts) == 100
    assert max(counts) < before + 25
    assert open_count() == before


def test_what_appears_in_a_directory_that_is_replaced_meanwhile_has_its_right_path(
    source: Path, inotify: Inotify, watched: WatchedSource
) -> None:
    parent = wd_of(watched, b"a")

    def replace(path: bytes) -> None:
        if path.endswith(b"a/one"):
            (source / "a").rename(source / "moved")
            (source / "a/two/other").mkdir(parents=True)

    on_each_watch(inotify, replace)
    (source / "a/one").mkdir()
    (source / "a/two/deep").mkdir(parents=True)
    # One chunk has the events of both.
    assert watched.processor.process_next()
    assert set(watched.watches.tree.child_names(parent)) == {b"b", b"one", b"two"}
    assert watched.watches.tree.find(b"a/two/deep") is not None
    watched.process_events()
    assert watched.paths == {
        b"", b"a", b"a/two", b"a/two/other",
        b"moved", b"moved/b", b"moved/one", b"moved/two", b"moved/two/deep",
    }  # fmt: skip
    changes = watched.processor.take_changes()
    assert {Change(b"a", Scope.TREE), Change(b"moved", Scope.TREE)} <= set(changes)


def test_what_appears_in_a_directory_that_leaves_meanwhile_is_not_watched(
    source: Path, inotify: Inotify, watched: WatchedSource
) -> None:
    outside = source.with_name("outside")

    def move_out(path: bytes) -> None:
        if path.endswith(b"a/one"):
            (source / "a").rename(outside)

    on_each_watch(inotify, move_out)
    (source / "a/one").mkdir()
    (source / "a/two").mkdir()
    watched.process_events()
    assert watched.paths == {b""}
    lines = Path(f"/proc/self/fdinfo/{inotify.descriptor}").read_text().splitlines()
    assert sum(line.startswith("inotify ") for line in lines) == 1


def test_a_directory_that_is_deleted_while_it_is_open_is_forgotten(
    source: Path, inotify: Inotify, watched: WatchedSource
) -> None:
    def delete(path: bytes) -> None:
        if path.endswith(b"a/one"):
            for gone in ("a/two", "a/one", "a/b", "a"):
                (source / gone).rmdir()

    on_each_watch(inotify, delete)
    (source / "a/one").mkdir()
    (source / "a/two").mkdir()
    watched.process_events()
    assert watched.paths == {b""}
    assert Change(b"a", Scope.ENTRY) in set(watched.processor.take_changes())
