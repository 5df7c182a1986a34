"""What real events of a marked source tell about moves, compared with the trees before and after.

The operations are those of the tests of inotify.
"""

import contextlib
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount
from support.operations import Operation, WorkArea, mkdir, move_in, outside, rename, write
from unit.watcher.test_move_recorder import (
    CASES,
    MoveCase,
    RandomOperations,
    assert_moves_are_true,
    read_tree,
)

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import NO_PATHS, Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import fanotify, fanotify_processor, handle_moves, handle_paths
from pylsyncd.watcher.fanotify import Event, Fanotify, open_handle
from pylsyncd.watcher.fanotify_processor import FanotifyProcessor
from pylsyncd.watcher.handle_moves import HandleMoves, Place
from pylsyncd.watcher.handle_paths import FoundPath
from pylsyncd.watcher.marked_source import MarkedSource
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import Rescanner, RescanPlan


class Marked:
    """A marked source, and what processes its events."""

    def __init__(self, source: bytes, rules: Rules | None = None) -> None:
        self.group = Fanotify()
        rules = rules or Rules()
        marked = MarkedSource(source, self.group, rules)
        self.processor = FanotifyProcessor(
            self.group, marked, Rescanner(marked, RescanPlan()), rules, OpenFiles(1e6, 1e7)
        )

    def take(self) -> MutableChangeset:
        """Process all events; return the changes."""
        while self.processor.process_next():
            pass
        return self.processor.take_changes(includes_open_files=True)


@contextlib.contextmanager
def marked_source(source: bytes, rules: Rules | None = None) -> Iterator[Marked]:
    marked = Marked(source, rules)
    try:
        if not marked.group.tells_children:
            pytest.skip("the kernel does not tell what was renamed")
        yield marked
    finally:
        marked.group.close()


def make_tree(area: WorkArea) -> None:
    for directory in ("d", "e/s", "empty", "y.tmp"):
        mkdir(directory)(area)
    for file in ("f", "d/f", "e/s/f", "x.tmp"):
        write(file, file.encode())(area)
    outside(mkdir("in"))(area)
    outside(write("file"))(area)


RULES = build_rules([parse_exclude(b"*.tmp")])

