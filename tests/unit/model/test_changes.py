"""Sets of changes, with their hints."""

from pylsyncd.model.changes import (
    EVERYTHING,
    NOTHING,
    Changeset,
    MutableChangeset,
    everything_with,
    format_changes,
    union,
)
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import NO_PATHS, Change, MutableScopedPaths, Scope

ENTRY, LISTING, TREE = Scope


def test_a_set_has_each_added_change_once() -> None:
    changes = MutableChangeset()
    for path, scope in [(b"a/b", ENTRY), (b"a/b", ENTRY), (b"", ENTRY), (b"a", LISTING)]:
        changes.add(path, scope)
    changes.add(b"t", TREE)
    changes.add_entries(b"a", {b"b", b"c"})
    changes.add_entries(b"none", set())
    assert len(changes) == 5
    assert set(changes) == {
        Change(b"a/b", ENTRY), Change(b"a/c", ENTRY), Change(b"", ENTRY), Change(b"a", LISTING),
        Change(b"t", TREE),
    }  # fmt: skip


def test_merging_leaves_the_other_set_unchanged() -> None:
    changes, other = MutableChangeset(), MutableChangeset()
    other.add(b"d/a", ENTRY)
    changes.merge(other)
    changes.merge(EVERYTHING)
    changes.add(b"d/b", ENTRY)
    assert changes.is_everything
    assert list(other) == [Change(b"d/a", ENTRY)]


def test_a_union_has_all_changes_and_leaves_the_sets_unchanged() -> None:
    one, other = MutableChangeset(), MutableChangeset()
    one.add(b"d/a", ENTRY)
    other.add(b"d/b", ENTRY)
    other.add(b"d", LISTING)
    both = union(one, other)
    assert set(both) == {*one, *other}
    assert both is not one
    assert list(one) == [Change(b"d/a", ENTRY)]
    assert not union()


def hinted(path: bytes, scope: Scope) -> MutableChangeset:
    changes = MutableChangeset()
    changes.add_new_content(path, scope)
    return changes


def test_a_hint_stays_with_its_change_when_sets_are_merged() -> None:
    plain = MutableChangeset()
    plain.add(b"d/b", ENTRY)
    both = union(hinted(b"d/a", ENTRY), plain, hinted(b"t", TREE))
    assert set(both) == {Change(b"d/a", ENTRY), Change(b"d/b", ENTRY), Change(b"t", TREE)}
    assert set(both.new_content) == {Change(b"d/a", ENTRY), Change(b"t", TREE)}
    assert not plain.new_content


def test_everything_keeps_the_hints_of_the_changes_that_it_stands_for() -> None:
    all_of_them = everything_with(hinted(b"d/a", ENTRY), EVERYTHING, hinted(b"d", LISTING))
    assert list(all_of_them) == list(EVERYTHING)
    assert set(all_of_them.new_content) == {Change(b"d/a", ENTRY), Change(b"d", LISTING)}
    assert everything_with(EVERYTHING, NOTHING) is EVERYTHING


def test_only_an_empty_set_is_false() -> None:
    assert not NOTHING
    assert not MutableChangeset()
    assert EVERYTHING


def test_changes_are_formatted_with_their_scope_and_a_long_set_is_cut() -> None:
    changes = MutableChangeset()
    changes.add(b"a\n", ENTRY)
    changes.add(b"d", LISTING)
    changes.add(b"", TREE)
    assert format_changes(changes) == r"a\n d/ ./**"
    changes.add_entries(b"", {b"%d" % number for number in range(200)})
    text = format_changes(changes)
    assert text.endswith(" ...")
    assert len(text.split()) == 101


def moved(path: bytes, old: bytes, *written: Change) -> Changeset:
    """Return the changes of one moved directory, with new contents below it."""
    changes, contents = MutableChangeset(), MutableScopedPaths()
    changes.add(old, ENTRY)
    changes.add_new_content(path, TREE)
    for change in written:
        changes.add_new_content(*change)
        contents.add(*change)
    move = Move(old, is_directory=True, is_new_name=True)
    return changes.with_moves(Moves({path: move}, contents))


def test_moves_are_unknown_until_they_are_set() -> None:
    assert NOTHING.moves is None
    assert MutableChangeset().moves is None
    assert EVERYTHING.moves is None
    changes = hinted(b"d/a", ENTRY)
    with_moves = changes.with_moves(NO_MOVES)
    assert with_moves.moves is NO_MOVES
    assert list(with_moves) == list(changes)
    assert list(with_moves.new_content) == list(changes.new_content)


def test_another_hint_of_new_contents_drops_the_moves() -> None:
    assert moved(b"n", b"o").with_new_content(NO_PATHS).moves is None


def test_a_carried_move_leaves_only_what_was_written_there_as_new_content() -> None:
    changes = moved(b"n", b"o", Change(b"n/w", ENTRY), Change(b"n/d", TREE))
    left = changes.after_moves({b"n"})
    assert left.moves is None
    assert set(left) == set(changes)
    assert set(left.new_content) == {Change(b"n/w", ENTRY), Change(b"n/d", TREE)}
    assert set(changes.after_moves(set()).new_content) == set(changes.new_content)
    assert changes.after_moves(set()).moves is None


def test_a_move_below_a_carried_one_that_is_not_carried_itself_stays_new_content() -> None:
    changes = union(moved(b"n", b"o"), moved(b"n/d", b"p")).with_moves(
        Moves(
            {
                b"n": Move(b"o", is_directory=True, is_new_name=True),
                b"n/d": Move(b"p", is_directory=True, is_new_name=True),
            }
        )
    )
    assert set(changes.after_moves({b"n"}).new_content) == {Change(b"n/d", TREE)}
    assert set(changes.after_moves({b"n/d"}).new_content) == {Change(b"n", TREE)}
    assert not changes.after_moves({b"n", b"n/d"}).new_content


def test_what_a_move_has_displaced_is_compared_like_a_new_tree() -> None:
    left = moved(b"n", b"o").after_moves({b"n"}, {b"o", b"n/p"})
    assert set(left.new_content) == {Change(b"o", TREE), Change(b"n/p", TREE)}
    assert left.includes_tree(b"o")
    assert left.includes_tree(b"n")


def test_a_set_whose_moves_are_unknown_makes_those_of_the_union_unknown() -> None:
    known = hinted(b"d/a", ENTRY).with_moves(NO_MOVES)
    assert union(known, known).moves is NO_MOVES
    assert union(known, hinted(b"d/b", ENTRY)).moves is None
    assert union(hinted(b"d/b", ENTRY), known).moves is None


def test_an_empty_set_leaves_the_moves_as_they_are() -> None:
    changes = moved(b"n", b"o")
    assert union(NOTHING, changes, NOTHING).moves is changes.moves
