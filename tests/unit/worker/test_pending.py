"""What is pending for a destination, in parts, and what is confirmed. Without rsync."""

import time
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import ANY

import pytest
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, union
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.model.status import PathSummary, SetAside
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.system import clock
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.pending import MAX_EXCLUDED_PATHS, CompleteTimes, PendingWork, Settlement
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.transfer_result import TransferResult
from pylsyncd.worker.verification import Verification


def pending_work(policy: RetryPolicy = LONG) -> PendingWork:
    return PendingWork(LargeFileQueue(None, policy), policy)


def receive(
    work: PendingWork, item: WorkItem, *, is_reachable: bool = True, extra_window: float = 0.0
) -> None:
    work.add(item, is_reachable=is_reachable, extra_window=extra_window)


def tree(*some: bytes, scope: Scope = Scope.TREE) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, scope)
    return changes


def test_before_any_work_nothing_is_pending_and_nothing_confirmed() -> None:
    work = pending_work()
    assert (work.confirmed_serial, work.settlement) == (0, Settlement())
    assert work.set_aside == SetAside()
    work.settle()
    assert (work.confirmed_serial, work.settlement) == (0, Settlement())
    assert (work.pending_count, work.pending_since, work.due_at) == (0, None, None)
    assert work.received_times == CompleteTimes()
    assert not work.take_unconfirmed().changeset


QUEUES: dict[str, Callable[[PendingWork], RetryQueue]] = {
    "next run": lambda work: work.next_run,
    "failed paths": lambda work: work.failed_paths,
    "aborting files": lambda work: work.aborting_files,
    "unexplained": lambda work: work.unexplained,
    "held repair": lambda work: work.held_repair,
    "large files": lambda work: work.large_files.retry_queue,
    "aborting large files": lambda work: work.large_files.aborting_files,
}


@pytest.mark.parametrize("name", QUEUES)
def test_each_part_counts_as_pending_and_is_due_in_its_own_time(name: str) -> None:
    work = pending_work()
    queue = QUEUES[name](work)
    queue.backlog.add(entries(b"a", b"b"))
    queue.include_since(50.0)
    queue.due_at = 70.0
    assert (work.pending_count, work.pending_since, work.due_at) == (2, 50.0, 70.0)
    assert work.has_failed_paths == (
        name in {"failed paths", "aborting files", "aborting large files"}
    )
    # What a part waits for without changes is nothing to wake up for.
    queue.backlog.take()
    assert work.due_at is None


@pytest.mark.parametrize("name", QUEUES)
def test_what_is_pending_anywhere_is_handed_over_except_for_a_repair(name: str) -> None:
    work = pending_work()
    QUEUES[name](work).backlog.add(entries(b"a"))
    work.held.add(tree(b"mount"))
    expected = {Change(b"mount", Scope.TREE)}
    if name != "held repair":
        expected.add(Change(b"a", Scope.ENTRY))
    assert set(work.take_unconfirmed().changeset) == expected


@pytest.mark.parametrize("name", QUEUES)
def test_what_is_pending_anywhere_is_saved_with_what_is_confirmed(
    place: WorkerSetup, name: str
) -> None:
    work, checkpoint = pending_work(), place.checkpoint()
    first, second, scanned = clock.now(), clock.now(), clock.now()
    work.update_checkpoint(checkpoint)
    assert place.state() is None
    work.confirm(CompleteTimes(first))
    work.unset_attributes.add(entries(b"foreign"))
    work.update_checkpoint(checkpoint)
    QUEUES[name](work).backlog.add(entries(b"a"))
    work.held.add(tree(b"mount"))
    work.confirm(CompleteTimes(second, scanned))
    work.update_checkpoint(checkpoint)
    checkpoint.save()
    state = place.state()
    assert state is not None
    if name == "next run":
        assert (state.confirmed, state.scanned, set(state.pending)) == (first, first, set())
        return
    assert (state.confirmed, state.scanned) == (second, scanned)
    expected = {Change(b"mount", Scope.TREE)}
    if name != "held repair":
        expected.add(Change(b"a", Scope.ENTRY))
    assert set(state.pending) == expected
    assert set(state.unset_attributes) == set(entries(b"foreign"))