FOUND = [
    "a directory is renamed",
    "a directory is moved to another one",
    "a chain",
    "the same directory is moved five times",
    "a directory moved below one that is moved then",
    "to the name of a moved file",
    "an exchange",
    "two exchanges",
    "a parent after its child",
    "a child to its moved parent",
    "a parent below its child",
    "a new directory in a moved one",
    "a directory from outside in a moved one",
    "a file is written in a moved directory",
    "a file is renamed",
    "a file leaves a moved directory",
]


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of its own, on which nothing else has events."""
    skip_without_fanotify(tmp_path)
    if not can_mount():
        pytest.skip("only root may mount")
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path)
        yield tmp_path


@pytest.fixture
def area(top: Path) -> WorkArea:
    area = WorkArea(os.fsencode(top / "source"), os.fsencode(top / "outside"))
    os.mkdir(area.inside)
    make_tree(area)
    return area


@pytest.mark.parametrize("is_ahead", [False, True], ids=["step by step", "ahead of the events"])
@pytest.mark.parametrize("title", FOUND)
def test_moves_are_found(area: WorkArea, title: str, *, is_ahead: bool) -> None:
    case = CASES[title]
    with marked_source(area.inside, RULES) as marked:
        for operation in case.operations:
            operation(area)
            if not is_ahead:
                marked.processor.process_next()
        moves = marked.take().moves
    assert moves is not None
    found = {new: move.old for new, move in moves.by_new_path.items()}
    assert found == {new: old for new, (old, _) in case.moves.items()}
    assert {path for path, _ in moves.written} == case.written


@pytest.mark.parametrize("takes", [False, True], ids=["one set", "two sets"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_moves_are_true(area: WorkArea, case: MoveCase, *, takes: bool) -> None:
    chance = random.Random(0)
    with marked_source(area.inside, RULES) as marked:
        before = read_tree(area.inside)
        changes = MutableChangeset()
        for number, operation in enumerate(case.operations):
            if takes and number == len(case.operations) // 2:
                changes.merge(marked.take())
            operation(area)
        changes.merge(marked.take())
        assert_moves_are_true(before, read_tree(area.inside), changes, chance)


def test_nothing_is_known_of_moves_if_there_are_more_events(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanotify, "_READ_SIZE", 200)
    with marked_source(area.inside) as marked:
        os.rename(area.path(b"d"), area.path(b"n"))
        write("n/f")(area)
        marked.processor.process_next()
        assert marked.processor.take_changes().moves is None
        assert marked.take().moves is None
        os.rename(area.path(b"n"), area.path(b"d"))
        moves = marked.take().moves
    assert moves is not None
    assert moves.by_new_path[b"d"].old == b"n"


def test_a_file_that_goes_to_a_directory_from_outside_has_a_new_content(area: WorkArea) -> None:
    with marked_source(area.inside) as marked:
        outside(write("in/known"))(area)
        # It is known as a foreign directory now.
        assert not marked.take()
        move_in("in", "n")(area)
        rename("d/f", "n/f")(area)
        moves = marked.take().moves
    assert moves is not None
    assert moves.by_new_path[b"n/f"].old == b"d/f"
    assert moves.written.includes_entry(b"n/f")


def during_lookups(monkeypatch: pytest.MonkeyPatch, operation: Operation, area: WorkArea) -> None:
    """Have something happen before each directory is looked up, for as long as it is possible."""

    def act_and_open(mount: int, handle: bytes) -> int:
        with contextlib.suppress(FileNotFoundError):
            operation(area)
        return open_handle(mount, handle)

    monkeypatch.setattr(handle_paths, "open_handle", act_and_open)


@pytest.mark.parametrize("other", [rename("empty", "empty"), rename("f", "f2")])
def test_nothing_is_known_of_moves_if_a_directory_is_renamed_while_they_are_looked_up(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch, other: Operation
) -> None:
    with marked_source(area.inside, RULES) as marked:
        rename("d", "e/n")(area)
        other(area)
        during_lookups(monkeypatch, rename("e", "x"), area)
        assert marked.take().moves is None
        monkeypatch.undo()
        moves = marked.take().moves
    assert moves is not None
    assert {new: move.old for new, move in moves.by_new_path.items()} == {b"x": b"e"}


def test_moves_are_known_if_files_change_while_they_are_looked_up(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    with marked_source(area.inside) as marked:
        rename("d", "n")(area)
        during_lookups(monkeypatch, write("new"), area)
        moves = marked.take().moves
        assert moves is not None
        assert moves.by_new_path[b"n"].old == b"d"
        # Those of the file are in the next set, and there may be more events of it.
        monkeypatch.undo()
        changes = marked.processor.take_changes()
        assert Change(b"new", Scope.ENTRY) in changes
        assert changes.moves is None


def test_nothing_is_known_of_moves_if_too_much_changes_while_they_are_looked_up(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanotify_processor, "_MAX_EVENTS_TO_SETTLE", 0)
    with marked_source(area.inside) as marked:
        rename("d", "n")(area)
        during_lookups(monkeypatch, write("new"), area)
        assert marked.take().moves is None


@pytest.mark.parametrize("has_events", [False, True])
def test_nothing_is_known_of_moves_if_a_whole_tree_may_have_changed(
    area: WorkArea, *, has_events: bool
) -> None:
    with marked_source(area.inside) as marked:
        marked.processor.rewatch(b"e")
        if has_events:
            rename("d", "n")(area)
        changes = marked.take()
        assert Change(b"e", Scope.TREE) in changes
        assert changes.moves is None
        if not has_events:
            # That holds until the changes of events were taken.
            rename("d", "n")(area)
            assert marked.take().moves is None
        rename("n", "d")(area)
        moves = marked.take().moves
    assert moves is not None
    assert moves.by_new_path[b"d"].old == b"n"


def test_nothing_is_known_of_moves_until_lost_events_are_scanned_for(area: WorkArea) -> None:
    with marked_source(area.inside) as marked:
        marked.processor.rescanner.record_loss(clock.now(), "no reason")
        rename("d", "n")(area)
        assert marked.take().moves is None


def test_nothing_is_known_of_moves_before_linux_5_17(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the kernel does not know.
    monkeypatch.setattr(fanotify, "_WITH_CHILDREN", 1 << 31)
    monkeypatch.setattr(fanotify, "RENAME", 1 << 29)
    marked = Marked(area.inside)
    rename("d", "n")(area)
    changes = marked.take()
    assert set(changes) == {Change(b"d", Scope.ENTRY), Change(b"n", Scope.TREE)}
    assert changes.moves is None
    write("n/f", b"other")(area)
    assert set(marked.take()) == {Change(b"n/f", Scope.ENTRY)}
    move_in("in", "in")(area)
    assert set(marked.take()) == {Change(b"in", Scope.TREE)}
    marked.group.close()


def test_a_directory_that_is_renamed_after_it_was_looked_up_loses_no_source(
    area: WorkArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename_and_list(listed: int) -> "os._ScandirIterator[str]":
        with contextlib.suppress(FileNotFoundError):
            rename("e", "x")(area)
        return scandir(listed)

    scandir = os.scandir
    with marked_source(area.inside) as marked:
        rename("d", "e/n")(area)
        monkeypatch.setattr(os, "scandir", rename_and_list)
        changes = marked.take()
        monkeypatch.undo()
        assert changes.moves is None
        assert changes.trees == {b"e/n"}
        assert not marked.processor.is_source_lost


def check_random_moves(seed: int, top: Path, *, takes: bool, rules: Rules | None) -> int:
    """Return the number of moves in some windows of random operations."""
    source, outside_source = os.fsencode(top / "source"), os.fsencode(top / "outside")
    os.makedirs(source)
    os.mkdir(outside_source)
    operations = RandomOperations(seed, source, outside_source)
    operations.run(30)
    count = 0
    with marked_source(source, rules) as marked:
        for _ in range(12):
            before = read_tree(source)
            operations.log.clear()
            changes = MutableChangeset()
            for _ in range(operations.chance.randrange(1, 8)):
                operations.run(operations.chance.randrange(1, 6))
                if operations.chance.random() < 0.5:
                    marked.processor.process_next()
                if takes and operations.chance.random() < 0.5:
                    operations.log.append("-- take")
                    changes.merge(marked.processor.take_changes(includes_open_files=True))
            changes.merge(marked.take())
            try:
                count += assert_moves_are_true(
                    before, read_tree(source), changes, operations.chance
                )
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {operations.log}: {error}") from error
    return count


@pytest.mark.parametrize("first_seed", range(0, 20, 10))
@pytest.mark.parametrize("takes", [False, True], ids=["one set", "merged sets"])
def test_random_moves_are_true(
    first_seed: int, top: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool
) -> None:
    # So that few events are read at a time.
    monkeypatch.setattr(fanotify, "_READ_SIZE", 1024)
    seeds = range(first_seed, first_seed + 10)
    counts = [
        check_random_moves(seed, top / str(seed), takes=takes, rules=RULES if seed % 2 else None)
        for seed in seeds
    ]
    assert any(counts) or takes


# -- without a kernel: what is not certain is no move ----------------------------------------------


class Recorded:
    """Moves that were recorded, and where directories are now. The key ``b"X"`` is that of x."""

    def __init__(self, rules: Rules | None = None, eventless: bytes = b"nowhere") -> None:
        self.moves = HandleMoves(rules or Rules(), lambda path: paths.covers(eventless, path))
        self.found = {b"": [FoundPath(b"")]}

    def put(self, path: bytes, **how: bool) -> bytes:
        """Have a directory at a path; return its key."""
        key = path.upper()
        self.found.setdefault(key, []).append(FoundPath(path, **how))
        return key

    def directory(self, old: Place, new: bytes) -> bytes:
        """Record that a directory is at a new path; return its key."""
        key = self.put(new)
        self.moves.record_directory(Event(0, *old, child=key))
        return key

    def file(self, old: Place, new: Place, *, is_new: bool = False, key: bytes = b"") -> None:
        child = key or b"file " + old.name
        self.moves.record_file(Event(0, *old, *new, child), is_new=is_new)

    def take(self, *appeared: bytes) -> dict[bytes, bytes] | None:
        """Return the old paths by the new ones; None if they are unknown."""
        taken = self.moves.take(lambda key: self.found.get(key, []), NO_PATHS, appeared)
        if taken.moves is None:
            return None
        self.written = set(taken.moves.written)
        # A file may have been written before or after.
        moves = taken.moves.by_new_path.values()
        assert all(move.is_written is not move.is_directory for move in moves)
        return {new: move.old for new, move in taken.moves.by_new_path.items()}


def test_the_first_place_and_the_last_one_make_a_move() -> None:
    recorded = Recorded()
    recorded.directory(Place(b"", b"a"), b"c")
    recorded.moves.record_directory(Event(0, b"", b"b", child=b"C"))
    recorded.file(Place(b"", b"f"), Place(b"", b"g"), key=b"1")
    recorded.file(Place(b"", b"g"), Place(b"C", b"h"), key=b"1")
    assert recorded.take() == {b"c": b"a", b"c/h": b"f"}
    assert recorded.written == {Change(b"c/h", Scope.ENTRY)}
    assert recorded.take() == {}


def test_what_was_not_there_before_is_no_move_whatever_follows() -> None:
    recorded = Recorded()
    recorded.file(Place(b"", b"f"), Place(b"", b"g"), is_new=True, key=b"1")
    recorded.file(Place(b"", b"g"), Place(b"", b"h"), key=b"1")
    recorded.moves.record_new_directory(Event(0, b"", b"a", child=b"C"))
    recorded.directory(Place(b"", b"a"), b"c")
    assert recorded.take() == {}


def test_a_move_in_a_directory_that_has_moved_has_the_path_of_before() -> None:
    recorded = Recorded()
    key = recorded.directory(Place(b"", b"a"), b"b")
    recorded.directory(Place(key, b"x"), b"b/y")
    below = recorded.put(b"b/z/deep")
    recorded.file(Place(below, b"f"), Place(key, b"f"))
    assert recorded.take() == {b"b": b"a", b"b/y": b"a/x", b"b/f": b"a/z/deep/f"}


@pytest.mark.parametrize("how", [{"is_above": True}, {"is_lasting": False}, {}])
def test_a_directory_whose_path_is_not_certain_has_no_moves(how: dict[str, bool]) -> None:
    recorded = Recorded()
    keys = [recorded.put(path, **how) for path in (b"x", b"z")]
    if not how:
        # They are mounted at other paths, too.
        for key in keys:
            recorded.found[key].append(FoundPath(b"y"))
    recorded.moves.record_directory(Event(0, b"", b"a", child=keys[0]))
    recorded.file(Place(keys[1], b"f"), Place(b"", b"f"))
    for key in keys:
        recorded.file(Place(b"", b"g"), Place(key, b"g"))
    recorded.file(Place(b"", b"h"), Place(b"", b"i"))
    assert recorded.take() == {b"i": b"h"}


@pytest.mark.parametrize("is_excluded", [False, True], ids=["without events", "excluded"])
def test_what_comes_from_or_goes_to_where_nothing_is_certain_is_no_move(
    *, is_excluded: bool
) -> None:
    # The last one is for directories alone.
    patterns = [parse_exclude(pattern) for pattern in (b"e/", b"e?", b"m/")]
    rules = build_rules(patterns) if is_excluded else Rules()
    recorded = Recorded(rules, b"nowhere" if is_excluded else b"e")
    recorded.put(b"e")
    recorded.directory(Place(b"", b"a"), b"e/b")
    recorded.directory(Place(b"E", b"c"), b"d")
    recorded.directory(Place(b"", b"h"), b"i")
    recorded.file(Place(b"", b"e1" if is_excluded else b"e"), Place(b"", b"j"))
    recorded.file(Place(b"", b"k"), Place(b"", b"e2") if is_excluded else Place(b"E", b"k"))
    recorded.file(Place(b"", b"l"), Place(b"", b"m"))
    assert recorded.take() == {b"i": b"h", b"m": b"l"}


def test_rules_for_paths_make_the_moves_of_directories_unknown() -> None:
    rules = build_rules([parse_exclude(b"/a/b")])
    for directory, expected in ((False, {b"g": b"f"}), (True, None)):
        recorded = Recorded(rules)
        recorded.file(Place(b"", b"f"), Place(b"", b"g"))
        if directory:
            recorded.directory(Place(b"", b"x"), b"y")
        assert recorded.take() == expected


def test_a_directory_that_came_otherwise_has_unknown_contents() -> None:
    recorded = Recorded()
    recorded.directory(Place(b"", b"a"), b"b")
    recorded.moves.record_new_directory(Event(0, b"", b"n", child=b"B/N"))
    recorded.directory(Place(b"", b"n"), b"b/n")
    assert recorded.take(b"b/m", b"b", b"other") == {b"b": b"a"}
    assert recorded.written == {Change(b"b/n", Scope.TREE), Change(b"b/m", Scope.TREE)}


def test_more_than_so_many_moves_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_moves, "MAX_MOVES", 3)
    for count in (3, 4, 3):
        recorded = Recorded()
        for number in range(count):
            name = b"%d" % number
            recorded.file(Place(b"", name), Place(b"", b"new" + name))
        assert (recorded.take() is None) is (count > 3)
        # That is over then.
        recorded.file(Place(b"", b"f"), Place(b"", b"g"))
        assert recorded.take() == {b"g": b"f"}


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_each_kind_counts_for_the_limit(
    monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    monkeypatch.setattr(handle_moves, "MAX_MOVES", 2)
    recorded = Recorded()
    records = (
        lambda: recorded.moves.record_new_directory(Event(0, b"", b"n", child=b"N")),
        lambda: recorded.directory(Place(b"", b"a"), b"b"),
        lambda: recorded.file(Place(b"", b"f"), Place(b"", b"g")),
    )
    for number in order:
        assert not recorded.moves.is_unknown
        records[number]()
    assert recorded.take() is None


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_directory_is_no_move_if_something_in_it_came_back_to_its_place(
    *, is_directory: bool
) -> None:
    recorded = Recorded()
    key = recorded.directory(Place(b"", b"a"), b"b")
    new = recorded.put(b"a")
    recorded.moves.record_new_directory(Event(0, b"", b"a", child=new))
    if is_directory:
        recorded.directory(Place(key, b"x"), b"a/x")
    else:
        recorded.file(Place(key, b"x"), Place(new, b"x"))
    recorded.directory(Place(b"", b"c"), b"d")
    assert recorded.take() == {b"d": b"c"}


def test_a_directory_that_was_only_taken_along_is_no_move_of_its_own() -> None:
    recorded = Recorded()
    key = recorded.directory(Place(b"", b"a"), b"b")
    recorded.directory(Place(key, b"x"), b"b/x")
    assert recorded.take() == {b"b": b"a"}
    assert recorded.written == set()


def test_moves_of_what_the_kernel_does_not_tell_are_unknown() -> None:
    for record in (
        lambda moves: moves.record_directory(Event(0, b"", b"a")),
        lambda moves: moves.record_file(Event(0, b"", b"a", b"", b"b"), is_new=False),
        lambda moves: moves.record_new_directory(Event(0, b"", b"a")),
    ):
        recorded = Recorded()
        record(recorded.moves)
        assert recorded.take() is None
        assert recorded.take() == {}


def test_moves_are_unknown_if_too_much_has_to_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_moves, "_MAX_LOOKED_UP", 2)
    for count in (1, 2):
        recorded = Recorded()
        for number in range(count):
            recorded.directory(Place(b"", b"%d" % number), b"new%d" % number)
        # The source is looked up, too.
        assert (recorded.take() is None) is (count > 1)


def test_directories_that_seem_to_be_below_each_other_have_no_moves() -> None:
    recorded = Recorded()
    recorded.directory(Place(b"Y", b"x"), b"x")
    recorded.directory(Place(b"X", b"y"), b"y")
    assert recorded.take() == {}


def test_no_chain_of_moved_directories_is_too_deep() -> None:
    recorded, key, count = Recorded(), b"", 400
    for number in range(count):
        # The lowest directory is the first one that is looked up.
        key = recorded.directory(Place(key, b"%d" % number), b"%03d" % (count - number))
    moves = recorded.take()
    assert moves is not None
    for old in moves.values():
        assert old == b"/".join(b"%d" % number for number in range(old.count(b"/") + 1))
    assert moves[b"400"] == b"0"
