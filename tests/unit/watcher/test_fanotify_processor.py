"""What the changes are that real events of marked file systems become."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount
from support.operations import exchange_paths

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
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

    def start(self) -> None:
        self.source = MarkedSource(
            os.fsencode(self.top), self.group, self.rules, lambda: self.mounts
        )
        self.source.mark_mounts()
        self.rescanner = Rescanner(self.source, RescanPlan())
        self.processor = FanotifyProcessor(
            self.group, self.source, self.rescanner, self.rules, self.open_files
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

    def write(self, *names: str) -> None:
        for name in names:
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(name)


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    skip_without_fanotify(tmp_path)
    marked = Marked(tmp_path)
    for path in ("source/d/e", "outside/o"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "source/d/f").touch()
    yield marked
    marked.group.close()


@pytest.fixture
def started(marked: Marked) -> Marked:
    marked.start()
    return marked


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


def test_a_directory_that_became_a_file_is_no_tree(started: Marked) -> None:
    (started.top / "d/e").rmdir()
    started.write("d/e")
    assert started.take() == {entry(b"d/e")}


def test_what_is_excluded_is_no_change(marked: Marked) -> None:
    marked.rules = build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"/d/e/")])
    marked.start()
    marked.write("d/x.tmp", "d/e/x", "d/e/sub/x", "d/y")
    assert marked.take() == {entry(b"d/y")}


def test_a_file_that_is_not_closed_is_held_back_until_it_is_due(marked: Marked) -> None:
    marked.open_files = OpenFiles(1e6, 1e7)
    marked.start()
    with open(marked.top / "d/f", "r+b", buffering=0) as file:
        file.write(b"x")
        assert marked.take() == set()
        assert set(marked.processor.take_changes(includes_open_files=True)) == {entry(b"d/f")}
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


def test_a_path_that_is_too_long_is_a_change_of_a_directory_above(started: Marked) -> None:
    names, directory = ["n" * 200] * 25, os.open(started.top / "d", os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=directory)
        child = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = child
    started.take()
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    (change,) = started.take()
    assert change.scope is Scope.TREE
    assert change.path.startswith(b"d/nnn")
    assert started.hints == {change}


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
    assert marked.processor.is_source_lost, "the mark has gone with the mount"


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
        assert marked.processor.is_source_lost
    marked.group.close()


def test_a_mount_that_cannot_be_marked_is_polled(marked: Marked) -> None:
    marked.mounts = [b"missing"]
    marked.start()
    assert marked.source.mark_mounts() == [b"missing"]