@pytest.mark.parametrize("name", QUEUES)
def test_nothing_is_settled_before_each_part_was_tried(name: str) -> None:
    work = pending_work()
    queue = QUEUES[name](work)
    queue.backlog.add(entries(b"a"))
    receive(work, WorkItem(NOTHING, serial=1))
    work.settle()
    assert (work.settlement.serial, work.confirmed_serial) == (0, 0)
    queue.schedule_retry(Verdict.PARTIAL)
    work.settle()
    is_apart = name not in {"next run", "large files"}
    assert work.settlement.serial == is_apart
    assert work.set_aside.failed == (PathSummary(1, ("a",)) if is_apart else PathSummary())
    queue.backlog.take()
    receive(work, WorkItem(NOTHING, serial=2))
    work.settle()
    assert (work.settlement, work.confirmed_serial) == (Settlement(2), 2)


@pytest.mark.parametrize("name", QUEUES)
def test_a_request_has_each_part_tried_at_once(name: str) -> None:
    for item in (WorkItem(NOTHING, is_urgent=True), WorkItem(NOTHING, is_release=True)):
        work = pending_work()
        queue = QUEUES[name](work)
        queue.backlog.add(entries(b"a"))
        queue.schedule_retry(Verdict.PARTIAL)
        receive(work, WorkItem(NOTHING))
        assert not queue.is_due()
        receive(work, item)
        assert queue.is_due()


@pytest.mark.parametrize("name", QUEUES)
def test_a_sync_is_complete_when_no_part_has_anything_left(name: str) -> None:
    work = pending_work()
    receive(work, WorkItem(EVERYTHING, titles=("initial sync",), serial=1))
    receive(work, WorkItem(NOTHING, titles=("initial sync", "full sync"), serial=2))
    work.next_run.backlog.take()
    if name != "next run":
        QUEUES[name](work).backlog.add(entries(b"a"))
    # Without its failed paths it is complete, but not confirmed.
    assert work.take_completed_titles() == ["initial sync", "full sync"]
    assert work.take_completed_titles() == []
    work.settle()
    assert work.confirmed_serial == (2 if name == "next run" else 0)


def test_a_sync_that_fails_without_naming_a_path_is_not_complete() -> None:
    work = pending_work()
    receive(work, WorkItem(EVERYTHING, titles=("full sync",), serial=1))
    work.unexplained.backlog.add(work.next_run.backlog.take())
    assert work.take_completed_titles() == []
    work.unexplained.backlog.take()
    assert work.take_completed_titles() == ["full sync"]


def test_a_work_item_without_times_or_a_serial_number_leaves_the_last_ones_in_force() -> None:
    work = pending_work()
    until, scanned, later = clock.now(), clock.now(), clock.now()
    receive(work, WorkItem(NOTHING, until, scanned, serial=3))
    receive(work, WorkItem(NOTHING))
    assert work.take_unconfirmed() == WorkItem(ANY, until, scanned, serial=3)
    receive(work, WorkItem(NOTHING, later, later, ("sync",), serial=5))
    assert work.take_unconfirmed() == WorkItem(ANY, later, later, ("sync",), serial=5)


def test_a_window_opens_with_the_first_change_after_a_run() -> None:
    work = pending_work()
    before = time.monotonic()
    receive(work, WorkItem(entries(b"a"), since=before), extra_window=1000.0)
    opened = work.next_run.due_at
    assert before + 1000.0 <= opened <= time.monotonic() + 1000.0
    receive(work, WorkItem(entries(b"b"), since=before + 1.0), extra_window=1000.0)
    assert work.next_run.due_at == opened
    work.next_run.backlog.take()
    receive(work, WorkItem(entries(b"c")), extra_window=1000.0)
    assert work.next_run.due_at > opened
    assert work.pending_since == before


def test_changes_do_not_end_the_pause_of_a_destination_that_is_not_reachable() -> None:
    work = pending_work()
    work.next_run.backlog.add(entries(b"a"))
    work.unexplained.add_failed(entries(b"odd"), Verdict.PARTIAL)
    work.next_run.schedule_retry(Verdict.RETRY_LATER)
    for is_reachable in (False, True):
        receive(work, WorkItem(entries(b"b")), is_reachable=is_reachable)
        assert work.next_run.is_due() is is_reachable
        assert work.unexplained.is_due() is is_reachable


