"""The order of renames, on a naive model of a tree."""

import itertools
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model import paths
from pylsyncd.model.moves import Move
from pylsyncd.rsync.rename_order import RenameStep, find_displaced, order_renames

Tree = dict[bytes, int]
"""A number for each path: where it goes with a rename, what was there goes."""

Pairs = dict[bytes, bytes]
"""The old path of each new path."""


def rename(tree: Tree, old: bytes, new: bytes, *, exchanges: bool = False) -> bool:
    """Rename in a tree, after missing directories were created; return False if it fails.

    What is at the new path is replaced if it is empty; else it may be exchanged.
    """
    is_free = not any(paths.covers(new, path) for path in tree if path != new)
    if old not in tree or paths.covers(old, new) or paths.covers(new, old):
        return False
    if not (is_free or (exchanges and new in tree)):
        return False
    for above in paths.ancestors(new):
        tree.setdefault(above, -1)
    displaced = {path: tree.pop(path) for path in [*tree] if paths.covers(new, path)}
    for path in [path for path in tree if paths.covers(old, path)]:
        tree[new + path[len(old) :]] = tree.pop(path)
    if not is_free:
        tree.update({old + path[len(new) :]: number for path, number in displaced.items()})
    return True


def execute(
    tree: Tree, steps: Sequence[RenameStep], failing: Iterable[int] = (), *, exchanges: bool = False
) -> tuple[list[bytes], frozenset[bytes]]:
    """Make the steps, except those that fail; return what was carried, and what is displaced."""
    done, exchanged = set[int](), set[int]()
    for index, step in enumerate(steps):
        is_in_place = step.after is None or step.after in done
        count = len(tree)
        is_full = any(paths.covers(step.new, path) for path in tree if path != step.new)
        if (
            is_in_place
            and index not in failing
            and rename(tree, step.old, step.new, exchanges=exchanges)
        ):
            done.add(index)
            if is_full:
                exchanged.add(index)
                assert len(tree) == count
    return [steps[index].new for index in done], find_displaced(steps, done, exchanged)


def ordered(pairs: Pairs) -> Sequence[RenameStep]:
    return order_renames(
        {new: Move(old, is_directory=True, is_new_name=True) for new, old in pairs.items()}
    )


def tree_of(some: Iterable[bytes]) -> Tree:
    found = {above for path in some for above in (path, *paths.ancestors(path))}
    return {path: number for number, path in enumerate(sorted(found | {b""}))}


PATHS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(b"/".join)


@given(
    st.sets(PATHS, max_size=12),
    st.dictionaries(PATHS, PATHS, max_size=7),
    st.sets(st.integers(0, 6), max_size=2),
)
def test_a_rename_takes_what_was_at_the_old_path_before_all_others(
    some: set[bytes], pairs: Pairs, failing: set[int]
) -> None:
    before = tree_of(some)
    after = dict(before)
    done, displaced = execute(after, ordered(pairs), failing)
    assert not displaced
    expect_carried(before, after, pairs, done)


@given(
    st.sets(PATHS, max_size=12),
    st.dictionaries(PATHS, PATHS, max_size=7),
    st.sets(st.integers(0, 6), max_size=2),
)
def test_where_directories_are_exchanged_all_that_is_displaced_is_known(
    some: set[bytes], pairs: Pairs, failing: set[int]
) -> None:
    before = tree_of(some)
    after = dict(before)
    done, displaced = execute(after, ordered(pairs), failing, exchanges=True)
    expect_carried(before, after, pairs, done, displaced)
    for path, number in after.items():
        if number not in {-1, before.get(path)}:
            assert any(paths.covers(top, path) for top in (*done, *displaced))


def expect_carried(
    before: Tree, after: Tree, pairs: Pairs, done: Sequence[bytes],
    displaced: AbstractSet[bytes] = frozenset(),
) -> None:  # fmt: skip
    """Check that the copy of each move is at its new path, apart from what is moved there."""
    for new in done:
        old = pairs[new]
        assert after[new] == before[old]
        for path, number in after.items():
            is_of_another = any(
                paths.covers(new, each) and paths.covers(each, path)
                for each in (*done, *displaced)
                if each != new
            )
            if paths.covers(new, path) and not is_of_another and number != -1:
                assert before[old + path[len(new) :]] == number


