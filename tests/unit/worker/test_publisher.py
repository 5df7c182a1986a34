"""What goes last arrives after everything that it may name. With real rsyncs."""

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.faults import print_error_and_exit, wait_for_file
from support.trees import differences
from support.waiting import wait_until
from support.worker_setup import DENIED, LONG, UNWRITABLE, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules import excludes, filters
from pylsyncd.system import clock
from pylsyncd.worker.publisher import MAX_FULL_SYNC_WAITS, Publisher, TransferConditions
from pylsyncd.worker.transfer_result import TransferResult

ALL = entries(b"b1", b"b2", b"index")
LAST = excludes.build_rules([filters.parse_exclude(b"/index")])
ALONE = TransferConditions()
Make = Callable[..., WorkerSetup]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(**options: object) -> WorkerSetup:
            place = WorkerSetup(tmp_path, last=LAST, **options)  # type: ignore[arg-type]
            stack.enter_context(contextlib.closing(place))
            publish_second_version(place)
            return place

        yield make


@pytest.fixture
def place(make: Make) -> WorkerSetup:
    return make()


def publish_second_version(place: WorkerSetup) -> None:
    """Have a copy of an index that names b1, and a source whose index names b2."""
    (place.copy / "index").write_text("names b1")
    (place.copy / "b1").touch()
    place.write("b2")
    (place.source / "index").write_text("names b2")


def carry(
    place: WorkerSetup, changeset: Changeset = ALL, conditions: TransferConditions = ALONE
) -> TransferResult:
    return Publisher(place.transfer(place.session())).carry(changeset, conditions)


def state(place: WorkerSetup) -> str:
    return " ".join([*sorted(os.listdir(place.copy)), (place.copy / "index").read_text()])


FIRST, BOTH, SECOND = "b1 index names b1", "b1 b2 index names b1", "b2 index names b2"
SWITCHED = "b1 b2 index names b2"


def record_states(place: WorkerSetup, runs: int) -> Callable[[], list[str]]:
    """Return a function that returns the state of the copy before each of so many runs."""
    trace = place.copy.parent / "trace"
    copy = shlex.quote(str(place.copy))
    for _ in range(runs):
        place.faulty.add_fault(
            f"(cd {copy} && echo $(ls) $(cat index)) >> {shlex.quote(str(trace))}"
        )
    return lambda: [*trace.read_text().splitlines(), state(place)]


def paths(changeset: Changeset) -> list[bytes]:
    return sorted(change.path for change in changeset)


def test_data_comes_first_then_the_last_files_then_the_deletions(place: WorkerSetup) -> None:
    states = record_states(place, 3)
    result = carry(place)
    assert states() == [FIRST, BOTH, SWITCHED, SECOND]
    assert (result.verdict, paths(result.pending), paths(result.failed)) == (Verdict.DONE, [], [])
    assert result.run is not None
    assert (result.run.result.files, result.run.result.deleted) == (2, 1)


def test_a_full_sync_keeps_the_order(place: WorkerSetup) -> None:
    states = record_states(place, 3)
    result = carry(place, EVERYTHING)
    assert (result.verdict, paths(result.pending)) == (Verdict.DONE, [])
    assert states() == [FIRST, BOTH, SWITCHED, SECOND]


def touch_later(path: Path) -> str:
    """Return a shell script that gives a file a time later than the start of the script.

    The kernel gives it that of the last tick, which may be earlier.
    """
    file, start = shlex.quote(str(path)), shlex.quote(f"{path.parent.parent}/start")
    is_later = f"find {file} -newercm {start} | grep -q ."
    return f"touch {start}; until {is_later}; do touch {file}; done"


def test_a_full_sync_waits_a_few_times_for_a_last_file_that_changes_meanwhile(
    place: WorkerSetup,
) -> None:
    publisher = Publisher(place.transfer(place.session()))
    for wait in range(MAX_FULL_SYNC_WAITS + 1):
        place.faulty.add_fault(touch_later(place.source / "index"))
        result = publisher.carry(EVERYTHING, ALONE)
        is_last = wait == MAX_FULL_SYNC_WAITS
        assert (result.verdict, paths(result.pending)) == (
            Verdict.DONE, [b"index"] if is_last else [b"", b"index"],
        )  # fmt: skip
        assert state(place) == ("b2 index names b1" if is_last else BOTH)
    assert publisher.carry(EVERYTHING, ALONE).verdict is Verdict.DONE
    assert state(place) == SECOND


def test_what_fails_in_a_full_sync_keeps_nothing_back(place: WorkerSetup) -> None:
    place.make_fail("b2")
    place.faulty.add_fault("")  # the last files
    place.make_fail("b2")
    result = carry(place, EVERYTHING)
    assert b"b2" in paths(result.failed)
    assert state(place) == SECOND


@pytest.mark.parametrize("changes", [ALL, EVERYTHING])
def test_without_deletions_the_last_files_come_last_nevertheless(
    make: Make, changes: Changeset
) -> None:
    place = make(delete=False)
    states = record_states(place, 2)
    assert carry(place, changes).verdict is Verdict.DONE
    assert states() == [FIRST, BOTH, SWITCHED]


