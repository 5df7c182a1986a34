"""What real events tell about moves, compared with the trees before and after them."""

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
from support.operations import (
    Operation,
    WorkArea,
    exchange,
    exchange_paths,
    mkdir,
    move_in,
    move_out,
    outside,
    remove,
    remove_tree,
    rename,
    rmdir,
    write,
)
from support.watching import WatchedSource

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.open_files import OpenFiles

Tree = Mapping[bytes, bytes | None]
"""The contents of files by their paths; None for directories."""


@pytest.fixture
def source(tmp_path: Path) -> bytes:
    path = tmp_path / "source"
    path.mkdir()
    return os.fsencode(path)


@pytest.fixture
def notify() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()


def write_alike(path: bytes, number: int) -> None:
    """Write a file; all files have the same size and time, and each has another content."""
    with open(path, "wb", 0) as file:
        file.write(b"%08d" % number)
        os.utime(file.fileno(), ns=(1, 1))


def read_tree(top: bytes) -> Tree:
    found: dict[bytes, bytes | None] = {}
    for directory, subdirectories, files in os.walk(top):
        below = os.path.relpath(directory, top) if directory != top else b""
        found.update((os.path.join(below, name), None) for name in subdirectories)
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                found[os.path.join(below, name)] = file.read()
    return found


def take_all(watched: WatchedSource) -> MutableChangeset:
    """Process all events; return all changes."""
    changes = MutableChangeset()
    while watched.has_events:
        watched.process_events()
        changes.merge(watched.processor.take_changes(includes_open_files=True))
    return changes


# -- single moves ---------------------------------------------------------------------------------


class MoveCase:
    """Operations, and the moves to be found: new path to old path and whether the name is new.

    With ``needs_events`` they are not found if all operations come before their events.
    """

    def __init__(
        self,
        *operations: Operation,
        moves: Mapping[bytes, tuple[bytes, bool]],
        written: Iterable[bytes] = (),
        needs_events: bool = False,
    ) -> None:
        self.needs_events = needs_events
        self.operations = operations
        self.moves = moves
        self.written = set(written)