def test_a_requested_sync_waits_for_no_window() -> None:
    work = pending_work()
    receive(work, WorkItem(entries(b"a")), extra_window=1000.0)
    assert not work.next_run.is_due()
    receive(work, WorkItem(EVERYTHING, titles=("full sync",)), extra_window=1000.0)
    assert work.next_run.is_due()


def test_what_large_files_return_before_any_change_waits_for_no_window() -> None:
    work = pending_work()
    work.return_changes(entries(b"a"), 5.0)
    assert (work.next_run.is_due(), work.pending_since) == (True, 5.0)
    receive(work, WorkItem(entries(b"b")), extra_window=1.0)
    assert work.next_run.is_due()


@pytest.mark.parametrize("name", QUEUES)
def test_a_sync_that_fails_is_pending_since_it_was_requested(name: str) -> None:
    work = pending_work()
    before = time.monotonic()
    receive(work, WorkItem(EVERYTHING))
    after = time.monotonic()
    # Nothing may have changed.
    assert work.pending_since is None
    QUEUES[name](work).schedule_retry(Verdict.RETRY_LATER)
    receive(work, WorkItem(EVERYTHING))
    if name == "held repair":
        assert work.pending_since is None
    else:
        assert work.pending_since is not None
        assert before <= work.pending_since <= after


def paths_of(changeset: Changeset) -> list[bytes]:
    return sorted(change.path for change in changeset)


FAILED_QUEUES = ["failed paths", "aborting files", "aborting large files"]


@pytest.mark.parametrize("name", FAILED_QUEUES)
@pytest.mark.parametrize(
    ("change", "touched"),
    [
        pytest.param(entries(b"d/f"), [b"d/f"], id="the path itself"),
        pytest.param(entries(b"d"), [b"d/f"], id="a directory above"),
        pytest.param(tree(b"d"), [b"d/f"], id="a tree above"),
        pytest.param(entries(b"shut/x/y"), [b"shut"], id="an entry below"),
        pytest.param(tree(b"shut/x", scope=Scope.LISTING), [b"shut"], id="a listing below"),
        pytest.param(tree(b"shut", scope=Scope.LISTING), [b"shut"], id="its own listing"),
        pytest.param(tree(b"d", scope=Scope.LISTING), [], id="the listing that it is in"),
        pytest.param(entries(b"d/fx", b"sh"), [], id="similar names"),
        pytest.param(EVERYTHING, [b"d/f", b"shut"], id="everything"),
        pytest.param(entries(b""), [b"d/f", b"shut"], id="the root"),
    ],
)
def test_a_change_at_above_or_below_a_failed_path_has_it_tried_again(
    name: str, change: Changeset, touched: list[bytes]
) -> None:
    work = pending_work()
    queue = QUEUES[name](work)
    queue.backlog.add(entries(b"d/f", b"shut"))
    queue.include_since(50.0)
    queue.schedule_retry(Verdict.PARTIAL)
    work.add_changes(change, 60.0)
    expected = set(EVERYTHING) if change.is_everything else {*change, *entries(*touched)}
    assert set(work.next_run.backlog.changes) == expected
    kept = sorted({b"d/f", b"shut"} - set(touched))
    assert paths_of(queue.backlog.changes) == kept
    assert queue.failure_count == bool(kept)
    assert work.next_run.since == 50.0


@pytest.mark.parametrize("name", FAILED_QUEUES)
def test_a_failed_root_is_tried_again_with_any_change(name: str) -> None:
    work = pending_work()
    queue = QUEUES[name](work)
    queue.backlog.add(EVERYTHING)
    work.add_changes(entries(b"d/f"), None)
    assert (queue.backlog.is_everything, work.next_run.backlog.is_everything) == (False, True)


def test_a_listing_with_the_hint_of_a_failed_path_has_it_tried_again() -> None:
    work = pending_work()
    work.failed_paths.backlog.add(entries(b"d/f", b"d/g"))
    listing = tree(b"d", scope=Scope.LISTING)
    listing.new_content.add(b"d/f", Scope.ENTRY)
    work.add_changes(listing, None)
    assert paths_of(work.failed_paths.backlog.changes) == [b"d/g"]
    assert paths_of(work.next_run.backlog.changes) == [b"d", b"d/f"]


