"""The moves of sets of changes that follow each other, by their rules and against a naive model.

In the model all files have the same size and time: only the hints tell that a content is another.
"""

import random
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset, union
from pylsyncd.model.move_composition import MAX_MOVES, MAX_WRITTEN_PATHS, moves_after_failure
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.pipeline.optimizer import optimize, split_below

ENTRY, LISTING, TREE = Scope

DIRECTORY = 0
NAMES = [b"a", b"b", b"c"]
ALL_PATHS = [*NAMES, *(one + b"/" + other for one in NAMES for other in NAMES)]


class Tree:
    """A naive file system: the content of each file, and ``DIRECTORY``, by path."""

    def __init__(self) -> None:
        self.nodes = {paths.ROOT: DIRECTORY}
        self._contents = iter(range(1, 1_000_000))

    def directories(self) -> list[bytes]:
        return sorted(path for path, node in self.nodes.items() if node == DIRECTORY)

    def below(self, path: bytes) -> list[bytes]:
        return [each for each in self.nodes if each != path and paths.covers(path, each)]

    def put(self, path: bytes, *, is_directory: bool = False) -> None:
        self.nodes[path] = DIRECTORY if is_directory else next(self._contents)

    def cut(self, path: bytes) -> dict[bytes, int]:
        """Remove what is at and below a path, and return it by its paths relative to that."""
        found = [path, *self.below(path)]
        return {each[len(path) :]: self.nodes.pop(each) for each in found if each in self.nodes}

    def paste(self, path: bytes, nodes: dict[bytes, int]) -> None:
        self.nodes |= {path + rest: node for rest, node in nodes.items()}


@dataclass
class Window:
    """A set of changes, between two states of the source."""

    before: dict[bytes, int]
    changes: Changeset
    after: dict[bytes, int]


class Operation(NamedTuple):
    """What is done to a tree; a path and a directory are numbers of those that exist."""

    kind: str
    path: int
    directory: int
    name: bytes
    is_known: bool
    """Whether the set tells the moves, rather than that something was moved."""


operations = st.builds(
    Operation,
    st.sampled_from([
        "create", "write", "touch", "make-directory", "move-in", "delete", "exchange", "scan",
        *["rename"] * 6, *["rename-into-new"] * 2,
    ]),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from(NAMES),
    # Most are known.
    st.integers(0, 9).map(bool),
)  # fmt: skip


def apply(tree: Tree, operation: Operation) -> MutableChangeset | None:
    """Apply an operation, and return its changes; None if it is not possible."""
    directories = tree.directories()
    target = paths.join(directories[operation.directory % len(directories)], operation.name)
    some = sorted(tree.nodes.keys() - {paths.ROOT})
    path = some[operation.path % len(some)] if some else None
    changes = MutableChangeset()
    changes.moves = NO_MOVES
    if operation.kind in _APPEARING:
        is_possible = _APPEARING[operation.kind](tree, target, changes)
    else:
        is_possible = path is not None and _CHANGING[operation.kind](tree, path, target, changes)
    if not is_possible:
        return None
    if not operation.is_known and changes.moves:
        changes.moves = NO_MOVES
    return changes


def create(tree: Tree, target: bytes, changes: MutableChangeset) -> bool:
    if tree.nodes.get(target) == DIRECTORY:
        return False
    tree.put(target)
    changes.add_new_content(target, ENTRY)
    return True


def make_directory(tree: Tree, target: bytes, changes: MutableChangeset) -> bool:
    if target in tree.nodes:
        return False
    tree.put(target, is_directory=True)
    changes.add_new_content(target, TREE)
    return True


def move_in(tree: Tree, target: bytes, changes: MutableChangeset) -> bool:
    is_possible = make_directory(tree, target, changes)
    for name in NAMES:
        if is_possible:
            tree.put(paths.join(target, name), is_directory=name == NAMES[0])
    return is_possible


