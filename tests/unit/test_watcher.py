"""The watcher's thread on a real directory: what it hands to the buffer, and when."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.workplace import wait_until

from pylsyncd.rules.excludes import Rules
from pylsyncd.source.buffer import Buffer
from pylsyncd.source.inotify import Inotify
from pylsyncd.source.tracker import Tracker
from pylsyncd.source.watcher import Watcher
from pylsyncd.system import clock

SECONDS = 20.0


class Watched:
    """A directory with a watcher, and what that has called for."""

    def __init__(self, source: Path, max_changes: int = 1_000_000) -> None:
        self.source = source
        self.opened, self.filled, self.lost = (threading.Event() for _ in range(3))
        self.failures: list[str] = []
        self.buffer = Buffer(max_changes, self.opened.set, self.filled.set)
        self.notify = Inotify()
        self.tracker = Tracker(os.fsencode(source), self.notify, Rules())
        self.watcher = Watcher(
            self.notify, self.tracker, self.buffer, self.lost.set, self.failures.append
        )
        self.watcher.start()

    def end(self) -> None:
        self.watcher.stop()
        self.notify.close()
        assert not self.failures

    def taken(self) -> set[bytes]:
        return {change.path for change in self.buffer.take()}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path, max_changes=5)
    yield watched
    watched.end()


def test_the_first_change_opens_the_window_and_the_next_ones_follow_by_themselves(
    watched: Watched,
) -> None:
    (watched.source / "0").touch()
    assert watched.opened.wait(SECONDS)
    for number in range(1, 4):
        (watched.source / str(number)).touch()
    wait_until(lambda: len(watched.buffer) == 4)
    assert watched.taken() == {b"0", b"1", b"2", b"3"}


def test_who_waits_has_all_that_happened_before(watched: Watched) -> None:
    for number in range(50):
        name = str(number)
        (watched.source / name).touch()
        assert watched.watcher.drain(SECONDS)
        assert watched.taken() == {os.fsencode(name)}


def test_a_buffer_that_is_full_says_so_while_changes_go_on(watched: Watched) -> None:
    number = 0
    while not watched.filled.wait(0.01):
        (watched.source / str(number)).touch()
        number += 1
        assert number < SECONDS / 0.01
    assert len(watched.buffer) >= 5


def test_no_moment_is_complete_before_its_changes_are_handed_over(watched: Watched) -> None:
    for number in range(10):
        (watched.source / str(number)).touch()
        touched = clock.now().running
        wait_until(lambda touched=touched: watched.watcher.complete_until.running >= touched)
        assert os.fsencode(str(number)) in watched.taken()


def test_who_hears_of_a_lost_source_has_all_that_came_before(watched: Watched) -> None:
    (watched.source / "e").touch()
    (watched.source / "f").touch()
    os.rename(watched.source, watched.source.parent / "elsewhere")
    assert watched.lost.wait(SECONDS)
    assert watched.taken() >= {b"e", b"f"}
