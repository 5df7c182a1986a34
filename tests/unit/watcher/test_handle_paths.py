"""Where directories are, by their handles: what is not known for certain is an error."""

import ctypes
import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount

from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher import fanotify, handle_paths
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.handle_paths import FoundPath
from pylsyncd.watcher.marked_source import MarkedSource

# Of linux/sched.h.
CLONE_FS = 0x200

LIBC = ctypes.CDLL(None, use_errno=True)

needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root may mount")


class Source:
    """A marked source, with the keys of directories."""

    def __init__(self, top: Path) -> None:
        self.top = top / "source"
        self.outside = top / "outside"
        self.mounts: list[bytes] = []
        self.group = Fanotify()

    def start(self) -> None:
        source = MarkedSource(os.fsencode(self.top), self.group, Rules(), lambda: self.mounts)
        source.mark_mounts()
        self.handles = source.handles

    def key(self, path: Path) -> bytes:
        directory = os.open(path, os.O_RDONLY)
        try:
            return self.group.add_mark(directory) + fanotify.handle_of(directory)
        finally:
            os.close(directory)

    def find(self, key: bytes) -> tuple[FoundPath, ...]:
        with self.handles.opened():
            return self.handles.find(key)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    skip_without_fanotify(tmp_path)
    source = Source(tmp_path)
    for path in ("source/d/e", "source/m", "outside/o"):
        (tmp_path / path).mkdir(parents=True)
    yield source
    source.group.close()


@pytest.fixture
def started(source: Source) -> Source:
    source.start()
    return source


def test_a_directory_is_found_where_it_is(started: Source) -> None:
    key = started.key(started.top / "d/e")
    assert started.find(key) == (FoundPath(b"d/e"),)
    (started.top / "d").rename(started.top / "g")
    started.handles.forget()
    assert started.find(key) == (FoundPath(b"g/e"),)
    assert started.find(started.key(started.top)) == (FoundPath(b""),)
    assert started.find(started.key(started.outside / "o")) == ()


def test_more_directories_than_can_be_kept_are_found_as_well(
    started: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_paths, "_MAX_KNOWN_SIZE", 1)
    for _ in range(2):
        for path in ("d", "d/e", "m"):
            found = started.find(started.key(started.top / path))
            assert found == (FoundPath(os.fsencode(path)),)


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("above", [0, 1])
def test_nothing_is_known_of_a_source_that_moves_meanwhile(
    started: Source, above: int, *, is_deleted: bool
) -> None:
    moved = [started.top, started.top.parent][above]
    key = started.key(started.top / "d/e")
    try:
        with started.handles.opened():
            if is_deleted:
                (started.top / "d/e").rmdir()
            moved.rename(moved.with_name("away"))
            with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                started.handles.find(key)
    finally:
        moved.with_name("away").rename(moved)
    assert started.find(key) == (() if is_deleted else (FoundPath(b"d/e"),))


@needs_mounts
def test_nothing_is_known_of_a_mount_that_moves_meanwhile(source: Source) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(source.top / "d/e")
        source.mounts = [b"d/e"]
        source.start()
        (source.top / "d/e/x").mkdir()
        key = source.key(source.top / "d/e/x")
        try:
            with source.handles.opened():
                (source.top / "d").rename(source.top / "g")
                # The source is still there.
                with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
                    source.handles.find(key)
        finally:
            (source.top / "g").rename(source.top / "d")
        assert source.find(key) == (FoundPath(b"d/e/x"),)


@pytest.mark.parametrize("length", [1, 255])
def test_a_deleted_directory_that_is_still_open_has_no_path(started: Source, length: int) -> None:
    path = started.top / "d" / ("n" * length)
    path.mkdir()
    key = started.key(path)
    directory = os.open(path, os.O_RDONLY)
    path.rmdir()
    assert started.find(key) == ()
    os.close(directory)


@needs_mounts
def test_a_directory_below_a_mount_that_is_not_known_has_its_path_for_a_moment(
    started: Source,
) -> None:
    key = started.key(started.top / "d/e")
    with Mounts() as mounts:
        mounts.mount_tmpfs(started.top / "d")
        assert started.find(key) == (FoundPath(b"d/e", is_lasting=False),)
    assert started.find(key) == (FoundPath(b"d/e"),)


@needs_mounts
def test_each_path_of_a_directory_is_looked_up_again_if_one_may_not_last(source: Source) -> None:
    key = source.key(source.top / "d/e")
    with Mounts() as mounts:
        mounts.mount_bind(source.top / "d", source.top / "m")
        source.mounts = [b"m"]
        source.start()
        with Mounts() as others:
            others.mount_tmpfs(source.top / "m/e")
            found = source.find(key)
            assert sorted(found) == [FoundPath(b"d/e"), FoundPath(b"m/e", is_lasting=False)]
        assert sorted(source.find(key)) == [FoundPath(b"d/e"), FoundPath(b"m/e")]


