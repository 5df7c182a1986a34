"""All work items that wait for a worker are one."""

import queue
import threading

import pytest

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue

FIRST, SECOND = (Moment(wall, wall, "boot") for wall in (1.0, 2.0))


def entries(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


def merged(*some: WorkItem) -> WorkItem:
    work_queue = WorkQueue()
    for item in some:
        work_queue.put(item)
    assert work_queue.qsize() == 1
    item = work_queue.get_nowait()
    assert work_queue.empty()
    return item


def test_a_single_item_is_returned_as_it_was_put() -> None:
    item = WorkItem(entries(b"a"), FIRST, FIRST, ("initial sync",), True, True, True)  # noqa: FBT003
    taken = merged(item)
    assert taken == item
    assert taken.changeset is item.changeset


def test_changesets_are_merged_and_not_modified() -> None:
    first, second = entries(b"a", b"b"), entries(b"b", b"c")
    assert set(merged(WorkItem(first), WorkItem(second)).changeset) == set(
        entries(b"a", b"b", b"c")
    )
    assert set(first) == set(entries(b"a", b"b"))
    assert merged(WorkItem(first), WorkItem(EVERYTHING), WorkItem(second)).changeset.is_everything


@pytest.mark.parametrize(
    ("untils", "expected"),
    [
        pytest.param((None, None), None, id="no moment is known"),
        pytest.param((FIRST, None), FIRST, id="None keeps the earlier one"),
        pytest.param((None, SECOND), SECOND, id="the first known one"),
        pytest.param((FIRST, SECOND), SECOND, id="the later one"),
    ],
)
def test_the_last_known_moment_wins(
    untils: tuple[Moment | None, ...], expected: Moment | None
) -> None:
    taken = merged(*(WorkItem(NOTHING, until, until) for until in untils))
    assert (taken.complete_until, taken.last_scan) == (expected, expected)


@pytest.mark.parametrize("sinces", [(1.0, 2.0), (2.0, 1.0), (None, 1.0), (1.0, None)])
def test_since_is_the_time_of_the_first_change(sinces: tuple[float | None, ...]) -> None:
    work_queue = WorkQueue()
    for since in sinces:
        work_queue.put(WorkItem(NOTHING, since=since))
    assert work_queue.since == work_queue.get_nowait().since == 1.0
    assert work_queue.since is None


def test_titles_keep_their_order_and_are_not_repeated() -> None:
    some = [("full sync",), (), ("audit", "full sync"), ("catch-up",)]
    taken = merged(*(WorkItem(NOTHING, titles=titles) for titles in some))
    assert taken.titles == ("full sync", "audit", "catch-up")


@pytest.mark.parametrize("mark", ["is_urgent", "is_release", "is_final"])
def test_a_flag_of_one_item_is_a_flag_of_the_merged_item(mark: str) -> None:
    plain, marked = WorkItem(NOTHING), WorkItem(NOTHING, **{mark: True})
    assert merged(plain, marked) == marked
    assert merged(marked, plain) == marked
    assert merged(plain, plain) == plain


def test_a_taken_item_leaves_nothing_in_the_queue() -> None:
    work_queue = WorkQueue()
    work_queue.put(WorkItem(entries(b"a"), FIRST, ("full sync",), is_final=True))
    work_queue.get_nowait()
    work_queue.put(WorkItem(entries(b"b")))
    assert list(work_queue.get_nowait().changeset) == [Change(b"b", Scope.ENTRY)]
    with pytest.raises(queue.Empty):
        work_queue.get_nowait()


def test_an_empty_item_waits_like_any_other() -> None:
    assert merged(WorkItem(NOTHING, FIRST)) == WorkItem(NOTHING, FIRST)


def test_only_changes_end_its_idle_time() -> None:
    work_queue = WorkQueue()
    work_queue.wake()
    assert work_queue.get() == WorkItem(NOTHING)
    assert work_queue.is_idle
    work_queue.put(WorkItem(entries(b"f")))
    assert work_queue.is_idle
    work_queue.get()
    assert not work_queue.is_idle


def test_waiting_changes_are_bounded() -> None:
    work_queue = WorkQueue()
    for start in range(0, 2 * MAX_PENDING_CHANGES, MAX_PENDING_CHANGES // 2):
        work_queue.put(
            WorkItem(
                entries(*(b"%d/x" % n for n in range(start, start + MAX_PENDING_CHANGES // 2)))
            )
        )
    assert 0 < len(work_queue.get().changeset) <= MAX_PENDING_CHANGES


def test_nothing_is_lost_between_threads() -> None:
    work_queue = WorkQueue()
    taken: set[Change] = set()

    def put(thread: int) -> None:
        for number in range(500):
            work_queue.put(WorkItem(entries(b"%d/%d" % (thread, number))))

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    while len(taken) < 2000:
        taken.update(work_queue.get(timeout=60).changeset)
    for thread in threads:
        thread.join()
    assert work_queue.empty()