def test_changes_that_come_back_have_no_failed_path_tried_again() -> None:
    work = pending_work()
    work.failed_paths.backlog.add(entries(b"d/f"))
    work.return_changes(tree(b"d"), 5.0)
    assert paths_of(work.failed_paths.backlog.changes) == [b"d/f"]
    assert (paths_of(work.next_run.backlog.changes), work.next_run.since) == ([b"d"], 5.0)


def test_of_very_many_failed_paths_those_at_or_below_a_change_are_tried_again() -> None:
    work = pending_work()
    names = [b"d/%d" % number for number in range(MAX_EXCLUDED_PATHS)]
    work.failed_paths.backlog.add(entries(*names, b"shut"))
    work.add_changes(entries(b"d/1", b"shut/x"), None)
    # Nothing is excluded, so what is below a failed path is carried all the same.
    assert paths_of(work.next_run.backlog.changes) == [b"d/1", b"shut/x"]
    # Now they are few enough.
    work.add_changes(entries(b"shut/y"), None)
    assert b"shut" in paths_of(work.next_run.backlog.changes)


def test_released_subtrees_are_carried_and_the_others_stay_held() -> None:
    work = pending_work()
    work.held.add(union(tree(b"one", b"two"), entries(b"one/f", b"two/g")))
    work.include_released(frozenset([b"one", b"two"]))
    assert not work.next_run.backlog
    work.settle()
    assert work.set_aside.held == PathSummary(2, ("one", "two"))
    work.include_released(frozenset([b"two", b"three"]))
    assert paths_of(work.next_run.backlog.changes) == [b"one", b"one/f"]
    assert paths_of(work.held.changes) == [b"two", b"two/g"]


@pytest.mark.parametrize("name", FAILED_QUEUES)
def test_failed_paths_are_excluded_unless_a_run_is_about_them(name: str) -> None:
    work = pending_work()
    longest, too_long = b"l/" + b"x" * 3_998, b"l/" + b"x" * 3_999
    QUEUES[name](work).backlog.add(entries(b"d/f", b"shut/in", b"", longest, too_long))
    assert work.excluded_from(NOTHING) == {b"d/f", b"shut/in", longest}
    assert work.excluded_from(entries(b"d/f/below", b"shut/in")) == {longest}


@pytest.mark.parametrize("above", [tree(b"d"), EVERYTHING], ids=["tree", "full sync"])
def test_what_is_below_a_failed_entry_is_carried_with_a_tree_above_it(above: Changeset) -> None:
    work = pending_work()
    work.failed_paths.backlog.add(union(entries(b"d/attributes"), tree(b"d/whole")))
    work.aborting_files.backlog.add(entries(b"d/file"))
    assert work.excluded_from(above) == {b"d/whole", b"d/file"}
    listing = tree(b"d", scope=Scope.LISTING)
    assert work.excluded_from(listing) == {b"d/attributes", b"d/whole", b"d/file"}


@pytest.mark.parametrize("name", FAILED_QUEUES)
def test_the_paths_that_a_run_excludes_are_bounded_in_their_bytes(name: str) -> None:
    work = pending_work()
    files = [b"%04d" % number + b"x" * 3_996 for number in range(100)]
    work.failed_paths.backlog.add(entries(*files))
    assert len(work.excluded_from(NOTHING)) == 100
    QUEUES[name](work).backlog.add(entries(b"y"))
    assert work.excluded_from(NOTHING) == (set() if name == "failed paths" else {b"y"})


def finish(
    work: PendingWork,
    carried: Changeset,
    verdict: Verdict,
    *,
    failed: Changeset = NOTHING,
    pending: Changeset = NOTHING,
    excluded: frozenset[bytes] = frozenset(),
) -> None:
    result = TransferResult(Outcome(verdict), failed=failed, pending=pending, carried=carried)
    work.finish_next_run(excluded, result)


def is_paused(queue: RetryQueue) -> bool:
    return bool(queue.backlog) and queue.due_at > time.monotonic() + 300.0


REACHING = [Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL]
NOT_REACHING = [each for each in Verdict if each not in REACHING]


