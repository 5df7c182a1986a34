"""When a window ends, and what is ordered then: real events and queues, but nobody who carries."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.waiting import wait_until

from pylsyncd.config.settings import SyncSettings
from pylsyncd.flusher import Flusher
from pylsyncd.model.changes import Change, MutableChangeset, Scope
from pylsyncd.model.endpoints import Source
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.system.threads import StoppedError, ThreadMonitor
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.watcher.source_monitor import MonitorCallbacks, SourceMonitor
from pylsyncd.watcher.watcher import Watcher

MAX_CHANGES = 5
WINDOW = 3600.0


def fail(name: str) -> None:
    raise AssertionError(f"{name} failed")


class Tray(WorkQueue):
    """What a worker is to a dispatch: a name, and a place to put orders."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def taken(self) -> WorkItem | None:
        return None if self.empty() else self.get_nowait()


class HeldUp(Buffer):
    """A buffer whereof something can happen right after all was taken."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def take(self) -> MutableChangeset:
        taken = super().take()
        self.meanwhile()
        return taken


class Desk:
    """A dispatch with all that it needs."""

    def __init__(self, source: Path, guard: SourceGuard) -> None:
        self.source = source
        self.sync = SyncSettings(
            Source(os.fsencode(source), b"", is_full_path=False), (), window=WINDOW
        )
        self.trays = [Tray("one"), Tray("other")]
        self.buffer = HeldUp(MAX_CHANGES, lambda: None, lambda: None)
        self.lookout = SourceMonitor(
            self.sync, guard, self.buffer, ThreadMonitor(fail), MonitorCallbacks(lambda: None, fail)
        )
        crew = SimpleNamespace(workers=self.trays)
        self.looked_through: list[None] = []
        self.must_end = False
        self.dispatch = Flusher(self.sync, self.buffer, self.lookout, crew, self._go_on)
        self.dispatch.apply_settings(self.sync)

    def _go_on(self) -> None:
        self.looked_through.append(None)
        if self.must_end:
            raise StoppedError

    @property
    def watcher(self) -> Watcher:
        assert self.lookout.session is not None
        return self.lookout.session.watcher

    def write(self, *names: str) -> None:
        for name in names:
            (self.source / name).write_text(str(time.monotonic_ns()))

    def link(self, first: str, *others: str) -> None:
        self.write(first)
        for other in others:
            os.link(self.source / first, self.source / other)

    def open_window(self) -> None:
        """Let the window begin, as a dispatch is told to when a change has come."""
        assert self.watcher.drain(20.0)
        self.dispatch.open_window()

    def ordered(self) -> WorkItem | None:
        """Return what all were ordered to do since the last time."""
        first, *others = [tray.taken() for tray in self.trays]
        assert all(other == first or (first and other) for other in others)
        return first

    def flushed(self) -> set[bytes]:
        self.dispatch.flush()
        order = self.ordered()
        return set() if order is None else {change.path for change in order.changeset}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    source = tmp_path / "source"
    source.mkdir()
    with closing(SourceGuard(os.fsencode(source), Rules())) as guard:
        guard.accept()
        made = Desk(source, guard)
        yield made
        made.lookout.stop_watching()


def test_a_flush_orders_from_all_whatever_has_happened_before(desk: Desk) -> None:
    desk.lookout.start_watching()
    for serial in range(1, 20):
        began = time.monotonic()
        desk.write(str(serial))
        assert desk.dispatch.flush() == serial
        order = desk.ordered()
        assert order is not None
        assert set(order.changeset) == {Change(b"%d" % serial, Scope.ENTRY)}
        assert (order.serial, order.titles, order.is_urgent) == (serial, (), False)
        assert order.since is not None
        assert began <= order.since <= time.monotonic()


def test_without_a_change_nothing_is_ordered_unless_somebody_asks(desk: Desk) -> None:
    desk.lookout.start_watching()
    assert desk.dispatch.flush() == 0
    assert desk.ordered() is None
    assert desk.dispatch.flush(is_urgent=True) == 1
    order = desk.ordered()
    assert order is not None
    assert (order.changeset.is_everything, bool(order.changeset), order.is_urgent) == (
        False, False, True
    )  # fmt: skip
    assert order.since is None


def test_an_order_does_not_speak_for_what_comes_after_its_changes_were_taken(desk: Desk) -> None:
    desk.lookout.start_watching()
    desk.write("before")
    moments = []

    def change() -> None:
        moments.append(clock.now().running)
        desk.write("late")
        wait_until(lambda: desk.watcher.complete_until.running > moments[0])

    desk.buffer.meanwhile = change
    desk.dispatch.flush()
    order = desk.ordered()
    assert order is not None
    assert order.complete_until is not None
    assert order.complete_until.running < moments[0]
    desk.buffer.meanwhile = lambda: None
    assert desk.flushed() == {b"late"}


def test_an_order_speaks_for_no_more_than_the_watcher_does(desk: Desk) -> None:
    desk.lookout.start_watching()
    desk.write("f")
    desk.dispatch.flush()
    order = desk.ordered()
    assert order is not None
    assert order.complete_until == desk.dispatch.complete_until
    assert order.complete_until is not None
    assert order.complete_until.running <= desk.watcher.complete_until.running
    assert order.last_scan == desk.watcher.last_scan


def test_a_window_closes_that_long_after_its_first_change_whatever_follows(desk: Desk) -> None:
    desk.lookout.start_watching()
    desk.dispatch.open_window()
    assert desk.dispatch.due_at == math.inf
    desk.write("f")
    desk.open_window()
    due = desk.dispatch.due_at
    assert 0.9 * WINDOW < due - time.monotonic() <= WINDOW
    desk.write("g")
    desk.open_window()
    assert desk.dispatch.due_at == due
    desk.dispatch.run_due()
    assert desk.ordered() is None
    assert desk.flushed() == {b"f", b"g"}
    assert desk.dispatch.due_at == math.inf


def test_a_window_that_is_over_is_flushed(desk: Desk) -> None:
    desk.lookout.start_watching()
    desk.dispatch.apply_settings(replace(desk.sync, window=0.0))
    desk.write("f")
    desk.open_window()
    desk.dispatch.run_due()
    assert desk.ordered() is not None


def test_a_window_ends_early_only_when_it_is_full(desk: Desk) -> None:
    desk.lookout.start_watching()
    for number in range(MAX_CHANGES):
        desk.dispatch.flush_if_full()
        assert desk.ordered() is None
        desk.write(str(number))
        assert desk.watcher.drain(20.0)
    desk.dispatch.flush_if_full()
    assert desk.ordered() is not None


def test_a_directory_of_which_most_has_changed_is_ordered_as_a_listing(desk: Desk) -> None:
    desk.lookout.start_watching()
    desk.write(*map(str, range(10)))
    desk.dispatch.flush()
    order = desk.ordered()
    assert order is not None
    assert set(order.changeset) == {Change(b"", Scope.LISTING)}


def test_what_turns_out_to_be_everything_is_told_as_a_full_sync(desk: Desk) -> None:
    changes = MutableChangeset()
    changes.add(b"", Scope.TREE)
    desk.buffer.add(changes)
    desk.dispatch.flush()
    order = desk.ordered()
    assert order is not None
    assert (order.changeset.is_everything, order.titles) == (True, ("full sync",))


def test_all_names_of_a_changed_file_are_ordered(desk: Desk) -> None:
    desk.link("one", "two")
    desk.lookout.start_watching()
    desk.write("one")
    assert desk.flushed() == {b"one", b"two"}


def test_a_name_that_has_gone_brings_in_the_others_in_the_same_window(desk: Desk) -> None:
    desk.link("one", "two", "three")
    desk.lookout.start_watching()
    desk.write("one")
    (desk.source / "one").unlink()
    assert desk.flushed() == {b"one", b"two", b"three"}
    assert desk.flushed() == set()


@pytest.mark.parametrize("gone", ["d/two", "d"])
def test_a_file_that_has_one_name_left_is_ordered_by_it(desk: Desk, gone: str) -> None:
    (desk.source / "d").mkdir()
    desk.link("one", "d/two")
    desk.lookout.start_watching()
    desk.write("d/two")
    (desk.source / "d" / "two").unlink()
    if gone == "d":
        (desk.source / "d").rmdir()
    assert {b"one", os.fsencode(gone)} <= desk.flushed()


def test_names_are_learned_when_the_first_window_opens(desk: Desk) -> None:
    desk.link("one", "two")
    desk.lookout.start_watching()
    desk.dispatch.update_hard_links()
    assert desk.lookout.session is not None
    assert desk.lookout.session.links_unscanned_since is not None, "a start does not wait for that"
    desk.write("f")
    desk.open_window()
    desk.write("one")
    (desk.source / "one").unlink()
    # There is nothing left that would tell of the other name.
    assert {b"f", b"one", b"two"} == desk.flushed()


def test_what_changed_is_found_though_the_clock_was_set_back_meanwhile(desk: Desk) -> None:
    (desk.source / "d").mkdir()
    desk.link("one", "d/two")
    watching = desk.lookout.start_watching()
    present = clock.now()
    # As if it had been set back by an hour since.
    watching.links_unscanned_since = replace(present, wall=present.wall + 3600.0)
    desk.write("d/two")
    (desk.source / "d" / "two").unlink()
    assert b"one" in desk.flushed()


def test_what_was_there_before_the_start_is_not_ordered(desk: Desk) -> None:
    desk.write("old")
    desk.link("one", "two")
    last = os.stat(desk.source / "one").st_ctime_ns
    wait_until(lambda: time.time_ns() > last + 50_000_000)
    desk.lookout.start_watching()
    desk.write("f")
    assert desk.flushed() == {b"f"}


def test_names_that_a_scan_is_about_to_find_are_not_looked_for(desk: Desk) -> None:
    (desk.source / "d").mkdir()
    desk.link("one", "two")
    watching = desk.lookout.start_watching()
    watching.event_processor.rescanner.record_overflow()
    desk.write("f")
    desk.open_window()
    wait_until(lambda: watching.event_processor.has_scanned_files)
    assert desk.flushed()
    assert not desk.looked_through
    assert watching.links_unscanned_since is None


def test_names_are_learned_from_scans(desk: Desk) -> None:
    desk.link("one", "two")
    desk.lookout.start_watching([1 << 62])
    desk.write("one")
    (desk.source / "one").unlink()
    assert desk.flushed() == {b"one", b"two"}


def test_a_look_for_names_that_is_given_up_orders_nothing_and_loses_nothing(desk: Desk) -> None:
    (desk.source / "d").mkdir()
    desk.link("one", "two")
    desk.lookout.start_watching()
    until = desk.dispatch.complete_until
    desk.must_end = True
    desk.write("one")
    with pytest.raises(StoppedError):
        desk.dispatch.flush()
    assert desk.ordered() is None
    desk.must_end = False
    assert desk.flushed() == {b"one", b"two"}
    assert desk.dispatch.complete_until != until


def test_a_search_for_names_that_is_given_up_orders_nothing_and_loses_nothing(
    desk: Desk, tmp_path: Path
) -> None:
    (desk.source / "d").mkdir()
    desk.lookout.start_watching()
    desk.write("f")
    assert desk.flushed() == {b"f"}
    desk.must_end = True
    desk.write("one")
    # A name that no search finds.
    os.link(desk.source / "one", tmp_path / "outside")
    with pytest.raises(StoppedError):
        desk.dispatch.flush()
    assert desk.ordered() is None
    desk.must_end = False
    assert desk.flushed() == {b"one"}


def test_everything_is_ordered_of_those_that_are_named_at_once(desk: Desk) -> None:
    desk.dispatch.start_full_sync(["other"])
    assert desk.trays[0].taken() is None
    order = desk.trays[1].taken()
    assert order is not None
    assert (order.changeset.is_everything, order.titles, order.is_urgent) == (
        True, ("full sync",), True
    )  # fmt: skip
    assert order.since is not None
    desk.dispatch.start_full_sync()
    assert all(tray.taken() for tray in desk.trays)


def test_a_full_sync_is_ordered_each_time_that_its_interval_is_over(desk: Desk) -> None:
    desk.dispatch.apply_settings(replace(desk.sync, full_sync_interval=1000.0))
    assert 900 <= desk.dispatch.due_at - time.monotonic() <= 1100
    desk.dispatch.apply_settings(replace(desk.sync, full_sync_interval=0.1))
    for _ in range(2):
        wait_until(lambda: time.monotonic() >= desk.dispatch.due_at)
        began = time.monotonic()
        desk.dispatch.run_due()
        assert desk.dispatch.due_at >= began + 0.09
        order = desk.ordered()
        assert order is not None
        assert (order.changeset.is_everything, order.titles) == (True, ("full sync",))
    desk.dispatch.apply_settings(desk.sync)
    assert desk.dispatch.due_at == math.inf


def test_all_is_known_to_be_flushed_only_while_the_source_is_watched(desk: Desk) -> None:
    assert desk.dispatch.flush_all() is None
    desk.lookout.start_watching()
    desk.write("f")
    serial = desk.dispatch.flush_all()
    assert serial == desk.dispatch.last_serial
    order = desk.ordered()
    assert order is not None
    assert (order.serial, order.is_urgent) == (serial, True)
