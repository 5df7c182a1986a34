"""The aggregation buffer."""

import sys
import threading
import time

import pytest

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.buffer import Buffer


class Calls:
    """A buffer and the number of its calls."""

    def __init__(self, max_changes: int) -> None:
        self.opened = self.filled = 0
        self.buffer = Buffer(max_changes, self._opened, self._filled)

    def _opened(self) -> None:
        self.opened += 1

    def _filled(self) -> None:
        self.filled += 1


def changes(*names: bytes) -> MutableChangeset:
    collection = MutableChangeset()
    for name in names:
        collection.add(name, Scope.ENTRY)
    return collection


@pytest.fixture
def calls() -> Calls:
    return Calls(max_changes=3)


def test_only_the_first_change_opens_the_window(calls: Calls) -> None:
    calls.buffer.add(changes())
    assert calls.opened == 0
    calls.buffer.add(changes(b"a"))
    calls.buffer.add(changes(b"b"))
    assert calls.opened == 1
    calls.buffer.take()
    calls.buffer.add(changes(b"a"))
    assert calls.opened == 2


def test_take_returns_all_changes_once(calls: Calls) -> None:
    calls.buffer.add(changes(b"a"))
    calls.buffer.add(changes(b"d/b"))
    assert {change.path for change in calls.buffer.take()} == {b"a", b"d/b"}
    assert not calls.buffer.take()


def test_since_and_length_describe_the_changes_in_the_buffer(calls: Calls) -> None:
    assert (calls.buffer.since, len(calls.buffer)) == (None, 0)
    started = time.monotonic()
    calls.buffer.add(changes(b"a"))
    since = calls.buffer.since
    assert since is not None
    assert started <= since <= time.monotonic()
    calls.buffer.add(changes(b"b"))
    assert (calls.buffer.since, len(calls.buffer)) == (since, 2)
    calls.buffer.take()
    assert (calls.buffer.since, len(calls.buffer)) == (None, 0)


def test_no_change_is_lost_between_two_threads() -> None:
    buffer = Buffer(1_000_000, lambda: None, lambda: None)
    wanted = {b"%d" % number for number in range(5_000)}

    def add() -> None:
        for name in wanted:
            buffer.add(changes(name))

    taken: list[MutableChangeset] = []
    interval = sys.getswitchinterval()
    # Switches threads as often as possible.
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=add)
        thread.start()
        # Iterated at once: the adding thread must not modify a taken set.
        while thread.is_alive():
            taken.append(changes(*(change.path for change in list(buffer.take()))))
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    taken.append(buffer.take())
    assert {change.path for some in taken for change in some} == wanted


def test_only_distinct_changes_fill_the_buffer_and_fill_it_once(calls: Calls) -> None:
    for _ in range(10):
        calls.buffer.add(changes(b"a", b"b"))
    assert calls.filled == 0
    calls.buffer.add(changes(b"c"))
    calls.buffer.add(changes(b"d"))
    assert calls.filled == 1
    calls.buffer.take()
    calls.buffer.add(changes(b"a", b"b", b"c"))
    assert calls.filled == 2