def test_what_failed_under_a_changing_source_is_carried_again_a_few_times() -> None:
    work = pending_work()
    for _ in range(2):
        for count in range(1, LONG.immediate_retries + 1):
            finish(work, entries(b"a", b"f"), Verdict.RETRY_NOW, failed=entries(b"f"))
            assert paths_of(work.next_run.backlog.take()) == [b"f"]
            assert not work.failed_paths.backlog
            assert (work.next_run.verdict, work.next_run.failure_count) == (
                Verdict.RETRY_NOW, count,
            )  # fmt: skip
        finish(work, entries(b"a", b"f"), Verdict.RETRY_NOW, failed=entries(b"f"))
        assert not work.next_run.backlog
        assert paths_of(work.failed_paths.backlog.take()) == [b"f"]
        work.confirm(CompleteTimes())
        work.next_run.reset()


def test_what_a_run_leaves_pending_awaits_others_if_it_ended_well() -> None:
    work = pending_work()
    work.next_run.schedule_retry(Verdict.RETRY_LATER)
    finish(work, entries(b"a", b"b"), Verdict.DONE, pending=entries(b"b"))
    assert paths_of(work.next_run.backlog.changes) == [b"b"]
    assert (work.next_run.verdict, work.next_run.failure_count) == (Verdict.DONE, 0)
    assert is_paused(work.next_run)


@pytest.mark.parametrize("verdict", [Verdict.RETRY_NOW, Verdict.PARTIAL])
def test_what_a_run_that_reached_the_destination_leaves_pending_is_unexplained(
    verdict: Verdict,
) -> None:
    work = pending_work()
    work.next_run.include_since(5.0)
    for _ in range(LONG.immediate_retries + 1):
        finish(work, entries(b"a", b"b"), verdict, pending=entries(b"b"))
    assert not work.next_run.backlog
    assert work.next_run.failure_count == 0
    assert paths_of(work.unexplained.backlog.changes) == [b"b"]
    assert is_paused(work.unexplained)
    assert work.unexplained.since == 5.0


@pytest.mark.parametrize("verdict", NOT_REACHING)
def test_what_a_run_that_did_not_reach_the_destination_leaves_is_tried_again_later(
    verdict: Verdict,
) -> None:
    work = pending_work()
    for _ in range(2):
        finish(work, entries(b"a"), verdict, pending=entries(b"a"))
    assert paths_of(work.next_run.backlog.changes) == [b"a"]
    assert (work.next_run.verdict, work.next_run.failure_count) == (verdict, 2)
    assert is_paused(work.next_run)
    assert not work.unexplained.backlog


def test_a_run_that_fails_for_a_path_pauses_that_path_alone() -> None:
    work = pending_work()
    work.next_run.include_since(5.0)
    finish(work, entries(b"a", b"f"), Verdict.PARTIAL, failed=entries(b"f"))
    assert not work.next_run.backlog
    assert work.next_run.failure_count == 0
    assert paths_of(work.failed_paths.backlog.changes) == [b"f"]
    assert (work.failed_paths.since, work.failed_paths.failure_count) == (5.0, 1)
    assert is_paused(work.failed_paths)


def test_the_pause_of_failed_paths_grows_until_another_one_fails() -> None:
    work = pending_work()
    finish(work, entries(b"f"), Verdict.PARTIAL, failed=entries(b"f"))
    work.failed_paths.schedule_retry(Verdict.PARTIAL)
    work.next_run.include_since(3.0)
    due_at = work.failed_paths.due_at
    finish(work, entries(b"f"), Verdict.PARTIAL, failed=entries(b"f"))
    assert (work.failed_paths.due_at, work.failed_paths.failure_count) == (due_at, 2)
    assert work.failed_paths.since is None
    finish(work, entries(b"g"), Verdict.PARTIAL, failed=entries(b"g"))
    assert (work.failed_paths.failure_count, work.failed_paths.since) == (1, 3.0)
    finish(work, entries(b"f", b"g"), Verdict.DONE)
    assert (work.failed_paths.failure_count, work.failed_paths.since) == (0, None)
    assert work.failed_paths.verdict is Verdict.DONE


def earlier_failures() -> PendingWork:
    work = pending_work()
    for part in (work.unset_attributes, work.unexplained.backlog, work.failed_paths.backlog):
        part.add(entries(b"a", b"b"))
    work.unexplained.include_since(5.0)
    return work