@pytest.mark.parametrize("scope", [Scope.LISTING, Scope.TREE])
def test_a_directory_is_compared_in_the_same_order(place: WorkerSetup, scope: Scope) -> None:
    for top in (place.source, place.copy):
        (top / "d").mkdir()
        os.utime(top / "d", (1, 1))
    (place.copy / "d/old").touch()
    changes = entries(b"b1", b"b2", b"index")
    changes.add(b"d", scope)
    states = record_states(place, 4)
    assert carry(place, changes).verdict is Verdict.DONE
    # The third run is a dry one.
    assert states()[:4] == [
        f"{each.replace('index', 'd index')}" for each in (FIRST, BOTH, SWITCHED, SWITCHED)
    ]
    assert not os.listdir(place.copy / "d")


def test_without_last_files_one_run_does_everything(place: WorkerSetup) -> None:
    states = record_states(place, 2)
    carry(place, entries(b"b1", b"b2"))
    assert states() == [FIRST, "b2 index names b1"]


def test_what_fails_before_them_keeps_the_last_files_and_the_deletions_back(
    place: WorkerSetup,
) -> None:
    place.make_fail("b2")
    result = carry(place)
    assert (result.verdict, paths(result.failed), paths(result.pending)) == (
        Verdict.PARTIAL, [b"b1", b"b2", b"index"], [],
    )  # fmt: skip
    assert state(place) == BOTH
    # Together they are tried again in the same order.
    states = record_states(place, 3)
    assert carry(place, result.failed).verdict is Verdict.DONE
    assert states() == [BOTH, BOTH, SWITCHED, SECOND]


@pytest.mark.parametrize("error", [DENIED, *UNWRITABLE])
def test_what_fails_for_long_keeps_nothing_back(place: WorkerSetup, error: str) -> None:
    place.make_fail("b2", error=error)
    result = carry(place, conditions=TransferConditions(is_strict=False))
    verdict = Verdict.PARTIAL if error == DENIED else Verdict.RETRY_LATER
    assert (result.verdict, paths(result.failed)) == (verdict, [b"b2"])
    assert state(place) == SECOND


def test_a_destination_that_cannot_be_reached_leaves_everything_pending(place: WorkerSetup) -> None:
    place.faulty.add_fault(print_error_and_exit("rsync: connection reset", 12))
    result = carry(place)
    assert (result.verdict, paths(result.pending)) == (Verdict.RETRY_LATER, paths(ALL))
    assert state(place) == FIRST


def test_last_files_that_fail_keep_the_deletions_back(place: WorkerSetup) -> None:
    place.faulty.add_fault("")
    place.make_fail("index", first=":")
    result = carry(place)
    assert "b1" in os.listdir(place.copy)
    assert (result.verdict, b"b1" in paths(result.failed) + paths(result.pending)) == (
        Verdict.PARTIAL, True,
    )  # fmt: skip


def test_last_files_wait_for_failed_paths_of_earlier_windows(place: WorkerSetup) -> None:
    result = carry(place, conditions=TransferConditions(awaits_failed_paths=True))
    assert (result.verdict, paths(result.failed)) == (Verdict.PARTIAL, [b"b1", b"index"])
    assert state(place) == BOTH
    result = carry(place, entries(b"b2"), TransferConditions(awaits_failed_paths=True))
    assert (result.verdict, paths(result.failed)) == (Verdict.DONE, [])


def test_last_files_wait_for_large_files(place: WorkerSetup) -> None:
    result = carry(place, conditions=TransferConditions(awaits_large_files=True))
    assert (result.verdict, paths(result.pending)) == (Verdict.DONE, [b"b1", b"index"])
    assert state(place) == BOTH


def test_a_last_file_that_is_newer_than_the_window_waits_with_the_deletions(
    place: WorkerSetup,
) -> None:
    before = (place.source / "index").stat().st_ctime - 0.001
    result = carry(place, conditions=TransferConditions(known_until=before))
    assert (result.verdict, paths(result.pending)) == (Verdict.DONE, [b"b1", b"index"])
    assert state(place) == BOTH
    after = TransferConditions(known_until=before + 1.0)
    assert carry(place, result.pending, after).verdict is Verdict.DONE
    assert state(place) == SECOND


def test_last_files_wait_if_the_source_loses_meanwhile_what_they_may_name(
    place: WorkerSetup,
) -> None:
    place.faulty.add_fault(f"rm {shlex.quote(str(place.source))}/b2")
    result = carry(place)
    assert (result.verdict, paths(result.pending)) == (Verdict.DONE, [b"b1", b"index"])
    assert state(place) == FIRST


def test_a_newer_content_does_not_get_in_while_rsync_runs(place: WorkerSetup) -> None:
    index = shlex.quote(str(place.source / "index"))
    place.faulty.add_fault(f"echo names b3 > {index}.new; mv {index}.new {index}")
    assert carry(place).verdict is Verdict.DONE
    assert state(place) == SECOND