@needs_mounts
def test_only_a_mount_in_another_one_hides_what_is_in_that(source: Source) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(source.top / "d/e")
        (source.top / "d/e/x/y").mkdir(parents=True)
        key = source.key(source.top / "d/e/x/y")
        source.mounts = [b"d/e"]
        source.start()
        mounts.mount_tmpfs(source.top / "d/e/x")
        assert source.find(key) == (FoundPath(b"d/e/x/y", is_lasting=False),)
        source.handles.set_mounts([], [b"d/e", b"d/e/x"])
        assert source.find(key) == ()


@needs_mounts
def test_a_long_path_may_not_last_if_a_directory_on_its_way_is_hidden(source: Source) -> None:
    opened = [os.open(source.top / "m", os.O_RDONLY)]
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=opened[-1])
        opened.append(os.open("n" * 200, os.O_RDONLY, dir_fd=opened[-1]))
    source.start()
    deepest = source.group.add_mark(opened[-1]) + fanotify.handle_of(opened[-1])
    path = b"/".join([b"m", *[b"n" * 200] * 30])
    hidden_28 = path[: -len(b"/n" + b"n" * 199) * 2]
    for hidden, expected in (
        (30, FoundPath(path, is_lasting=False)),
        # Its parent leads to what is mounted over it, which has no such name.
        (28, FoundPath(hidden_28, is_above=True, is_lasting=False)),
        # The kernel tells this part of the path.
        (5, FoundPath(path, is_lasting=False)),
    ):
        mount_tmpfs_at(opened[hidden])
        try:
            source.handles.forget()
            assert source.find(deepest) == (expected,)
        finally:
            unmount_at(opened[hidden - 1], b"n" * 200)
        assert source.find(deepest) == (FoundPath(path),)
    for each in opened:
        os.close(each)


def mount_tmpfs_at(directory: int) -> None:
    target = b"/proc/self/fd/%d" % directory
    assert LIBC.mount(b"pylsyncd-test", target, b"tmpfs", 0, b"size=64k") == 0


def unmount_at(above: int, name: bytes) -> None:
    mounted = os.open(name, os.O_PATH, dir_fd=above)
    detach = 2
    assert LIBC.umount2(b"/proc/self/fd/%d" % mounted, detach) == 0
    os.close(mounted)


@needs_mounts
def test_a_directory_outside_a_source_that_is_the_root_has_no_path(tmp_path: Path) -> None:
    """As in a container, whose root may be a directory of a larger file system."""
    skip_without_fanotify(tmp_path)
    for name in ("real/d", "real/proc", "outside", "source"):
        (tmp_path / name).mkdir(parents=True)

    def find() -> list[tuple[FoundPath, ...]]:
        if LIBC.unshare(CLONE_FS):
            pytest.skip("the threads of a process share their root here")
        outside = os.open(tmp_path / "outside", os.O_RDONLY)
        os.chroot(tmp_path / "source")
        group = Fanotify()
        try:
            source = MarkedSource(b"/", group, Rules())
            fsid = group.add_mark(outside)
            with walk.opened_root(b"/d") as inside, source.handles.opened():
                keys = [fsid + fanotify.handle_of(each) for each in (inside, outside)]
                return [source.handles.find(key) for key in keys]
        finally:
            os.close(outside)
            group.close()

    with Mounts() as mounts, ThreadPoolExecutor(1) as threads:
        mounts.mount_bind(tmp_path / "real", tmp_path / "source")
        mounts.mount_proc(tmp_path / "source/proc")
        # The kernel tells the path of the one outside as that of the root.
        assert threads.submit(find).result() == [(FoundPath(b"d"),), ()]


@needs_mounts
def test_with_too_few_descriptors_no_directory_is_taken_for_a_foreign_one(source: Source) -> None:
    directory = os.open(source.top / "m", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("n" * 200, dir_fd=directory)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    with Mounts() as mounts:
        mounts.mount_tmpfs(source.top / "d/e")
        (source.top / "d/e/x").mkdir()
        (source.top / "hidden/x").mkdir(parents=True)
        source.mounts = [b"d/e"]
        source.start()
        keys = [source.key(source.top / path) for path in ("d", "d/e/x", "hidden/x")]
        keys.append(source.group.add_mark(directory) + fanotify.handle_of(directory))
        mounts.mount_tmpfs(source.top / "hidden")
        for key in keys:
            expected = source.find(key)
            assert expected
            results = [
                find_with_descriptors(source, key, number) for number in range(directory + 12)
            ]
            assert set(results) == {None, expected}
            assert results[-1] == expected
    os.close(directory)


def find_with_descriptors(source: Source, key: bytes, number: int) -> tuple[FoundPath, ...] | None:
    """Return the paths of a key while so many descriptors are permitted; None if that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    source.handles.forget()
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        with source.handles.opened():
            return source.handles.find(key)
    except OSError as error:
        return None if error.errno == errno.EMFILE else ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
