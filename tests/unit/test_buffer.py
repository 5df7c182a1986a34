"""The aggregation buffer."""

import pytest

from pylsyncd.model.changes import Changes, Scope
from pylsyncd.source.buffer import Buffer


class Calls:
    """Counts what a buffer calls."""

    def __init__(self, max_changes: int) -> None:
        self.opened = self.filled = 0
        self.buffer = Buffer(max_changes, self._opened, self._filled)

    def _opened(self) -> None:
        self.opened += 1

    def _filled(self) -> None:
        self.filled += 1


def changes(*names: bytes) -> Changes:
    collection = Changes()
    for name in names:
        collection.add(name, Scope.ENTRY)
    return collection


@pytest.fixture
def calls() -> Calls:
    return Calls(max_changes=3)


def test_the_first_change_opens_the_window_and_no_other_one(calls: Calls) -> None:
    calls.buffer.add(changes())
    assert calls.opened == 0
    calls.buffer.add(changes(b"a"))
    calls.buffer.add(changes(b"b"))
    assert calls.opened == 1
    calls.buffer.take()
    calls.buffer.add(changes(b"a"))
    assert calls.opened == 2


def test_taking_hands_over_everything_once(calls: Calls) -> None:
    calls.buffer.add(changes(b"a"))
    calls.buffer.add(changes(b"d/b"))
    assert {change.path for change in calls.buffer.take()} == {b"a", b"d/b"}
    assert not calls.buffer.take()


def test_only_distinct_changes_fill_it_and_it_says_so_once(calls: Calls) -> None:
    for _ in range(10):
        calls.buffer.add(changes(b"a", b"b"))
    assert calls.filled == 0
    calls.buffer.add(changes(b"c"))
    calls.buffer.add(changes(b"d"))
    assert calls.filled == 1
    calls.buffer.take()
    calls.buffer.add(changes(b"a", b"b", b"c"))
    assert calls.filled == 2
