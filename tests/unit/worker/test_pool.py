"""The workers of a source: started, paused, reconfigured and stopped. With real rsyncs."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.faults import FaultyRsync
from support.trees import equal_within
from support.waiting import wait_until

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync import version
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.pool import WorkerPool
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.worker import Worker


class InterruptedRun(BaseException):
    """An exception like KeyboardInterrupt, which is no Exception."""


class Bug:
    """A callback that raises in the worker of one destination while ``error`` is set."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.name = "one"

    def raise_for(self, name: str) -> None:
        """Raise if a run of the destination has ended: its worker still has to look at it."""
        if self.error is not None and name == self.name:
            raise self.error

    def raise_for_notice(self, notice: Notice) -> None:
        """Raise if a changeset was carried, before the worker records that."""
        if notice.kind is NoticeKind.BATCH:
            self.raise_for(notice.name)


class PoolSetup:
    """A source, its copies, and the pools that serve them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.source.mkdir()
        self.faulty = FaultyRsync(directory)
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.failures: list[str] = []
        self.bug = Bug()
        """Raises during a run, when it is known what is pending."""
        self.late_bug = Bug()
        """Raises after a run, when the worker changes what is pending."""
        self.notices: list[Notice] = []
        self._pools: list[WorkerPool] = []

    def settings(self, *names: str, window: float = 60.0) -> SyncSettings:
        destinations = []
        for name in names:
            (self.directory / name).mkdir(exist_ok=True)
            target = os.fsencode(self.directory / name) + b"/"
            destination = Destination(name, "", Transport.LOCAL, None, target, target[:-1])
            options = RsyncOptions(str(self.faulty.program), version.rsync_version("rsync"))
            destinations.append(DestinationSettings(destination, options, window))
        return SyncSettings(
            Source(os.fsencode(self.source), b"", is_full_path=False), tuple(destinations),
            window=window, initial_sync=True, state_dir=os.fsencode(self.directory / "state"),
        )  # fmt: skip

    def pool(
        self, sync: SyncSettings, on_notice: Callable[[Notice], None] | None = None
    ) -> WorkerPool:
        resources = SharedResources(
            on_notice=on_notice or self._handle_notice, on_progress_end=self.bug.raise_for
        )
        pool = WorkerPool(sync, self.guard, self.failures.append, resources)
        self._pools.append(pool)
        return pool

    def _handle_notice(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.late_bug.raise_for_notice(notice)

    def start(self, *names: str, sync: SyncSettings | None = None) -> WorkerPool:
        """Return a pool whose workers have carried their initial sync."""
        pool = self.pool(sync or self.settings(*names))
        plans = pool.plan_starts(requested_title="initial sync", is_new=True, is_source_empty=False)
        pool.start_workers(plans, {}, clock.now())
        self.wait_until_in_sync(pool)
        return pool

    def wait_until_in_sync(self, pool: WorkerPool) -> None:
        wait_until(
            lambda: all(each.status().condition is Condition.IN_SYNC for each in pool.workers)
        )

    def write(self, name: str) -> WorkItem:
        (self.source / name).write_text(name)
        changes = MutableChangeset()
        changes.add(os.fsencode(name), Scope.ENTRY)
        return WorkItem(changes, clock.now(), since=time.monotonic())

    def fail(
        self, pool: WorkerPool, item: WorkItem, error: BaseException, *, is_late: bool = False
    ) -> None:
        """Let the worker of the destination "one" fail with an item that all workers get."""
        # After that, the worker has probed the destination.
        serial = time.monotonic_ns()
        pool.workers[0].put(replace(self.write("first"), serial=serial, is_urgent=True))
        wait_until(lambda: pool.workers[0].confirmed_serial == serial)
        bug = self.late_bug if is_late else self.bug
        bug.error = error
        count = len(self.failures)
        for worker in pool.workers:
            worker.put(replace(item, is_urgent=True))
        wait_until(lambda: len(self.failures) > count)
        bug.error = None

    def restart(self, pool: WorkerPool) -> Worker:
        """Return the worker that replaces the failed one, started after its pause."""
        started: list[Worker] = []
        wait_until(lambda: started or started.extend(pool.start_due()))
        self.failures.clear()
        (worker,) = started
        return worker

    def copied(self, name: str) -> list[str]:
        return sorted(os.listdir(self.directory / name))

    def close(self) -> None:
        for pool in self._pools:
            pool.stop_workers(lambda: True)
            pool.close()
        self.guard.close()
        assert not self.failures


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PoolSetup]:
    with contextlib.closing(PoolSetup(tmp_path)) as site:
        (site.source / "first").touch()
        yield site


def names(workers: Sequence[Worker]) -> list[str]:
    return [worker.name for worker in workers]


def test_each_destination_has_a_worker_that_carries_the_first_item(site: PoolSetup) -> None:
    pool = site.start("one", "two")
    assert names(pool.workers) == ["one", "two"]
    assert site.copied("one") == site.copied("two") == ["first"]


def test_a_second_pool_for_the_same_destination_is_refused(site: PoolSetup) -> None:
    site.pool(site.settings("one"))
    with pytest.raises(UsageError):
        site.pool(site.settings("one"))


def test_a_paused_destination_carries_nothing_until_resumed(site: PoolSetup) -> None:
    pool = site.start("one", "two")
    pool.set_paused(["one"], is_paused=True)
    assert pool.paused == {os.fsencode(site.directory / "one")}
    item = site.write("second")
    for worker in pool.workers:
        worker.put(item)
    wait_until(lambda: "second" in site.copied("two"))
    assert pool.workers[0].status().condition is Condition.PAUSED
    assert site.copied("one") == ["first"]
    pool.set_paused(["one"], is_paused=False)
    wait_until(lambda: "second" in site.copied("one"))
    assert not pool.paused


def test_a_destination_paused_before_the_start_starts_paused(site: PoolSetup) -> None:
    pool = site.pool(site.settings("one"))
    pool.set_paused(["one"], is_paused=True)
    plans = pool.plan_starts(requested_title="initial sync", is_new=True, is_source_empty=False)
    pool.start_workers(plans, {}, clock.now())
    (worker,) = pool.workers
    wait_until(lambda: worker.status().waiting == 1)
    assert worker.status().condition is Condition.PAUSED
    assert site.copied("one") == []


def test_after_a_takeover_paused_destinations_stay_paused_and_lost_states_need_a_full_sync(
    site: PoolSetup,
) -> None:
    pool = site.pool(site.settings("one", "two"))
    one, two = (os.fsencode(site.directory / name) for name in ("one", "two"))
    pool.take_over([two], [one])
    assert pool.paused == {one}
    plans = pool.plan_starts(requested_title="", is_new=False, is_source_empty=False)
    assert [(plan.title, bool(plan.reason)) for plan in plans] == [
        ("", False),
        ("full sync", True),
    ]


def test_new_settings_add_and_remove_workers_and_keep_the_others(site: PoolSetup) -> None:
    pool = site.start("one", "two")
    kept = pool.workers[1]
    new = pool.reconfigure(site.settings("two", "three"), clock.now(), 7)
    assert names(new) == ["three"]
    assert names(pool.workers) == ["two", "three"]
    assert pool.workers[0] is kept
    site.wait_until_in_sync(pool)
    assert site.copied("three") == ["first"]
    wait_until(lambda: new[0].confirmed_serial == 7)
    # The lock of the removed destination is released.
    site.pool(site.settings("one"))


@pytest.mark.parametrize("has_failed", [False, True], ids=["scanned", "not scanned"])
def test_a_destination_that_comes_back_gets_contents_that_size_and_time_do_not_tell(
    site: PoolSetup, *, has_failed: bool
) -> None:
    (site.source / "d").mkdir()
    changed = site.source / "d/changed"
    changed.write_text("old")
    os.utime(changed, (1e9, 1e9))
    pool = site.start("one", "two")
    pool.reconfigure(site.settings("one"), clock.now(), 1)
    changed.write_text("new")
    os.utime(changed, (1e9, 1e9))
    elsewhere = site.directory / "elsewhere"
    if has_failed:
        site.source.rename(elsewhere)
    pool.reconfigure(site.settings("one", "two"), clock.now(), 2)
    if has_failed:
        elsewhere.rename(site.source)
    site.wait_until_in_sync(pool)
    assert (site.directory / "two/d/changed").read_text() == "new"


def test_a_destination_is_in_sync_only_once_its_changes_are_confirmed(site: PoolSetup) -> None:
    seen: list[tuple[Condition, int]] = []

    def record_state(notice: Notice) -> None:
        if notice.kind is NoticeKind.BATCH:
            (worker,) = pool.workers
            seen.append((worker.status().condition, worker.confirmed_serial))

    pool = site.pool(site.settings("one"), record_state)
    plans = pool.plan_starts(requested_title="initial sync", is_new=True, is_source_empty=False)
    pool.start_workers(plans, {}, clock.now())
    site.wait_until_in_sync(pool)
    pool.workers[0].put(replace(site.write("second"), serial=7, is_urgent=True))
    wait_until(lambda: len(seen) > 1)
    # The notice comes after the run and before the confirmation.
    assert seen[1] == (Condition.SYNCING, 0)
    site.wait_until_in_sync(pool)
    wait_until(lambda: pool.workers[0].confirmed_serial == 7)


def test_a_worker_under_new_settings_takes_over_what_is_pending(site: PoolSetup) -> None:
    pool = site.start("one")
    (before,) = pool.workers
    pool.set_paused(["one"], is_paused=True)
    before.put(site.write("second"))
    wait_until(lambda: before.status().waiting == 1)
    sync = site.settings("one")
    (settings,) = sync.destinations
    changed = replace(settings, rsync=replace(settings.rsync, bandwidth_limit="1000"))
    (after,) = pool.reconfigure(replace(sync, destinations=(changed,)), clock.now(), 3)
    assert not before.is_alive()
    assert after.status().condition is Condition.PAUSED
    pool.set_paused(["one"], is_paused=False)
    wait_until(lambda: after.confirmed_serial == 3)
    assert site.copied("one") == ["first", "second"]


def test_a_shorter_window_of_the_source_is_made_up_for_by_a_longer_one_of_the_worker(
    site: PoolSetup,
) -> None:
    pool = site.start("one")
    (worker,) = pool.workers
    assert pool.reconfigure(replace(site.settings("one"), window=0.0), clock.now(), 1) == []
    worker.put(site.write("second"))
    wait_until(lambda: worker.status().waiting == 1)
    assert worker.status().condition is Condition.WAITING
    worker.put(WorkItem(NOTHING, is_urgent=True))
    wait_until(lambda: "second" in site.copied("one"))


def test_a_stop_lets_workers_carry_what_is_pending(site: PoolSetup) -> None:
    pool = site.start("one")
    pool.workers[0].put(site.write("second"))
    pool.stop_workers(lambda: False)
    assert not pool.workers[0].is_alive()
    assert site.copied("one") == ["first", "second"]


def test_a_stop_ends_when_asked_for_and_reports_what_is_pending(
    site: PoolSetup, caplog: pytest.LogCaptureFixture
) -> None:
    pool = site.start("one")
    site.faulty.add_fault("exec sleep 600")
    pool.workers[0].put(WorkItem(EVERYTHING, clock.now()))
    wait_until(lambda: not site.faulty.pending_faults)
    pool.stop_workers(lambda: True)
    assert not pool.workers[0].is_alive()
    assert "[one] stopped before everything was synced. Pending: everything." in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), RecursionError(), MemoryError(), InterruptedRun(), SystemExit(0),
        UnicodeError("x"), KeyboardInterrupt(), OSError(5, "x"), StopIteration(), KeyError(b"x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_failed_worker_is_replaced_by_one_with_its_pending_and_later_changes(
    site: PoolSetup, error: BaseException
) -> None:
    pool = site.start("one", "two")
    site.fail(pool, site.write("second"), error)
    third = site.write("third")
    for worker in pool.workers:
        worker.put(third)
    before = time.monotonic()
    pool.replace_failed(7)
    one, two = pool.workers
    assert one.delayed_start is not None
    assert one.delayed_start.due_at - before > 0.7
    status = one.status()
    assert status.condition is Condition.FAILED
    assert (status.waiting, status.owes_everything) == (2, False)
    assert status.next_attempt is not None
    assert status.next_attempt <= 1.0
    assert status.behind > 0.0
    assert type(error).__name__ in status.error
    assert status.error.endswith("Please report this.")
    assert status.counts.outcomes["done"] >= 1
    assert one.confirmed_serial == 0
    wait_until(lambda: "second" in site.copied("two"))
    assert site.copied("one") == ["first", "second"]
    restarted = site.restart(pool)
    assert restarted is one
    restarted.put(WorkItem(NOTHING, is_urgent=True))
    wait_until(lambda: one.confirmed_serial == 7)
    assert site.copied("one") == ["first", "second", "third"]
    # The request may still be in the queue.
    wait_until(lambda: one.status().condition is Condition.IN_SYNC)
    assert one.status().error == ""
    assert two is pool.workers[1]
    kinds = [each.kind for each in site.notices if each.name == "one"]
    assert [kind for kind in kinds if kind is not NoticeKind.BATCH] == [
        NoticeKind.ERROR,
        NoticeKind.RECOVERY,
    ]


def test_a_worker_that_failed_while_its_state_changed_is_replaced_by_one_with_a_full_sync(
    site: PoolSetup,
) -> None:
    pool = site.start("one")
    site.fail(pool, site.write("second"), ValueError(), is_late=True)
    (site.directory / "one" / "first").unlink()
    # Known to be pending, unlike what the failed worker had received.
    pool.workers[0].put(site.write("third"))
    pool.replace_failed(3)
    assert pool.workers[0].status().owes_everything
    worker = site.restart(pool)
    wait_until(lambda: worker.confirmed_serial == 3)
    assert site.copied("one") == ["first", "second", "third"]


def test_the_traceback_of_a_failure_is_logged_once_and_the_pauses_grow(
    site: PoolSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = site.start("one")
    for number in range(3):
        site.fail(pool, site.write(str(number)), ValueError(f"text {number}"))
        before = time.monotonic()
        pool.replace_failed(number)
        start = pool.workers[0].delayed_start
        assert start is not None
        # Jitter shortens a pause by up to a quarter.
        assert 0.7 * 2**number < start.due_at - before
        assert start.due_at - time.monotonic() <= 2**number
        pool.workers[0].put(WorkItem(NOTHING, is_urgent=True))
        worker = site.restart(pool)
        wait_until(lambda: not worker.status().error)  # noqa: B023  # called at once
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("Please report this.") == 3
    assert caplog.text.count("[one] works again.") == 3


def test_an_urgent_request_shortens_the_pause(site: PoolSetup) -> None:
    pool = site.start("one")
    for number in range(4):
        site.fail(pool, site.write(str(number)), ValueError())
        before = time.monotonic()
        pool.replace_failed(number)
        (worker,) = pool.workers
        if number < 3:
            worker.put(WorkItem(NOTHING, is_urgent=True))
            site.restart(pool)
    start = worker.delayed_start
    assert start is not None
    assert start.due_at > before + 3.0
    assert pool.next_start == start.due_at
    assert pool.start_due() == []
    worker.put(WorkItem(NOTHING, is_urgent=True))
    assert pool.next_start < time.monotonic() + 1.0
    site.restart(pool)
    site.wait_until_in_sync(pool)


def test_a_failed_destination_stays_locked_and_paused(site: PoolSetup) -> None:
    pool = site.start("one")
    site.fail(pool, site.write("second"), ValueError())
    pool.replace_failed(1)
    with pytest.raises(UsageError):
        site.pool(site.settings("one"))
    pool.set_paused(["one"], is_paused=True)
    assert pool.workers[0].status().condition is Condition.FAILED
    worker = site.restart(pool)
    assert worker.status().condition is Condition.PAUSED
    third = site.write("third")
    worker.put(third)
    wait_until(lambda: worker.status().waiting == 2)
    pool.set_paused(["one"], is_paused=False)
    worker.put(WorkItem(NOTHING, is_urgent=True))
    wait_until(lambda: "third" in site.copied("one"))


def test_a_destination_that_is_replaced_while_its_worker_is_down_is_held_until_released(
    site: PoolSetup,
) -> None:
    pool = site.start("one")
    site.fail(pool, WorkItem(EVERYTHING, clock.now()), ValueError())
    pool.replace_failed(1)
    (site.directory / "one").rename(site.directory / "moved")
    (site.directory / "one").mkdir()
    worker = site.restart(pool)
    wait_until(lambda: worker.status().condition is Condition.HELD)
    assert site.copied("one") == []
    # A release is not lost if it comes after another failure and before the next attempt.
    worker.put(WorkItem(NOTHING, clock.now(), titles=7))  # type: ignore[arg-type]
    wait_until(lambda: site.failures)
    worker_after = _replaced(pool)
    worker_after.put(WorkItem(NOTHING, is_urgent=True, is_release=True))
    site.restart(pool)
    wait_until(lambda: worker_after.status().condition is Condition.IN_SYNC)
    assert site.copied("one") == ["first"]


def _replaced(pool: WorkerPool) -> Worker:
    pool.replace_failed(2)
    (worker,) = pool.workers
    return worker


def test_new_settings_serve_a_failed_destination_at_once(site: PoolSetup) -> None:
    pool = site.start("one", "two")
    for number in range(3):
        site.fail(pool, site.write("second"), ValueError())
        pool.replace_failed(1)
        if number < 2:
            pool.workers[0].put(WorkItem(NOTHING, is_urgent=True))
            site.restart(pool)
    site.failures.clear()
    sync = site.settings("one", "two")
    # The destination whose settings are the same stays as it is.
    assert pool.reconfigure(sync, clock.now(), 2) == []
    one, two = sync.destinations
    changed = replace(one, rsync=replace(one.rsync, bandwidth_limit="1000"))
    (worker,) = pool.reconfigure(replace(sync, destinations=(changed, two)), clock.now(), 2)
    assert worker.name == "one"
    wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
    assert site.copied("one") == ["first", "second"]
    assert site.notices[-1].kind is NoticeKind.RECOVERY


def test_a_removed_destination_is_not_started_again(site: PoolSetup) -> None:
    pool = site.start("one", "two")
    site.fail(pool, site.write("second"), ValueError())
    # The pool has not seen the failure yet.
    pool.reconfigure(site.settings("two"), clock.now(), 2)
    site.failures.clear()
    assert names(pool.workers) == ["two"]
    assert pool.next_start == math.inf
    site.pool(site.settings("one"))


def test_a_stop_reports_what_a_failed_worker_has_not_synced(
    site: PoolSetup, caplog: pytest.LogCaptureFixture
) -> None:
    pool = site.start("one", "two")
    site.fail(pool, site.write("second"), ValueError())
    site.failures.clear()
    pool.stop_workers(lambda: False)
    assert [worker.pending_count for worker in pool.workers] == [1, 0]
    assert "[one] stopped before everything was synced. Pending: 1 change." in caplog.text
    assert site.copied("two") == ["first", "second"]


def test_a_report_that_fails_does_not_keep_a_worker_from_being_replaced(site: PoolSetup) -> None:
    def fail(_: Notice) -> None:
        raise ValueError

    pool = site.pool(site.settings("three"), fail)
    plans = pool.plan_starts(requested_title="initial sync", is_new=True, is_source_empty=False)
    pool.start_workers(plans, {}, clock.now())
    wait_until(lambda: site.failures)
    pool.replace_failed(1)
    assert pool.workers[0].status().condition is Condition.FAILED
    site.failures.clear()


def test_a_failed_worker_for_large_files_is_replaced_with_its_worker(site: PoolSetup) -> None:
    sync = site.settings("one", "two")
    limited = tuple(replace(each, batch_size_limit=1000) for each in sync.destinations)
    pool = site.start(sync=replace(sync, destinations=limited))
    item = site.write("small")
    large = MutableChangeset()
    large.merge(item.changeset)
    (site.source / "large").write_text("x" * 5000)
    large.add(b"large", Scope.ENTRY)
    large_file_worker = pool.workers[0].threads[1]
    # Not a changeset: the thread raises TypeError.
    large_file_worker.start_batch(7)  # type: ignore[attr-defined]
    wait_until(lambda: site.failures)
    pool.replace_failed(4)
    (one, _) = pool.workers
    assert one.status().condition is Condition.FAILED
    assert "TypeError" in one.status().error
    assert not large_file_worker.is_alive()
    one.put(replace(item, changeset=large))
    worker = site.restart(pool)
    worker.put(WorkItem(NOTHING, is_urgent=True))
    wait_until(lambda: "large" in site.copied("one"))
    wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_a_large_file_in_flight_stays_pending_when_the_worker_fails(site: PoolSetup) -> None:
    sync = site.settings("one")
    limited = tuple(replace(each, batch_size_limit=1000) for each in sync.destinations)
    pool = site.start(sync=replace(sync, destinations=limited))
    (worker,) = pool.workers
    worker.put(replace(site.write("first"), serial=1, is_urgent=True))
    wait_until(lambda: worker.confirmed_serial == 1)
    (site.source / "d").mkdir()
    item = site.write("d/large")
    (site.source / "d" / "large").write_text("x" * 5000)
    site.faulty.add_fault("exec sleep 600")
    worker.put(replace(item, is_urgent=True))
    wait_until(lambda: not site.faulty.pending_faults)
    site.bug.error = ValueError()
    worker.put(replace(site.write("d/small"), is_urgent=True))
    wait_until(lambda: site.failures)
    site.bug.error = None
    pool.replace_failed(2)
    (replaced,) = pool.workers
    assert not worker.threads[1].is_alive()
    assert not replaced.status().owes_everything
    assert site.restart(pool) is replaced
    replaced.put(WorkItem(NOTHING, is_urgent=True))
    wait_until(lambda: replaced.confirmed_serial == 2)
    assert equal_within(os.fsencode(site.source), os.fsencode(site.directory / "one"), 45) == []


def start_as_it_is(site: PoolSetup, sync: SyncSettings) -> WorkerPool:
    """Return a pool that was started without an initial sync."""
    pool = site.pool(sync)
    plans = pool.plan_starts(requested_title="", is_new=True, is_source_empty=False)
    caught_up = {plan.since_ns: MutableChangeset() for plan in plans if plan.since_ns is not None}
    pool.start_workers(plans, caught_up, clock.now())
    site.wait_until_in_sync(pool)
    return pool


def unverified(pool: WorkerPool) -> dict[str, str]:
    return {each.name: text for each in pool.workers if (text := each.status().unverified)}


def test_a_destination_is_unverified_until_a_full_sync_and_no_more_after_a_restart(
    site: PoolSetup,
) -> None:
    sync = site.settings("one")
    pool = start_as_it_is(site, sync)
    for serial in (1, 2):
        # Each confirmed change saves the state.
        pool.workers[0].put(replace(site.write(f"f{serial}"), serial=serial, is_urgent=True))
        wait_until(lambda: pool.workers[0].confirmed_serial == serial)  # noqa: B023  # it ends here
        assert "pylsyncctl sync one" in unverified(pool)["one"]
        pool.stop_workers(lambda: True)
        pool.close()
        pool = start_as_it_is(site, sync)
    pool.workers[0].put(WorkItem(EVERYTHING, clock.now(), titles=("full sync",)))
    wait_until(lambda: not unverified(pool))
    for _ in range(2):
        pool.stop_workers(lambda: True)
        pool.close()
        pool = start_as_it_is(site, sync)
        assert not unverified(pool)


def test_a_destination_that_is_added_without_an_initial_sync_is_unverified(
    site: PoolSetup,
) -> None:
    pool = site.start("one")
    assert not unverified(pool)
    more = site.settings("one", "two", window=30.0)
    pool.reconfigure(replace(more, initial_sync=False), clock.now(), 1)
    site.wait_until_in_sync(pool)
    assert unverified(pool).keys() == {"two"}
    # New settings change nothing about that, and those that change the copy start a full sync.
    settings = replace(
        more.destinations[1], rsync=replace(more.destinations[1].rsync, delete=False)
    )
    changed = replace(more, destinations=(more.destinations[0], settings), initial_sync=False)
    pool.reconfigure(replace(changed, window=20.0), clock.now(), 2)
    wait_until(lambda: not unverified(pool))


def test_a_worker_that_replaces_a_failed_one_knows_that_the_destination_is_verified(
    site: PoolSetup,
) -> None:
    pool = site.start(sync=replace(site.settings("one"), state_dir=None))
    site.fail(pool, site.write("second"), RuntimeError("a bug"))
    pool.replace_failed(2)
    site.restart(pool)
    assert not unverified(pool)


def test_a_dry_run_leaves_a_destination_unverified(site: PoolSetup) -> None:
    sync = site.settings("one")
    options = replace(sync.destinations[0].rsync, dry_run=True)
    destination = replace(sync.destinations[0], rsync=options)
    pool = site.start(sync=replace(sync, destinations=(destination,), state_dir=None))
    assert "--dry-run" in unverified(pool)["one"]