@pytest.mark.parametrize("verdict", Verdict)
def test_what_a_run_has_carried_has_not_failed_any_more(verdict: Verdict) -> None:
    work = earlier_failures()
    finish(work, entries(b"a"), verdict)
    for part in (work.unset_attributes, work.unexplained.backlog, work.failed_paths.backlog):
        assert paths_of(part.changes) == [b"b"]
    assert work.unexplained.since == 5.0
    # Of what it excludes, it has carried nothing.
    finish(work, entries(b"b"), verdict, excluded=frozenset([b"b"]))
    assert not work.unset_attributes
    assert not work.unexplained.backlog
    assert work.unexplained.since is None
    assert paths_of(work.failed_paths.backlog.changes) == [b"b"]


@pytest.mark.parametrize("verdict", Verdict)
def test_a_run_that_was_not_completed_has_carried_nothing(verdict: Verdict) -> None:
    work = earlier_failures()
    finish(work, entries(b"a", b"c"), verdict, pending=entries(b"c"))
    assert {b"a", b"b"} <= set(paths_of(work.unexplained.backlog.changes))
    assert paths_of(work.unset_attributes.changes) == [b"a", b"b"]
    assert paths_of(work.failed_paths.backlog.changes) == [b"a", b"b"]
    assert work.unexplained.since is not None


def test_attributes_that_could_not_be_set_are_kept() -> None:
    work = pending_work()
    result = TransferResult(Outcome(Verdict.DONE), unset_attributes=entries(b"a"))
    work.finish_next_run(frozenset(), result)
    work.settle()
    assert work.set_aside == SetAside(unset_attributes=PathSummary(1, ("a",)))


def test_a_file_at_which_runs_break_off_is_retried_after_the_shortest_pause() -> None:
    policy = RetryPolicy(first_pause=600.0, max_pause=6_000.0)
    work = pending_work(policy)
    work.next_run.include_since(5.0)
    for name in (b"a", b"b", b"c"):
        file = entries(name)
        work.finish_next_run(frozenset(), TransferResult(Outcome(Verdict.PARTIAL), aborting=file))
        assert work.aborting_files.failure_count == 1
        assert is_paused(work.aborting_files)
    assert work.aborting_files.since == 5.0
    # Nothing else has failed.
    assert work.next_run.failure_count == 0
    assert work.next_run.verdict is Verdict.DONE


def test_runs_that_break_off_are_repeated_at_once_until_there_were_too_many() -> None:
    work = pending_work()
    paused = []
    for number in range(30):
        if number == 15:
            work.confirm(CompleteTimes())
        result = TransferResult(
            Outcome(Verdict.PARTIAL), pending=entries(b"z"), aborting=entries(b"%d" % number)
        )
        work.finish_next_run(frozenset(), result)
        paused.append(is_paused(work.next_run))
        if not paused[-1]:
            assert (work.next_run.is_due(), work.next_run.failure_count) == (True, 0)
    assert paused == [*[False] * 10, *[True] * 5] * 2


def test_a_new_pending_work_takes_over_what_was_verified() -> None:
    verified = Verification(is_verified=True)
    work = PendingWork(LargeFileQueue(None, LONG), LONG, verified)
    assert work.verification is verified
    assert not pending_work().verification.is_verified


def test_a_destination_on_which_no_file_fits_is_retried_ever_more_rarely() -> None:
    policy = RetryPolicy(first_pause=1.0)
    work = PendingWork(LargeFileQueue(None, policy), policy)
    pauses = []
    for number in range(20):
        file = entries(b"%d" % number)
        result = TransferResult(Outcome(Verdict.PARTIAL), pending=EVERYTHING, aborting=file)
        work.finish_next_run(frozenset(), result)
        pauses.append(work.next_run.due_at - time.monotonic())
        assert work.excluded_from(EVERYTHING) == {b"%d" % each for each in range(number + 1)}
    assert max(pauses[:10]) <= 0.0
    assert pauses[-1] > 64.0


def test_what_failed_before_a_run_that_broke_off_is_carried_again() -> None:
    policy = RetryPolicy()
    work = PendingWork(LargeFileQueue(None, policy), policy)
    failed = MutableChangeset()
    failed.add_new_content(b"f", Scope.ENTRY)
    result = TransferResult(
        Outcome(Verdict.PARTIAL), pending=entries(b"a"), failed=failed, aborting=entries(b"m")
    )
    work.finish_next_run(frozenset(), result)
    assert set(work.next_run.backlog.changes) == set(entries(b"a", b"f"))
    assert set(work.next_run.backlog.changes.new_content) == set(failed.new_content)
    assert set(work.aborting_files.backlog.changes) == set(entries(b"m"))