@st.composite
def moved_trees(draw: st.DrawFn) -> tuple[Tree, Pairs]:
    """Return a tree, and the moves that some renames without a loss amount to."""
    before = tree_of(draw(st.sets(PATHS, min_size=1, max_size=8)))
    after = dict(before)
    for _ in range(draw(st.integers(1, 5))):
        new = draw(PATHS)
        if new not in after:
            rename(after, draw(st.sampled_from(sorted(after))) or b"a", new)
    places = {number: path for path, number in after.items() if number != -1}
    moves = {}
    for path, number in before.items():
        if path:
            parent, name = paths.split(path)
            if places[number] != paths.join(places[before[parent]], name):
                moves[places[number]] = path
    return before, moves


def carries_all(tree: Tree, pairs: Pairs, order: Sequence[bytes]) -> bool:
    """Return True if an order carries all moves, however their old paths are found."""
    numbers = dict(tree)
    tree = dict(tree)
    for new in order:
        current = next((path for path in tree if tree[path] == numbers[pairs[new]]), b"")
        if not current or not rename(tree, current, new):
            return False
    return all(tree.get(new) == numbers[old] for new, old in pairs.items())


@given(moved_trees())
def test_all_is_carried_if_any_order_carries_all(moved: tuple[Tree, Pairs]) -> None:
    tree, pairs = moved
    if any(carries_all(tree, pairs, order) for order in itertools.permutations(pairs)):
        assert set(execute(dict(tree), ordered(pairs))[0]) == pairs.keys()


def steps(pairs: Pairs) -> list[tuple[bytes, bytes]]:
    return [(step.old, step.new) for step in ordered(pairs)]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param(
            {b"l.1": b"l", b"l.2": b"l.1", b"l.3": b"l.2"},
            [(b"l.2", b"l.3"), (b"l.1", b"l.2"), (b"l", b"l.1")],
            id="log rotation: the highest number first",
        ),
        pytest.param({b"a": b"b", b"b": b"a"}, [], id="exchanged names"),
        pytest.param(
            {b"a": b"b", b"b": b"a", b"x": b"y"}, [(b"y", b"x")], id="others than the exchanged"
        ),
        pytest.param(
            {b"e": b"d", b"e/g": b"d/f"}, [(b"d", b"e"), (b"e/f", b"e/g")],
            id="a file in a renamed directory",
        ),
        pytest.param(
            {b"e": b"d", b"g": b"e/f"}, [(b"e/f", b"g"), (b"d", b"e")],
            id="out of the place that another directory takes",
        ),
        pytest.param({b"e": b"d", b"g": b"e/f/h"}, [(b"e/f/h", b"g")], id="e/f stays"),
        pytest.param(
            {b"c/a/a/a": b"a", b"a": b"a/a", b"a/a": b"a/b", b"b/b/a/a": b"c"},
            [(b"c", b"b/b/a/a"), (b"a", b"c/a/a/a"), (b"c/a/a/a/a", b"a"), (b"c/a/a/a/b", b"a/a")],
            id="the children of a moved directory take its place",
        ),
        pytest.param(
            {b"e": b"d", b"d/f": b"g"}, [(b"d", b"e"), (b"g", b"d/f")],
            id="into a new directory at the old name",
        ),
        pytest.param(
            {b"p": b"q", b"z": b"q/x", b"p/x": b"r"},
            [(b"q", b"p"), (b"p/x", b"z"), (b"r", b"p/x")],
            id="to a name in a renamed directory that another one leaves",
        ),
        pytest.param({b"a/b": b"a"}, [], id="into itself"),
        pytest.param({b"a": b"a/b"}, [], id="out of itself to its name"),
        pytest.param({b"a": b"a"}, [], id="to itself"),
        pytest.param({b"b": b"a", b"c": b"a"}, [(b"a", b"b")], id="one path that went to two"),
        pytest.param({b"": b"a"}, [], id="to the root"),
        pytest.param({b"a": b""}, [], id="the root"),
    ],
)  # fmt: skip
def test_steps(pairs: Pairs, expected: list[tuple[bytes, bytes]]) -> None:
    assert steps(pairs) == expected


def test_a_step_tells_which_one_has_brought_its_old_name() -> None:
    found = ordered({b"e": b"d", b"e/g": b"d/f", b"x": b"y"})
    by_new = {step.new: step for step in found}
    after = by_new[b"e/g"].after
    assert after is not None
    assert found[after].new == b"e"
    assert by_new[b"e"].after is by_new[b"x"].after is None


def test_many_moves_are_ordered_soon() -> None:
    count = 10_000
    exchanged = {b"%d" % number: b"%d" % (number ^ 1) for number in range(count)}
    chain = {b"c/%d" % (number + 1): b"c/%d" % number for number in range(count)}
    started = time.process_time()
    assert len(steps(exchanged | chain)) == count
    assert time.process_time() - started < 30
