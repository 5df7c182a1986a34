"""The optimizer, by its rules and against a naive implementation."""

import time
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.optimizer import (
    hints_about,
    optimize,
    optimize_without_hints,
    split_below,
    with_hints_of,
    without_covered,
)

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE

# Few and similar names, so that paths often cover each other and often nearly do.
components = st.sampled_from([b"a", b"b", b"ab", b"a-b", b"a.b"])
some_paths = st.lists(components, max_size=4).map(b"/".join)
some_changes = st.lists(st.builds(Change, some_paths, st.sampled_from(list(Scope))), max_size=30)
high_paths = st.lists(components, max_size=2).map(b"/".join)
high_changes = st.lists(st.builds(Change, high_paths, st.sampled_from(list(Scope))), max_size=30)


def collected(changes: Iterable[tuple[bytes, Scope]]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in changes:
        collection.add(path, scope)
    return collection


def with_hints(
    changes: Iterable[tuple[bytes, Scope]], hints: Iterable[tuple[bytes, Scope]]
) -> MutableChangeset:
    collection = collected(changes)
    for path, scope in hints:
        collection.new_content.add(path, scope)
    return collection


def naively_reduced(changes: Iterable[Change]) -> set[Change]:
    """Drop each change that another one covers, in the simplest way."""
    distinct = set(changes)
    return {
        change
        for change in distinct
        if not any(other.covers(change) for other in distinct if other != change)
    }


@given(some_changes)
def test_it_agrees_with_a_naive_implementation(changes: list[Change]) -> None:
    assert set(optimize(collected(changes))) == naively_reduced(changes)


@given(some_changes)
def test_everything_stays_covered_and_nothing_is_redundant(changes: list[Change]) -> None:
    minimal = list(optimize(collected(changes), lambda _path, _limit: 3))
    assert all(any(kept.covers(change) for kept in minimal) for change in changes)
    assert not any(one.covers(other) for one in minimal for other in minimal if one is not other)


@given(some_changes, some_changes)
def test_the_hints_are_reduced_like_the_changes_and_apart_from_them(
    changes: list[Change], hints: list[Change]
) -> None:
    minimal = optimize(with_hints(changes, hints), lambda _path, _limit: 0)
    assert set(minimal.new_content) == naively_reduced(hints)
    assert set(minimal) == set(optimize(collected(changes), lambda _path, _limit: 0))


@given(some_changes, some_changes)
def test_without_hints_the_changes_alone_are_reduced(
    changes: list[Change], hints: list[Change]
) -> None:
    minimal = optimize_without_hints(with_hints(changes, hints))
    assert set(minimal) == naively_reduced(changes)
    assert not minimal.new_content


@given(high_changes, high_changes)
def test_changes_get_the_hints_about_them_and_no_other(
    changes: list[Change], hints: list[Change]
) -> None:
    found = with_hints_of(collected(changes), collected(hints))
    assert set(found) == set(changes)
    about = {each for each in changes if any(hint.covers(each) for hint in hints)}
    about |= {hint for hint in hints if any(each.covers(hint) for each in changes)}
    assert set(found.new_content) == about


@given(some_changes)
def test_optimizing_twice_is_optimizing_once(changes: list[Change]) -> None:
    once = optimize(collected(changes))
    assert set(optimize(once)) == set(once)


@given(some_changes)
def test_the_given_changes_are_not_modified(changes: list[Change]) -> None:
    collection = collected(changes)
    before = set(collection)
    optimize(collection, lambda _path, _limit: 0)
    assert set(collection) == before


@given(high_changes, st.sets(high_paths, max_size=4))
def test_changes_are_split_into_those_at_or_below_a_path_and_the_others(
    changes: list[Change], tops: set[bytes]
) -> None:
    collection = collected(changes)
    inside, outside = split_below(collection, tops)
    # The whole source is below no path.
    below = {
        change
        for change in collection
        if not collection.is_everything and any(paths.covers(top, change.path) for top in tops)
    }
    assert set(inside) == below
    assert set(outside) == set(collection) - below


@given(high_changes, high_changes, st.sets(high_paths, max_size=4))
def test_the_hints_are_split_like_the_changes(
    changes: list[Change], hints: list[Change], tops: set[bytes]
) -> None:
    collection = with_hints(changes, hints)
    inside, outside = split_below(collection, tops)
    minimal = optimize(collection).new_content
    assert set(minimal) <= set(inside.new_content) | set(outside.new_content) <= set(hints)
    is_all_new = paths.ROOT in collection.new_content.trees
    below = {
        hint
        for hint in collection.new_content
        if not is_all_new and any(paths.covers(top, hint.path) for top in tops)
    }
    assert set(inside.new_content) == below


def test_a_tree_covers_paths_below_it_and_not_its_neighbours() -> None:
    changes = [(b"a", TREE), (b"a/b/c", ENTRY), (b"a", ENTRY), (b"a-b", ENTRY), (b"a/b", LISTING)]
    assert set(optimize(collected(changes))) == {Change(b"a", TREE), Change(b"a-b", ENTRY)}


def test_a_listing_covers_its_entries_and_nothing_deeper() -> None:
    changes = [(b"a", LISTING), (b"a/b", ENTRY), (b"a", ENTRY), (b"a/b/c", ENTRY)]
    assert set(optimize(collected(changes))) == {Change(b"a", LISTING), Change(b"a/b/c", ENTRY)}


def test_a_tree_at_the_root_is_everything() -> None:
    assert optimize(collected([(b"", TREE), (b"a", ENTRY)])) is EVERYTHING


def entries(directory: bytes, count: int) -> list[tuple[bytes, Scope]]:
    return [(b"%s/%06d" % (directory, number), ENTRY) for number in range(count)]


def test_a_listing_stands_in_where_most_of_a_directory_changed() -> None:
    minimal = optimize(collected(entries(b"d", 100)), lambda _path, limit: min(limit, 120))
    assert list(minimal) == [Change(b"d", LISTING)]


def test_names_stay_where_little_of_a_directory_changed() -> None:
    minimal = optimize(collected(entries(b"d", 100)), lambda _path, limit: min(limit, 1000))
    assert len(minimal) == 100


def test_a_large_directory_is_not_counted_to_its_end() -> None:
    limits = []

    def count(_path: bytes, limit: int) -> int:
        limits.append(limit)
        return limit

    optimize(collected(entries(b"d", 100)), count)
    assert limits[0] < 1000


def test_a_million_changes_take_seconds() -> None:
    changes = MutableChangeset()
    for number in range(1_000_000):
        changes.add(b"some/directory/%06d/of/a/deep/tree/file" % (number % 300_000), ENTRY)
        if number % 10 == 0:
            changes.add(b"some/directory/%06d" % number, TREE)
    started = time.process_time()
    optimize(changes)
    assert time.process_time() - started < 10.0


@given(some_changes, some_changes)
def test_hints_about_changes_are_theirs_and_what_changes_have_of_others(
    changes: list[Change], hints: list[Change]
) -> None:
    about = set(hints_about(collected(changes), collected(hints)))
    reached = {each for each in hints if any(c.covers(Change(each.path, ENTRY)) for c in changes)}
    assert reached <= about
    assert all(any(hint.covers(each) for hint in hints) for each in about)
    # What a change and a hint include is about the change.
    for each in {Change(path, scope) for path, _ in changes for scope in Scope}:
        in_both = all(any(one.covers(each) for one in part) for part in (changes, hints))
        assert not in_both or any(one.covers(each) for one in about)


@given(some_changes, some_changes)
def test_only_covered_changes_are_dropped(changes: list[Change], others: list[Change]) -> None:
    covering = collected(others)
    rest = without_covered(collected(changes), covering)
    left = {change for change in changes if not any(other.covers(change) for other in others)}
    # Beside everything, other changes have no meaning.
    assert set(rest) == left or (rest.is_everything and Change(b"", TREE) in left)
    assert set(covering) == set(others)
