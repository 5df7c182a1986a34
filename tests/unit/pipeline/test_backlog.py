"""The bound of pending changes: none is lost, and directories stand in for their contents."""

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, union
from pylsyncd.model.scoped_paths import Change, Scope, ScopedPaths
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


def covered(changes: Iterable[Change], by: ScopedPaths) -> bool:
    standing = list(by)
    return all(any(one.covers(change) for one in standing) for change in changes)


@given(some_changes, some_limits)
def test_collapsed_changes_cover_all_changes_and_fit_the_limit(
    changes: list[Change], limit: int
) -> None:
    smaller = collapse(collected(changes), limit)
    assert covered(changes, by=smaller)
    assert len(smaller) <= limit


def hinted(changes: Iterable[Change]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in changes:
        collection.add_new_content(path, scope)
    return collection


@given(some_changes, some_changes, some_limits)
def test_collapsed_hints_cover_all_hints_and_fit_the_limit(
    changes: list[Change], hints: list[Change], limit: int
) -> None:
    smaller = collapse(union(collected(changes), hinted(hints)), limit)
    assert covered(hints, by=smaller.new_content)
    assert len(smaller.new_content) <= limit
    assert covered([*changes, *hints], by=smaller)


def test_too_many_deletions_are_forgotten_and_no_other_takes_their_place() -> None:
    many = collected(Change(b"d/%d" % number, ENTRY) for number in range(10))
    many.deletable.add_all(many)
    many.deletable.add(b"e", TREE)
    smaller = collapse(many, 8)
    assert len(smaller.deletable) == 4
    assert set(smaller.deletable) <= {*many, Change(b"e", TREE)}
    assert smaller.deletable.includes_tree(b"e")


def test_a_full_sync_keeps_what_may_be_deleted() -> None:
    backlog, gone = Backlog(), collected([Change(b"gone", ENTRY)])
    gone.deletable.add(b"gone", ENTRY)
    for each in (
        collected([Change(b"a", ENTRY)]),
        gone,
        EVERYTHING,
        collected([Change(b"b", TREE)]),
    ):
        backlog.add(each)
    taken = backlog.take()
    assert taken.is_everything
    assert set(taken.deletable) == {Change(b"gone", ENTRY)}


def test_hints_stay_what_they_are_while_other_changes_are_collapsed() -> None:
    hints = collected(names(b"many", 12)).with_new_content(collected(names(b"many", 12)))
    changes = union(collected(names(b"many", 20)), hints)
    smaller = collapse(changes, 12)
    assert set(smaller) == {Change(b"many", LISTING)}
    assert set(smaller.new_content) == set(names(b"many", 12))


def test_too_many_hints_become_the_directory_although_the_changes_fit() -> None:
    changes = MutableChangeset()
    changes.add(b"d", TREE)
    for path, scope in names(b"e", 11):
        changes.add(path, scope)
    for path, scope in [*names(b"d/many", 20), Change(b"d/x", ENTRY)]:
        changes.new_content.add(path, scope)
    smaller = collapse(changes, 12)
    assert set(smaller) == {Change(b"d", TREE), *names(b"e", 11)}
    assert set(smaller.new_content) == {Change(b"d/many", LISTING), Change(b"d/x", ENTRY)}


@given(some_changes, some_limits)
def test_collapsing_does_not_modify_the_given_set(changes: list[Change], limit: int) -> None:
    given_set = collected(changes)
    before = set(given_set)
    collapse(given_set, limit)
    assert set(given_set) == before


@given(st.lists(some_changes, max_size=6), some_limits)
def test_a_backlog_covers_all_added_changes_and_is_always_bounded(
    windows: list[list[Change]], limit: int
) -> None:
    backlog = Backlog(limit)
    for number, window in enumerate(windows):
        added = hinted(window) if number % 2 else collected(window)
        before = set(added), set(added.new_content)
        backlog.add(added)
        assert len(backlog) <= limit
        assert len(backlog.changes.new_content) <= limit
        assert (set(added), set(added.new_content)) == before, f"window {number} was modified"
    assert bool(backlog) == any(windows)
    pending = backlog.take()
    assert covered([change for window in windows for change in window], by=pending)
    assert covered([change for window in windows[1::2] for change in window], pending.new_content)
    assert not backlog
    assert len(backlog) == 0


def names(directory: bytes, count: int) -> Iterator[Change]:
    return (Change(b"%b/%07d" % (directory, number), ENTRY) for number in range(count))


def test_a_set_that_fits_is_kept_without_a_copy() -> None:
    changes = collected(names(b"d", 10))
    assert collapse(changes, 10) is changes
    backlog = Backlog(10)
    backlog.add(changes)
    backlog.add(NOTHING)
    assert backlog.take() is changes


def test_covered_changes_are_dropped_first() -> None:
    changes = [*names(b"d/e", 10), Change(b"d", TREE), *names(b"f", 4)]
    assert set(collapse(collected(changes), 10)) == {Change(b"d", TREE), *names(b"f", 4)}


def test_the_largest_group_of_entries_becomes_a_listing_until_half_the_limit_is_left() -> None:
    changes = [*names(b"many", 20), *names(b"few", 4), Change(b"alone/x", ENTRY)]
    expected = {Change(b"many", LISTING), *names(b"few", 4), Change(b"alone/x", ENTRY)}
    assert set(collapse(collected(changes), 12)) == expected
    one_more = [*changes, Change(b"alone-too/x", ENTRY)]
    assert set(collapse(collected(one_more), 12)) == {
        Change(b"many", LISTING), Change(b"few", LISTING), *one_more[-2:]
    }  # fmt: skip


def test_too_many_directories_become_the_tree_above_them() -> None:
    changes = [Change(b"a/b/%d/x" % number, ENTRY) for number in range(20)]
    changes += [Change(b"a/c/x", ENTRY), Change(b"e/x", ENTRY)]
    expected = {Change(b"a/b", TREE), Change(b"a/c/x", ENTRY), Change(b"e/x", ENTRY)}
    assert set(collapse(collected(changes), 20)) == expected


def test_of_one_level_the_largest_groups_become_trees_until_half_the_limit_is_left() -> None:
    few = [Change(b"few/%d/x" % number, ENTRY) for number in range(3)]
    many = [Change(b"many/%d/x" % number, ENTRY) for number in range(20)]
    single = [Change(b"single-%d/x" % number, ENTRY) for number in range(3)]
    expected = {Change(b"many", TREE), *few, *single[:2]}
    assert set(collapse(collected([*few, *many, *single[:2]]), 12)) == expected
    expected = {Change(b"many", TREE), Change(b"few", TREE), *single}
    assert set(collapse(collected([*few, *many, *single]), 12)) == expected


def test_a_tree_counts_as_one_path_in_the_groups_above_it() -> None:
    deep = [Change(b"a/b/%d/x" % number, ENTRY) for number in range(20)]
    beside = [Change(b"a/c/x", ENTRY), Change(b"a/d/x", ENTRY)]
    larger = [Change(b"z/%d/x" % number, ENTRY) for number in range(4)]
    single = [Change(b"single-%d/x" % number, ENTRY) for number in range(2)]
    expected = {Change(b"a/b", TREE), *beside, Change(b"z", TREE), *single}
    assert set(collapse(collected([*deep, *beside, *larger, *single]), 12)) == expected


def test_entries_and_trees_of_one_directory_are_one_group() -> None:
    deep = [Change(b"deep/er/%d" % number, TREE) for number in range(20)]
    mixed = [Change(b"p/x", ENTRY), *(Change(b"p/%d" % number, TREE) for number in range(4))]
    trees = [Change(b"q/%d" % number, TREE) for number in range(4)]
    expected = {Change(b"deep/er", TREE), Change(b"p", TREE), *trees}
    assert set(collapse(collected([*deep, *mixed, *trees]), 12)) == expected


def test_the_deepest_directories_become_trees_first() -> None:
    deep = [Change(b"a/b/c/%d/x" % number, ENTRY) for number in range(16)]
    high = [Change(b"d/%d/x" % number, ENTRY) for number in range(8)]
    assert set(collapse(collected(deep + high), 23)) == {Change(b"a/b/c", TREE), *high}


def test_too_many_trees_below_the_root_are_everything() -> None:
    changes = [Change(b"%d" % number, TREE) for number in range(20)]
    assert collapse(collected(changes), 10) is EVERYTHING
    backlog = Backlog(10)
    backlog.add(collected(changes))
    backlog.add(collected(names(b"d", 3)))
    assert backlog.is_everything
    assert backlog.take() is EVERYTHING


def test_changes_added_one_by_one_are_collapsed_rarely() -> None:
    backlog = Backlog(1000)
    sizes = [0]
    for change in [Change(b"%d/%d/x" % (n % 100, n), ENTRY) for n in range(5000)]:
        backlog.add(collected([change]))
        sizes.append(len(backlog))
    drops = sum(after < before for before, after in pairwise(sizes))
    assert 0 < drops < 20


def test_ten_windows_of_one_file_are_one_path() -> None:
    backlog = Backlog()
    for _ in range(10):
        backlog.add(collected([Change(b"log/today", ENTRY)]))
    assert list(backlog.take()) == [Change(b"log/today", ENTRY)]


MANY = 4 * MAX_PENDING_CHANGES


def flat() -> Iterator[Change]:
    return names(b"d", MANY)


def in_a_thousand_directories() -> Iterator[Change]:
    return (Change(b"d/%d/%07d" % (n % 1000, n), ENTRY) for n in range(MANY))


def in_directories_of_their_own() -> Iterator[Change]:
    # These are slow, so there are fewer.
    return (Change(b"d/%d/%07d/x" % (n % 1000, n), ENTRY) for n in range(MANY * 3 // 8))


def in_deep_chains() -> Iterator[Change]:
    # These are the slowest.
    chain = b"/".join([b"d"] * 20)
    for number in range(MANY // 64):
        for end in range(1, 40, 2):
            yield Change(b"%05d/%b" % (number, chain[:end]), LISTING)


WAYS = (flat, in_a_thousand_directories, in_directories_of_their_own, in_deep_chains)


def memory(pending: Changeset) -> int:
    """Return the bytes that a set takes, as if it shared no name with another set."""
    paths = [*pending.entries, *pending.listings, *pending.trees]
    holders = [pending.entries, pending.listings, pending.trees, *pending.entries.values()]
    names = [name for some in pending.entries.values() for name in some]
    return sum(map(sys.getsizeof, paths + names)) + sum(map(sys.getsizeof, holders))


def windows(changes: Iterable[Change]) -> Iterator[MutableChangeset]:
    changes = iter(changes)
    while some := list(islice(changes, 10_000)):
        yield collected(some)


@pytest.mark.parametrize("way", WAYS)
def test_many_distinct_changes_take_bounded_memory(
    way: Callable[[], Iterator[Change]],
) -> None:
    backlog = Backlog()
    largest = 0
    for window in windows(way()):
        backlog.add(window)
        largest = max(largest, len(backlog))
    assert largest <= MAX_PENDING_CHANGES
    assert not backlog.is_everything
    assert memory(backlog.take()) < 50_000_000


@pytest.mark.parametrize("way", WAYS)
def test_a_set_far_over_the_limit_is_added_in_bounded_memory(
    way: Callable[[], Iterator[Change]],
) -> None:
    limit = 1_000
    single = collected(islice(way(), 50 * limit))
    backlog = Backlog(limit)
    tracemalloc.start()
    try:
        backlog.add(single)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < len(backlog) <= limit
    assert peak < 2_500 * limit
