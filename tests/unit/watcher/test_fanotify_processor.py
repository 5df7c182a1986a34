"""What the changes are that real events of marked file systems become."""

import contextlib
import errno
import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.disks import Disk, make_subvolume, requires
from support.fanotify import skip_without_fanotify, skip_without_ignore_marks
from support.limits import no_more_descriptors
from support.mounts import Mounts, can_mount
from support.operations import exchange_paths
from support.waiting import wait_until

from pylsyncd.model import paths
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import fanotify, foreign_directories, handle_paths, overflow_backoff
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.fanotify_processor import FanotifyProcessor
from pylsyncd.watcher.marked_source import MarkedSource
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan

needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root may mount")


class Marked:
    """A marked source, and what processes its events."""

    def __init__(self, top: Path) -> None:
        self.top, self.outside = top / "source", top / "outside"
        self.mounts: list[bytes] = []
        self.group = Fanotify()
        self.rules = Rules()
        self.open_files: OpenFiles[bytes] = OpenFiles(0.0, 0.0)
        self.plan = RescanPlan()
        self.mask_counts: Counter[int] = Counter()

    def start(self) -> None:
        self.source = MarkedSource(
            os.fsencode(self.top), self.group, self.rules, lambda: self.mounts
        )
        self.source.mark_mounts()
        self.rescanner = Rescanner(self.source, self.plan)
        self.processor = FanotifyProcessor(
            self.group, self.source, self.rescanner, self.rules, self.open_files, self.mask_counts
        )

    def take(self) -> set[Change]:
        while self.processor.process_next():
            pass
        self.changes = self.processor.take_changes()
        return set(self.changes)

    @property
    def hints(self) -> set[Change]:
        """What has a new content, of the changes taken last."""
        return set(self.changes.new_content)

    def key(self, path: Path) -> bytes:
        """Return the key of a directory."""
        directory = os.open(path, os.O_RDONLY)
        try:
            return self.group.add_mark(directory) + fanotify.handle_of(directory)
        finally:
            os.close(directory)

    def make_noise(self, name: str = "o") -> None:
        """Have so many events in a directory outside the source that it is ignored."""
        for _ in range(2):
            for number in range(1000):
                (self.outside / name / str(number)).touch()
            assert self.take() == set()

    def read_names(self, directory: Path) -> set[bytes]:
        """Return the names of the events of a directory since the last changes were taken."""
        key = self.key(directory)
        return {
            event.name
            for chunk in iter(self.group.read, b"")
            for event in fanotify.decode_events(chunk)
            if event.directory == key
        }

    def write(self, *names: str) -> None:
        for name in names:
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(name)


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    skip_without_fanotify(tmp_path)
    with Mounts() as mounts:
        # On a file system of its own, what others rename makes it forget nothing.
        if can_mount():
            mounts.mount_tmpfs(tmp_path)
        marked = Marked(tmp_path / "top")
        (marked.top / "d/e").mkdir(parents=True)
        (marked.outside / "o").mkdir(parents=True)
        (marked.top / "d/f").touch()
        yield marked
        marked.group.close()


@pytest.fixture
def started(marked: Marked) -> Marked:
    marked.start()
    return marked


def skip_if_nothing_is_ignored(marked: Marked) -> None:
    directory = os.open(marked.outside, os.O_RDONLY)
    try:
        skip_without_ignore_marks(marked.group, directory)
    finally:
        os.close(directory)
    marked.group.ignore_nothing()


def entry(path: bytes) -> Change:
    return Change(path, Scope.ENTRY)


def tree(path: bytes) -> Change:
    return Change(path, Scope.TREE)


def test_a_written_file_is_a_change_with_a_new_content(started: Marked) -> None:
    started.write("d/e/new")
    assert started.take() == started.hints == {entry(b"d/e/new")}


def test_attributes_are_a_change_without_a_new_content(started: Marked) -> None:
    (started.top / "d/f").chmod(0o600)
    (started.top / "d").chmod(0o700)
    started.top.chmod(0o700)
    assert started.take() == {entry(b"d/f"), entry(b"d"), entry(b"")}
    assert started.hints == set()


def test_a_new_directory_is_one_change_of_its_tree(started: Marked) -> None:
    started.write("n/m/x")
    assert tree(b"n") in started.take()
    assert tree(b"n") in started.hints


