"""Wider changes cover narrower ones, and end in everything."""

from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model.changes import EVERYTHING, MutableChangeset
from pylsyncd.model.moves import NO_MOVES
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.widening import LAST_STEP, widened, with_parent_listings

ENTRY, LISTING, TREE = Scope

some_paths = st.lists(st.sampled_from([b"a", b"b", b"ab"]), max_size=4).map(b"/".join)
some_changes = st.lists(st.builds(Change, some_paths, st.sampled_from(list(Scope))), min_size=1)


def collected(*changes: tuple[bytes, Scope]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in changes:
        collection.add_new_content(path, scope)
    return collection


def test_an_entry_widens_to_its_directory_its_tree_and_everything() -> None:
    entry = collected((b"a/b/f", ENTRY))
    steps = [set(widened(entry, step)) for step in range(LAST_STEP + 1)]
    assert steps == [
        {(b"a/b/f", ENTRY)}, {(b"a/b", LISTING)}, {(b"a/b", TREE)}, {(b"", TREE)},
    ]  # fmt: skip


def test_a_listing_and_a_tree_widen_to_the_directory_above() -> None:
    changes = collected((b"a/b", LISTING), (b"c/d", TREE))
    assert set(widened(changes, 1)) == {
        (b"a", LISTING), (b"a/b", LISTING), (b"c", LISTING), (b"c/d", TREE),
    }  # fmt: skip
    assert set(widened(changes, 2)) == {(b"a", TREE), (b"c", TREE)}


def test_moves_are_unknown_to_wider_changes() -> None:
    entry = collected((b"a/f", ENTRY)).with_moves(NO_MOVES)
    assert [widened(entry, step).moves for step in range(LAST_STEP)] == [NO_MOVES, None, None]


def test_everything_stays_everything() -> None:
    assert all(widened(EVERYTHING, step) is EVERYTHING for step in range(LAST_STEP + 1))
    assert set(with_parent_listings(EVERYTHING)) == {(b"", TREE)}


@given(some_changes, st.integers(0, LAST_STEP))
def test_each_step_covers_the_changes_and_keeps_their_hints(
    changes: list[Change], step: int
) -> None:
    wider = widened(collected(*changes), step)
    for path, scope in changes:
        assert any(kept.covers(Change(path, scope)) for kept in wider)
        assert any(kept.covers(Change(path, scope)) for kept in wider.new_content)


@given(some_changes)
def test_the_given_changes_are_not_modified(changes: list[Change]) -> None:
    collection = collected(*changes)
    for step in range(LAST_STEP + 1):
        widened(collection, step)
    assert set(collection) == set(changes)
