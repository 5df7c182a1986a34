"""The workers of a source: started, paused, reconfigured and stopped. With real rsyncs."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.faults import FaultyRsync
from support.waiting import wait_until

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync import version
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.pool import WorkerPool
from pylsyncd.worker.worker import Worker


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

    def pool(self, sync: SyncSettings) -> WorkerPool:
        pool = WorkerPool(sync, self.guard, self.failures.append)
        self._pools.append(pool)
        return pool

    def start(self, *names: str) -> WorkerPool:
        """Return a pool whose workers have carried their initial sync."""
        pool = self.pool(self.settings(*names))
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
    assert new[0].confirmed_serial == 7
    # The lock of the removed destination is released.
    site.pool(site.settings("one"))


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