def test_a_renamed_directory_is_a_change_of_both_names_and_found_at_the_new_one(
    started: Marked,
) -> None:
    started.write("d/e/before")
    (started.top / "d").rename(started.top / "g")
    assert {entry(b"d"), tree(b"g"), entry(b"g/e/before")} == started.take()
    started.write("g/e/after")
    assert started.take() == {entry(b"g/e/after")}
    # Also if that is not all that happens beside it.
    (started.top / "g").rename(started.top / "h")
    (started.top / "new").mkdir()
    assert started.take() == {entry(b"g"), tree(b"h"), tree(b"new")}
    started.write("h/e/after")
    assert started.take() == {entry(b"h/e/after")}


def test_a_directory_moved_in_is_a_change_although_it_was_foreign(started: Marked) -> None:
    (started.outside / "o/1").touch()
    assert started.take() == set()
    (started.outside / "o").rename(started.top / "o")
    started.write("o/2")
    assert tree(b"o") in started.take()
    started.write("o/3")
    assert started.take() == {entry(b"o/3")}


def test_a_directory_moved_out_is_a_change_of_its_name_only(started: Marked) -> None:
    (started.top / "d").rename(started.outside / "d")
    (started.outside / "d/e/x").touch()
    assert started.take() == {entry(b"d")}


def test_exchanged_directories_are_both_changes(started: Marked) -> None:
    started.write("x/1")
    started.take()
    exchange_paths(os.fsencode(started.top / "x"), os.fsencode(started.top / "d"))
    assert started.take() == {tree(b"x"), tree(b"d")}


@pytest.mark.parametrize("leave", ["delete", "move"])
def test_what_was_in_a_directory_that_has_left_may_be_deleted(started: Marked, leave: str) -> None:
    if leave == "move":
        (started.top / "d").rename(started.outside / "d")
    else:
        shutil.rmtree(started.top / "d")
    (started.top / "d").mkdir()
    (started.top / "new").mkdir()
    assert tree(b"d") in started.take()
    assert set(started.changes.deletable) == {tree(b"d")}


@pytest.mark.parametrize("act", [os.unlink, lambda path: os.rename(path, path + "2")])
def test_a_name_that_is_gone_is_a_change(started: Marked, act: Callable[[str], None]) -> None:
    act(str(started.top / "d/f"))
    assert entry(b"d/f") in started.take()


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_a_directory_that_became_something_else_is_no_tree(started: Marked, kind: str) -> None:
    (started.top / "d/e").rmdir()
    if kind == "file":
        started.write("d/e")
    else:
        (started.top / "d/e").symlink_to("..")
    assert started.take() == {entry(b"d/e")}


def test_what_is_excluded_is_no_change(marked: Marked) -> None:
    marked.rules = build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"/d/e/")])
    marked.start()
    marked.write("d/x.tmp", "d/e/x", "d/e/sub/x", "d/y")
    assert marked.take() == {entry(b"d/y")}
    shutil.rmtree(marked.top / "d/e")
    (marked.top / "d/e").mkdir()
    assert marked.take() == set()


def test_a_file_that_is_not_closed_is_held_back_until_it_is_due(marked: Marked) -> None:
    marked.open_files = OpenFiles(1e6, 1e7)
    marked.start()
    with open(marked.top / "d/f", "r+b", buffering=0) as file:
        file.write(b"x")
        assert marked.take() == set()
        assert marked.processor.due_at is not None
        changes = marked.processor.take_changes(includes_open_files=True)
        assert set(changes) == set(changes.new_content) == {entry(b"d/f")}
        file.write(b"y")
        assert marked.take() == set()
    assert marked.take() == marked.hints == {entry(b"d/f")}


@pytest.mark.parametrize("above", [0, 1])
def test_a_source_that_was_elsewhere_for_a_while_is_lost(started: Marked, above: int) -> None:
    moved = [started.top, started.top.parent][above]
    away = moved.with_name("away")
    moved.rename(away)
    started.take()
    away.rename(moved)
    started.take()
    assert started.processor.is_source_lost


def test_what_happens_elsewhere_loses_no_source(started: Marked) -> None:
    (started.outside / "source").mkdir()
    (started.outside / "source").rename(started.outside / "elsewhere")
    started.take()
    assert not started.processor.is_source_lost