def write(tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    return tree.nodes[path] != DIRECTORY and create(tree, path, changes)


def touch(_tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    changes.add(path, ENTRY)
    return True


def delete(tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    tree.cut(path)
    changes.add(path, ENTRY)
    return True


def scan(tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    """Change something that a scan finds, which knows of no move."""
    for each in (path, *tree.below(path)):
        if tree.nodes[each] != DIRECTORY:
            tree.put(each)
    changes.add_new_content(path, TREE)
    changes.moves = None
    return True


def replace_directory(tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    """Delete a directory, and move another one to its name."""
    if tree.nodes[path] != DIRECTORY:
        return False
    delete(tree, path, path, changes)
    return move_in(tree, path, changes)


def write_all(tree: Tree, path: bytes, _: bytes, changes: MutableChangeset) -> bool:
    """Write all files of a directory, of which only its listing is told."""
    if tree.nodes[path] != DIRECTORY:
        return False
    for each in tree.below(path):
        if paths.split(each)[0] == path and tree.nodes[each] != DIRECTORY:
            tree.put(each)
    changes.add_new_content(path, LISTING)
    return True


def rename(tree: Tree, path: bytes, target: bytes, changes: MutableChangeset) -> bool:
    is_directory = tree.nodes[path] == DIRECTORY
    is_new_name = target not in tree.nodes
    if paths.covers(path, target):
        return False
    if not is_new_name:
        is_target_directory = tree.nodes[target] == DIRECTORY
        if is_target_directory != is_directory or tree.below(target):
            return False
    moved = tree.cut(path)
    tree.paste(target, moved)
    changes.add(path, ENTRY)
    changes.add_new_content(target, TREE if is_directory else ENTRY)
    changes.moves = Moves({target: Move(path, is_directory, is_new_name)})
    return True


def rename_into_new(tree: Tree, path: bytes, target: bytes, changes: MutableChangeset) -> bool:
    """Create a directory, and move something into it before the changes are taken."""
    if paths.covers(path, target) or not make_directory(tree, target, changes):
        return False
    some = MutableChangeset()
    rename(tree, path, paths.join(target, NAMES[0]), some)
    changes.add_all(some)
    changes.new_content.add_all(some.new_content)
    changes.moves = some.moves
    return True


def exchange(tree: Tree, path: bytes, target: bytes, changes: MutableChangeset) -> bool:
    if target not in tree.nodes or paths.covers(path, target) or paths.covers(target, path):
        return False
    moves = {}
    one, other = tree.cut(path), tree.cut(target)
    for old, new, moved in ((path, target, one), (target, path, other)):
        is_directory = moved[b""] == DIRECTORY
        tree.paste(new, moved)
        changes.add_new_content(new, TREE if is_directory else ENTRY)
        moves[new] = Move(old, is_directory, is_new_name=False)
    changes.moves = Moves(moves)
    return True


_APPEARING: dict[str, Callable[[Tree, bytes, MutableChangeset], bool]] = {
    "create": create,
    "make-directory": make_directory,
    "move-in": move_in,
}
_CHANGING: dict[str, Callable[[Tree, bytes, bytes, MutableChangeset], bool]] = {
    "write": write,
    "touch": touch,
    "delete": delete,
    "scan": scan,
    "replace-directory": replace_directory,
    "write-all": write_all,
    "rename": rename,
    "rename-into-new": rename_into_new,
    "exchange": exchange,
}


def merged(earlier: Window, later: Window, *, is_flushed: bool = False) -> Window:
    changes: Changeset = union(earlier.changes, later.changes)
    if is_flushed:
        changes = optimize(changes, lambda _path, _limit: 0)
    return Window(earlier.before, changes, later.after)


def split_and_merged(window: Window, tops: AbstractSet[bytes]) -> Window:
    """Return a window whose set was carried in two parts, and neither of them has arrived."""
    inside, outside = split_below(window.changes, tops)
    for part in (inside, outside):
        assert_moves_are_true(Window(window.before, part, window.after))
    one_way, other_way = union(inside, outside), union(outside, inside)
    assert_moves_are_true(Window(window.before, one_way, window.after))
    return Window(window.before, other_way, window.after)


def governing(path: bytes, tops: Sequence[bytes]) -> bytes | None:
    """Return the deepest of some paths that is at or above a path."""
    return max((top for top in tops if paths.covers(top, path)), key=len, default=None)


def assert_moves_are_true(window: Window) -> None:
    moves = window.changes.moves
    if moves is None:
        return
    for path, move in moves.by_new_path.items():
        assert path != move.old
        assert move.old in window.before, (path, move)
        assert window.changes.includes_entry(path)
        assert not (move.is_new_name and path in window.before), path
        assert not move.is_written or moves.written.includes_entry(path)
    for path, content in window.after.items():
        new = governing(path, list(moves.by_new_path))
        if content == DIRECTORY or new is None or moves.written.includes_entry(path):
            continue
        old = moves.by_new_path[new].old + path[len(new) :]
        assert window.before.get(old, content) in {content, DIRECTORY}, (path, old)


def assert_new_contents_are_told(window: Window, carried: set[bytes]) -> None:
    """Assert that all contents arrive if a destination has made some of the moves."""
    moves = window.changes.moves or NO_MOVES
    left = window.changes.after_moves(carried)
    assert left.moves is None
    believed = sorted(carried & moves.by_new_path.keys())
    for path, content in window.after.items():
        new = governing(path, believed)
        old = path if new is None else moves.by_new_path[new].old + path[len(new) :]
        if content != DIRECTORY and window.before.get(old, content) not in {content, DIRECTORY}:
            assert left.new_content.includes_entry(path), (path, old)


def assert_is_true(window: Window, data: st.DataObject) -> None:
    assert_moves_are_true(window)
    assert_new_contents_are_told(window, set())
    if window.changes.moves:
        new_paths = sorted(window.changes.moves.by_new_path)
        assert_new_contents_are_told(window, set(new_paths))
        assert_new_contents_are_told(window, data.draw(st.sets(st.sampled_from(new_paths))))


def windows_of(some: Sequence[Operation], start: Sequence[Operation] = ()) -> list[Window]:
    tree = Tree()
    for operation in start:
        apply(tree, operation)
    windows = []
    for operation in some:
        before = dict(tree.nodes)
        changes = apply(tree, operation)
        if changes is not None:
            windows.append(Window(before, changes, dict(tree.nodes)))
    return windows


STARTS = [
    Operation("move-in", 0, 0, b"a", is_known=True),
    Operation("move-in", 0, 1, b"a", is_known=True),
    Operation("create", 0, 0, b"c", is_known=True),
]


def windows_after(steps: Sequence[str]) -> list[Window]:
    """Return a window for each step, which is a kind, a path and a target.

    At first there are the directories d with the files a, b and c, and e with the file f.
    """
    tree = Tree()
    for path in (b"d", b"d/a", b"d/b", b"d/c", b"e", b"e/f"):
        tree.put(path, is_directory=path in {b"d", b"e"})
    windows = []
    for step in steps:
        kind, path, target = (*step.split(), "")[:3]
        before, changes = dict(tree.nodes), MutableChangeset()
        changes.moves = NO_MOVES
        if kind in _APPEARING:
            assert _APPEARING[kind](tree, path.encode(), changes), step
        else:
            assert _CHANGING[kind](tree, path.encode(), target.encode(), changes), step
        windows.append(Window(before, changes, dict(tree.nodes)))
    return windows


def window_of(*steps: str) -> Window:
    """Return the window of all steps, merged from the first to the last."""
    return checked(reduce(merged, windows_after(steps)))


def checked(window: Window) -> Window:
    """Return a window after a check that its moves are true."""
    assert_moves_are_true(window)
    moves = window.changes.moves or NO_MOVES
    for carried in (set(), set(moves.by_new_path)):
        assert_new_contents_are_told(window, carried)
    return window


def old_paths(window: Window) -> dict[str, str] | None:
    """Return the old path of each new one; None if the moves are unknown."""
    moves = window.changes.moves
    if moves is None:
        return None
    return {path.decode(): move.old.decode() for path, move in moves.by_new_path.items()}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(["rename d x"], {"x": "d"}, id="a directory"),
        pytest.param(
            ["create d/x", "rename d y", "rename y/x z"], {"y": "d"},
            id="a new file out of a moved directory",
        ),
        pytest.param(["rename d x", "rename x y", "rename y z"], {"z": "d"}, id="a chain"),
        pytest.param(
            ["rename d/b d/z", "rename d/a d/b", "create d/a"],
            {"d/z": "d/b", "d/b": "d/a"},
            id="a log rotated: the name is used again",
        ),
        pytest.param(
            ["rename d/b d/z", "rename d/a d/b", "create d/a",
             "rename d/z d/y", "rename d/b d/z", "rename d/a d/b", "create d/a"],
            {"d/y": "d/b", "d/z": "d/a"},
            id="rotated twice: what was created between is new",
        ),
        pytest.param(["create tmp", "rename tmp d/a"], {}, id="a file written under another name"),
        pytest.param(
            ["rename d x", "make-directory d", "rename d y"], {"x": "d"},
            id="a directory that was created in between is new",
        ),
        pytest.param(
            ["rename d x", "rename e d", "rename d y"], {"x": "d", "y": "e"},
            id="the name used again for another directory",
        ),
        pytest.param(["exchange d e"], {"e": "d", "d": "e"}, id="an exchange"),
        pytest.param(["exchange d e", "exchange e d"], {}, id="exchanged twice"),
        pytest.param(
            ["rename d/a x", "rename d/b d/a", "rename x d/b"],
            {"d/a": "d/b", "d/b": "d/a"}, id="an exchange in three steps",
        ),
        pytest.param(["rename d/a d/b"], {"d/b": "d/a"}, id="onto an existing name"),
        pytest.param(
            ["rename d/a x", "rename e/f x"], {"x": "e/f"}, id="a moved file replaced by another"
        ),
        pytest.param(
            ["rename d/a e/x", "rename e y"], {"y/x": "d/a", "y": "e"},
            id="the parent moved after its child",
        ),
        pytest.param(
            ["rename e y", "rename y/f y/x"], {"y": "e", "y/x": "e/f"},
            id="the child moved after its parent",
        ),
        pytest.param(
            ["rename d e/x", "rename e y", "rename y/x z", "rename z y/w", "rename y v"],
            {"v": "e", "v/w": "d"}, id="parents and children by turns",
        ),
        pytest.param(
            ["rename d v", "rename v w", "rename w x", "rename x y", "rename y z"], {"z": "d"},
            id="the same directory moved five times",
        ),
        pytest.param(["rename d x", "rename x d"], {}, id="moved and moved back"),
        pytest.param(
            ["rename d x", "make-directory d", "rename x/a d/a"], {},
            id="moved, and a part of it back to its old place",
        ),
        pytest.param(["delete d", "move-in d"], {}, id="out of the source and back"),
        pytest.param(
            ["rename d x", "delete x", "move-in x"], {}, id="moved, out of the source and back"
        ),
        pytest.param(["rename d x", "scan e"], None, id="a scan"),
        pytest.param(["scan e", "rename d x"], None, id="a scan before it"),
        pytest.param(
            ["make-directory x", "rename d x/y", "rename x z"], {"z/y": "d"},
            id="into a new directory that is moved",
        ),
        pytest.param(["rename d x", "touch x"], {"x": "d"}, id="other attributes"),
    ],
)  # fmt: skip
def test_moves_follow_each_other(steps: list[str], expected: dict[str, str] | None) -> None:
    windows = windows_after(steps)
    last = windows.pop()
    while windows:
        last = checked(merged(windows.pop(), last))
    assert old_paths(window_of(*steps)) == old_paths(last) == expected


def moved(window: Window, path: bytes) -> Move:
    moves = window.changes.moves
    assert moves is not None
    return moves.by_new_path[path]


def written(window: Window) -> set[tuple[bytes, Scope]]:
    moves = window.changes.moves
    assert moves is not None
    return set(moves.written)


def test_what_was_written_below_an_old_name_is_new_at_the_new_one() -> None:
    window = window_of("write d/a", "rename d x", "write x/b", "rename x y", "create y/new")
    assert written(window) == {(b"y/a", ENTRY), (b"y/b", ENTRY), (b"y/new", ENTRY)}


def test_a_file_written_after_its_move_is_written_wherever_it_goes() -> None:
    window = window_of("rename d/a x", "write x", "rename x y")
    assert moved(window, b"y").is_written
    assert written(window) == {(b"y", ENTRY)}
    assert not moved(window_of("rename d/a x", "rename x y"), b"y").is_written


def test_a_file_written_before_its_move_was_not_moved() -> None:
    assert old_paths(window_of("write d/a", "rename d/a x")) == {}


def test_a_dropped_move_below_another_one_is_new() -> None:
    window = window_of("rename d x", "create tmp", "rename tmp x/new", "move-in x/in")
    assert old_paths(window) == {"x": "d"}
    assert written(window) == {(b"x/new", ENTRY), (b"x/in", TREE)}


@pytest.mark.parametrize(
    ("steps", "path", "expected"),
    [
        (["rename d x", "rename x y"], b"y", True),
        (["rename e x", "rename d e"], b"e", False),
        (["create x", "rename d/a x"], b"x", False),
        (["delete e", "rename d e"], b"e", False),
        (["rename d e/x", "rename e y"], b"y/x", False),
        (["touch d/a", "rename d x"], b"x", True),
        (["rename d x", "rename-into-new e d"], b"d/a", False),
        (["rename-into-new d x", "delete e"], b"x/a", True),
    ],
)
def test_a_name_is_new_only_if_nothing_was_there_at_first(
    steps: list[str], path: bytes, expected: bool
) -> None:
    assert moved(window_of(*steps), path).is_new_name is expected


def test_a_listing_without_new_contents_leaves_the_moves() -> None:
    listing = MutableChangeset()
    listing.add(b"e", LISTING)
    listing.moves = NO_MOVES
    window = window_of("rename d e/x")
    for changes in (union(window.changes, listing), union(listing, window.changes)):
        assert changes.moves is not None
        assert changes.moves.by_new_path.keys() == {b"e/x"}


def test_a_file_exchanged_for_a_moved_directory_is_new_if_its_event_comes_first() -> None:
    earlier = window_of("rename d x", "rename e x/e").changes
    assert earlier.moves is not None
    file = MutableScopedPaths()
    file.add(b"x/e", ENTRY)
    earlier = earlier.with_moves(Moves(earlier.moves.by_new_path, file))
    later = MutableChangeset()
    later.add(b"x/e", ENTRY)
    later.add_new_content(b"y", TREE)
    later.moves = Moves({b"y": Move(b"x/e", is_directory=True, is_new_name=True)})
    moves = union(earlier, later).moves
    assert moves is not None
    assert {path: move.old for path, move in moves.by_new_path.items()} == {b"x": b"d", b"y": b"e"}
    assert moves.written.includes_entry(b"x/e")


def many_moves(count: int) -> MutableChangeset:
    changes = MutableChangeset()
    moves = {}
    for number in range(count):
        changes.add(b"o/%d" % number, ENTRY)
        changes.add_new_content(b"n/%d" % number, ENTRY)
        moves[b"n/%d" % number] = Move(b"o/%d" % number, is_directory=False, is_new_name=True)
    changes.moves = Moves(moves)
    return changes


def test_too_many_moves_are_unknown() -> None:
    one = window_of("rename d x").changes
    most = union(one, many_moves(MAX_MOVES - 1)).moves
    assert most is not None
    assert len(most) == MAX_MOVES
    assert union(one, many_moves(MAX_MOVES)).moves is None


def test_too_many_contents_below_moves_make_them_unknown() -> None:
    one, contents = window_of("rename d x").changes, MutableChangeset()
    names = {b"%d" % number for number in range(MAX_WRITTEN_PATHS + 1)}
    contents.add_entries(b"x", names)
    contents.new_content.add_entries(b"x", names)
    contents.moves = NO_MOVES
    assert union(one, contents).moves is None


def test_two_moves_from_one_path_make_all_of_them_unknown() -> None:
    changes = window_of("rename d x").changes
    move = Move(b"e", is_directory=True, is_new_name=True)
    assert union(changes, changes.with_moves(Moves({b"y": move, b"z": move}))).moves is None


@pytest.mark.parametrize(
    ("tops", "inside", "outside"),
    [
        ({b"e"}, {b"e/g"}, {b"x"}),
        ({b"d"}, set(), {b"e/g"}),
        ({b"x/a"}, set(), {b"e/g"}),
        ({b"e/f"}, set(), {b"x"}),
    ],
)
def test_parts_that_touch_each_other_lose_their_moves(
    tops: set[bytes], inside: set[bytes], outside: set[bytes]
) -> None:
    window = window_of("rename d x", "rename e/f e/g", "write x/a")
    parts = split_below(window.changes, tops)
    found = [set(part.moves.by_new_path) for part in parts if part.moves is not None]
    assert found == [inside, outside]


@given(st.lists(operations, min_size=2, max_size=12), st.data())
def test_moves_are_true_however_the_changes_are_merged(
    some: list[Operation], data: st.DataObject
) -> None:
    windows = windows_of(some, STARTS)
    while len(windows) > 1:
        index = data.draw(st.integers(0, len(windows) - 2))
        later = windows.pop(index + 1)
        windows[index] = merged(windows[index], later, is_flushed=data.draw(st.booleans()))
        assert_is_true(windows[index], data)
        if tops := data.draw(st.sets(st.sampled_from(ALL_PATHS), max_size=2)):
            windows[index] = split_and_merged(windows[index], tops)
            assert_is_true(windows[index], data)


@pytest.mark.parametrize(
    ("mark", "scope", "kept"),
    [
        (b"n", TREE, [b"n", b"n/x"]), (b"q", ENTRY, [b"n", b"n/x"]), (b"o", TREE, [b"n/x"]),
        (b"o/f", ENTRY, [b"n/x"]), (b"", LISTING, [b"n/x"]), (b"", TREE, []),
        (b"p", LISTING, [b"n"]), (b"p/y", ENTRY, [b"n"]), (b"p/z", ENTRY, [b"n", b"n/x"]),
        (b"n/g", ENTRY, [b"n", b"n/x"]),
    ],
)  # fmt: skip
def test_after_a_failure_moves_from_old_paths_with_a_new_content_are_dropped(
    mark: bytes, scope: Scope, kept: list[bytes]
) -> None:
    moves = Moves(
        {
            b"n": Move(b"o", is_directory=True, is_new_name=True),
            b"n/x": Move(b"p/y", is_directory=False, is_new_name=True),
        }
    )
    changes = MutableChangeset()
    changes.add_new_content(mark, scope)
    left = moves_after_failure(moves, changes.new_content)
    assert sorted(left.by_new_path) == kept
    # Below another move, it is believed otherwise.
    is_below = kept == [b"n"]
    assert list(left.written) == ([(b"n/x", ENTRY)] if is_below else [])


KINDS = [
    "create", "write", "touch", "make-directory", "move-in", "delete", "exchange",
    "replace-directory", "write-all", *["rename"] * 6, *["rename-into-new"] * 2,
]  # fmt: skip


def check_random_merges(seed: int) -> None:
    """Merge the windows of random operations in a random order; most of these are moves."""
    chance = random.Random(seed)
    some = [
        Operation(
            chance.choice(KINDS), chance.randrange(20), chance.randrange(20), chance.choice(NAMES),
            is_known=chance.random() < 0.95,
        )
        for _ in range(chance.randrange(2, 9))
    ]  # fmt: skip
    windows = windows_of(some, STARTS)
    while len(windows) > 1:
        index = chance.randrange(len(windows) - 1)
        later = windows.pop(index + 1)
        window = merged(windows[index], later, is_flushed=chance.random() < 0.2)
        assert_moves_are_true(window)
        new_paths = sorted(window.changes.moves.by_new_path) if window.changes.moves else []
        chosen = {path for path in new_paths if chance.random() < 0.5}
        for carried in (set(new_paths), chosen) if new_paths else ():
            assert_new_contents_are_told(window, carried)
        if new_paths and chance.random() < 0.1:
            window = split_and_merged(window, set(chance.choices(ALL_PATHS, k=2)))
        windows[index] = window


@pytest.mark.parametrize("first_seed", range(0, 8000, 2000))
def test_moves_are_true_after_many_random_merges(first_seed: int) -> None:
    seed = first_seed
    try:
        for seed in range(first_seed, first_seed + 2000):
            check_random_merges(seed)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
