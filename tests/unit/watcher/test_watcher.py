"""The watcher's thread on a real directory: what it hands to the buffer, and when."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.watcher import Watcher

SECONDS = 20.0


class Watched:
    """A directory with a watcher thread, and the calls that it has made."""

    def __init__(
        self,
        source: Path,
        max_changes: int = 1_000_000,
        rules: Rules | None = None,
        on_opened: Callable[[], None] = lambda: None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.source = source
        self.opened, self.filled, self.lost = (threading.Event() for _ in range(3))
        self.failures: list[str] = []
        self.buffer = Buffer(max_changes, self._on_opened, self.filled.set)
        self._call_on_opened = on_opened
        self._call_on_progress = on_progress
        self._is_started = False
        self.inotify = Inotify()
        watched = WatchedSource(os.fsencode(source), self.inotify, rules, None, self._on_progress)
        self.rescanner = watched.rescanner
        self.watcher = Watcher(
            self.inotify, watched.processor, self.buffer, self.lost.set, self.failures.append
        )
        self._is_started = True
        self.watcher.start()

    def _on_opened(self) -> None:
        self._call_on_opened()
        self.opened.set()

    def _on_progress(self, directory_count: int) -> None:
        if self._is_started:
            self.watcher.report_progress()
        else:
            self._call_on_progress(directory_count)

    def end(self) -> None:
        self.watcher.stop()
        self.inotify.close()
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


def test_the_first_change_after_a_flush_opens_the_next_window_at_once(watched: Watched) -> None:
    for number in range(10):
        # It has just handed over what there was.
        assert watched.watcher.drain(SECONDS)
        watched.taken()
        watched.opened.clear()
        began = time.monotonic()
        (watched.source / str(number)).touch()
        assert watched.opened.wait(SECONDS)
        if time.monotonic() - began < 0.1:
            return
    raise AssertionError("ten times the window opened late")


def test_a_directory_that_comes_right_after_another_change_follows_by_itself(
    watched: Watched,
) -> None:
    (watched.source / "0").touch()
    assert watched.opened.wait(SECONDS)
    # No event of a file tells that there is something to hand over.
    (watched.source / "d").mkdir()
    wait_until(lambda: len(watched.buffer) == 2)
    assert watched.taken() == {b"0", b"d"}


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


def test_no_moment_is_complete_whose_changes_came_after_the_last_look(tmp_path: Path) -> None:
    complete: list[float] = []
    touched: list[float] = []
    watched = Watched(
        tmp_path,
        on_opened=lambda: complete.append(watched.watcher.complete_until.running),
    )
    read = watched.inotify.read

    def read_late() -> bytes:
        chunk = read()
        if not chunk and not touched:
            # Nothing was there, and now something is.
            touched.append(clock.now().running)
            (tmp_path / "late").touch()
        return chunk

    watched.inotify.read = read_late  # type: ignore[method-assign]
    try:
        assert watched.watcher.drain(SECONDS)
        wait_until(lambda: complete)
        assert complete[0] < touched[0]
    finally:
        watched.end()


def test_who_hears_of_a_lost_source_has_all_that_came_before(watched: Watched) -> None:
    (watched.source / "e").touch()
    assert watched.opened.wait(SECONDS)
    # So shortly after that it is not handed over by itself yet.
    (watched.source / "f").touch()
    os.rename(watched.source, watched.source.parent / "elsewhere")
    assert watched.lost.wait(SECONDS)
    assert watched.taken() >= {b"e", b"f"}


def when_first_called(do: Callable[[], None]) -> Callable[..., None]:
    """Return what does something at its first call, and nothing at the others."""
    left = [do]

    def call(*_: object) -> None:
        if left:
            left.pop()()

    return call


def make_enough_directories(source: Path) -> None:
    """Make so many that a walk through them has a look at the kernel's queue on the way."""
    for number in range(300):
        (source / "many" / str(number)).mkdir(parents=True)


def test_what_changes_during_the_start_is_handed_over_without_another_event(
    tmp_path: Path,
) -> None:
    make_enough_directories(tmp_path)
    watched = Watched(tmp_path, on_progress=when_first_called((tmp_path / "new").touch))
    try:
        assert watched.opened.wait(SECONDS)
        assert watched.taken() == {b"new"}
    finally:
        watched.end()


class SlowDisk(Rules):
    """Rules that leave nothing out, and take their time with directories from some moment on."""

    is_slow = threading.Event()
    was_slow = threading.Event()

    def __bool__(self) -> bool:
        return True

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        if is_directory and self.is_slow.is_set():
            self.was_slow.set()
            time.sleep(A_DIRECTORY)
        return super().matches(path, is_directory=is_directory)


A_DIRECTORY, DIRECTORIES = 0.002, 5000


def test_a_stop_gives_up_a_scan_that_is_under_way(tmp_path: Path) -> None:
    for number in range(DIRECTORIES):
        (tmp_path / str(number)).mkdir()
    rules = SlowDisk()
    watched = Watched(tmp_path, rules=rules)
    assert watched.watcher.drain(SECONDS)
    before = watched.watcher.complete_until
    watched.rescanner.record_overflow()
    rules.is_slow.set()
    try:
        (tmp_path / "new").touch()
        assert rules.was_slow.wait(SECONDS)
        began = time.monotonic()
        watched.end()
        assert time.monotonic() - began < A_DIRECTORY * DIRECTORIES / 4
    finally:
        rules.is_slow.clear()
    assert watched.watcher.complete_until == before