@contextlib.contextmanager
def long_directory(above: Path, count: int, size: int = 200) -> Iterator[tuple[int, bytes]]:
    """Make a directory whose path is longer than so many times PATH_MAX; yield it open, its path.

    The path is relative to ``above``, and its names have a size.
    """
    names = [b"n" * size] * (count * paths.MAX_PATH_BYTES // size + 1)
    directory = os.open(above, os.O_RDONLY)
    try:
        for name in names:
            os.mkdir(name, dir_fd=directory)
            child = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = child
        yield directory, b"/".join(names)
    finally:
        os.close(directory)


@contextlib.contextmanager
def renamed(path: Path, new: Path | str, new_directory: int | None = None) -> Iterator[None]:
    """Have a directory at another path, perhaps relative to an open one, during the context.

    What is mounted below it can be unmounted afterwards.
    """
    os.rename(path, new, dst_dir_fd=new_directory)
    try:
        yield
    finally:
        os.rename(new, path, src_dir_fd=new_directory)


def touch_in(directory: int, name: str) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=directory))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_path_that_is_too_long_for_the_kernel_is_found(started: Marked, count: int) -> None:
    with long_directory(started.top / "d", count) as (directory, below):
        started.take()
        touch_in(directory, "file")
        assert started.take() == started.hints == {entry(b"d/%b/file" % below)}
        os.mkdir("new", dir_fd=directory)
        assert started.take() == {tree(b"d/%b/new" % below)}
        os.rename("new", "renamed", src_dir_fd=directory, dst_dir_fd=directory)
        expected = {entry(b"d/%b/new" % below), tree(b"d/%b/renamed" % below)}
        assert started.take() == expected
        assert started.changes.moves is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_long_path_follows_the_rename_of_a_directory_high_above(
    started: Marked, count: int
) -> None:
    with long_directory(started.top / "d/e", count) as (directory, below):
        touch_in(directory, "before")
        started.take()
        (started.top / "d").rename(started.top / "g")
        touch_in(directory, "with it")
        expected = {entry(b"d"), tree(b"g"), entry(b"g/e/%b/with it" % below)}
        assert started.take() == expected
        touch_in(directory, "after")
        assert started.take() == {entry(b"g/e/%b/after" % below)}
        (started.top / "g").rename(started.outside / "g")
        touch_in(directory, "outside")
        assert started.take() == {entry(b"g")}
        touch_in(directory, "foreign")
        assert started.take() == set()
        (started.outside / "g").rename(started.top / "h")
        assert started.take() == {tree(b"h")}
        touch_in(directory, "back")
        assert started.take() == {entry(b"h/e/%b/back" % below)}
    assert not started.rescanner.has_missed_events


