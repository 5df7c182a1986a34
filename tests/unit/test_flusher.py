"""When a window ends, and what is queued then: real events and queues, but no workers."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.held_up import held_up
from support.waiting import DEADLINE, wait_until

from pylsyncd.config.settings import DestinationSettings, SyncSettings, WatchMethod
from pylsyncd.flusher import Flusher
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync.command import DeletionTime, RsyncOptions
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.patterns import FilterRule
from pylsyncd.system import clock
from pylsyncd.system.threads import StoppedError, ThreadMonitor
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.watcher.source_monitor import SourceMonitor
from pylsyncd.watcher.watch_session import MonitorContext, WatchSession
from pylsyncd.watcher.watcher import Watcher

MAX_CHANGES = 5
WINDOW = 3600.0


def fail(name: str) -> None:
    raise AssertionError(f"{name} failed")


class NamedQueue(WorkQueue):
    """What the flusher needs of a worker: a name and a queue."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def take(self) -> WorkItem | None:
        return None if self.empty() else self.get_nowait()


class InterruptibleBuffer(Buffer):
    """A buffer that calls a function right after its changes were taken."""

    after_take: Callable[[], None] = staticmethod(lambda: None)

    def take(self) -> MutableChangeset:
        taken = super().take()
        self.after_take()
        return taken


class Pipeline:
    """A flusher with a real source monitor, buffer and queues."""

    def __init__(self, source: Path, guard: SourceGuard) -> None:
        self.source = source
        self.sync = SyncSettings(
            Source(os.fsencode(source), b"", is_full_path=False), (), window=WINDOW
        )
        self.queues = [NamedQueue("one"), NamedQueue("other")]
        self.buffer = InterruptibleBuffer(MAX_CHANGES, lambda: None, lambda: None)
        self.monitor = SourceMonitor(
            self.sync, guard, self.buffer, MonitorContext(ThreadMonitor(fail), lambda: None, fail)
        )
        self.progress_calls: list[None] = []
        self.must_stop = False
        self.flusher = Flusher(
            self.sync, self.buffer, self.monitor, lambda: self.queues, self._on_progress
        )
        self.flusher.start(clock.now())

    def _on_progress(self) -> None:
        self.progress_calls.append(None)
        if self.must_stop:
            raise StoppedError

    def start_session(self) -> WatchSession:
        self.monitor.start_watching()
        assert self.monitor.session is not None
        return self.monitor.session

    @property
    def watcher(self) -> Watcher:
        assert self.monitor.session is not None
        return self.monitor.session.watcher

    def write(self, *names: str) -> None:
        for name in names:
            (self.source / name).write_text(str(time.monotonic_ns()))

    def link(self, first: str, *others: str) -> None:
        self.write(first)
        for other in others:
            os.link(self.source / first, self.source / other)

    def open_window(self) -> None:
        """Open the window, as the replication does after the first change."""
        assert self.watcher.drain(DEADLINE)
        self.flusher.open_window()

    def queued(self) -> WorkItem | None:
        """Return the work item that was put into all queues since the last call."""
        first, *others = [queue.take() for queue in self.queues]
        assert all(other == first or (first and other) for other in others)
        return first

    def flushed_paths(self) -> set[bytes]:
        """Return what is queued until all names of hard-linked files are known."""
        found: set[bytes] = set()

        def flush() -> bool:
            flush = self.flusher.flush()
            item = self.queued()
            found.update(change.path for change in (item.changeset if item else ()))
            return flush.is_complete

        wait_until(flush)
        return found


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    source = tmp_path / "source"
    source.mkdir()
    with closing(SourceGuard(os.fsencode(source), Rules())) as guard:
        guard.accept()
        pipeline = Pipeline(source, guard)
        yield pipeline
        pipeline.monitor.stop_watching()


