"""What is pending for a destination and what is saved of it. With real rsyncs and real state."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with
from support.mounts import Mounts, can_mount
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, MutableChangeset, Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.system import clock
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.transfer import TransferResult


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path)) as made:
        yield made


def test_carried_changes_are_confirmed_up_to_the_moment_of_their_work_item(
    place: WorkerSetup,
) -> None:
    place.write("f")
    until = clock.now()
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"f"), until))
        wait_until(lambda: place.saved_changes() == set())
        state = place.state()
        assert state is not None
        assert state.confirmed == until
        assert worker.pending_count == 0
    assert (place.copy / "f").exists()


def test_a_failed_run_confirms_nothing(place: WorkerSetup) -> None:
    place.write("f", "g")
    first, second = clock.now(), clock.now()
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"f"), first))
        wait_until(lambda: place.saved_changes() == set())
        place.faulty.add_fault(exit_with(30))
        worker.put(WorkItem(entries(b"g"), second))
        wait_until(lambda: not place.faulty.pending_faults)
        wait_until(lambda: worker.pending_count == 1)
        state = place.state()
        assert state is not None
        assert state.confirmed == first
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: worker.pending_count == 0)
        wait_until(lambda: (state := place.state()) and state.confirmed == second)


def test_a_path_that_fails_alone_is_pending_and_all_others_are_confirmed(
    place: WorkerSetup,
) -> None:
    place.write("bad", "good")
    until = clock.now()
    place.make_fail("bad")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"bad", b"good"), until))
        wait_until(lambda: place.saved_paths() == [b"bad"])
        state = place.state()
        assert state is not None
        assert state.confirmed == until
        # It stays pending while other changes are carried.
        place.write("more")
        later = clock.now()
        worker.put(WorkItem(entries(b"more"), later))
        wait_until(lambda: (state := place.state()) and state.confirmed == later)
        assert place.saved_paths() == [b"bad"]
        # A new change of the path retries it.
        worker.put(WorkItem(entries(b"bad"), clock.now()))
        wait_until(lambda: place.saved_changes() == set())


def test_a_failed_path_is_retried_separately_until_it_succeeds(place: WorkerSetup) -> None:
    place.write("bad", "good")
    for _ in range(3):
        place.make_fail("bad")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"bad", b"good"), clock.now()))
        wait_until(lambda: place.saved_changes() == set())
        assert not place.faulty.pending_faults
        assert worker.pending_count == 0


def test_failed_paths_are_neither_sent_nor_deleted_by_other_runs(place: WorkerSetup) -> None:
    place.write("d/bad")
    (place.copy / "d").mkdir()
    (place.copy / "d/bad").write_text("as it was")
    place.make_fail("d/bad", first="true")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"d/bad"), clock.now()))
        wait_until(lambda: place.saved_paths() == [b"d/bad"])
        listing = MutableChangeset()
        listing.add(b"d", Scope.LISTING)
        place.write("d/new")
        worker.put(WorkItem(listing, clock.now()))
        wait_until((place.copy / "d/new").exists)
        wait_until(lambda: worker.pending_count == 1)
        assert (place.copy / "d/bad").read_text() == "as it was"
        # Deleting the directory deletes the path, too.
        shutil.rmtree(place.source / "d")
        worker.put(WorkItem(entries(b"d"), clock.now()))
        wait_until(lambda: not (place.copy / "d").exists())
        wait_until(lambda: worker.pending_count == 0)


def test_a_run_under_which_the_source_was_replaced_confirms_nothing(place: WorkerSetup) -> None:
    place.write("f")
    elsewhere = f"{place.source}-elsewhere"
    place.faulty.add_fault(f"mv '{place.source}' '{elsewhere}' && mkdir '{place.source}'; exit 0")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"f"), clock.now()))
        wait_until(lambda: worker.status().error)
        assert worker.pending_count == 1
        assert not place.saved_changes()
        place.source.rmdir()
        shutil.move(elsewhere, place.source)
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: place.saved_changes() == set())
    assert (place.copy / "f").exists()


def test_changes_stay_pending_when_the_probe_before_their_run_fails(tmp_path: Path) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, is_probed=False)) as place:
        place.write("f")
        place.faulty.add_fault(exit_with(30))
        item = WorkItem(entries(b"f"), clock.now())
        with place.worker(queued=item):
            wait_until(lambda: place.saved_changes() == set())
        assert (place.copy / "f").exists()


def test_failed_paths_stay_pending_while_the_destination_is_unreachable(place: WorkerSetup) -> None:
    place.write("bad")
    place.make_fail("bad", first="true")
    place.faulty.add_fault(exit_with(30))
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"bad"), clock.now()))
        wait_until(lambda: not place.faulty.pending_faults)
        wait_until(lambda: place.saved_changes() == set())
    assert (place.copy / "bad").exists()


def test_a_path_that_fails_again_waits_again(place: WorkerSetup) -> None:
    place.write("bad")
    for _ in range(2):
        place.make_fail("bad")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"bad"), clock.now()))
        wait_until(lambda: place.saved_paths() == [b"bad"])
        worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: not place.faulty.pending_faults)
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        assert (worker.status().next_attempt or 0.0) > 300
        assert place.saved_paths() == [b"bad"]


@pytest.mark.parametrize(
    "complaint",
    [
        pytest.param("Permission denied (13)", id="it cannot be read"),
        pytest.param("Too many levels of symbolic links (40)", id="it has just become a symlink"),
    ],
)
def test_deletions_that_rsync_skipped_because_of_another_failure_are_made(
    place: WorkerSetup, complaint: str
) -> None:
    place.write("bad")
    (place.copy / "gone").touch()
    said = f'rsync: [sender] send_files failed to open "{place.source}/bad": {complaint}'
    skipped = "IO error encountered -- skipping file deletion"
    place.faulty.add_fault(f"echo '{said}' >&2; echo '{skipped}'; exit 23")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"bad", b"gone"), clock.now()))
        wait_until(lambda: place.saved_changes() == set())
    assert sorted(path.name for path in place.copy.iterdir()) == ["bad"]


def test_everything_in_an_excluded_directory_is_carried_later(place: WorkerSetup) -> None:
    place.write("shut/deep/f")
    (place.copy / "gone").touch()
    said = f'rsync: [sender] opendir "{place.source}/shut" failed: Permission denied (13)'
    skipped = "IO error encountered -- skipping file deletion"
    place.faulty.add_fault(f"echo '{said}' >&2; echo '{skipped}'; exit 23")
    with place.worker() as worker:
        changes = entries(b"gone")
        changes.add(b"shut", Scope.TREE)
        worker.put(WorkItem(changes, clock.now()))
        wait_until(lambda: place.saved_changes() == set())
    assert not (place.copy / "gone").exists()
    assert (place.copy / "shut/deep/f").exists()


def test_a_full_sync_carries_failed_paths(place: WorkerSetup) -> None:
    place.write("bad")
    place.make_fail("bad")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"bad"), clock.now()))
        wait_until(lambda: place.saved_paths() == [b"bad"])
        worker.put(WorkItem(EVERYTHING, clock.now()))
        wait_until(lambda: place.saved_changes() == set())


@pytest.mark.parametrize("is_hanging", [False, True], ids=["idle", "while rsync hangs"])
def test_a_stopped_worker_saves_a_clean_stop(place: WorkerSetup, *, is_hanging: bool) -> None:
    place.write("f", "g")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"f"), clock.now()))
        wait_until(lambda: place.saved_changes() == set())
        if is_hanging:
            place.faulty.add_fault("exec sleep 600")
            worker.put(WorkItem(entries(b"g"), clock.now()))
            wait_until(lambda: not place.faulty.pending_faults)
    state = place.state()
    assert state is not None
    assert state.is_clean_stop


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_held_subtree_is_saved_as_pending_as_a_whole(place: WorkerSetup, tmp_path: Path) -> None:
    nested, disk = place.source / "nested", tmp_path / "disk"
    nested.mkdir()
    disk.mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(disk)
        mounts.mount_bind(disk, nested)
        place.guard.accept()
        place.write("nested/f", "g")
        with place.worker() as worker:
            worker.put(WorkItem(EVERYTHING, clock.now()))
            wait_until(lambda: place.saved_changes() == set())
            mounts.unmount(nested)
            # This change is not seen, and it is older than the next confirmed moment.
            (disk / "f").write_text("changed elsewhere")
            place.write("g")
            worker.put(WorkItem(EVERYTHING, clock.now()))
            wait_until(lambda: place.saved_changes() == {Change(b"nested", Scope.TREE)})
            assert (place.copy / "nested/f").read_text() == "nested/f"
            mounts.mount_bind(disk, nested)
            worker.put(WorkItem(entries(b"g"), clock.now()))
            wait_until(lambda: place.saved_changes() == set())
            assert (place.copy / "nested/f").read_text() == "changed elsewhere"


def test_a_destination_that_names_other_paths_each_time_is_retried_ever_more_rarely() -> None:
    policy = RetryPolicy(first_pause=1.0)
    work = PendingWork(LargeFileQueue(None, policy), policy)
    pauses = []
    for number in range(12):
        work.next_run.backlog.add(EVERYTHING)
        failed = entries(b"%d" % number)
        outcome = Outcome(Verdict.PARTIAL)
        work.add_failed_paths(TransferResult(outcome, pending=EVERYTHING, failed=failed))
        work.next_run.schedule_retry(Verdict.PARTIAL)
        pauses.append(work.next_run.due_at - time.monotonic())
    assert max(pauses[:5]) <= 1.0
    assert pauses[-1] > 16.0
