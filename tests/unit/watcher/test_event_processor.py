"""Events of real directories: the watch tree equals the disk, and no change is lost."""

import logging
import os
import random
import select
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.limits import no_more_descriptors
from support.operations import exchange_paths
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock, walk
from pylsyncd.watcher import event_processor, inotify, prefetched_events, watch_manager
from pylsyncd.watcher.event_processor import EventProcessor
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan
from pylsyncd.watcher.watch_manager import WatchManager


@pytest.fixture
def source(tmp_path: Path) -> bytes:
    path = tmp_path / "source"
    path.mkdir()
    return os.fsencode(path)


@pytest.fixture
def held_back() -> OpenFiles:
    """Open files that are never due."""
    return OpenFiles(1e6, 1e7)


@pytest.fixture
def holding(source: bytes, notify: Inotify, held_back: OpenFiles) -> WatchedSource:
    """Return a source whose open files are held back, with a directory and a rule."""
    os.mkdir(source + b"/d")
    rules = build_rules([parse_exclude(b"*.tmp")])
    return WatchedSource(source, notify, rules, open_files=held_back)


@pytest.fixture
def notify() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()


def process_all(watched: WatchedSource) -> set[Change]:
    """Process all events; return the changes."""
    changes: set[Change] = set()
    while watched.has_events:
        watched.process_events()
        changes.update(watched.processor.take_changes())
    return changes


def hints_of_all(watched: WatchedSource) -> set[Change]:
    """Process all events; return what has a new content."""
    hints: set[Change] = set()
    while watched.has_events:
        watched.process_events()
        hints.update(watched.processor.take_changes().new_content)
    return hints


def scan_when_due(watched: WatchedSource) -> set[Change]:
    """Return the changes that the next scan finds, and those of the events meanwhile."""
    wait_until(watched.processor.scan_if_due, 10.0, "no scan was due")
    return process_all(watched)