def test_a_flush_queues_all_changes_made_before_it(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching([1 << 62])
    for serial in range(1, 20):
        began = time.monotonic()
        pipeline.write(str(serial))
        assert pipeline.flusher.flush().serial == serial
        item = pipeline.queued()
        assert item is not None
        assert set(item.changeset) == {Change(b"%d" % serial, Scope.ENTRY)}
        assert (item.serial, item.titles, item.is_urgent) == (serial, (), False)
        assert item.since is not None
        assert began <= item.since <= time.monotonic()


def test_without_changes_only_an_urgent_flush_queues_an_item(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    assert pipeline.flusher.flush().serial == 0
    assert pipeline.queued() is None
    assert pipeline.flusher.flush(is_urgent=True).serial == 1
    item = pipeline.queued()
    assert item is not None
    assert (item.changeset.is_everything, bool(item.changeset), item.is_urgent) == (
        False, False, True
    )  # fmt: skip
    assert item.since is None


def test_an_urgent_flush_includes_files_that_stay_open(pipeline: Pipeline) -> None:
    pipeline.start_session()
    with (pipeline.source / "log").open("wb", 0) as log:
        assert pipeline.flushed_paths() == {b"log"}
        log.write(b"x")
        assert pipeline.flushed_paths() == set()
        pipeline.flusher.flush(is_urgent=True)
        item = pipeline.queued()
        assert item is not None
        assert {change.path for change in item.changeset} == {b"log"}
        log.write(b"x")
        pipeline.flusher.flush(includes_open_files=True)
        assert pipeline.queued() is not None


def test_an_item_covers_no_later_changes_than_a_file_that_stays_open(pipeline: Pipeline) -> None:
    pipeline.start_session()
    with (pipeline.source / "log").open("wb", 0) as log:
        assert pipeline.flushed_paths() == {b"log"}
        log.write(b"x")
        written = clock.now().running
        pipeline.write("other")
        pipeline.flusher.flush()
        item = pipeline.queued()
        assert item is not None
        assert item.complete_until is not None
        assert item.complete_until.running < written


def test_an_item_does_not_cover_changes_made_after_the_buffer_was_taken(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching([1 << 62])
    pipeline.write("before")
    moments = []

    def change() -> None:
        moments.append(clock.now().running)
        pipeline.write("late")
        wait_until(lambda: pipeline.watcher.complete_until.running > moments[0])

    pipeline.buffer.after_take = change
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    assert item.complete_until is not None
    assert item.complete_until.running < moments[0]
    pipeline.buffer.after_take = lambda: None
    assert pipeline.flushed_paths() == {b"late"}


def test_an_item_covers_no_later_changes_than_the_watcher_does(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    pipeline.write("f")
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    assert item.complete_until == pipeline.flusher.complete_until
    assert item.complete_until is not None
    assert item.complete_until.running <= pipeline.watcher.complete_until.running
    assert item.last_scan == pipeline.watcher.last_scan


def test_a_window_closes_a_fixed_time_after_its_first_change(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    pipeline.flusher.open_window()
    assert pipeline.flusher.due_at == math.inf
    pipeline.write("f")
    pipeline.open_window()
    due = pipeline.flusher.due_at
    assert 0.9 * WINDOW < due - time.monotonic() <= WINDOW
    pipeline.write("g")
    pipeline.open_window()
    assert pipeline.flusher.due_at == due
    pipeline.flusher.run_due()
    assert pipeline.queued() is None
    assert pipeline.flushed_paths() == {b"f", b"g"}
    assert pipeline.flusher.due_at == math.inf


def test_a_window_that_is_over_is_flushed(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    pipeline.flusher.apply_settings(replace(pipeline.sync, window=0.0))
    pipeline.write("f")
    pipeline.open_window()
    pipeline.flusher.run_due()
    assert pipeline.queued() is not None


def test_a_window_ends_early_only_when_the_buffer_is_full(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    for number in range(MAX_CHANGES):
        pipeline.flusher.flush_if_full()
        assert pipeline.queued() is None
        pipeline.write(str(number))
        assert pipeline.watcher.drain(DEADLINE)
    pipeline.flusher.flush_if_full()
    assert pipeline.queued() is not None


def test_a_directory_with_mostly_changed_entries_is_queued_as_a_listing(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    pipeline.write(*map(str, range(10)))
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    assert set(item.changeset) == {Change(b"", Scope.LISTING)}


def test_no_listing_replaces_names_where_some_files_go_last(pipeline: Pipeline) -> None:
    pipeline.monitor.start_watching()
    settings = DestinationSettings(
        Destination("copy", "/copy", Transport.LOCAL, None, b"/copy/"),
        RsyncOptions("rsync", (3, 5, 0), last=Rules((FilterRule(b"index"),))),
    )
    pipeline.flusher.apply_settings(replace(pipeline.sync, destinations=(settings,)))
    pipeline.write(*"abcde")
    assert pipeline.flushed_paths() == {b"a", b"b", b"c", b"d", b"e"}


@pytest.mark.parametrize("when", [None, *DeletionTime])
def test_what_was_deleted_is_known_where_only_that_is_deleted(
    pipeline: Pipeline, when: DeletionTime | None
) -> None:
    (pipeline.source / "d").mkdir()
    pipeline.write("a", "b", "d/c")
    pipeline.monitor.start_watching()
    pipeline.flusher.apply_settings(replace(pipeline.sync, delete_only=when))
    pipeline.write("a", "new")
    (pipeline.source / "b").unlink()
    (pipeline.source / "d/c").unlink()
    (pipeline.source / "d").rmdir()
    (pipeline.source / "d").mkdir()
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    # What else was in the directory that is gone was not in the source.
    expected = {Change(b"b", Scope.ENTRY), Change(b"d", Scope.TREE)}
    assert set(item.changeset.deletable) == (expected if when is DeletionTime.RUNNING else set())


def test_a_changeset_of_the_whole_tree_is_titled_a_full_sync(pipeline: Pipeline) -> None:
    changes = MutableChangeset()
    changes.add(b"", Scope.TREE)
    pipeline.buffer.add(changes)
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    assert (item.changeset.is_everything, item.titles) == (True, ("full sync",))


def test_all_names_of_a_changed_file_are_queued(pipeline: Pipeline) -> None:
    pipeline.link("one", "two")
    pipeline.monitor.start_watching()
    pipeline.write("one")
    assert pipeline.flushed_paths() == {b"one", b"two"}


def test_a_removed_name_adds_the_other_names_of_the_file_in_the_same_window(
    pipeline: Pipeline,
) -> None:
    pipeline.link("one", "two", "three")
    pipeline.monitor.start_watching()
    pipeline.write("one")
    (pipeline.source / "one").unlink()
    assert pipeline.flushed_paths() == {b"one", b"two", b"three"}
    assert pipeline.flushed_paths() == set()


@pytest.mark.parametrize("gone", ["d/two", "d"])
def test_a_file_with_one_name_left_is_queued_under_that_name(pipeline: Pipeline, gone: str) -> None:
    (pipeline.source / "d").mkdir()
    pipeline.link("one", "d/two")
    pipeline.monitor.start_watching()
    pipeline.write("d/two")
    (pipeline.source / "d" / "two").unlink()
    if gone == "d":
        (pipeline.source / "d").rmdir()
    assert {b"one", os.fsencode(gone)} <= pipeline.flushed_paths()


def test_nothing_is_complete_before_the_scan_after_the_start_is_queued(pipeline: Pipeline) -> None:
    skip_without_fanotify(pipeline.source)
    pipeline.write("earlier")
    pipeline.monitor.apply_settings(replace(pipeline.sync, watch=WatchMethod.FANOTIFY))
    since = replace(clock.now(), wall=1.0)
    pipeline.monitor.start_watching([since.since_ns], deferrable_since=since)
    pipeline.flusher.start(since)
    pipeline.write("later")
    # Also if the scan has ended: what it has found is not in the buffer at the first flush.
    session = pipeline.monitor.session
    assert session is not None
    assert session.awaits_scan
    seen: set[Change] = set()

    def is_found() -> bool:
        flush = pipeline.flusher.flush(is_urgent=True)
        item = pipeline.queued()
        assert item is not None
        seen.update(item.changeset)
        if not flush.is_complete:
            assert item.complete_until == since
            return False
        assert item.complete_until is not None
        assert item.complete_until.wall > since.wall
        return True

    wait_until(is_found)
    for name in (b"earlier", b"later"):
        assert any(change.covers(Change(name, Scope.ENTRY)) for change in seen)


def test_a_look_for_hard_links_begins_when_the_first_window_opens(pipeline: Pipeline) -> None:
    pipeline.link("one", "two")
    session = pipeline.start_session()
    pipeline.flusher.take_scanned()
    assert not session.awaits_hard_links, "a start does not wait for that"
    pipeline.write("f")
    pipeline.open_window()
    assert session.awaits_hard_links
    wait_until(lambda: pipeline.flusher.take_scanned() or not session.awaits_hard_links)
    pipeline.write("one")
    (pipeline.source / "one").unlink()
    # There is nothing left that would tell of the other name.
    pipeline.flusher.flush()
    item = pipeline.queued()
    assert item is not None
    assert {change.path for change in item.changeset} == {b"f", b"one", b"two"}


def test_a_clock_set_back_does_not_hide_changed_hard_links(pipeline: Pipeline) -> None:
    (pipeline.source / "d").mkdir()
    pipeline.link("one", "d/two")
    session = pipeline.start_session()
    present = clock.now()
    # As if it had been set back by an hour since.
    session.hard_links_unknown_since = replace(present, wall=present.wall + 3600.0)
    pipeline.write("d/two")
    (pipeline.source / "d" / "two").unlink()
    assert b"one" in pipeline.flushed_paths()


def test_files_from_before_the_start_are_not_queued(pipeline: Pipeline) -> None:
    pipeline.write("old")
    pipeline.link("one", "two")
    last = os.stat(pipeline.source / "one").st_ctime_ns
    wait_until(lambda: time.time_ns() > last + 50_000_000)
    pipeline.monitor.start_watching()
    pipeline.write("f")
    assert pipeline.flushed_paths() == {b"f"}


def test_no_look_for_hard_links_begins_while_a_scan_is_pending(pipeline: Pipeline) -> None:
    (pipeline.source / "d").mkdir()
    pipeline.link("one", "two")
    session = pipeline.start_session()
    session.rescanner.record_overflow()
    pipeline.write("f")
    pipeline.open_window()
    assert session.hurry_hard_links() is None or not session.rescanner.is_scan_pending
    assert session.awaits_hard_links
    wait_until(lambda: session.watches.has_scanned_files)
    assert pipeline.flushed_paths()
    assert not session.awaits_hard_links


def test_no_window_waits_for_the_look_for_hard_links(pipeline: Pipeline) -> None:
    (pipeline.source / "slow").mkdir()
    pipeline.link("one", "slow/two")
    pipeline.monitor.start_watching()
    until = pipeline.flusher.complete_until
    with held_up(pipeline.source / "slow") as is_held_up:
        pipeline.write("one", "f")
        pipeline.open_window()
        assert not pipeline.flusher.flush().is_complete
        item = pipeline.queued()
        assert item is not None
        assert {change.path for change in item.changeset} == {b"one", b"f"}
        assert item.complete_until == until
        assert pipeline.flusher.deferred_count == 1
        assert is_held_up()
    assert {b"one", b"slow/two"} <= pipeline.flushed_paths()
    assert pipeline.flusher.complete_until != until
    assert pipeline.flusher.deferred_count == 0


def test_a_stop_waits_for_other_names_until_its_deadline(pipeline: Pipeline) -> None:
    (pipeline.source / "slow").mkdir()
    pipeline.link("one", "slow/two")
    pipeline.monitor.start_watching()
    with held_up(pipeline.source / "slow") as is_held_up:
        pipeline.write("one")
        pipeline.must_stop = True
        with pytest.raises(StoppedError):
            pipeline.flusher.flush_for_stop()
        assert pipeline.queued() is not None
        assert is_held_up()
    pipeline.must_stop = False
    pipeline.flusher.flush_for_stop()
    item = pipeline.queued()
    assert item is not None
    assert {change.path for change in item.changeset} == {b"one", b"slow/two"}


def test_a_session_can_be_stopped_while_its_look_is_held_up(pipeline: Pipeline) -> None:
    (pipeline.source / "slow").mkdir()
    session = pipeline.start_session()
    with held_up(pipeline.source / "slow") as is_held_up:
        pipeline.write("f")
        pipeline.open_window()
        look = session.hurry_hard_links()
        assert look is not None
        pipeline.monitor.stop_watching()
        assert is_held_up()
    look.join()
    assert look.found is None


def test_hard_links_are_learned_from_scans(pipeline: Pipeline) -> None:
    pipeline.link("one", "two")
    pipeline.monitor.start_watching([1 << 62])
    pipeline.write("one")
    (pipeline.source / "one").unlink()
    assert pipeline.flushed_paths() == {b"one", b"two"}


def test_an_interrupted_search_for_other_names_queues_nothing_and_loses_nothing(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (pipeline.source / "d").mkdir()
    pipeline.monitor.start_watching()
    pipeline.write("f")
    assert pipeline.flushed_paths() == {b"f"}
    pipeline.must_stop = True
    pipeline.write("one")
    # A name that no search finds.
    os.link(pipeline.source / "one", tmp_path / "outside")
    with pytest.raises(StoppedError):
        pipeline.flusher.flush()
    assert pipeline.queued() is None
    pipeline.must_stop = False
    assert pipeline.flushed_paths() == {b"one"}


def test_a_full_sync_is_queued_for_the_named_destinations_at_once(pipeline: Pipeline) -> None:
    pipeline.flusher.start_full_sync(["other"])
    assert pipeline.queues[0].take() is None
    item = pipeline.queues[1].take()
    assert item is not None
    assert (item.changeset.is_everything, item.titles, item.is_urgent) == (
        True, ("full sync",), True
    )  # fmt: skip
    assert item.since is not None
    pipeline.flusher.start_full_sync()
    assert all(queue.take() for queue in pipeline.queues)


def test_a_full_sync_is_queued_at_each_interval(pipeline: Pipeline) -> None:
    pipeline.flusher.apply_settings(replace(pipeline.sync, full_sync_interval=1000.0))
    assert 800 <= pipeline.flusher.due_at - time.monotonic() <= 1100
    pipeline.flusher.apply_settings(replace(pipeline.sync, full_sync_interval=0.1))
    for _ in range(2):
        wait_until(lambda: time.monotonic() >= pipeline.flusher.due_at)
        began = time.monotonic()
        pipeline.flusher.run_due()
        assert pipeline.flusher.due_at >= began + 0.09
        item = pipeline.queued()
        assert item is not None
        assert (item.changeset.is_everything, item.titles) == (True, ("full sync",))
    pipeline.flusher.apply_settings(pipeline.sync)
    assert pipeline.flusher.due_at == math.inf


def test_a_flush_is_complete_only_while_the_source_is_watched(pipeline: Pipeline) -> None:
    assert not pipeline.flusher.flush(is_urgent=True).is_complete
    pipeline.monitor.start_watching()
    pipeline.write("f")
    serial, is_complete, _ = pipeline.flusher.flush(is_urgent=True)
    assert is_complete
    assert serial == pipeline.flusher.last_serial
    item = pipeline.queued()
    assert item is not None
    assert (item.serial, item.is_urgent) == (serial, True)
