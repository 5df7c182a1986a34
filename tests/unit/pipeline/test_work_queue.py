"""What waits for a destination is one order."""

import queue
import threading

import pytest

from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, MutableChangeset, Scope
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue

FIRST, SECOND = (Moment(wall, wall, "boot") for wall in (1.0, 2.0))


def entries(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


def merged(*some: WorkItem) -> WorkItem:
    orders = WorkQueue()
    for order in some:
        orders.put(order)
    assert orders.qsize() == 1
    order = orders.get_nowait()
    assert orders.empty()
    return order


def test_a_single_order_comes_out_as_it_was_put() -> None:
    order = WorkItem(entries(b"a"), FIRST, FIRST, ("initial sync",), True, True, True)  # noqa: FBT003
    taken = merged(order)
    assert taken == order
    assert taken.changeset is order.changeset


def test_changes_are_united_and_the_sets_put_stay_as_they_are() -> None:
    first, second = entries(b"a", b"b"), entries(b"b", b"c")
    assert set(merged(WorkItem(first), WorkItem(second)).changeset) == set(
        entries(b"a", b"b", b"c")
    )
    assert set(first) == set(entries(b"a", b"b"))
    assert merged(WorkItem(first), WorkItem(EVERYTHING), WorkItem(second)).changeset.is_everything


@pytest.mark.parametrize(
    ("untils", "expected"),
    [
        pytest.param((None, None), None, id="nothing is known"),
        pytest.param((FIRST, None), FIRST, id="what was known still holds"),
        pytest.param((None, SECOND), SECOND, id="all before it is in the sets put so far"),
        pytest.param((FIRST, SECOND), SECOND, id="it grows"),
    ],
)
def test_the_last_moment_known_holds(
    untils: tuple[Moment | None, ...], expected: Moment | None
) -> None:
    taken = merged(*(WorkItem(NOTHING, until, until) for until in untils))
    assert (taken.complete_until, taken.last_scan) == (expected, expected)


@pytest.mark.parametrize("sinces", [(1.0, 2.0), (2.0, 1.0), (None, 1.0), (1.0, None)])
def test_it_waits_since_the_first_change_that_is_known(sinces: tuple[float | None, ...]) -> None:
    orders = WorkQueue()
    for since in sinces:
        orders.put(WorkItem(NOTHING, since=since))
    assert orders.since == orders.get_nowait().since == 1.0
    assert orders.since is None


def test_titles_keep_their_order_and_are_not_repeated() -> None:
    some = [("full sync",), (), ("audit", "full sync"), ("catch-up",)]
    taken = merged(*(WorkItem(NOTHING, titles=titles) for titles in some))
    assert taken.titles == ("full sync", "audit", "catch-up")


@pytest.mark.parametrize("mark", ["is_urgent", "is_release", "is_final"])
def test_what_one_order_is_all_are(mark: str) -> None:
    plain, marked = WorkItem(NOTHING), WorkItem(NOTHING, **{mark: True})
    assert merged(plain, marked) == marked
    assert merged(marked, plain) == marked
    assert merged(plain, plain) == plain


def test_nothing_of_what_was_taken_is_left() -> None:
    orders = WorkQueue()
    orders.put(WorkItem(entries(b"a"), FIRST, ("full sync",), is_final=True))
    orders.get_nowait()
    orders.put(WorkItem(entries(b"b")))
    assert list(orders.get_nowait().changeset) == [Change(b"b", Scope.ENTRY)]
    with pytest.raises(queue.Empty):
        orders.get_nowait()


def test_an_order_without_changes_waits_like_any_other() -> None:
    assert merged(WorkItem(NOTHING, FIRST)) == WorkItem(NOTHING, FIRST)


def test_what_waits_is_bounded() -> None:
    orders = WorkQueue()
    for start in range(0, 2 * MAX_PENDING_CHANGES, MAX_PENDING_CHANGES // 2):
        orders.put(
            WorkItem(
                entries(*(b"%d/x" % n for n in range(start, start + MAX_PENDING_CHANGES // 2)))
            )
        )
    assert 0 < len(orders.get().changeset) <= MAX_PENDING_CHANGES


def test_nothing_is_lost_between_threads() -> None:
    orders = WorkQueue()
    taken: set[Change] = set()

    def put(thread: int) -> None:
        for number in range(500):
            orders.put(WorkItem(entries(b"%d/%d" % (thread, number))))

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    while len(taken) < 2000:
        taken.update(orders.get(timeout=30).changeset)
    for thread in threads:
        thread.join()
    assert orders.empty()