def test_very_many_failed_paths_are_excluded_from_no_run_and_stay_pending() -> None:
    policy = RetryPolicy(first_pause=600.0)
    work = PendingWork(LargeFileQueue(None, policy), policy)
    failed = entries(*(b"d/%d" % number for number in range(MAX_EXCLUDED_PATHS)))
    result = TransferResult(Outcome(Verdict.PARTIAL), failed=failed)
    work.finish_next_run(frozenset(), result)
    assert len(work.excluded_from(entries(b"e"))) == MAX_EXCLUDED_PATHS
    assert work.excluded_from(entries(b"d/1", b"d/2/x")) == work.excluded_from(NOTHING) - {
        b"d/1", b"d/2",
    }  # fmt: skip
    other = replace(result, failed=entries(b"other"))
    work.finish_next_run(frozenset(), other)
    assert work.excluded_from(entries(b"e")) == frozenset()
    assert work.pending_count == MAX_EXCLUDED_PATHS + 1
    # A listing carries all of them but one.
    listing = MutableChangeset()
    listing.add(b"d", Scope.LISTING)
    again = replace(result, carried=listing, failed=entries(b"d/5"))
    due_at = work.failed_paths.due_at
    work.finish_next_run(frozenset(), again)
    assert sorted(change.path for change in work.failed_paths.backlog.changes) == [
        b"d/5", b"other",
    ]  # fmt: skip
    assert work.failed_paths.due_at == due_at


def test_while_a_full_sync_fails_without_a_name_nothing_is_settled() -> None:
    work = PendingWork(LargeFileQueue(None, LONG), LONG)
    work.add(WorkItem(NOTHING, serial=1), is_reachable=True, extra_window=0.0)
    work.settle()
    assert work.settlement == Settlement(1)
    for changes, settled in ((entries(b"a"), 2), (EVERYTHING, 2)):
        work.unexplained.add_failed(changes, Verdict.PARTIAL)
        work.add(WorkItem(NOTHING, serial=work.settlement.serial + 1), is_reachable=True,
                 extra_window=0.0)  # fmt: skip
        work.settle()
        assert work.settlement.serial == settled
        assert work.set_aside.failed.count == 1


def test_that_a_destination_is_verified_is_saved_with_what_has_failed(place: WorkerSetup) -> None:
    checkpoint, work = place.checkpoint(), pending_work()
    checkpoint.confirm(clock.now(), NOTHING)
    work.confirm(CompleteTimes(clock.now()))
    work.verification.record_complete()
    # It has failed in the full sync, and is carried again at once.
    work.next_run.backlog.add(entries(b"f"))
    for is_verified in (False, True):
        work.update_checkpoint(checkpoint)
        checkpoint.save_clean_stop()
        state = place.state()
        assert state is not None
        assert state.is_verified is is_verified
        work.failed_paths.backlog.add(work.next_run.backlog.take())
    assert paths_of(state.pending) == [b"f"]


def test_the_unsettled_paths_are_those_of_all_other_changes() -> None:
    verification = Verification(is_verified=True)
    work = PendingWork(LargeFileQueue(None, RetryPolicy()), RetryPolicy(), verification)
    work.next_run.backlog.add(entries(b"next"))
    assert work.unsettled_paths() == frozenset()
    work.failed_paths.backlog.add(entries(b"failed"))
    work.aborting_files.backlog.add(entries(b"aborting"))
    work.unexplained.backlog.add(entries(b"d/unexplained"))
    work.held_repair.backlog.add(entries(b"repair"))
    work.held.add(entries(b"held"))
    work.large_files.retry_queue.backlog.add(entries(b"large"))
    work.large_files.aborting_files.backlog.add(entries(b"large-aborting"))
    assert work.unsettled_paths() == {
        b"failed", b"aborting", b"d/unexplained", b"repair", b"held", b"large", b"large-aborting"
    }  # fmt: skip
    many = MutableChangeset()
    many.entries[b"d"] = {b"%d" % number for number in range(20_000)}
    work.failed_paths.backlog.add(many)
    assert work.unsettled_paths() is None


def test_nothing_is_settled_at_an_unverified_destination() -> None:
    work = PendingWork(LargeFileQueue(None, RetryPolicy()), RetryPolicy())
    assert work.unsettled_paths() is None
