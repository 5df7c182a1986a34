"""A tree is divided into parts: nothing is lost, nothing is in two, and the last ones are small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.tree_parts import (
    ENTRY_WEIGHT,
    MAX_PART_WEIGHT,
    MAX_WAITING_PIECES,
    MIN_PART_WEIGHT,
    DirectoryPieces,
    Piece,
    TreePart,
    TreeParts,
)

HALF = MIN_PART_WEIGHT // 2


def listing(number: int, weight: int) -> Piece:
    return Piece(b"%d" % number, None, weight)


def weight_of(part: TreePart) -> int:
    return sum(piece.weight for piece in part.pieces)


def complete(runs: int, *pieces: Piece) -> TreeParts:
    parts = TreeParts(runs)
    for piece in pieces:
        parts.add(piece)
    parts.finish()
    return parts


def take_all(parts: TreeParts) -> list[TreePart]:
    taken = []
    while parts.has_part:
        taken.append(parts.take())
    return taken


def test_a_directory_is_one_piece_with_all_its_entries() -> None:
    pieces = DirectoryPieces(b"d")
    assert pieces.add(b"a", 1000) is None
    assert pieces.finish() == Piece(b"d", None, 2 * ENTRY_WEIGHT + 1000)
    assert DirectoryPieces(b"empty").finish() == Piece(b"empty", None, ENTRY_WEIGHT)


@pytest.mark.parametrize(("size", "count"), [(0, 10_000), (MIN_PART_WEIGHT, 3), (HALF, 5)])
def test_a_large_directory_is_divided_by_its_entries(size: int, count: int) -> None:
    pieces = DirectoryPieces(b"d")
    names = [b"%d" % number for number in range(count)]
    found = [pieces.add(name, size) for name in names] + [pieces.finish()]
    given = [piece.names for piece in found if piece is not None]
    assert len(given) == (3 if count != 10_000 else 10_000 * ENTRY_WEIGHT // MIN_PART_WEIGHT + 1)
    assert sorted(name for some in given for name in some or ()) == sorted(names)


def test_a_directory_with_an_entry_that_is_left_out_names_the_others() -> None:
    pieces = DirectoryPieces(b"d")
    pieces.add(b"a", 0)
    pieces.leave_out()
    assert pieces.finish() == Piece(b"d", frozenset([b"a"]), 2 * ENTRY_WEIGHT)
    alone = DirectoryPieces(b"d")
    alone.leave_out()
    assert alone.finish() is None


def test_a_part_is_a_changeset_of_listings_and_entries() -> None:
    part = TreePart((Piece(b"d", None, 1), Piece(b"e", frozenset([b"a", b"b"]), 1)))
    assert set(part.changes()) == {
        Change(b"d", Scope.LISTING),
        Change(b"e/a", Scope.ENTRY),
        Change(b"e/b", Scope.ENTRY),
    }


def test_a_tree_that_one_run_carries_is_not_divided() -> None:
    assert not complete(4).has_part
    assert not complete(4, listing(1, HALF), listing(2, HALF)).has_part
    assert not complete(4, listing(1, MAX_PART_WEIGHT)).has_part
    assert complete(4, listing(1, MIN_PART_WEIGHT), listing(2, MIN_PART_WEIGHT)).has_part


def test_parts_are_given_out_while_the_tree_is_walked() -> None:
    parts = TreeParts(4)
    for number in range(3):
        parts.add(listing(number, HALF))
    assert not parts.has_part
    parts.add(listing(3, HALF))
    assert parts.has_part
    assert parts.take().pieces == (listing(0, HALF), listing(1, HALF))
    # More may come.
    assert not parts.has_part
    parts.finish()
    assert parts.take().pieces == (listing(2, HALF), listing(3, HALF))
    assert not parts.has_part


def test_the_first_parts_are_large_and_the_last_ones_small() -> None:
    taken = take_all(complete(4, *(listing(number, HALF // 8) for number in range(4000))))
    weights = [weight_of(part) for part in taken]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 10 * MIN_PART_WEIGHT
    assert weights[-5] < 1.1 * MIN_PART_WEIGHT
    assert 20 < len(taken) < 100


@given(
    st.lists(st.integers(ENTRY_WEIGHT, 2 * MAX_PART_WEIGHT), max_size=200),
    st.integers(2, 16),
    st.sets(st.integers(0, 200)),
)
def test_each_piece_is_in_one_part_and_no_part_is_too_large(
    weights: list[int], runs: int, taken_during: set[int]
) -> None:
    parts = TreeParts(runs)
    taken = []
    for number, weight in enumerate(weights):
        parts.add(listing(number, weight))
        if number in taken_during and parts.has_part:
            taken.append(parts.take())
    parts.finish()
    taken += take_all(parts)
    given_out = [piece.directory for part in taken for piece in part.pieces]
    if taken:
        assert given_out == [b"%d" % number for number in range(len(weights))]
    else:
        assert len(weights) < 2 or sum(weights) < 2 * MIN_PART_WEIGHT
    assert all(len(part.pieces) == 1 or weight_of(part) <= MAX_PART_WEIGHT for part in taken)


def test_a_part_that_failed_is_given_out_once_more() -> None:
    parts = complete(2, *(listing(number, MIN_PART_WEIGHT) for number in range(2)))
    first = parts.take()
    for was_tried in (False, True, False):
        assert parts.put_back(first, was_tried=was_tried)
        assert parts.take().pieces == first.pieces
        assert parts.put_back(first, was_tried=was_tried)
        first = parts.take()
    assert not parts.put_back(first, was_tried=True)
    assert len(take_all(parts)) == 1


def test_a_part_that_failed_is_given_out_although_no_other_one_waits() -> None:
    parts = TreeParts(2)
    for number in range(2):
        parts.add(listing(number, MIN_PART_WEIGHT))
    first = parts.take()
    assert not parts.has_part
    assert parts.put_back(first, was_tried=True)
    assert parts.has_part
    assert parts.take().pieces == first.pieces


def test_the_number_of_waiting_pieces_is_bounded() -> None:
    parts = TreeParts(2)
    for number in range(MAX_WAITING_PIECES):
        assert not parts.is_full
        parts.add(listing(number, ENTRY_WEIGHT))
    assert parts.is_full
    parts.take()
    assert not parts.is_full
