"""Every directory is offered once in an interval."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.worker_setup import WorkerSetup

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock
from pylsyncd.worker.verification import Verification

DAY = 86_400.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path)) as made:
        made.write("f", "a/f", "a/b/f", "c/f")
        yield made


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path, max_delete=2)) as made:
        made.write("f", "a/f", "b/f", "c/f")
        yield made


def synced(place: WorkerSetup) -> None:
    """Sync everything."""
    with place.worker() as worker:
        worker.put(WorkItem(EVERYTHING, clock.now(), serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)


def test_a_full_sync_has_compared_everything(place: WorkerSetup) -> None:
    before = time.time()
    synced(place)
    repairs = place.repairs(DAY)
    assert repairs.compared_since is not None
    assert before <= repairs.compared_since <= time.time()
    # A round starts an interval later.
    assert repairs.due_at is not None
    assert repairs.due_at - time.monotonic() > DAY - 3600.0


def test_slices_are_spread_over_the_interval(place: WorkerSetup) -> None:
    repairs = place.repairs(DAY)
    begun = time.monotonic()
    seen: list[bytes] = []
    for _ in range(4):
        assert repairs.due_at is not None
        pause = repairs.due_at - begun
        assert DAY / 4 - 60.0 < pause < DAY / 4 + 60.0
        listings = repairs.next_slice()
        assert len(listings) == 1
        seen += listings.listings
        repairs.confirm_slice()
    assert seen == [b"", b"a", b"a/b", b"c"]


def test_a_round_that_is_late_takes_more_at_a_time(
    place: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs = place.repairs(DAY)
    assert len(repairs.next_slice()) == 1
    repairs.confirm_slice()
    late = time.time() + DAY
    monkeypatch.setattr(time, "time", lambda: late)
    assert len(repairs.next_slice()) == 3


def test_what_is_not_confirmed_is_offered_again(place: WorkerSetup) -> None:
    repairs = place.repairs(DAY)
    first = set(repairs.next_slice())
    repairs.postpone_after_failure()
    assert set(repairs.next_slice()) == first


def test_a_restart_goes_on_with_the_round(place: WorkerSetup) -> None:
    repairs = place.repairs(DAY)
    for _ in range(2):
        repairs.next_slice()
        repairs.confirm_slice()
    assert place.repairs(DAY).next_slice().listings == {b"a/b"}


def test_a_round_that_began_after_the_start_verifies_the_destination(place: WorkerSetup) -> None:
    begun = place.repairs(DAY)
    begun.next_slice()
    begun.confirm_slice()
    verification = Verification()
    repairs = place.repairs(DAY, verification)
    for count in (3, 4):
        assert not verification.is_verified
        for _ in range(count):
            repairs.next_slice()
            assert not verification.is_verified
            repairs.confirm_slice()
    assert verification.is_verified


def test_a_slice_that_a_full_sync_has_overtaken_ends_no_round(place: WorkerSetup) -> None:
    verification = Verification()
    repairs = place.repairs(DAY, verification)
    for _ in range(3):
        repairs.next_slice()
        repairs.confirm_slice()
    # The last one is held.
    repairs.next_slice()
    repairs.record_full_sync(1_000.0)
    repairs.confirm_slice()
    assert repairs.compared_since == 1_000.0
    assert not verification.is_verified


def test_without_an_interval_nothing_is_due(place: WorkerSetup) -> None:
    assert place.repairs(0.0).due_at is None


def test_after_a_release_deletions_are_counted_from_zero(limited: WorkerSetup) -> None:
    repairs = limited.repairs(DAY)
    options = limited.session().options
    repairs.next_slice()
    repairs.confirm_slice(2)
    assert repairs.options(options).max_delete == 0
    repairs.next_slice()
    repairs.confirm_slice(5, is_released=True)
    assert repairs.options(options).max_delete == 2