CASES = {
    "a directory is renamed": MoveCase(rename("d", "n"), moves={b"n": (b"d", True)}),
    "a directory is moved to another one": MoveCase(
        rename("d", "e/n"), moves={b"e/n": (b"d", True)}
    ),
    "a chain": MoveCase(
        rename("d", "x"), rename("x", "y"), rename("y", "n"), moves={b"n": (b"d", True)}
    ),
    "the same directory is moved five times": MoveCase(
        *(rename(f"d{number or ''}", f"d{number + 1}") for number in range(5)),
        moves={b"d5": (b"d", True)},
    ),
    "a chain, and its names used again": MoveCase(
        rename("d", "x"),
        rename("x", "y"),
        rename("e", "x"),
        moves={b"y": (b"d", True), b"x": (b"e", True)},
    ),
    "a directory moved below one that is moved then": MoveCase(
        rename("d", "e/n"),
        rename("e", "x"),
        moves={b"x/n": (b"d", True), b"x": (b"e", True)},
    ),
    "a chain that ends outside": MoveCase(
        rename("d", "x"), rename("x", "y"), move_out("y", "y"), moves={}
    ),
    "a chain below a directory that goes outside": MoveCase(
        rename("d", "e/x"), rename("e/x", "e/y"), move_out("e", "e"), moves={}
    ),
    "away and back": MoveCase(rename("d", "x"), rename("x", "d"), moves={}),
    "out of the source and back": MoveCase(move_out("d", "d"), move_in("d", "n"), moves={}),
    "into an excluded place and back": MoveCase(
        rename("d", "d.tmp"), rename("d.tmp", "n"), moves={}
    ),
    "onto an empty directory": MoveCase(rename("d", "empty"), moves={b"empty": (b"d", False)}),
    "to the name of a deleted directory": MoveCase(
        rmdir("empty"), rename("d", "empty"), moves={b"empty": (b"d", False)}
    ),
    "to the name of a deleted file": MoveCase(
        remove("f"), rename("d", "f"), moves={b"f": (b"d", False)}
    ),
    "to the name of a moved file": MoveCase(
        rename("f", "g"),
        rename("d", "f"),
        moves={b"f": (b"d", False), b"g": (b"f", False)},
        written=[b"g"],
    ),
    "to the name of a moved directory": MoveCase(
        rename("e", "x"), rename("d", "e"), moves={b"x": (b"e", True), b"e": (b"d", False)}
    ),
    "to a name that was used in between": MoveCase(
        mkdir("x"), rmdir("x"), rename("d", "x"), moves={b"x": (b"d", True)}
    ),
    "below a new directory": MoveCase(
        mkdir("x/y"), rename("d", "x/y/n"), moves={b"x/y/n": (b"d", True)}
    ),
    "an exchange": MoveCase(
        exchange("d", "e/s"), moves={b"d": (b"e/s", False), b"e/s": (b"d", False)}
    ),
    "two exchanges": MoveCase(
        exchange("d", "e/s"),
        exchange("e/s", "empty"),
        moves={b"d": (b"e/s", False), b"e/s": (b"empty", False), b"empty": (b"d", False)},
    ),
    "an exchange with a file": MoveCase(
        exchange("d", "f"), moves={b"d": (b"f", False), b"f": (b"d", False)}, written=[b"d"]
    ),
    "a parent after its child": MoveCase(
        rename("e/s", "n"), rename("e", "x"), moves={b"n": (b"e/s", True), b"x": (b"e", True)}
    ),
    "a child after its parent": MoveCase(
        rename("e", "x"), rename("x/s", "n"), moves={b"n": (b"e/s", True), b"x": (b"e", True)}
    ),
    "a child to its moved parent": MoveCase(
        rename("e/s", "n"),
        rename("e", "x"),
        rename("n", "x/t"),
        moves={b"x": (b"e", True), b"x/t": (b"e/s", True)},
    ),
    "a child back to its moved parent": MoveCase(
        rename("e/s", "n"), rename("e", "x"), rename("n", "x/s"), moves={b"x": (b"e", True)}
    ),
    "another directory to the place of a child": MoveCase(
        rename("e/s", "n"),
        rename("d", "e/s"),
        rename("e", "x"),
        moves={b"n": (b"e/s", True), b"x": (b"e", True), b"x/s": (b"d", True)},
    ),
    "a child back to its place below another parent": MoveCase(
        rename("e/s", "n"),
        rename("e", "x"),
        rename("d", "e"),
        rename("n", "e/s"),
        # The copy of e/s is at its place: a move of the copy of e would take it away.
        moves={b"e": (b"d", False)},
        written=[b"e/s"],
    ),
    "a child back to its place below a new parent": MoveCase(
        rename("e", "x"), mkdir("e"), rename("x/s", "e/s"), moves={}
    ),
    "a parent below its child": MoveCase(
        rename("e/s", "s"), rename("e", "s/e"), moves={b"s": (b"e/s", True), b"s/e": (b"e", True)}
    ),
    "a new directory in a moved one": MoveCase(
        mkdir("d/x"), rename("d", "n"), moves={b"n": (b"d", True)}, written=[b"n/x"]
    ),
    "a new directory that is moved": MoveCase(mkdir("x"), rename("x", "n"), moves={}),
    "a directory from outside": MoveCase(move_in("in", "n"), moves={}),
    "a directory from outside in a moved one": MoveCase(
        move_in("in", "d/in"), rename("d", "n"), moves={b"n": (b"d", True)}, written=[b"n/in"]
    ),
    "a directory from an excluded place": MoveCase(rename("y.tmp", "n"), moves={}),
    "a file is written in a moved directory": MoveCase(
        write("d/f"),
        rename("d", "n"),
        write("n/g"),
        moves={b"n": (b"d", True)},
        written=[b"n/f", b"n/g"],
    ),
    "a file is deleted in a moved directory": MoveCase(
        remove("d/f"), rename("d", "n"), moves={b"n": (b"d", True)}
    ),
    "a file is renamed": MoveCase(rename("f", "g"), moves={b"g": (b"f", False)}, written=[b"g"]),
    "a file goes to a new directory": MoveCase(
        mkdir("x"),
        rename("f", "x/f"),
        moves={b"x/f": (b"f", True)},
        written=[b"x/f"],
        needs_events=True,
    ),
    "a file leaves a deleted directory": MoveCase(
        rename("d/f", "g"), remove_tree("d"), moves={b"g": (b"d/f", False)}, written=[b"g"]
    ),
    "a file leaves a moved directory": MoveCase(
        rename("d", "n"),
        rename("n/f", "g"),
        moves={b"n": (b"d", True), b"g": (b"d/f", False)},
        written=[b"g"],
    ),
    "a file leaves a directory that moves later": MoveCase(
        rename("d/f", "g"),
        rename("d", "n"),
        moves={b"n": (b"d", True), b"g": (b"d/f", False)},
        written=[b"g"],
    ),
    "a chain of files": MoveCase(
        rename("f", "x"), rename("x", "g"), moves={b"g": (b"f", False)}, written=[b"g"]
    ),
    "a rotation": MoveCase(
        rename("d/f", "d/2"),
        rename("f", "d/f"),
        write("f"),
        moves={b"d/2": (b"d/f", False), b"d/f": (b"f", False)},
        written=[b"d/2", b"d/f"],
    ),
    "a new file is renamed": MoveCase(write("x"), rename("x", "f"), moves={}),
    "a file out of the source and back": MoveCase(move_out("f", "f"), move_in("f", "g"), moves={}),
    "a file from outside onto a moved one": MoveCase(
        rename("f", "g"), write("x"), move_in("file", "g"), moves={}
    ),
    "a file to an excluded name": MoveCase(rename("f", "f.tmp"), moves={}),
    "a file from an excluded name": MoveCase(rename("x.tmp", "g"), moves={}),
    "files are exchanged": MoveCase(exchange("f", "d/f"), moves={}),
    "a moved file is deleted, and a directory takes its name": MoveCase(
        rename("f", "g"), remove("g"), rename("d", "g"), moves={b"g": (b"d", False)}, written=[b"g"]
    ),
    "nothing is moved": MoveCase(write("f"), mkdir("x"), remove("d/f"), moves={}),
}


