"""The bound of what is owed: nothing is forgotten, and directories stand in for their contents."""

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, Changeset, MutableChangeset, Scope
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES, Backlog, collapse

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE

components = st.sampled_from([b"a", b"b", b"ab", b"a-b", b"a.b"])
some_paths = st.lists(components, max_size=5).map(b"/".join)
some_changes = st.lists(st.builds(Change, some_paths, st.sampled_from(list(Scope))), max_size=40)
some_limits = st.integers(min_value=1, max_value=12)


def collected(changes: Iterable[tuple[bytes, Scope]]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in changes:
        collection.add(path, scope)
    return collection


def covered(changes: Iterable[Change], by: Changeset) -> bool:
    standing = list(by)
    return all(any(one.covers(change) for one in standing) for change in changes)


@given(some_changes, some_limits)
def test_what_was_covered_stays_covered_by_no_more_than_the_limit(
    changes: list[Change], limit: int
) -> None:
    smaller = collapse(collected(changes), limit)
    assert covered(changes, by=smaller)
    assert len(smaller) <= limit


@given(some_changes, some_limits)
def test_collapsing_leaves_what_was_given_as_it_is(changes: list[Change], limit: int) -> None:
    given_set = collected(changes)
    before = set(given_set)
    collapse(given_set, limit)
    assert set(given_set) == before


@given(st.lists(some_changes, max_size=6), some_limits)
def test_a_debt_covers_all_that_was_added_and_is_bounded_after_each(
    windows: list[list[Change]], limit: int
) -> None:
    debt = Backlog(limit)
    for number, window in enumerate(windows):
        added = collected(window)
        before = set(added)
        debt.add(added)
        assert len(debt) <= limit
        assert set(added) == before, f"window {number} was modified"
    assert bool(debt) == any(windows)
    owed = debt.take()
    assert covered([change for window in windows for change in window], by=owed)
    assert not debt
    assert len(debt) == 0


def names(directory: bytes, count: int) -> Iterator[Change]:
    return (Change(b"%b/%07d" % (directory, number), ENTRY) for number in range(count))


def test_what_fits_is_kept_without_a_copy() -> None:
    changes = collected(names(b"d", 10))
    assert collapse(changes, 10) is changes
    debt = Backlog(10)
    debt.add(changes)
    debt.add(NOTHING)
    assert debt.take() is changes


def test_what_is_covered_anyway_goes_first() -> None:
    changes = [*names(b"d/e", 10), Change(b"d", TREE), *names(b"f", 4)]
    assert set(collapse(collected(changes), 10)) == {Change(b"d", TREE), *names(b"f", 4)}


def test_the_largest_group_of_entries_becomes_a_listing() -> None:
    changes = [*names(b"many", 20), *names(b"few", 3), Change(b"alone/x", ENTRY)]
    expected = {Change(b"many", LISTING), *names(b"few", 3), Change(b"alone/x", ENTRY)}
    assert set(collapse(collected(changes), 12)) == expected


def test_too_many_directories_become_the_tree_that_they_share() -> None:
    changes = [Change(b"a/b/%d/x" % number, ENTRY) for number in range(20)]
    changes += [Change(b"a/c/x", ENTRY), Change(b"e/x", ENTRY)]
    expected = {Change(b"a/b", TREE), Change(b"a/c/x", ENTRY), Change(b"e/x", ENTRY)}
    assert set(collapse(collected(changes), 20)) == expected


def test_of_one_level_the_largest_group_becomes_a_tree_first() -> None:
    changes = [Change(b"few/%d/x" % number, ENTRY) for number in range(3)]
    changes += [Change(b"many/%d/x" % number, ENTRY) for number in range(20)]
    expected = {Change(b"many", TREE), *changes[:3]}
    assert set(collapse(collected(changes), 10)) == expected


def test_the_deepest_directories_become_trees_first() -> None:
    deep = [Change(b"a/b/c/%d/x" % number, ENTRY) for number in range(16)]
    high = [Change(b"d/%d/x" % number, ENTRY) for number in range(8)]
    assert set(collapse(collected(deep + high), 23)) == {Change(b"a/b/c", TREE), *high}


def test_too_many_trees_below_the_root_are_everything() -> None:
    changes = [Change(b"%d" % number, TREE) for number in range(20)]
    assert collapse(collected(changes), 10) is EVERYTHING
    debt = Backlog(10)
    debt.add(collected(changes))
    debt.add(collected(names(b"d", 3)))
    assert debt.is_everything
    assert debt.take() is EVERYTHING


def test_changes_that_come_one_by_one_are_collapsed_once_in_so_many() -> None:
    debt = Backlog(1000)
    sizes = [0]
    for change in [Change(b"%d/%d/x" % (n % 100, n), ENTRY) for n in range(5000)]:
        debt.add(collected([change]))
        sizes.append(len(debt))
    drops = sum(after < before for before, after in pairwise(sizes))
    assert 0 < drops < 20


def test_ten_windows_of_one_file_are_one_path() -> None:
    debt = Backlog()
    for _ in range(10):
        debt.add(collected([Change(b"log/today", ENTRY)]))
    assert list(debt.take()) == [Change(b"log/today", ENTRY)]


MILLION = 1_000_000


def flat() -> Iterator[Change]:
    return names(b"d", MILLION)


def in_a_thousand_directories() -> Iterator[Change]:
    return (Change(b"d/%d/%07d" % (n % 1000, n), ENTRY) for n in range(MILLION))


def in_directories_of_their_own() -> Iterator[Change]:
    # Slower ones, and fewer: a quarter of a million.
    return (Change(b"d/%d/%07d/x" % (n % 1000, n), ENTRY) for n in range(MILLION // 4))


def in_deep_chains() -> Iterator[Change]:
    # An eighth of a million: these take the longest.
    chain = b"/".join([b"d"] * 20)
    for number in range(MILLION // 160):
        for end in range(1, 40, 2):
            yield Change(b"%05d/%b" % (number, chain[:end]), LISTING)


WAYS = (flat, in_a_thousand_directories, in_directories_of_their_own, in_deep_chains)


def memory(owed: Changeset) -> int:
    """Return the bytes that a set takes, as if nobody shared its names."""
    paths = [*owed.entries, *owed.listings, *owed.trees]
    holders = [owed.entries, owed.listings, owed.trees, *owed.entries.values()]
    names = [name for some in owed.entries.values() for name in some]
    return sum(map(sys.getsizeof, paths + names)) + sum(map(sys.getsizeof, holders))


def windows(changes: Iterable[Change]) -> Iterator[MutableChangeset]:
    changes = iter(changes)
    while some := list(islice(changes, 10_000)):
        yield collected(some)


@pytest.mark.parametrize("way", WAYS)
def test_a_million_distinct_changes_take_bounded_memory(
    way: Callable[[], Iterator[Change]],
) -> None:
    debt = Backlog()
    largest = 0
    for window in windows(way()):
        debt.add(window)
        largest = max(largest, len(debt))
    assert largest <= MAX_PENDING_CHANGES
    assert not debt.is_everything
    assert memory(debt.take()) < 50_000_000


@pytest.mark.parametrize("way", WAYS)
def test_a_set_far_over_the_limit_is_added_in_bounded_memory(
    way: Callable[[], Iterator[Change]],
) -> None:
    limit = 1_000
    single = collected(islice(way(), 50 * limit))
    debt = Backlog(limit)
    tracemalloc.start()
    try:
        debt.add(single)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < len(debt) <= limit
    assert peak < 2_500 * limit