def test_a_long_path_is_found_although_there_are_few_descriptors(started: Marked) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with long_directory(started.top / "d", 3) as (directory, below):
        started.take()
        touch_in(directory, "file")
        resource.setrlimit(resource.RLIMIT_NOFILE, (directory + 20, hard))
        try:
            assert started.take() == {entry(b"d/%b/file" % below)}
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("above", ["source/d", "outside"])
def test_the_directories_above_a_long_path_are_not_looked_up_for_each(
    started: Marked, above: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count_parents(path: str | bytes, flags: int, mode: int = 0o777, **options: int) -> int:
        parents.append(path == "..")
        return os_open(path, flags, mode, **options)

    with long_directory(started.top.parent / above, 3, size=50) as (directory, below):
        started.take()
        depth, here = below.count(b"/") + 1, os.dup(directory)
        for _ in range(depth):
            touch_in(here, "file")
            parent = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = parent
        os.close(here)
        started.source.handles.forget()
        parents: list[bool] = []
        os_open = os.open
        monkeypatch.setattr(os, "open", count_parents)
        assert len(started.take()) == (depth if above == "source/d" else 0)
        assert 0 < sum(parents) < depth * 10


def test_paths_are_found_although_none_is_kept(
    started: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_paths, "_MAX_KNOWN_SIZE", 0)
    for _ in range(2):
        started.write("d/x", "d/e/y")
        assert started.take() == {entry(b"d/x"), entry(b"d/e/y")}


def test_a_directory_that_is_renamed_while_its_long_path_is_looked_up_loses_nothing(
    started: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with long_directory(started.top / "d", 1) as (directory, below):
        os.mkdir("x", dir_fd=directory)
        started.take()

        def rename_and_list(listed: int) -> "os._ScandirIterator[str]":
            with contextlib.suppress(FileNotFoundError):
                os.rename("x", started.top / "x", src_dir_fd=directory)
            return scandir(listed)

        scandir = os.scandir
        touch_in(directory, "x/file")
        monkeypatch.setattr(os, "scandir", rename_and_list)
        assert started.take() == {tree(b"d/%b" % below)}
        monkeypatch.undo()
        assert started.take() == {entry(b"d/%b/x" % below), tree(b"x")}
    assert not started.rescanner.has_missed_events


def test_a_new_directory_whose_path_is_too_long_is_a_tree(started: Marked) -> None:
    directory, path = os.open(started.top / "d", os.O_RDONLY), b"d"
    # The path of the directory above is not too long yet.
    while (room := 4090 - len(os.fsencode(started.top / os.fsdecode(path)))) > 1:
        name = b"n" * min(200, room - 1)
        path += b"/" + name
        os.mkdir(name, dir_fd=directory)
        child = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = child
    started.take()
    os.mkdir("n" * 255, dir_fd=directory)
    os.close(directory)
    assert started.take() == started.hints == {tree(path + b"/" + b"n" * 255)}


@needs_mounts
def test_a_mount_with_a_long_path_is_watched(marked: Marked) -> None:
    with long_directory(marked.top, 1) as (directory, below), Mounts() as mounts:
        mounts.mount_tmpfs(marked.top / "d/e")
        marked.mounts = [b"d/e"]
        marked.start()
        with renamed(marked.top / "d", "d", directory):
            marked.mounts = [below + b"/d/e"]
            assert tree(below + b"/d") in marked.take()
            touch_in(directory, "d/e/file")
            assert marked.take() == {entry(below + b"/d/e/file")}
            os.mkdir("d/e/new", dir_fd=directory)
            assert marked.take() == {tree(below + b"/d/e/new")}
            touch_in(directory, "d/e/new/file")
            assert marked.take() == {entry(below + b"/d/e/new/file")}
        assert not marked.rescanner.has_missed_events


@needs_mounts
def test_a_source_that_is_a_bind_mount_has_paths_of_its_own(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    for name in ("real/d", "real/outside", "source"):
        (tmp_path / name).mkdir(parents=True)
    marked = Marked(tmp_path)
    with Mounts() as mounts:
        mounts.mount_bind(tmp_path / "real", tmp_path / "source")
        marked.start()
        (tmp_path / "real/d/by another path").touch()
        (tmp_path / "source/d/x").touch()
        (tmp_path / "elsewhere").touch()
        assert marked.take() == {entry(b"d/by another path"), entry(b"d/x")}
        marked.group.close()


@needs_mounts
def test_a_directory_that_is_mounted_twice_is_changed_at_both_paths(marked: Marked) -> None:
    (marked.top / "m").mkdir()
    with Mounts() as mounts:
        mounts.mount_bind(marked.top / "d", marked.top / "m")
        marked.mounts = [b"m"]
        marked.start()
        marked.write("d/e/x")
        assert marked.take() == {entry(b"d/e/x"), entry(b"m/e/x")}


@needs_mounts
def test_a_mounted_file_system_has_a_mark_and_hides_what_is_below(marked: Marked) -> None:
    hidden = os.open(marked.top / "d/e", os.O_RDONLY)
    with Mounts() as mounts:
        mounts.mount_tmpfs(marked.top / "d/e")
        marked.mounts = [b"d/e"]
        marked.start()
        marked.write("d/e/x")
        os.close(os.open("hidden", os.O_CREAT | os.O_WRONLY, dir_fd=hidden))
        assert marked.take() == {entry(b"d/e/x")}
        os.close(hidden)
        assert not marked.processor.is_source_lost


@needs_mounts
def test_a_file_system_that_is_mounted_again_has_a_mark_again(marked: Marked) -> None:
    marked.mounts = [b"d/e"]
    with Mounts() as mounts:
        mounts.mount_tmpfs(marked.top / "d/e")
        marked.start()
        mounts.unmount(marked.top / "d/e")
        mounts.mount_tmpfs(marked.top / "d/e")
        marked.write("d/e/unknown")
        marked.processor.rewatch(b"d/e", only_if_replaced=True)
        assert marked.take() == {tree(b"d/e")}
        marked.write("d/e/x")
        assert marked.take() == {entry(b"d/e/x")}
        assert not marked.processor.is_source_lost
        marked.processor.rewatch(b"d/e", only_if_replaced=True)
        assert marked.take() == set()


@needs_mounts
def test_what_changes_in_a_mount_while_it_is_away_is_a_change_when_it_is_back(
    marked: Marked,
) -> None:
    (marked.top / "m").mkdir()
    marked.mounts = [b"m"]
    with Mounts() as mounts:
        mounts.mount_bind(marked.outside, marked.top / "m")
        marked.start()
        mounts.unmount(marked.top / "m")
        (marked.outside / "x").touch()
        assert marked.take() == set()
        mounts.mount_bind(marked.outside, marked.top / "m")
        marked.processor.rewatch(b"m", only_if_replaced=True)
        assert marked.take() == {tree(b"m")}
        (marked.outside / "y").touch()
        assert marked.take() == {entry(b"m/y")}


@needs_mounts
def test_what_is_removed_with_a_mounted_directory_is_a_change(marked: Marked) -> None:
    (marked.top / "m").mkdir()
    (marked.outside / "o/f").touch()
    (marked.outside / "o/d").mkdir()
    with Mounts() as mounts:
        mounts.mount_bind(marked.outside / "o", marked.top / "m")
        marked.mounts = [b"m"]
        marked.start()
        shutil.rmtree(marked.outside / "o")
        assert marked.take() == {entry(b"m/f"), entry(b"m/d")}
        assert marked.take() == set()
    assert not marked.rescanner.has_missed_events


def test_a_directory_that_is_out_of_reach_for_a_moment_keeps_its_later_changes(
    started: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    started.write("d/x")
    monkeypatch.setattr(handle_paths, "open_handle", fail)
    assert started.take() == set()
    monkeypatch.undo()
    started.write("d/y")
    assert started.take() == {entry(b"d/y")}


@needs_mounts
def test_a_mounted_directory_that_is_removed_while_paths_are_looked_up_causes_no_scan(
    marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_and_open(mount: int, handle: bytes) -> int:
        shutil.rmtree(marked.outside / "o", ignore_errors=True)
        return fanotify.open_handle(mount, handle)

    (marked.top / "m").mkdir()
    with Mounts() as mounts:
        mounts.mount_bind(marked.outside / "o", marked.top / "m")
        marked.mounts = [b"m"]
        marked.start()
        marked.write("d/x")
        (marked.outside / "o/f").touch()
        monkeypatch.setattr(handle_paths, "open_handle", remove_and_open)
        assert marked.take() == {entry(b"d/x"), entry(b"m/f")}
        monkeypatch.undo()
        assert marked.take() == {entry(b"m/f")}
        marked.write("d/y")
        assert marked.take() == {entry(b"d/y")}
    assert not marked.rescanner.has_missed_events


@needs_mounts
def test_a_mount_moves_with_the_directory_that_it_is_in(marked: Marked) -> None:
    with Mounts() as mounts:
        mounts.mount_tmpfs(marked.top / "d/e")
        marked.mounts = [b"d/e"]
        marked.start()
        with renamed(marked.top / "d", marked.top / "g"):
            marked.mounts = [b"g/e"]
            assert tree(b"g") in marked.take()
            marked.write("g/e/x")
            assert marked.take() == {entry(b"g/e/x")}


@needs_mounts
def test_what_was_hidden_for_a_moment_is_a_change_all_the_same(started: Marked) -> None:
    hidden = os.open(started.top / "d/e", os.O_RDONLY)
    with Mounts() as mounts:
        mounts.mount_tmpfs(started.top / "d/e")
        os.close(os.open("hidden", os.O_CREAT | os.O_WRONLY, dir_fd=hidden))
        os.close(hidden)
        assert started.take() == {entry(b"d/e/hidden")}
    started.write("d/e/x")
    assert started.take() == {entry(b"d/e/x")}


@needs_mounts
def test_a_file_that_is_mounted_is_not_polled(marked: Marked) -> None:
    with Mounts() as mounts:
        mounts.mount_bind(marked.top / "d/f", marked.top / "d/f")
        marked.mounts = [b"d/f", b"gone"]
        marked.start()
        assert marked.source.mark_mounts().unmarked == []


@requires("btrfs")
def test_a_subvolume_is_watched_with_those_below_it(tmp_path: Path) -> None:
    with Disk(tmp_path / "image", "btrfs") as disk, Mounts() as mounts:
        top = tmp_path / "disk"
        top.mkdir()
        mounts.mount_device(disk.attach(), top)
        make_subvolume(top / "source")
        make_subvolume(top / "source/below")
        (top / "outside").mkdir()
        marked = Marked(top)
        try:
            marked.start()
        except OSError:
            marked.group.close()
            pytest.skip("the kernel marks no subvolumes")
        marked.write("x", "below/y")
        (top / "outside/z").touch()
        assert marked.take() == {entry(b"x"), entry(b"below/y")}
        marked.group.close()


@needs_mounts
def test_the_source_can_be_unmounted(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    marked = Marked(tmp_path)
    marked.top.mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(marked.top)
        marked.start()
        marked.write("d/x")
        assert marked.take()
        mounts.unmount(marked.top)
        wait_until(lambda: marked.processor.is_source_lost)
    marked.group.close()


@needs_mounts
def test_a_mount_that_cannot_be_marked_is_polled(marked: Marked) -> None:
    with Mounts() as mounts:
        mounts.mount_proc(marked.top / "d")
        marked.mounts = [b"d"]
        marked.start()
        assert marked.source.mark_mounts().unmarked == [b"d"]
        assert not marked.rescanner.is_near_eventless(b"d")
        marked.processor.rewatch(b"d")
        marked.take()
        assert marked.rescanner.is_near_eventless(b"d")


def test_moves_of_foreign_directories_do_not_bring_foreign_events_back(started: Marked) -> None:
    key, other = (started.key(started.outside / name) for name in ("o", "."))
    (started.outside / "o/1").touch()
    (started.outside / "1").touch()
    started.take()
    assert {key, other} <= started.source.handles.foreign.keys
    (started.outside / "o").rename(started.outside / "p")
    assert started.take() == set()
    assert {key, other} <= started.source.handles.foreign.keys
    (started.outside / "p/unknown").mkdir()
    (started.outside / "p/unknown/1").mkdir()
    started.take()
    (started.outside / "p/unknown/1").rename(started.outside / "p/unknown/2")
    assert started.take() == set()
    assert {key, other} <= started.source.handles.foreign.keys
    (started.outside / "p").rename(started.top / "p")
    assert started.take() == {tree(b"p")}
    assert key not in started.source.handles.foreign.keys


def test_the_event_of_a_file_without_a_name_is_dropped(started: Marked) -> None:
    removed = started.top / "d/f"
    key = started.key(removed.parent)[: fanotify.FSID_SIZE]
    file = os.open(removed, os.O_RDONLY)
    key += fanotify.handle_of(file)
    os.close(file)
    removed.unlink()
    assert started.take() == {entry(b"d/f")}
    assert key not in started.source.handles.foreign.keys


def test_a_loud_foreign_directory_is_ignored_until_it_comes_to_the_source(started: Marked) -> None:
    skip_if_nothing_is_ignored(started)
    started.make_noise()
    (started.outside / "o/ignored").touch()
    assert started.read_names(started.outside / "o") == set()
    (started.outside / "o").rename(started.top / "o")
    started.write("o/1")
    assert started.take() >= {tree(b"o")}
    started.write("o/2")
    assert started.take() == {entry(b"o/2")}


def test_a_file_that_leaves_an_ignored_directory_for_the_source_is_a_change(
    started: Marked,
) -> None:
    skip_if_nothing_is_ignored(started)
    started.make_noise()
    (started.outside / "o/0").rename(started.top / "0")
    assert started.take() == started.hints == {entry(b"0")}


def test_only_so_many_foreign_directories_are_ignored(
    started: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_if_nothing_is_ignored(started)
    monkeypatch.setattr(foreign_directories, "_MAX_IGNORED", 1)
    (started.outside / "second").mkdir()
    started.make_noise()
    started.make_noise("second")
    (started.outside / "o/reported").touch()
    (started.outside / "second/ignored").touch()
    assert started.read_names(started.outside / "o") == {b"reported"}


def test_changes_of_a_source_that_another_directory_has_replaced_for_a_while_are_not_lost(
    started: Marked,
) -> None:
    before = started.processor.update_complete_until()
    exchange_paths(os.fsencode(started.top), os.fsencode(started.outside))
    (started.outside / "d/x").touch()
    assert started.take() == set()
    exchange_paths(os.fsencode(started.top), os.fsencode(started.outside))
    started.rescanner.record_empty_queue(clock.now())
    started.take()
    assert started.processor.is_source_lost
    assert started.processor.update_complete_until() == before


def test_changes_that_cannot_be_looked_up_are_scanned_for(marked: Marked) -> None:
    marked.open_files = OpenFiles(1e6, 1e7)
    marked.start()
    before = marked.processor.update_complete_until()
    with open(marked.top / "d/f", "r+b", buffering=0) as file:
        file.write(b"x")
        assert marked.take() == set()
        marked.rescanner.record_empty_queue(clock.now())
        with no_more_descriptors():
            marked.processor.take_changes(includes_open_files=True)
    assert not marked.processor.is_source_lost
    assert marked.rescanner.has_missed_events
    assert marked.rescanner.complete_until == before


def test_what_was_read_and_not_taken_is_not_complete(started: Marked) -> None:
    before = started.processor.update_complete_until()
    started.write("d/x")
    while started.processor.process_next():
        pass
    started.rescanner.record_empty_queue(later := clock.now())
    assert started.processor.has_changes
    assert started.processor.update_complete_until() == before
    assert set(started.processor.take_changes()) == {entry(b"d/x")}
    assert not started.processor.has_changes
    assert started.processor.update_complete_until() == later


def test_what_has_to_be_marked_again_is_a_change_to_come(started: Marked) -> None:
    started.processor.rewatch(b"d")
    # Once asked for, it is one in any case.
    started.processor.rewatch(b"d", only_if_replaced=True)
    started.processor.rewatch(b"d/e", only_if_replaced=True)
    assert started.processor.has_changes
    started.processor.process_next()
    assert started.processor.has_changes
    assert set(started.processor.take_changes()) == {tree(b"d")}
    assert not started.processor.has_changes


def test_marking_is_tried_again_after_a_lack_of_descriptors(started: Marked) -> None:
    started.processor.rewatch(b"d")
    with no_more_descriptors():
        started.processor.process_next()
    assert not started.processor.is_source_lost
    assert started.rescanner.has_missed_events
    assert tree(b"d") in started.take()


def test_nothing_is_marked_again_in_a_source_that_is_gone(started: Marked) -> None:
    started.processor.rewatch(b"d")
    started.top.rename(started.top.with_name("away"))
    started.processor.process_next()
    assert started.processor.is_source_lost
    started.processor.take_changes()
    assert not started.processor.has_changes


def test_dropped_events_are_scanned_for(marked: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow_backoff, "_STORM_END_DELAY", 0.0)
    marked.start()
    marked.write("d/lost")
    while marked.group.read():
        pass
    assert not marked.processor.scan_if_due()
    assert marked.processor.due_at is None
    marked.rescanner.record_overflow()
    due_at = marked.processor.due_at
    assert due_at is not None
    assert due_at <= time.monotonic()
    assert marked.processor.scan_if_due()
    marked.take()
    assert marked.changes.includes_entry(b"d/lost")
    assert marked.changes.moves is None


def test_what_a_scan_has_found_keeps_its_hints_if_later_events_are_lost(
    marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overflow_backoff, "_STORM_END_DELAY", 0.0)
    marked.start()
    marked.write("d/found")
    while marked.group.read():
        pass
    marked.rescanner.record_overflow()
    assert marked.processor.scan_if_due()
    (marked.top / "d/e/new").mkdir()

    def fail(_mount: int, _handle: bytes) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(handle_paths, "open_handle", fail)
    marked.take()
    assert marked.rescanner.has_missed_events
    # The next scan looks only for what has changed since this one.
    assert marked.changes.includes_entry(b"d/found")
    assert marked.changes.new_content.includes_entry(b"d/found")


def test_the_periodic_scan_knows_what_events_have_reported(marked: Marked) -> None:
    marked.plan = RescanPlan(scan_budget=1.0)
    marked.start()
    reported = marked.rescanner.reported
    assert reported is not None
    marked.write("d/written")
    (marked.top / "d/f").chmod(0o600)
    (marked.top / "d/n").mkdir()
    marked.take()
    assert all(reported.has_reported(b"d", name, 0) for name in (b"written", b"f", b"n"))
    assert reported.has_reported_content(b"d", b"written", 0)
    assert not reported.has_reported_content(b"d", b"f", 0)
    assert not reported.has_reported(b"d", b"e", 0)


def test_events_are_counted(started: Marked) -> None:
    started.write("d/x")
    started.take()
    # Others may use the same file system.
    assert started.mask_counts[fanotify.CREATE] >= 1


def test_without_descriptors_the_source_is_not_lost(started: Marked) -> None:
    time.sleep(0.11)  # the age after which the marks are read again
    with no_more_descriptors():
        assert not started.processor.is_source_lost
