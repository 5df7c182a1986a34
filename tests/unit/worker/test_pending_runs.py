"""What is pending for a destination and what is saved of it. With real rsyncs and real state."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, print_error_and_exit
from support.mounts import Mounts, can_mount
from support.waiting import wait_until
from support.worker_setup import LONG, UNWRITABLE, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system import clock


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
    said = f'rsync: [sender] send_files failed to open "/proc/self/cwd/bad": {complaint}'
    skipped = "IO error encountered -- skipping file deletion"
    place.faulty.add_fault(f"echo '{said}' >&2; echo '{skipped}'; exit 23")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"bad", b"gone"), clock.now()))
        wait_until(lambda: place.saved_changes() == set())
    assert sorted(path.name for path in place.copy.iterdir()) == ["bad"]


def test_everything_in_an_excluded_directory_is_carried_later(place: WorkerSetup) -> None:
    place.write("shut/deep/f")
    (place.copy / "gone").touch()
    said = 'rsync: [sender] opendir "/proc/self/cwd/shut" failed: Permission denied (13)'
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


OUTSIDE = 'file has vanished: "/somewhere/else"'


def test_a_run_that_fails_without_a_reason_holds_nothing_else_up(place: WorkerSetup) -> None:
    place.write("d/odd", "good")
    for entry in ("d/odd", "d/"):
        place.faulty.add_rule(entry, print_error_and_exit(OUTSIDE, 24))
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"d/odd"), clock.now()))
        wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
        count = len(place.faulty.runs)
        later = clock.now()
        worker.put(WorkItem(entries(b"good"), later))
        wait_until(lambda: (state := place.state()) and state.confirmed == later)
        assert (place.copy / "good").exists()
        # Its directory was looked at as well, because the source was not quiet.
        wait_until(lambda: len(place.faulty.runs) == count + 2)
        assert place.faulty.runs[count:] == [["good"], ["d/"]]
        assert place.saved_paths() == [b"d/odd"]
        place.faulty.discard_rules()
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
        wait_until(lambda: worker.confirmed_serial == 3)
        wait_until(lambda: place.saved_changes() == set())
    assert (place.copy / "d/odd").exists()


def test_retries_of_a_run_that_fails_without_a_reason_widen_and_then_get_rarer(
    place: WorkerSetup,
) -> None:
    place.write("d/e/odd", "other")
    place.faulty.add_rule("", print_error_and_exit(OUTSIDE, 24))
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"d/e/odd"), clock.now()))
        for count in range(4, 9):
            wait_until(lambda count=count: len(place.faulty.runs) == count)
            wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
            worker.put(WorkItem(NOTHING, is_urgent=True))
        wait_until(lambda: len(place.faulty.runs) == 9)
        assert place.faulty.runs == [
            *[["d/e/odd"]] * 4, ["d/e/"], ["d/e/"], ["EVERYTHING"], ["d/e/odd"], ["d/e/odd"],
        ]  # fmt: skip
        wait_until(lambda: place.saved_paths() == [b"d/e/odd"])
        assert "vanished" in worker.status().error


def test_a_widened_retry_that_would_delete_too_much_is_not_held(tmp_path: Path) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, max_delete=1)) as place:
        place.write("d/odd")
        (place.copy / "d").mkdir()
        for name in ("d/x", "d/y"):
            (place.copy / name).touch()
        place.faulty.add_rule("d/odd", print_error_and_exit(OUTSIDE, 24))
        with place.worker(LONG) as worker:
            worker.put(WorkItem(entries(b"d/odd"), clock.now()))
            wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
            count = len(place.faulty.runs)
            worker.put(WorkItem(NOTHING, is_urgent=True))
            wait_until(lambda: len(place.faulty.runs) > count)
            assert place.faulty.runs[count:] == [["d/"]]
            wait_until(lambda: (worker.status().next_attempt or 0.0) > 300)
            assert worker.status().condition is Condition.RETRYING
            place.faulty.discard_rules()
            worker.put(WorkItem(NOTHING, is_urgent=True))
            wait_until(lambda: place.saved_changes() == set())
        assert sorted(os.listdir(place.copy / "d")) == ["odd", "x", "y"]


def test_attributes_that_cannot_be_set_do_not_hold_up_the_confirmation(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    place.write("d/a", "b")
    said = f'rsync: [receiver] chown "{place.copy}/d/.a.Y7sFkQ" failed: Invalid argument (22)'
    place.faulty.add_fault(f"{place.faulty.real_rsync} \"$@\"; echo '{said}' >&2; exit 23")
    with place.worker(LONG) as worker:
        worker.put(WorkItem(entries(b"d/a", b"b"), clock.now(), serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        wait_until(lambda: place.saved_changes() == set())
        assert list(worker.unset_attributes) == [(b"d/a", Scope.ENTRY)]
        assert worker.status().set_aside.unset_attributes.names == ("d/a",)
        assert worker.settlement.serial == 1
        assert any("could not be set" in record.message for record in caplog.records)
        worker.put(WorkItem(entries(b"b"), clock.now(), serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        assert len(worker.unset_attributes) == 1
    # They are known after a restart.
    with place.worker(LONG, resumes=True) as worker:
        worker.put(WorkItem(NOTHING, serial=2))
        wait_until(lambda: worker.confirmed_serial == 2)
        assert worker.settlement.set_aside.unset_attributes.names == ("d/a",)
        # Its next change sets them.
        worker.put(WorkItem(entries(b"d/a"), clock.now(), serial=3))
        wait_until(lambda: worker.confirmed_serial == 3)
        assert not worker.unset_attributes


def test_a_failed_deletion_is_retried_by_listing_the_directory(place: WorkerSetup) -> None:
    place.write("d/kept")
    (place.copy / "d/shut").mkdir(parents=True)
    denied = "Permission denied (13)"
    said = f"rsync: [generator] delete_file: unlink(d/shut/f) failed: {denied}"
    place.faulty.add_rule("d/shut", print_error_and_exit(said, 23))
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"d/shut"), clock.now(), serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)
    assert place.faulty.runs == [["d/shut"], ["d/"]]
    assert os.listdir(place.copy / "d") == ["kept"]


def test_a_file_that_does_not_fit_holds_nothing_else_up(tmp_path: Path) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, prelude="ulimit -f 64;")) as place:
        place.write("a", "z")
        for name in ("large", "larger"):
            (place.source / name).write_bytes(bytes(200_000 + len(name)))
        with place.worker(LONG) as worker:
            worker.put(WorkItem(EVERYTHING, clock.now(), titles=("initial sync",), serial=1))
            wait_until(lambda: place.saved_paths() == [b"large", b"larger"])
            assert sorted(os.listdir(place.copy)) == ["a", "z"]
            wait_until(lambda: worker.status().condition is Condition.RETRYING)
            wait_until(lambda: "File too large" in worker.status().error)
            place.write("m")
            worker.put(WorkItem(entries(b"m"), clock.now(), serial=2))
            wait_until((place.copy / "m").exists)
            assert place.saved_paths() == [b"large", b"larger"]
            # It fits now; its change may be unseen.
            (place.source / "larger").write_bytes(b"small")
            worker.put(WorkItem(NOTHING, is_urgent=True))
            wait_until(lambda: place.saved_paths() == [b"large"])
            assert (place.copy / "larger").read_bytes() == b"small"
            (place.source / "large").unlink()
            worker.put(WorkItem(entries(b"large"), clock.now(), serial=3))
            wait_until(lambda: worker.confirmed_serial == 3)
            wait_until(lambda: place.saved_changes() == set())


def test_a_large_file_that_does_not_fit_holds_nothing_else_up(tmp_path: Path) -> None:
    limit = SizeLimit(10_000, preserves_hard_links=False)
    with contextlib.closing(
        WorkerSetup(tmp_path, prelude="ulimit -f 64;", size_limit=limit)
    ) as place:
        place.write("d/small")
        for name, size in (("a", 200_000), ("b", 20_000), ("c", 300_000), ("e", 30_000)):
            (place.source / "d" / name).write_bytes(bytes(size))
        with place.worker(LONG) as worker:
            worker.put(WorkItem(entries(b"d/a", b"d/b", b"d/c", b"d/e", b"d/small"), clock.now()))
            wait_until(lambda: place.saved_paths() == [b"d/a", b"d/c"])
            assert sorted(os.listdir(place.copy / "d")) == ["b", "e", "small"]
            wait_until(lambda: worker.status().set_aside.failed.names == ("d/a", "d/c"))
            place.write("d/more")
            listing = MutableChangeset()
            listing.add(b"d", Scope.LISTING)
            aborted = worker.status().counts.codes[11]
            worker.put(WorkItem(listing, clock.now(), serial=2))
            wait_until((place.copy / "d/more").exists)
            wait_until(lambda: worker.settlement.serial == 2)
            assert worker.status().counts.codes[11] == aborted
            (place.source / "d/a").write_bytes(bytes(15_000))
            worker.put(WorkItem(NOTHING, is_urgent=True, serial=3))
            wait_until(lambda: place.saved_paths() == [b"d/c"])
            # Until the other one was tried as well, it may be on its way.
            wait_until(lambda: worker.settlement.serial == 3)
            (place.source / "d/c").unlink()
            worker.put(WorkItem(entries(b"d/c"), clock.now(), serial=4))
            wait_until(lambda: worker.confirmed_serial == 4)


def test_temporary_files_of_a_killed_receiver_are_deleted_by_the_next_run(
    place: WorkerSetup,
) -> None:
    place.write("d/f", "e/g")
    for name in ("d", "e", "other"):
        (place.copy / name).mkdir()
        (place.copy / name / ".f.XXXXXX").touch()
    place.faulty.add_fault("kill -KILL $$")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"d/f", b"e/g"), clock.now(), serial=1))
        wait_until(lambda: worker.confirmed_serial == 1)
    found = {str(path.relative_to(place.copy)) for path in place.copy.rglob("*")}
    assert found == {"d", "d/f", "e", "e/g", "other", "other/.f.XXXXXX"}


def test_only_a_carried_full_sync_verifies_a_destination(place: WorkerSetup) -> None:
    place.write("f", "bad")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"f"), clock.now(), serial=1))
        wait_until(lambda: worker.settlement.serial == 1)
        assert "pylsyncctl sync copy" in worker.status().unverified
        # One run fails as a whole; what fails of the next one is pending apart.
        place.faulty.add_fault(exit_with(30))
        place.make_fail("bad")
        worker.put(WorkItem(EVERYTHING, clock.now(), serial=2))
        wait_until(lambda: not worker.status().unverified)
        assert not place.faulty.pending_faults
        wait_until(lambda: worker.settlement.serial == 2)
    state = place.state()
    assert state is not None
    assert state.is_verified


@pytest.mark.parametrize("error", UNWRITABLE)
def test_a_full_sync_that_ends_at_a_full_destination_verifies_it_except_for_what_failed(
    place: WorkerSetup, error: str
) -> None:
    place.write("f", "bad")
    place.make_fail("bad", error=error)
    with place.worker() as worker:
        worker.put(WorkItem(EVERYTHING, clock.now(), serial=1))
        wait_until(lambda: worker.settlement.serial == 1)
        assert not worker.status().unverified
    state = place.state()
    assert state is not None
    assert state.is_verified


@pytest.mark.parametrize("status", [12, 23, 30])
def test_a_full_sync_that_fails_without_naming_a_path_verifies_nothing(
    place: WorkerSetup, status: int
) -> None:
    with place.worker(LONG) as worker:
        for _ in range(20):
            place.faulty.add_fault(exit_with(status))
        worker.put(WorkItem(EVERYTHING, clock.now(), serial=1))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        assert worker.status().unverified == "its full sync is not complete"
        place.faulty.discard_faults()
        worker.put(WorkItem(NOTHING, is_urgent=True, serial=2))
        wait_until(lambda: worker.settlement.serial == 2)
        assert not worker.status().unverified