def overflow(source: bytes) -> None:
    """Overflow the event queue, and leave no files behind."""
    one, other = source + b"/one", source + b"/other"
    os.mkdir(one)
    # Two events each. The kernel merges only identical events in a row.
    for _ in range(inotify.read_limit("max_queued_events") // 2 + 2_000):
        os.rename(one, other)
        one, other = other, one
    os.rmdir(one)


def directories(source: bytes) -> set[bytes]:
    """Return the paths of all directories of the source, with its own."""
    return {path[len(source) + 1 :] for path, _, _ in os.walk(source)}


def kernel_watch_count(notify: Inotify) -> int:
    """Return the number of watches of the instance, from proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{notify.descriptor}").read_text().splitlines()
    return sum(line.startswith("inotify ") for line in lines)


def assert_every_directory_is_watched(source: bytes, watched: WatchedSource) -> None:
    """Create a file in each directory: its event must come, with the right path.

    No other directory may be watched or known.
    """
    expected = set()
    for directory in directories(source):
        path = os.path.join(directory, b"probe")
        Path(os.fsdecode(os.path.join(source, path))).touch()
        expected.add(Change(path, Scope.ENTRY))
    assert process_all(watched) == expected
    assert (len(watched.watches.tree), kernel_watch_count(watched.inotify)) == (
        len(expected),
        len(expected),
    )
    assert not watched.watches.unwatched


# -- single rules ---------------------------------------------------------------------------------


def test_the_initial_scan_watches_all_directories(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/b/\xff\n")
    os.makedirs(source + b"/c")
    watched = WatchedSource(source, notify)
    assert watched.paths == {b"", b"a", b"a/b", b"a/b/\xff\n", b"c"}
    assert_every_directory_is_watched(source, watched)


@pytest.mark.parametrize("place", [b"/a", b"/a/b"], ids=["the top", "below"])
def test_what_appears_before_the_watch_is_found_by_the_listing(
    source: bytes, notify: Inotify, place: bytes
) -> None:
    os.makedirs(source + b"-elsewhere/b")
    watched = WatchedSource(source, notify)
    watch = notify.add_watch

    def watch_late(directory: int) -> int:
        if os.readlink(b"/proc/self/fd/%d" % directory) == source + place:
            os.makedirs(source + place + b"/late", exist_ok=True)
        return watch(directory)

    notify.add_watch = watch_late  # type: ignore[method-assign]
    os.rename(source + b"-elsewhere", source + b"/a")
    assert process_all(watched) == {Change(b"a", Scope.TREE)}
    assert_every_directory_is_watched(source, watched)


def test_events_during_a_walk_are_processed_without_later_events(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    os.makedirs(source + b"/a/b")

    def touch(directories: int) -> None:
        Path(os.fsdecode(source + b"/%d" % directories)).touch()

    watched = WatchedSource(source, notify, on_progress=touch)
    assert not notify.pending_bytes(), "events are left in the queue"
    assert watched.processor.has_changes
    assert {Change(b"2", Scope.ENTRY), Change(b"3", Scope.ENTRY)} <= process_all(watched)


def test_events_during_a_walk_take_memory_for_their_names_alone(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    monkeypatch.setattr(prefetched_events, "_MAX_UNFOLDED_CHUNKS", 1)
    for number in range(12):
        os.mkdir(source + b"/%d" % number)
    names = [source + b"/one", source + b"/two"]
    # Two, since the kernel unites equal events.
    opened = [os.open(name, os.O_CREAT | os.O_WRONLY) for name in names]

    def write(_directories: int) -> None:
        for _ in range(1500):
            for each in opened:
                os.write(each, b"x")

    tracemalloc.start()
    try:
        watched = WatchedSource(source, notify, on_progress=write)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for each in opened:
        os.close(each)
    size = 12 * 2 * 1500 * 2 * inotify.EVENT_HEADER.size
    assert peak < size // 2, "of all events together"
    assert watched.rescanner.overflow_count == 0
    assert process_all(watched) == {Change(b"one", Scope.ENTRY), Change(b"two", Scope.ENTRY)}


@pytest.mark.parametrize("prefix", [b"file", b"moved"])
def test_more_events_during_a_walk_than_there_is_room_for_stay_in_the_queue(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch, prefix: bytes
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    monkeypatch.setattr(prefetched_events, "_MAX_UNFOLDED_CHUNKS", 0)
    monkeypatch.setattr(prefetched_events, "_MAX_CHUNKS", 1)
    monkeypatch.setattr(event_processor, "_MAX_FOLDED_NAMES", 1000)
    for number in range(12):
        os.mkdir(source + b"/%d" % number)
    files: set[bytes] = set()

    def make(directories: int) -> None:
        for number in range(400):
            name = b"%d-%d" % (directories, number)
            os.mknod(source + b"/file" + name)
            os.rename(source + b"/file" + name, source + b"/" + prefix + name)
            files.add(prefix + name)

    watched = WatchedSource(source, notify, on_progress=make)
    assert notify.pending_bytes() > 0
    assert watched.rescanner.overflow_count == 0
    changed = {change.path for change in process_all(watched)}
    assert watched.rescanner.overflow_count or files <= changed


def test_after_a_walk_what_was_moved_is_unknown_if_later_events_came_first(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    monkeypatch.setattr(prefetched_events, "_MAX_UNFOLDED_CHUNKS", 0)
    os.mkdir(source + b"/d")
    old, new = Path(os.fsdecode(source + b"/old")), Path(os.fsdecode(source + b"/new"))
    old.write_bytes(b"1")

    def move(_directories: int) -> None:
        if not new.exists():
            old.rename(new)
            old.write_bytes(b"2")

    watched = WatchedSource(source, notify, on_progress=move)
    changes = watched.processor.take_changes()
    # The events of the move wait, and the file that has the name now is known.
    assert set(changes) == {Change(b"old", Scope.ENTRY)}
    assert changes.moves is None
    watched.process_events()
    changes = watched.processor.take_changes()
    assert set(changes) == {Change(b"old", Scope.ENTRY), Change(b"new", Scope.ENTRY)}
    assert changes.moves is None
    new.rename(old)
    watched.process_events()
    assert watched.processor.take_changes().moves is not None


def test_a_new_tree_is_one_change_and_is_watched_completely(source: bytes, notify: Inotify) -> None:
    watched = WatchedSource(source, notify)
    os.makedirs(source + b"/a/b/c")
    Path(os.fsdecode(source + b"/a/b/c/f")).write_bytes(b"x")
    assert process_all(watched) == {Change(b"a", Scope.TREE)}
    assert_every_directory_is_watched(source, watched)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(lambda top: (top / "d/new").touch(), {b"d/new"}, id="create"),
        pytest.param(lambda top: (top / "d/f").write_bytes(b"other"), {b"d/f"}, id="write"),
        pytest.param(lambda top: (top / "d/f").rename(top / "d/g"), {b"d/g"}, id="move"),
        pytest.param(
            lambda top: (top.parent / "outside").rename(top / "d/f"), {b"d/f"}, id="move in"
        ),
        pytest.param(lambda top: os.link(top / "d/f", top / "d/h"), {b"d/h"}, id="link"),
        pytest.param(lambda top: (top / "d/f").chmod(0o600), set(), id="mode"),
        pytest.param(lambda top: os.utime(top / "d/f", ns=(1, 1)), set(), id="time"),
        pytest.param(lambda top: (top / "d/f").open("rb+").close(), set(), id="open and close"),
        pytest.param(lambda top: (top / "d/f").unlink(), set(), id="delete"),
        pytest.param(lambda top: (top / "d/f").rename(top.parent / "x"), set(), id="move out"),
        pytest.param(lambda top: (top / "d").chmod(0o700), set(), id="mode of a directory"),
    ],
)
def test_what_was_written_or_moved_here_has_a_new_content(
    source: bytes, notify: Inotify, operation: Callable[[Path], object], expected: set[bytes]
) -> None:
    top = Path(os.fsdecode(source))
    (top / "d").mkdir()
    (top / "d/f").write_bytes(b"first")
    (top.parent / "outside").write_bytes(b"outside")
    watched = WatchedSource(source, notify)
    operation(top)
    assert hints_of_all(watched) == {Change(path, Scope.ENTRY) for path in expected}


def test_an_mtime_that_is_set_alone_is_a_change_of_a_directory_and_loses_no_source(
    source: bytes, notify: Inotify
) -> None:
    os.mkdir(source + b"/d")
    watched = WatchedSource(source, notify)
    for directory in (source, source + b"/d"):
        subprocess.run(["touch", "-m", "-d", "@1", directory], check=True)  # noqa: S607
    assert process_all(watched) == {Change(b"", Scope.ENTRY), Change(b"d", Scope.ENTRY)}
    assert not watched.processor.is_source_lost


def test_a_directory_that_appears_has_a_new_content_whatever_it_was(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/known/sub")
    watched = WatchedSource(source, notify)
    os.makedirs(source + b"/../outside/sub")
    os.rename(source + b"/../outside", source + b"/moved-in")
    os.rename(source + b"/known", source + b"/moved")
    os.mkdir(source + b"/created")
    new = {Change(path, Scope.TREE) for path in (b"moved-in", b"moved", b"created")}
    assert hints_of_all(watched) == new


def test_a_file_system_that_is_mounted_has_no_new_content(source: bytes, notify: Inotify) -> None:
    os.mkdir(source + b"/mount")
    watched = WatchedSource(source, notify)
    watched.processor.rewatch(b"mount")
    changes = watched.processor.take_changes()
    assert set(changes) == {Change(b"mount", Scope.TREE)}
    assert not changes.new_content


def test_a_renamed_directory_keeps_its_watches(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/b/c")
    watched = WatchedSource(source, notify)
    os.rename(source + b"/a", source + b"/z")
    assert process_all(watched) == {Change(b"a", Scope.ENTRY), Change(b"z", Scope.TREE)}
    assert watched.paths == {b"", b"z", b"z/b", b"z/b/c"}
    assert_every_directory_is_watched(source, watched)


def test_a_directory_moved_out_loses_its_watches(
    source: bytes, notify: Inotify, tmp_path: Path
) -> None:
    os.makedirs(source + b"/a/b")
    watched = WatchedSource(source, notify)
    os.rename(source + b"/a", os.fsencode(tmp_path / "outside"))
    assert process_all(watched) == {Change(b"a", Scope.ENTRY)}
    assert watched.paths == {b""}
    (tmp_path / "outside/b/f").touch()
    assert process_all(watched) == set()


def test_a_removed_directory_is_a_change_of_its_entry(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/b")
    watched = WatchedSource(source, notify, build_rules([parse_exclude(b"cache/")]))
    os.rmdir(source + b"/a/b")
    assert process_all(watched) == {Change(b"a/b", Scope.ENTRY)}
    assert watched.paths == {b"", b"a"}
    os.mkdir(source + b"/cache")
    os.rmdir(source + b"/cache")
    assert process_all(watched) == set()


def test_a_directory_moved_in_is_watched_with_all_below_it(
    source: bytes, notify: Inotify, tmp_path: Path
) -> None:
    watched = WatchedSource(source, notify)
    (tmp_path / "outside/b/c").mkdir(parents=True)
    os.rename(tmp_path / "outside", source + b"/a")
    assert process_all(watched) == {Change(b"a", Scope.TREE)}
    assert_every_directory_is_watched(source, watched)


def test_a_child_created_before_its_parents_were_renamed_is_found(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/a/b")
    watched = WatchedSource(source, notify)
    os.mkdir(source + b"/a/b/new")
    os.rename(source + b"/a/b", source + b"/b")
    os.rename(source + b"/b", source + b"/a/c")
    os.rename(source + b"/a", source + b"/z")
    changes = process_all(watched)
    assert watched.paths == {b"", b"z", b"z/c", b"z/c/new"}
    assert Change(b"z", Scope.TREE) in changes
    assert_every_directory_is_watched(source, watched)


def test_two_directories_that_swap_names_are_distinguished(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/only-in-a")
    os.makedirs(source + b"/b/only-in-b")
    watched = WatchedSource(source, notify)
    os.rename(source + b"/a", source + b"/t")
    os.rename(source + b"/b", source + b"/a")
    os.rename(source + b"/t", source + b"/b")
    process_all(watched)
    assert watched.paths == {b"", b"a", b"a/only-in-b", b"b", b"b/only-in-a"}
    assert_every_directory_is_watched(source, watched)


def test_directories_exchanged_in_one_call_are_distinguished(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/a/only-in-a")
    os.makedirs(source + b"/d/b/only-in-b")
    watched = WatchedSource(source, notify)
    exchange_paths(source + b"/a", source + b"/d/b")
    changes = process_all(watched)
    assert {Change(b"a", Scope.TREE), Change(b"d/b", Scope.TREE)} <= changes
    assert watched.paths == {b"", b"a", b"a/only-in-b", b"d", b"d/b", b"d/b/only-in-a"}
    assert_every_directory_is_watched(source, watched)


@pytest.mark.parametrize("other", [b"d", b"d/b"], ids=["the same parent", "another parent"])
def test_directories_are_distinguished_wherever_the_events_of_an_exchange_are_cut(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    os.makedirs(source + b"/a/x")
    os.makedirs(source + b"/" + other + b"/y")
    watched = WatchedSource(source, notify)
    exchange_paths(source + b"/a", source + b"/" + other)
    os.mkdir(source + b"/new")
    exchange_paths(source + b"/new", source + b"/a")
    events = _single_events(notify.read())
    monkeypatch.setattr(notify, "read", lambda: events.pop(0) if events else b"")
    while events:
        watched.process_events()
    monkeypatch.undo()
    assert watched.paths == directories(source)
    process_all(watched)
    assert_every_directory_is_watched(source, watched)


def test_a_directory_that_was_exchanged_and_moved_out_loses_its_watches(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/a/b")
    os.makedirs(source + b"/c/d/e")
    watched = WatchedSource(source, notify)
    exchange_paths(source + b"/a", source + b"/c/d")
    os.rename(source + b"/c", source + b"-c")
    os.rename(source + b"/a", source + b"-a")
    process_all(watched)
    assert_every_directory_is_watched(source, watched)


def test_a_directory_that_leaves_before_it_is_watched_loses_its_watch(
    source: bytes, notify: Inotify
) -> None:
    watched = WatchedSource(source, notify)
    add_watch = notify.add_watch

    def move_out(directory: int) -> int:
        if os.readlink(b"/proc/self/fd/%d" % directory) == source + b"/new":
            os.rename(source + b"/new", source + b"-new")
        return add_watch(directory)

    notify.add_watch = move_out  # type: ignore[method-assign]
    os.makedirs(source + b"/new/below")
    process_all(watched)
    # The event that follows might have been on its way.
    watched.process_events()
    assert_every_directory_is_watched(source, watched)


def _single_events(chunk: bytes) -> list[bytes]:
    """Return the events of a chunk, each after an empty chunk."""
    events: list[bytes] = []
    while chunk:
        size = inotify.EVENT_HEADER.size + inotify.EVENT_HEADER.unpack_from(chunk)[3]
        events += [b"", chunk[:size]]
        chunk = chunk[size:]
    return events


def test_a_directory_that_was_moved_is_looked_for_at_its_new_name_alone(
    source: bytes, notify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(source + b"/a/b")
    os.makedirs(source + b"/c")
    watched = WatchedSource(source, notify)
    names: list[bytes] = []
    add_watch_at = notify.add_watch_at

    def watch_at(directory: int, name: bytes) -> int:
        names.append(name)
        return add_watch_at(directory, name)

    monkeypatch.setattr(notify, "add_watch_at", watch_at)
    os.rename(source + b"/a", source + b"/c/moved")
    os.rename(source + b"/c/moved/b", source + b"/b")
    with monkeypatch.context() as patch:
        patch.setattr(walk, "open_child", None)
        watched.process_events()
    assert names == [b"moved", b"b"]
    assert watched.paths == {b"", b"b", b"c", b"c/moved"}


def test_a_parent_moved_below_its_child_has_its_new_path(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/p/c/deep")
    watched = WatchedSource(source, notify)
    os.rename(source + b"/p/c", source + b"/c")
    os.rename(source + b"/p", source + b"/c/p")
    process_all(watched)
    assert watched.paths == {b"", b"c", b"c/deep", b"c/p"}
    assert_every_directory_is_watched(source, watched)


def test_a_symlink_in_a_directorys_place_is_not_followed(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/b")
    os.makedirs(source + b"/target/b")
    watched = WatchedSource(source, notify)
    os.mkdir(source + b"/a/b/new")
    os.rename(source + b"/a", source + b"/z")
    os.symlink(b"target", source + b"/a")
    process_all(watched)
    assert watched.paths == {b"", b"z", b"z/b", b"z/b/new", b"target", b"target/b"}


def test_the_target_of_a_symlink_outside_the_source_is_not_watched(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/a/b")
    os.makedirs(source + b"-elsewhere/b/new")
    watched = WatchedSource(source, notify)
    os.mkdir(source + b"/a/b/new")
    os.rename(source + b"/a", source + b"/z")
    os.symlink(source + b"-elsewhere", source + b"/a")
    process_all(watched)
    assert watched.paths == {b"", b"z", b"z/b", b"z/b/new"}
    assert_every_directory_is_watched(source, watched)


def test_an_excluded_directory_is_neither_watched_nor_reported(
    source: bytes, notify: Inotify
) -> None:
    rules = build_rules([parse_exclude(b"cache/"), parse_exclude(b"*.tmp")])
    os.makedirs(source + b"/a/cache/b")
    watched = WatchedSource(source, notify, rules)
    os.makedirs(source + b"/cache/deep")
    for name in (b"/a/f.tmp", b"/a/cache/f", b"/a/f"):
        Path(os.fsdecode(source + name)).touch()
    os.removedirs(source + b"/cache/deep")
    assert process_all(watched) == {Change(b"a/f", Scope.ENTRY)}
    assert watched.paths == {b"", b"a"}


def test_a_rename_includes_what_an_anchored_rule_excluded(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/a/skip/deep")
    watched = WatchedSource(source, notify, build_rules([parse_exclude(b"/a/skip")]))
    assert watched.paths == {b"", b"a"}
    os.rename(source + b"/a", source + b"/b")
    process_all(watched)
    assert watched.paths == {b"", b"b", b"b/skip", b"b/skip/deep"}


def test_a_source_that_is_moved_away_is_lost(source: bytes, notify: Inotify) -> None:
    watched = WatchedSource(source, notify)
    os.rename(source, source + b"-moved")
    process_all(watched)
    assert watched.processor.is_source_lost


def test_a_source_replaced_during_an_overflow_is_lost(source: bytes, notify: Inotify) -> None:
    os.mkdir(source + b"/a")
    watched = WatchedSource(source, notify)
    overflow(source + b"/a")
    os.rename(source, source + b"-old")
    os.makedirs(source + b"/other")
    process_all(watched)
    scan_when_due(watched)
    assert watched.processor.is_source_lost
    assert b"other" not in watched.paths


def test_events_are_counted_by_their_masks_if_wanted(source: bytes, notify: Inotify) -> None:
    counts: Counter[int] = Counter()
    watches = WatchManager(source, notify, Rules())
    rescanner = Rescanner(watches, RescanPlan())
    rescanner.initial_scan()
    processor = EventProcessor(watches, rescanner, Rules(), OpenFiles(0.0, 0.0), counts)
    os.mkdir(source + b"/d")
    Path(os.fsdecode(source + b"/f")).touch()
    assert processor.process_next()
    assert counts[inotify.CREATE] == 1
    assert counts[inotify.CREATE | inotify.IS_DIRECTORY] == 1
    assert set(processor.take_changes()) == {Change(b"d", Scope.TREE), Change(b"f", Scope.ENTRY)}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda top: (top / "new").touch(), id="create"),
        pytest.param(lambda top: (top / "f").chmod(0o600), id="mode"),
        pytest.param(lambda top: os.truncate(top / "f", 0), id="modify"),
        pytest.param(lambda top: (top / "d").mkdir(), id="create a directory"),
    ],
)
def test_until_its_change_is_taken_an_event_holds_back_the_moment_of_completeness(
    source: bytes, notify: Inotify, operation: Callable[[Path], object]
) -> None:
    top = Path(os.fsdecode(source))
    (top / "f").write_bytes(b"first")
    watched = WatchedSource(source, notify)
    assert not watched.processor.has_changes
    operation(top)
    watched.process_events()
    assert watched.processor.has_changes
    changed = clock.now()
    watched.rescanner.record_empty_queue(clock.now())
    assert watched.processor.update_complete_until().running < changed.running
    assert watched.processor.take_changes(includes_open_files=True)
    assert not watched.processor.has_changes
    assert watched.processor.update_complete_until().running >= changed.running


def test_a_name_that_looks_like_an_event_is_none(source: bytes, notify: Inotify) -> None:
    watched = WatchedSource(source, notify)
    # In the place of a header, this is an overflow.
    names = [b"a" * length for length in (1, 12, 16, 40, 200)]
    for name in names:
        Path(os.fsdecode(source + b"/" + name)).touch()
    assert process_all(watched) == {Change(name, Scope.ENTRY) for name in names}
    assert watched.rescanner.overflow_count == 0


def test_a_directory_is_found_that_appears_below_one_that_was_waited_for(
    source: bytes, notify: Inotify
) -> None:
    for name in (b"/a", b"/b"):
        os.mkdir(source + name)
    watched = WatchedSource(source, notify)
    for number in range(20):
        os.mkdir(source + b"/b/%d" % number)
    os.mkdir(source + b"/a/new")
    os.rename(source + b"/b", source + b"/a/new/b")
    os.rename(source + b"/a", source + b"/z")
    watched.process_events()
    watched.processor.take_changes()
    # No other event is needed.
    assert watched.paths == directories(source)


def test_a_directory_that_stays_where_it_was_is_watched_again_only_if_it_was_replaced(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/d/sub")
    watched = WatchedSource(source, notify)
    watched.processor.rewatch(b"d", only_if_replaced=True)
    watched.processor.rewatch(b"gone/d")
    assert not watched.processor.has_changes
    os.rename(source + b"/d", source + b"/../was")
    os.mkdir(source + b"/d")
    watched.processor.rewatch(b"d", only_if_replaced=True)
    assert set(watched.processor.take_changes()) == {Change(b"d", Scope.TREE)}


def test_events_are_logged_with_their_paths_for_debugging(
    source: bytes, notify: Inotify, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkdir(source + b"/d")
    watched = WatchedSource(source, notify)
    for level, expected in ((logging.INFO, []), (logging.DEBUG, ["event CREATE d/f"])):
        caplog.set_level(level)
        Path(os.fsdecode(source + b"/d/f")).touch()
        os.rename(source + b"/d/f", source + b"/d/g")
        process_all(watched)
        assert [line for line in caplog.messages if "CREATE d/f" in line] == expected
        os.unlink(source + b"/d/g")
        process_all(watched)
    os.rename(source + b"/d", source + b"/../outside")
    for _ in range(2):
        process_all(watched)
    # The kernel tells that its watch was removed.
    assert "event IGNORED ?" in caplog.messages


# -- random operations ----------------------------------------------------------------------------


def random_operation(chance: random.Random, source: bytes, outside: bytes) -> None:
    """Run one random operation on the directories below the source, ignoring errors."""
    every = sorted(directories(source))

    def place(*, below: bool = False) -> bytes:
        return os.path.join(source, chance.choice(every[below:] or [b"none"]))

    new = os.path.join(place(), chance.choice([b"a", b"b", b"c", b"\xff"]))
    kind = chance.random()
    with suppress(OSError):
        if kind < 0.35:
            os.makedirs(os.path.join(new, *chance.choices([b"a", b"b", b"x"], k=2)))
        elif kind < 0.65:
            os.rename(place(below=True), new)
        elif kind < 0.75:
            exchange_paths(place(below=True), place(below=True))
        elif kind < 0.85:
            os.rename(place(below=True), os.path.join(outside, b"%d" % chance.randrange(5)))
        elif kind < 0.95:
            os.rename(os.path.join(outside, b"%d" % chance.randrange(5)), new)
        else:
            os.rmdir(place(below=True))


@pytest.mark.parametrize("seed", range(10))
def test_after_random_operations_the_tree_equals_the_disk(
    seed: int, source: bytes, notify: Inotify, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    outside = os.fsencode(tmp_path / "outside")
    os.mkdir(outside)
    watched = WatchedSource(source, notify)
    for _ in range(30):
        # The disk is ahead of the events by these operations.
        for _ in range(chance.randrange(1, 12)):
            random_operation(chance, source, outside)
        process_all(watched)
        assert watched.paths == directories(source)
    assert_every_directory_is_watched(source, watched)


@pytest.mark.parametrize("seed", range(4))
def test_after_concurrent_random_operations_the_tree_equals_the_disk(
    seed: int, source: bytes, notify: Inotify, tmp_path: Path
) -> None:
    outside = os.fsencode(tmp_path / "outside")
    os.mkdir(outside)
    watched = WatchedSource(source, notify)

    def work(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        for _ in range(150):
            random_operation(chance, source, outside)

    writers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        # Leave time for the writers.
        select.select([notify.descriptor], [], [], 0.01)
        process_all(watched)
    for writer in writers:
        writer.join()
    process_all(watched)
    assert watched.paths == directories(source)
    assert_every_directory_is_watched(source, watched)


def test_a_scan_finds_dropped_changes_and_repairs_the_tree(source: bytes, notify: Inotify) -> None:
    os.makedirs(source + b"/keep/old")
    os.makedirs(source + b"/leaves/deep")
    watched = WatchedSource(source, notify)
    overflow(source)
    os.rename(source + b"/keep/old", source + b"/keep/new")
    os.rename(source + b"/leaves", source + b"-elsewhere")
    os.makedirs(source + b"/late/and/deep")
    process_all(watched)
    found = scan_when_due(watched)
    assert {Change(b"keep", Scope.LISTING), Change(b"keep/new", Scope.TREE)} <= found
    assert Change(b"late", Scope.TREE) in found
    assert Change(b"", Scope.TREE) not in found
    assert watched.paths == directories(source)
    assert_every_directory_is_watched(source, watched)


def test_several_overflows_in_a_row_need_one_scan(source: bytes, notify: Inotify) -> None:
    watched = WatchedSource(source, notify)
    for _ in range(3):
        overflow(source)
        process_all(watched)
    assert scan_when_due(watched)
    assert watched.rescanner.due_at is None


def test_directories_waiting_for_their_parent_are_not_retried_for_each_other(
    source: bytes, notify: Inotify
) -> None:
    os.makedirs(source + b"/moved")
    os.makedirs(source + b"/stays")
    watched = WatchedSource(source, notify)
    for number in range(300):
        # The first waits for the event that tells where its parent is; the second does not.
        os.mkdir(source + b"/moved/%d" % number)
        os.mkdir(source + b"/stays/%d" % number)
    os.rename(source + b"/moved", source + b"/elsewhere")
    with opened_directories() as count:
        process_all(watched)
    assert watched.paths == directories(source)
    assert count() < 10 * 600


@contextmanager
def opened_directories() -> Iterator[Callable[[], int]]:
    """Count the files and directories that are opened in the context."""
    opened = 0
    is_counting = True

    def count(event: str, _arguments: object) -> None:
        nonlocal opened
        opened += is_counting and event == "open"

    # A hook cannot be removed.
    sys.addaudithook(count)
    yield lambda: opened
    is_counting = False


def test_events_during_a_scan_without_changes_can_be_taken(source: bytes, notify: Inotify) -> None:
    # So many that a walk reads the event queue in between.
    for number in range(300):
        os.makedirs(source + b"/many/%d" % number)
    now = clock.now()
    # No ctime is as late as this, so the scan finds nothing.
    future = replace(now, wall=now.wall + 1_000.0, running=now.running + 1_000.0)
    is_started = False

    def touch(_: int) -> None:
        if is_started:
            Path(os.fsdecode(source + b"/new")).touch()

    plan = RescanPlan(scan_interval=0.01, last_scan=future)
    watched = WatchedSource(source, notify, plan=plan, on_progress=touch)
    is_started = True
    wait_until(watched.processor.scan_if_due, 10.0, "no scan was due")
    assert not notify.pending_bytes()
    assert watched.processor.has_changes
    assert process_all(watched) == {Change(b"new", Scope.ENTRY)}


def test_a_directory_is_retried_after_a_lack_of_descriptors(source: bytes, notify: Inotify) -> None:
    watched = WatchedSource(source, notify, plan=RescanPlan(poll_interval=0.05))
    os.mkdir(source + b"/new")
    Path(os.fsdecode(source + b"/new/file")).touch()
    with no_more_descriptors():
        process_all(watched)
    scan_when_due(watched)
    assert_every_directory_is_watched(source, watched)


def append(path: bytes) -> None:
    """Append to a file, which is not closed before the next event is processed."""
    with open(path, "ab", 0) as file:
        file.write(b"x")


def open_paths(watched: WatchedSource) -> set[bytes]:
    """Process all events; return the paths of the open files that are included if asked for."""
    process_all(watched)
    changes = watched.processor.take_changes(includes_open_files=True)
    assert set(changes.new_content) == set(changes)
    return {change.path for change in changes}


def test_a_file_that_was_modified_and_closed_is_not_held_back(
    source: bytes, holding: WatchedSource, held_back: OpenFiles
) -> None:
    with open(source + b"/d/f", "ab", 0) as file:
        file.write(b"x")
        assert process_all(holding) == {Change(b"d/f", Scope.ENTRY)}
        assert len(held_back) == 1
        file.write(b"y")
    assert process_all(holding) == {Change(b"d/f", Scope.ENTRY)}
    assert len(held_back) == 0
    append(source + b"/d/f")
    assert process_all(holding) == {Change(b"d/f", Scope.ENTRY)}
    assert len(held_back) == 0


def test_a_file_that_is_modified_after_another_writer_has_closed_it_is_held_back(
    source: bytes, holding: WatchedSource
) -> None:
    with open(source + b"/d/f", "ab", 0) as file:
        append(source + b"/d/f")
        file.write(b"x")
        assert open_paths(holding) == {b"d/f"}


def test_attributes_of_a_file_do_not_tell_that_its_neighbour_was_modified(
    source: bytes, holding: WatchedSource
) -> None:
    Path(os.fsdecode(source + b"/d/f")).touch()
    with open(source + b"/d/g", "ab", 0) as file:
        hints_of_all(holding)
        file.write(b"x")
        os.chmod(source + b"/d/f", 0o600)
        assert hints_of_all(holding) == set()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(32, [1, 2, 3], id="at each event"),
        pytest.param(33, [0, 2, 2], id="at each second event"),
        pytest.param(64, [0, 2, 2], id="at two events exactly"),
        pytest.param(65, [0, 0, 3], id="at each third event"),
    ],
)
def test_modifications_are_recorded_early_when_they_are_many(
    source: bytes, holding: WatchedSource, held_back: OpenFiles,
    monkeypatch: pytest.MonkeyPatch, limit: int, expected: list[int],
) -> None:  # fmt: skip
    monkeypatch.setattr(event_processor, "_MAX_UNRECORDED_BYTES", limit)
    with ExitStack() as opened:
        files = [opened.enter_context(open(source + b"/d/%d" % n, "ab", 0)) for n in range(3)]
        process_all(holding)
        counts = []
        for file in files:
            file.write(b"x")
            # An event of a short name has 32 bytes.
            holding.process_events()
            counts.append(len(held_back))
        assert counts == expected


@pytest.mark.parametrize("end", [os.unlink, lambda path: os.rename(path, path + b"2")])
def test_a_name_that_is_gone_is_not_held_back(
    source: bytes, holding: WatchedSource, held_back: OpenFiles, end: Callable[[bytes], None]
) -> None:
    with open(source + b"/d/f", "ab", 0) as file:
        file.write(b"x")
        process_all(holding)
        end(source + b"/d/f")
        process_all(holding)
        assert len(held_back) == 0


def test_an_excluded_file_is_not_held_back(
    source: bytes, holding: WatchedSource, held_back: OpenFiles
) -> None:
    with open(source + b"/d/f.tmp", "ab", 0) as file:
        file.write(b"x")
        process_all(holding)
        assert len(held_back) == 0


def test_a_truncation_by_path_is_held_back(source: bytes, holding: WatchedSource) -> None:
    append(source + b"/d/f")
    process_all(holding)
    os.truncate(source + b"/d/f", 0)
    assert open_paths(holding) == {b"d/f"}


def test_an_open_file_is_found_under_the_new_name_of_its_directory(
    source: bytes, holding: WatchedSource
) -> None:
    with open(source + b"/d/f", "ab", 0) as file:
        file.write(b"x")
        process_all(holding)
        os.rename(source + b"/d", source + b"/e")
        assert b"e/f" in open_paths(holding)


def test_an_open_file_in_a_directory_that_has_left_is_not_held_back(
    source: bytes, holding: WatchedSource, held_back: OpenFiles
) -> None:
    with open(source + b"/d/f", "ab", 0) as file:
        file.write(b"x")
        process_all(holding)
        os.rename(source + b"/d", source + b"/../outside")
        assert open_paths(holding) == set()
        assert len(held_back) == 0


@pytest.mark.parametrize("is_held_back", [False, True])
def test_a_file_that_was_modified_has_new_content_when_its_attributes_change(
    source: bytes, holding: WatchedSource, *, is_held_back: bool
) -> None:
    path = source + b"/d/f"
    with open(path, "wb", 0) as file:
        hints_of_all(holding)
        file.write(b"x")
        if is_held_back:
            assert hints_of_all(holding) == set()
        os.utime(path, ns=(0, 0))
        assert hints_of_all(holding) == {Change(b"d/f", Scope.ENTRY)}
