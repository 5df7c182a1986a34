"""Which events are collected, by directory and name, and which are dropped."""

from collections.abc import Mapping

import pytest
from unit.watcher.test_fanotify import KEY, OTHER, event, info
from unit.watcher.test_foreign_directories import Group

from pylsyncd.model.moves import Moves
from pylsyncd.model.scoped_paths import NO_PATHS
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher import fanotify, handle_moves
from pylsyncd.watcher.fanotify import CREATE, DELETE, IS_DIRECTORY, MODIFY, MOVED_FROM, MOVED_TO
from pylsyncd.watcher.foreign_directories import ForeignDirectories
from pylsyncd.watcher.handle_events import HandleEvents, moved_in
from pylsyncd.watcher.handle_moves import HandleMoves
from pylsyncd.watcher.handle_paths import FoundPath

CHILD_KEY = b"fsid-123" + b"\x04\0\0\0" + b"\x01\0\0\0" + b"file"
PATHS = {KEY: b"d", OTHER: b"e", CHILD_KEY: b"e/new"}


class Collected:
    """The events that were added."""

    def __init__(self) -> None:
        self.foreign = ForeignDirectories(Group())  # type: ignore[arg-type]
        self.moves = HandleMoves(Rules(), lambda _: False)
        self.overflows = 0
        self.events = HandleEvents(self.foreign, self.moves, self._count_overflow)

    def _count_overflow(self) -> None:
        self.overflows += 1

    def take(self, *chunks: bytes) -> tuple[Mapping, Mapping]:
        self.events.add(b"".join(chunks))
        return self.events.take()

    def take_moves(self) -> Moves | None:
        return self.moves.take(self._find, NO_PATHS, ()).moves

    def _find(self, key: bytes) -> list[FoundPath]:
        return [] if key in self.foreign.keys else [FoundPath(PATHS[key])]


@pytest.fixture
def collected() -> Collected:
    return Collected()


def named(mask: int, key: bytes, name: bytes) -> bytes:
    return event(mask, info(2, key, name))


def renamed(old: tuple[bytes, bytes], new: tuple[bytes, bytes], mask: int = 0) -> bytes:
    child = info(1, CHILD_KEY, b"")
    return event(fanotify.RENAME | mask, info(10, *old), info(12, *new), child)


def test_the_masks_of_a_name_are_one_and_directories_are_apart(collected: Collected) -> None:
    files, directories = collected.take(
        named(CREATE, KEY, b"a"),
        named(MODIFY, KEY, b"a"),
        named(MODIFY, OTHER, b"a"),
        named(CREATE | IS_DIRECTORY, KEY, b"a"),
        named(DELETE | IS_DIRECTORY, KEY, b"n" * 255),
    )
    assert files == {KEY: {b"a": CREATE | MODIFY}, OTHER: {b"a": MODIFY}}
    assert directories == {KEY: {b"a": CREATE | IS_DIRECTORY, b"n" * 255: DELETE | IS_DIRECTORY}}


def test_what_was_taken_is_forgotten(collected: Collected) -> None:
    assert not collected.events
    for mask in (CREATE, CREATE | IS_DIRECTORY):
        collected.events.add(named(mask, KEY, b"a"))
        assert collected.events
        collected.events.take()
        assert not collected.events
    assert collected.events.take() == ({}, {})


def test_events_of_foreign_directories_are_dropped_and_counted(collected: Collected) -> None:
    collected.foreign.add(OTHER)
    chunk = named(CREATE, OTHER, b"a") + named(CREATE | IS_DIRECTORY, OTHER, b"b")
    assert collected.take(chunk, named(CREATE, KEY, b"a")) == ({KEY: {b"a": CREATE}}, {})
    assert not collected.foreign.may_be_loud
    collected.take(chunk * 600)
    assert collected.foreign.may_be_loud
    assert collected.foreign.take_loud() == [OTHER]


def test_the_event_of_a_file_alone_is_dropped(collected: Collected) -> None:
    chunk = event(MODIFY, info(1, CHILD_KEY, b""))
    assert collected.take(chunk, named(MODIFY, KEY, b"a"), chunk) == ({KEY: {b"a": MODIFY}}, {})


@pytest.mark.parametrize("foreign", [(), (KEY,), (OTHER,), (KEY, OTHER)])
@pytest.mark.parametrize("kind", [0, IS_DIRECTORY])
def test_a_rename_is_an_event_of_each_name_that_is_not_foreign(
    collected: Collected, foreign: tuple[bytes, ...], kind: int
) -> None:
    for key in foreign:
        collected.foreign.add(key)
    expected = {KEY: {b"old": MOVED_FROM}, OTHER: {b"new": MOVED_TO}}
    expected = {key: names for key, names in expected.items() if key not in foreign}
    taken = collected.take(renamed((KEY, b"old"), (OTHER, b"new"), kind))
    assert taken == (({}, expected) if kind else (expected, {}))