def test_what_was_gone_before_keeps_nothing_waiting(place: WorkerSetup) -> None:
    changes = MutableChangeset()
    changes.merge(ALL)
    changes.add(b"gone", Scope.TREE)
    assert not carry(place, changes).pending
    assert state(place) == SECOND


def test_too_many_deletions_are_held_before_anything_is_sent(make: Make) -> None:
    place = make(max_delete=0)
    result = carry(place)
    assert (result.verdict, paths(result.pending)) == (Verdict.HELD, paths(ALL))
    assert state(place) == FIRST
    assert carry(place, conditions=TransferConditions(is_released=True)).verdict is Verdict.DONE
    assert state(place) == SECOND


@pytest.mark.parametrize("delete_only", DeletionTime)
@pytest.mark.parametrize("changes", [ALL, EVERYTHING], ids=["list", "full sync"])
def test_what_is_held_for_some_deletions_stays_pending_as_a_whole(
    make: Make, changes: Changeset, delete_only: DeletionTime
) -> None:
    place = make(max_delete=0, delete_only=delete_only)
    result = carry(place, changes.with_deletable(entries(b"b1")))
    assert (result.verdict, paths(result.pending)) == (Verdict.HELD, paths(changes))
    assert result.pending.deletable.includes_entry(b"b1")
    assert state(place) == FIRST


def test_a_deleted_last_file_is_deleted_before_what_it_named(place: WorkerSetup) -> None:
    (place.source / "index").unlink()
    for _ in ("data", "last files"):
        place.faulty.add_fault("")
    place.faulty.add_fault(f"ls {shlex.quote(str(place.copy))} > {place.copy.parent}/trace")
    carry(place)
    assert (place.copy.parent / "trace").read_text().split() == ["b1", "b2"]
    assert os.listdir(place.copy) == ["b2"]


# With a worker:


def item(changeset: Changeset) -> WorkItem:
    return WorkItem(changeset, complete_until=clock.now())


@pytest.mark.parametrize("deletes_by_listing", [False, True])
@pytest.mark.parametrize("other", [(), (b"site/a/index",), (b"index",), (b"site/other/index",)])
def test_a_deleted_last_file_takes_nothing_else_along(
    tmp_path: Path, other: tuple[bytes, ...], *, deletes_by_listing: bool
) -> None:
    last = excludes.build_rules([filters.parse_exclude(b"index")])
    with contextlib.closing(WorkerSetup(tmp_path, last=last)) as place:
        place.write("site/a/page", "site/b/page", "site/index", "site/other/index", "index")
        place.write("site/a/index")
        changes = entries(b"site/b/index", *other)
        conditions = replace(ALONE, deletes_by_listing=deletes_by_listing)
        assert carry(place, EVERYTHING).verdict is Verdict.DONE
        (place.copy / "site/b/index").touch()
        for path in other:
            (place.source / os.fsdecode(path)).write_text("new")
        result = carry(place, changes, conditions)
        assert (result.verdict, paths(result.pending)) == (Verdict.DONE, [])
        assert not differences(bytes(place.source), bytes(place.copy))


def test_a_worker_sends_a_last_file_after_a_large_one_that_is_in_flight(make: Make) -> None:
    place = make(size_limit=SizeLimit(100, preserves_hard_links=False))
    (place.source / "b2").write_bytes(b"x" * 101)
    is_released = place.copy.parent / "released"
    place.faulty.add_fault("")  # the data without the large file
    place.faulty.add_fault(wait_for_file(is_released))
    (place.source / "b3").touch()
    with place.worker(LONG) as worker:
        worker.put(item(entries(b"b1", b"b2", b"b3", b"index")))
        wait_until(lambda: place.faulty.pending_faults == 0)
        assert state(place) == "b1 b3 index names b1"
        assert worker.status().condition is Condition.SYNCING
        is_released.touch()
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        assert state(place) == "b2 b3 index names b2"


def test_a_worker_sends_a_newer_last_file_with_the_next_changes(place: WorkerSetup) -> None:
    with place.worker(LONG) as worker:
        until = clock.now()
        while (place.source / "index").stat().st_ctime <= until.wall:
            (place.source / "index").chmod(0o644)
        worker.put(WorkItem(ALL, complete_until=until))
        wait_until(lambda: state(place) == BOTH)
        wait_until(lambda: worker.status().condition is Condition.WAITING)
        assert worker.status().error == ""
        worker.put(item(entries(b"index")))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        assert state(place) == SECOND


def test_a_worker_lets_last_files_wait_until_the_failed_paths_are_copied(
    place: WorkerSetup,
) -> None:
    place.make_fail("b2", first=":")
    with place.worker(LONG) as worker:
        worker.put(item(entries(b"b2")))
        wait_until(lambda: worker.status().condition is Condition.RETRYING)
        worker.put(item(entries(b"b1", b"index")))
        wait_until(lambda: "go last wait" in worker.status().error)
        assert (state(place), worker.pending_count) == (FIRST, 3)
        worker.put(WorkItem(MutableChangeset(), is_urgent=True))
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
        assert state(place) == SECOND