def watched_start(area: WorkArea, notify: Inotify) -> WatchedSource:
    """Create the files and directories of the cases, and watch them."""
    for directory in ("d", "e/s", "empty", "y.tmp"):
        mkdir(directory)(area)
    for file in ("f", "d/f", "e/s/f", "x.tmp"):
        write(file, file.encode())(area)
    outside(mkdir("in"))(area)
    outside(write("file"))(area)
    return WatchedSource(area.inside, notify, build_rules([parse_exclude(b"*.tmp")]))


@pytest.mark.parametrize("is_ahead", [False, True], ids=["step by step", "ahead of the events"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_moves_are_found(
    source: bytes, notify: Inotify, tmp_path: Path, case: MoveCase, *, is_ahead: bool
) -> None:
    area = WorkArea(source, os.fsencode(tmp_path / "outside"))
    watched = watched_start(area, notify)
    for operation in case.operations:
        operation(area)
        if not is_ahead:
            watched.process_events()
    watched.process_events()
    moves = watched.processor.take_changes().moves
    assert moves is not None
    found = {new: (move.old, move.is_new_name) for new, move in moves.by_new_path.items()}
    if is_ahead and case.needs_events:
        assert not found
        return
    assert found == case.moves
    for new, move in moves.by_new_path.items():
        assert move.is_directory == (Path(os.fsdecode(source), os.fsdecode(new))).is_dir()
        assert move.is_written != move.is_directory
    assert {path for path, _ in moves.written} == case.written
    # What has left the source is not watched any more.
    assert len(watched.paths) == len(watched.watches.tree)


# -- the claim ------------------------------------------------------------------------------------


def nearest(path: bytes, tops: AbstractSet[bytes]) -> bytes | None:
    return next((each for each in (path, *paths.ancestors(path)) if each in tops), None)


def assert_claim_is_true(
    before: Tree, after: Tree, changes: Changeset, carried: AbstractSet[bytes]
) -> None:
    """Move the names ``carried`` in a copy: each difference must be marked as a new content."""
    assert changes.moves is not None
    marks = changes.after_moves(carried).new_content
    for path, content in after.items():
        if content is None or marks.includes_entry(path):
            continue
        top = nearest(path, carried)
        old = path if top is None else changes.moves.by_new_path[top].old + path[len(top) :]
        if before.get(old) is not None:
            assert before[old] == content, f"{path!r} is not {old!r}: {shown(changes)}"


def assert_moves_are_true(
    before: Tree, after: Tree, changes: Changeset, chance: random.Random
) -> int:
    """Check what a set of changes tells about moves; return their number."""
    if changes.moves is None:
        return 0
    moves = changes.moves.by_new_path
    for new, move in moves.items():
        # The halves of an exchange of a directory and a file can be in different sets: then what
        # was below the directory is below the file at first, where nothing was.
        is_directory = before.get(move.old, b"") is None
        assert move.old not in before or is_directory == move.is_directory, shown(changes)
        # It may have been a file, for which the directory was exchanged.
        assert not move.is_new_name or before.get(new) is not None or new not in before, shown(
            changes
        )
        above = (each for each in (move.old, *paths.ancestors(move.old)) if each)
        assert any(changes.includes_entry(each) for each in above), shown(changes)
        above = (each for each in (new, *paths.ancestors(new)) if each)
        assert any(changes.includes_entry(each) for each in above), shown(changes)
    for share in (0.0, 0.5, 1.0):
        assert_claim_is_true(
            before, after, changes, {path for path in moves if chance.random() < share}
        )
    return len(moves)


def shown(changes: Changeset) -> str:
    moves = changes.moves
    assert moves is not None
    return (
        f"moves {[(new, *move) for new, move in moves.by_new_path.items()]}, "
        f"written {[*map(tuple, moves.written)]}, new {[*map(tuple, changes.new_content)]}, "
        f"changes {[*map(tuple, changes)]}"
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_moves_are_true_wherever_the_events_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: MoveCase
) -> None:
    # Each event is read alone.
    monkeypatch.setattr(inotify, "_READ_SIZE", 32)
    monkeypatch.setattr(inotify, "_MAX_EVENT_SIZE", 32)
    chance = random.Random(0)
    has_more, cut = True, 0
    while has_more:
        cut += 1
        area = WorkArea(*(os.fsencode(tmp_path / f"{cut}-{name}") for name in ("in", "out")))
        os.mkdir(area.inside)
        with contextlib.closing(Inotify()) as notify:
            watched = watched_start(area, notify)
            before = read_tree(area.inside)
            for operation in case.operations:
                operation(area)
            has_more = all(watched.processor.process_next() for _ in range(cut))
            changes = watched.processor.take_changes(includes_open_files=True)
            changes.merge(take_all(watched))
            assert_moves_are_true(before, read_tree(area.inside), changes, chance)


# -- random operations ----------------------------------------------------------------------------


class RandomOperations:
    """Random operations on a tree with few names, so that these are used again and again."""

    def __init__(self, seed: int, source: bytes, outside: bytes) -> None:
        self.chance = random.Random(seed)
        self._source = source
        self._outside = outside
        self._count = 0
        self.log: list[str] = []

    def run(self, count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OSError):
                self._run_one()

    def _run_one(self) -> None:
        operations: Mapping[Callable[[], object], int] = {
            self._create: 12,
            self._write: 8,
            self._replace: 6,
            self._rename: 30,
            self._exchange: 10,
            self._delete: 8,
            self._move_out: 6,
            self._move_in: 6,
        }
        self.chance.choices([*operations], [*operations.values()])[0]()

    def _log(self, *words: object) -> None:
        self.log.append(" ".join(map(str, words)))

    def _new_name(self) -> bytes:
        directories = [b"", *(path for path, content in self._tree().items() if content is None)]
        return os.path.join(self.chance.choice(directories), self.chance.choice([b"a", b"b", b"c"]))

    def _tree(self) -> Tree:
        return read_tree(self._source)

    def _any(self, tree: Tree) -> bytes:
        return self.chance.choice(sorted(tree) or [b"none"])

    def _path(self, name: bytes) -> bytes:
        return os.path.join(self._source, name)

    def _create(self) -> None:
        name = self._new_name()
        self._log("create", name)
        if self.chance.random() < 0.5:
            os.mkdir(self._path(name))
        else:
            self._count += 1
            write_alike(self._path(name), self._count)

    def _write(self) -> None:
        files = {path: content for path, content in self._tree().items() if content is not None}
        name = self._any(files)
        self._log("write", name)
        self._count += 1
        write_alike(self._path(name), self._count)

    def _replace(self) -> None:
        self._count += 1
        write_alike(self._path(b"tmp"), self._count)
        name = self._new_name()
        self._log("replace", name)
        os.rename(self._path(b"tmp"), self._path(name))

    def _rename(self) -> None:
        name, new = self._any(self._tree()), self._new_name()
        self._log("rename", name, new)
        os.rename(self._path(name), self._path(new))

    def _exchange(self) -> None:
        tree = self._tree()
        name, other = self._any(tree), self._any(tree)
        self._log("exchange", name, other)
        exchange_paths(self._path(name), self._path(other))

    def _delete(self) -> None:
        name = self._any(self._tree())
        self._log("delete", name)
        if os.path.isdir(self._path(name)):
            os.rmdir(self._path(name))
        else:
            os.unlink(self._path(name))

    def _move_out(self) -> None:
        name = self._any(self._tree())
        self._log("out", name)
        os.rename(self._path(name), os.path.join(self._outside, b"%d" % self.chance.randrange(3)))

    def _move_in(self) -> None:
        new = self._new_name()
        self._log("in", new)
        os.rename(os.path.join(self._outside, b"%d" % self.chance.randrange(3)), self._path(new))


def process_some(watched: WatchedSource, chance: random.Random) -> None:
    for _ in range(chance.randrange(6)):
        watched.processor.process_next()


def run_window(
    watched: WatchedSource, operations: RandomOperations, *, takes: bool
) -> MutableChangeset:
    """Run operations, and take the changes in between, if ``takes``; return all changes."""
    chance = operations.chance
    changes = MutableChangeset()
    for _ in range(chance.randrange(1, 8)):
        operations.run(chance.randrange(1, 6))
        process_some(watched, chance)
        if takes and chance.random() < 0.5:
            operations.log.append("-- take")
            changes.merge(watched.processor.take_changes(includes_open_files=True))
    watched.process_events()
    changes.merge(watched.processor.take_changes(includes_open_files=True))
    changes.merge(take_all(watched))
    return changes


def check_random_moves(
    seed: int, top: Path, notify: Inotify, *, takes: bool, rules: Rules | None = None
) -> int:
    """Return the number of moves in some windows of random operations."""
    source, outside = os.fsencode(top / "source"), os.fsencode(top / "outside")
    os.mkdir(outside)
    operations = RandomOperations(seed, source, outside)
    operations.run(30)
    watched = WatchedSource(source, notify, rules, open_files=OpenFiles(1e6, 1e7))
    take_all(watched)
    count = 0
    for _ in range(12):
        before = read_tree(source)
        operations.log.clear()
        changes = run_window(watched, operations, takes=takes)
        after = read_tree(source)
        try:
            count += assert_moves_are_true(before, after, changes, operations.chance)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {operations.log}: {error}") from error
    return count


@pytest.mark.parametrize("first_seed", range(0, 40, 10))
@pytest.mark.parametrize("takes", [False, True], ids=["one set", "merged sets"])
def test_random_moves_are_true(
    first_seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool
) -> None:
    # So that the two events of a move are read apart.
    monkeypatch.setattr(inotify, "_READ_SIZE", 96)
    monkeypatch.setattr(inotify, "_MAX_EVENT_SIZE", 32)
    count = 0
    for seed in range(first_seed, first_seed + 10):
        top = tmp_path / str(seed)
        (top / "source").mkdir(parents=True)
        notify = Inotify()
        try:
            count += check_random_moves(seed, top, notify, takes=takes)
        finally:
            notify.close()
    assert count or takes
