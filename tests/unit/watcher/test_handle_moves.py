"""What real events of a marked source tell about moves, compared with the trees before and after.

The operations are those of the tests of inotify.
"""

import contextlib
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

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import fanotify, fanotify_processor, handle_paths
from pylsyncd.watcher.fanotify import Fanotify, open_handle
from pylsyncd.watcher.fanotify_processor import FanotifyProcessor
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
