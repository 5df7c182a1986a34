"""What others changed at a destination is undone. With real rsyncs."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with
from support.trees import snapshot
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock
from pylsyncd.worker.worker import Worker

DAY = 86_400.0
SHORTLY = 0.5  # seconds for a round


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


def is_equal(place: WorkerSetup) -> bool:
    return snapshot(os.fsencode(place.source)) == snapshot(os.fsencode(place.copy))


def repaired_paths(place: WorkerSetup) -> set[bytes]:
    """Return the paths of all notices about repairs."""
    notices = [each for each in place.notices if each.kind is NoticeKind.REPAIR]
    return {path for notice in notices for path, _ in notice.changeset}


@contextlib.contextmanager
def repairing(place: WorkerSetup) -> Iterator[Worker]:
    with place.worker(repair_interval=SHORTLY) as worker:
        yield worker


def test_what_others_changed_at_the_destination_is_undone(place: WorkerSetup) -> None:
    synced(place)
    (place.copy / "a/b/f").write_text("changed, and longer")
    (place.copy / "a/extra").write_text("extra")
    (place.copy / "f").unlink()
    (place.copy / "c/f").chmod(0o600)
    with repairing(place) as worker:
        wait_until(lambda: is_equal(place))
        wait_until(lambda: {b"a/b/f", b"a/extra", b"f", b"c/f"} <= repaired_paths(place))
        wait_until(lambda: worker.status().counts.repaired >= len(repaired_paths(place)))


def test_a_directory_that_was_removed_there_comes_back_as_a_whole(place: WorkerSetup) -> None:
    synced(place)
    os.rename(place.copy / "a", place.copy.parent / "gone")
    # The first slice is the listing of the source; the next one follows after hours.
    repairs = place.repairs(DAY)
    repairs.postpone(0.0)
    with place.worker(repairs=repairs) as worker:
        wait_until(lambda: is_equal(place))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_an_equal_copy_is_left_alone(place: WorkerSetup) -> None:
    synced(place)
    place.notices.clear()
    before = time.time()
    with repairing(place) as worker:
        wait_until(lambda: (worker.status().compared_since or 0.0) >= before)
        assert worker.status().counts.repaired == 0
    assert place.notices == []


def test_a_change_of_the_source_that_is_on_its_way_is_no_repair(place: WorkerSetup) -> None:
    synced(place)
    place.write("a/new")
    before = time.time()
    place.repair_window = 1_000.0
    with repairing(place) as worker:
        wait_until(lambda: (worker.status().compared_since or 0.0) >= before)
        assert worker.status().counts.repaired == 0


def test_a_window_goes_before_a_repair(place: WorkerSetup) -> None:
    place.write("new")
    place.faulty.add_fault(exit_with(30))
    changed = WorkItem(entries(b"new"), clock.now(), serial=1)
    with place.worker(LONG, queued=changed, repair_interval=SHORTLY) as worker:
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        runs = worker.status().counts.outcomes
        time.sleep(2 * SHORTLY)
        # The destination is not reached: no repair is tried.
        assert worker.status().counts.outcomes == runs


def test_a_destination_that_is_not_reached_gets_the_same_directories_later(
    place: WorkerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylsyncd.worker.repairs._RETRY_PAUSE", 0.05)
    synced(place)
    (place.copy / "f").unlink()
    for _ in range(2):
        place.faulty.add_fault(exit_with(255))
    with repairing(place) as worker:
        wait_until(lambda: is_equal(place))
        wait_until(lambda: worker.status().waiting == 0)


def test_a_path_that_fails_is_tried_again_and_reported(place: WorkerSetup) -> None:
    synced(place)
    (place.copy / "f").unlink()
    place.make_fail("f", first=":")
    with repairing(place) as worker:
        wait_until(lambda: is_equal(place))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)


def test_deletions_of_all_slices_together_count_against_the_limit(limited: WorkerSetup) -> None:
    synced(limited)
    for name in ("a/1", "b/2", "c/3"):
        (limited.copy / name).write_text("extra")
    with limited.worker(LONG, repair_interval=SHORTLY) as worker:
        wait_until(lambda: worker.status().condition is Condition.HELD)
        assert "would be deleted" in worker.status().error
        assert sum((limited.copy / name).exists() for name in ("a/1", "b/2", "c/3")) >= 1
        worker.put(WorkItem(NOTHING, is_release=True, is_urgent=True, serial=3))
        wait_until(lambda: is_equal(limited))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        wait_until(lambda: worker.confirmed_serial == 3)


@pytest.mark.parametrize("ends_before", [False, True])
def test_a_round_verifies_the_destination_for_later_starts_with_what_has_failed(
    place: WorkerSetup, ends_before: bool
) -> None:
    parts = place.parts(repair_interval=DAY)
    until = clock.now()
    parts.attempts.add(WorkItem(NOTHING, until, serial=1), 0.0)
    for name in ("a/b", "c"):
        (place.copy / name).mkdir(parents=True)
    for name in ("", "a", "a/b", "c"):
        assert place.state() is None
        if name == "a":
            place.make_fail("a/f")
        if name == "c" and ends_before:
            # The walk finds out that the slice before was the last one.
            shutil.rmtree(place.source / name)
        parts.repair_attempts.carry_next()
    parts.checkpoint.save()
    state = place.state()
    assert state is not None
    assert (state.is_verified, state.confirmed) == (True, until)
    assert {Change(b"a/f", Scope.TREE)} == set(state.pending)


def test_a_round_is_not_saved_while_its_last_changes_are_carried_again(place: WorkerSetup) -> None:
    parts = place.parts(repair_interval=DAY)
    parts.attempts.add(WorkItem(NOTHING, clock.now(), serial=1), 0.0)
    for fault in ("", "", "", exit_with(24)):
        place.faulty.add_fault(fault)
        parts.repair_attempts.carry_next()
    assert parts.work.verification.is_verified
    assert place.state() is None
    while parts.work.next_run.backlog:
        parts.pending_attempts.carry_next_run()
    state = place.state()
    assert state is not None
    assert state.is_verified
