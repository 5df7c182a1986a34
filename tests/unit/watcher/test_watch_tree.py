"""The watch tree, compared with a naive implementation."""

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylsyncd.watcher.watch_tree import WatchTree

ROOT = 1
descriptors = st.integers(min_value=2, max_value=7)
names = st.sampled_from([b"a", b"b", b"c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("link"), descriptors, st.integers(1, 7), names),
        st.tuples(st.just("unlink"), st.integers(1, 7), names),
        st.tuples(st.just("drop"), descriptors),
        st.tuples(st.just("forget"), descriptors),
        st.tuples(st.just("base")),
    ),
    max_size=40,
)


class NaiveTree:
    """The same with a parent and a name for each descriptor, as simple as possible."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[int, bytes] | None] = {ROOT: None}
        self.base: dict[int, bytes | None] = {ROOT: b""}
        self.places_at_base = {**self.places}
        self.left_ahead: set[tuple[int, bytes]] = set()

    def above(self, wd: int) -> list[int]:
        chain = [wd]
        while place := self.places[chain[-1]]:
            chain.append(place[0])
        return chain

    def path(self, wd: int) -> bytes | None:
        chain = self.above(wd)
        if chain[-1] != ROOT:
            return None
        return b"/".join(self.places[node][1] for node in reversed(chain[:-1]))  # type: ignore[index]

    def children(self, wd: int) -> dict[bytes, int]:
        return {place[1]: each for each, place in self.places.items() if place and place[0] == wd}

    def below(self, wd: int) -> list[int]:
        return sorted(each for each in self.places if each != wd and wd in self.above(each))

    def link(self, wd: int, parent: int, name: bytes) -> None:
        if self.places.get(wd) == (parent, name):
            return
        if wd not in self.places:
            self.base[wd] = None
        self.leave(wd)
        chain = self.above(parent)
        if wd in chain:
            branch = chain[chain.index(wd) - 1]
            if branch != wd:
                self.leave(branch)
        self.make_room(parent, name)
        self.places[wd] = (parent, name)

    def leave(self, wd: int) -> None:
        place = self.places.get(wd)
        if place is not None:
            self.left_ahead.add(place)
        self.places[wd] = None

    def unlink(self, parent: int, name: bytes) -> None:
        self.left_ahead.discard((parent, name))
        self.make_room(parent, name)

    def make_room(self, parent: int, name: bytes) -> None:
        for wd, place in self.places.items():
            if place == (parent, name):
                self.places[wd] = None

    def drop(self, wd: int) -> set[int]:
        gone = {other for other in self.places if wd in self.above(other)}
        for other in gone:
            del self.places[other]
        return gone

    def forget(self, wd: int) -> None:
        del self.places[wd]
        for other, place in self.places.items():
            if place and place[0] == wd:
                self.places[other] = None

    def set_base(self) -> None:
        self.base = {wd: self.path(wd) for wd in self.places}
        self.places_at_base = {**self.places}


@given(steps)
@example([("link", 2, 1, b"a"), ("link", 3, 1, b"a")])
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("base",), ("unlink", 1, b"a"), ("base",)])
# A later move is known before the earlier one: the lower directory is the upper one now.
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("link", 2, 3, b"a")])
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("link", 4, 3, b"c"), ("link", 2, 4, b"a")])
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("forget", 2), ("link", 3, 1, b"a")])
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("link", 4, 2, b"c"), ("forget", 2)])
@example([("link", 2, 1, b"a"), ("link", 3, 2, b"b"), ("link", 4, 3, b"c"), ("drop", 2)])
def test_it_agrees_with_a_naive_implementation(todo: list[tuple]) -> None:
    check_steps(todo)


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_a_naive_implementation_after_many_random_steps(seed: int) -> None:
    chance = random.Random(seed)
    todo: list[tuple] = []
    for _ in range(250):
        wd, parent, name = chance.randint(2, 7), chance.randint(1, 7), chance.choice([b"a", b"b"])
        todo.append(
            chance.choices(
                [("link", wd, parent, name), ("unlink", parent, name), ("drop", wd),
                 ("forget", wd), ("base",)],
                [20, 5, 1, 2, 2],
            )[0]
        )  # fmt: skip
    check_steps(todo)


def check_steps(todo: list[tuple]) -> None:
    """Check the tree after each of some steps that are possible."""
    tree, naive = WatchTree(ROOT), NaiveTree()
    for kind, *rest in todo:
        take_step(tree, naive, kind, *rest)
        check_tree(tree, naive)


def take_step(tree: WatchTree, naive: NaiveTree, kind: str, *rest: Any) -> None:
    if kind == "base":
        tree.set_base()
        naive.set_base()
        return
    first, *rest = rest  # type: ignore[assignment]
    if kind == "link" and rest[0] in tree and first != rest[0]:
        tree.attach(first, *rest)
        naive.link(first, *rest)
    elif kind == "unlink" and first in tree:
        tree.detach(first, *rest)
        naive.unlink(first, *rest)
    elif kind == "drop" and first in tree:
        assert set(tree.remove_subtree(first)) == naive.drop(first)
    elif kind == "forget" and first in tree:
        tree.remove(first)
        naive.forget(first)


def check_tree(tree: WatchTree, naive: NaiveTree) -> None:
    assert {wd: tree.path(wd) for wd in tree} == {wd: naive.path(wd) for wd in naive.places}
    assert len(tree) == len(naive.places)
    assert sorted(tree) == sorted(naive.places)
    for wd in tree:
        assert tree.is_detached(wd) is (wd != ROOT and naive.places[wd] is None)
        assert tree.place(wd) == naive.places[wd]
        assert set(tree.child_names(wd)) == naive.children(wd).keys()
        assert {name: tree.child(wd, name) for name in (b"a", b"b", b"c")} == {
            name: naive.children(wd).get(name) for name in (b"a", b"b", b"c")
        }
        assert sorted(tree.descendants(wd)) == naive.below(wd)
        path = tree.path(wd)
        assert path is None or tree.find(path) == wd
        assert tree.base_path(wd) == naive.base[wd]
        if naive.places_at_base.get(wd) not in {None, naive.places[wd]}:
            assert wd in tree.left_since_base
    assert tree.left_ahead == naive.left_ahead
    assert all(naive.base.get(wd) == path for wd, path in tree.left_since_base.items())
    assert tree.find(b"a/x") is tree.find(b"x/a") is None


def test_a_rename_moves_everything_below_in_one_step() -> None:
    tree = WatchTree(ROOT)
    tree.attach(2, ROOT, b"a")
    tree.attach(3, 2, b"b")
    tree.attach(4, 3, b"c")
    assert tree.attach(2, ROOT, b"z") is False
    assert tree.path(4) == b"z/b/c"
    assert tree.attach(2, ROOT, b"z") is True


def check_places(tree: WatchTree, places: dict[int, tuple[int, bytes]]) -> None:
    """Check that a tree has these places, by descriptor, and no others."""
    assert len(tree) == len(places) + 1
    assert set(tree) == {ROOT, *places}
    assert {wd: tree.place(wd) for wd in places} == places
    for wd, (parent, name) in places.items():
        assert tree.child(parent, name) == wd
    for parent in tree:
        names = {name for above, name in places.values() if above == parent}
        assert sorted(tree.child_names(parent)) == sorted(names)


@pytest.mark.parametrize("seed", range(5))
def test_directories_with_any_number_of_children_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    tree, places = WatchTree(ROOT), dict[int, tuple[int, bytes]]()
    newest = ROOT
    for limit in (2, 7, 12, 200, 3, 0, 30):
        while len(places) < limit:
            # The watches in between belong to another source of the same instance.
            newest += chance.choice([1, 1, 1, 100, 5000])
            parent = chance.choice([ROOT, ROOT, ROOT, *places])
            places[newest] = parent, b"%d" % newest
            assert tree.attach(newest, *places[newest]) is False
        check_places(tree, places)
        while len(places) > limit // 2:
            wd = chance.choice([*places])
            gone = tree.remove_subtree(wd)
            assert wd in gone
            for each in gone:
                del places[each]
        check_places(tree, places)
    assert [wd for wd in (*range(1, newest + 5000), 1 << 30) if wd in tree] == [ROOT, *places]
    assert tree.path(newest + 1) is None


def test_an_unknown_directory_has_no_place() -> None:
    tree = WatchTree(ROOT)
    for wd in (ROOT + 1, 1 << 20):
        with pytest.raises(KeyError):
            tree.place(wd)


def test_what_is_attached_while_directories_are_marked_is_marked() -> None:
    tree = WatchTree(ROOT)
    for wd in (2, 3, 4):
        tree.attach(wd, ROOT, b"%d" % wd)
    tree.start_marking(ROOT)
    assert tree.attach(2, ROOT, b"2"), "in its place"
    tree.attach(3, 2, b"moved")
    tree.attach(5, 2, b"new")
    tree.remove_subtree(2)
    tree.attach(6, ROOT, b"in the memory of one that is gone")
    assert {wd: tree.is_marked(wd) for wd in tree} == {ROOT: True, 4: False, 6: True}
    tree.stop_marking()
    assert not any(map(tree.is_marked, tree))
    tree.start_marking(4)
    assert [wd for wd in tree if tree.is_marked(wd)] == [4]


@pytest.mark.parametrize("fan_out", [1, 2, 8, 9, 11, 100, 5000])
def test_a_directory_takes_less_than_200_bytes(fan_out: int) -> None:
    tracemalloc.start()
    try:
        tree, wd = WatchTree(ROOT), ROOT
        parents = iter(range(ROOT, 10_000))
        while wd < 10_000:
            parent = next(parents)
            for number in range(fan_out):
                wd += 1
                tree.attach(wd, parent, b"name-%06d" % number)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(tree) < 200


def test_directories_that_come_and_go_leave_no_memory_behind() -> None:
    tree = WatchTree(ROOT)
    tracemalloc.start()
    try:
        for wd in range(ROOT + 1, 10_000):
            tree.attach(wd, ROOT, b"name")
            tree.remove_subtree(wd)
        # Another thread of the test's process may be receiving which tests are next.
        ours = [tracemalloc.Filter(True, "*/pylsyncd/*")]  # noqa: FBT003  # as its manual has it
        kept = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
    finally:
        tracemalloc.stop()
    assert sum(each.size for each in kept) < 10_000