def test_a_rename_is_added_to_the_events_before_it(collected: Collected) -> None:
    files, _ = collected.take(
        named(MODIFY, KEY, b"a"), named(DELETE, KEY, b"b"), renamed((KEY, b"a"), (KEY, b"b"))
    )
    assert files == {KEY: {b"a": MODIFY | MOVED_FROM, b"b": DELETE | MOVED_TO}}


def test_after_an_overflow_no_moves_are_known_and_the_other_events_count(
    collected: Collected,
) -> None:
    overflow = event(fanotify.OVERFLOW)
    # Also at the end of a chunk, where an event without a name is shorter than the others.
    taken = collected.take(overflow, named(CREATE, KEY, b"a"), overflow)
    assert taken == ({KEY: {b"a": CREATE}}, {})
    assert collected.overflows == 2
    assert collected.take_moves() is None


@pytest.mark.parametrize(
    ("before", "foreign", "is_known"),
    [
        (b"", b"", True),
        (named(MODIFY, KEY, b"old"), b"", True),
        (named(CREATE, KEY, b"old"), b"", False),
        (named(MOVED_TO, KEY, b"old"), b"", False),
        (b"", KEY, False),
    ],
    ids=["as before", "written", "created", "moved there", "from outside"],
)
def test_the_move_of_a_file_is_known_if_its_name_was_there_before(
    collected: Collected, before: bytes, foreign: bytes, *, is_known: bool
) -> None:
    if foreign:
        collected.foreign.add(foreign)
    collected.take(before, renamed((KEY, b"old"), (OTHER, b"new")))
    moves = collected.take_moves()
    found = {} if moves is None else {new: each.old for new, each in moves.by_new_path.items()}
    assert found == ({b"e/new": b"d/old"} if is_known else {})


def test_the_move_of_a_new_directory_is_none(collected: Collected) -> None:
    created = event(CREATE | IS_DIRECTORY, info(2, KEY, b"old"), info(1, CHILD_KEY, b""))
    moved = renamed((KEY, b"old"), (OTHER, b"new"), IS_DIRECTORY)
    collected.take(moved)
    moves = collected.take_moves()
    assert moves is not None
    assert {new: each.old for new, each in moves.by_new_path.items()} == {b"e/new": b"d/old"}
    collected.take(created, moved)
    moves = collected.take_moves()
    assert moves is not None
    assert not moves.by_new_path


def test_a_directory_with_other_events_before_its_move_is_not_new(collected: Collected) -> None:
    changed = event(fanotify.ATTRIB | IS_DIRECTORY, info(2, KEY, b"old"), info(1, CHILD_KEY, b""))
    collected.take(changed, renamed((KEY, b"old"), (OTHER, b"new"), IS_DIRECTORY))
    moves = collected.take_moves()
    assert moves is not None
    assert moves.by_new_path[b"e/new"].old == b"d/old"


def test_new_files_do_not_count_for_the_limit_of_moves(
    collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_moves, "MAX_MOVES", 1)
    for name in (b"a", b"b"):
        collected.events.add(event(CREATE, info(2, KEY, name), info(1, CHILD_KEY, b"")))
    assert collected.take_moves() is not None


def test_what_was_in_a_directory_from_outside_was_not_there_before(collected: Collected) -> None:
    collected.foreign.add(KEY)
    collected.take(
        renamed((KEY, b"old"), (OTHER, b"new"), IS_DIRECTORY),
        event(
            fanotify.RENAME, info(10, CHILD_KEY, b"f"), info(12, OTHER, b"f"), info(1, OTHER, b"")
        ),
    )
    moves = collected.take_moves()
    assert moves is not None
    assert not moves.by_new_path


def test_a_move_among_other_events_of_a_directory_is_noticed(collected: Collected) -> None:
    _, directories = collected.take(
        named(CREATE | IS_DIRECTORY, KEY, b"a"),
        renamed((OTHER, b"old"), (KEY, b"new"), IS_DIRECTORY),
        named(DELETE | IS_DIRECTORY, OTHER, b"z"),
        named(CREATE | IS_DIRECTORY, CHILD_KEY, b"x"),
    )
    assert sorted(moved_in(directories)) == sorted([KEY, OTHER])
