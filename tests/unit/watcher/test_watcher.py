"""The watcher thread on a real directory: which changes are in the buffer, and when."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import ClassVar

import pytest
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.watcher import Watcher

SECONDS = 45.0
NEVER = 1e6
# On a busy machine, a thread may be late again and again.
ATTEMPTS = 200


class Watched:
    """A directory with a watcher thread, and the calls that it has made."""

    def __init__(
        self,
        source: Path,
        max_changes: int = 1_000_000,
        rules: Rules | None = None,
        on_opened: Callable[[], None] = lambda: None,
        on_progress: Callable[[int], None] = lambda _: None,
        open_files: OpenFiles | None = None,
    ) -> None:
        self.source = source
        self.opened, self.filled, self.lost = (threading.Event() for _ in range(3))
        self.failures: list[str] = []
        self.buffer = Buffer(max_changes, self._on_opened, self.filled.set)
        self._call_on_opened = on_opened
        self._call_on_progress = on_progress
        self._is_started = False
        self.inotify = Inotify()
        watched = WatchedSource(
            os.fsencode(source), self.inotify, rules, None, self._on_progress, open_files
        )
        self.rescanner = watched.rescanner
        self.watcher = Watcher(watched.events, self.buffer, self.lost.set, self.failures.append)
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

    def stop(self) -> None:
        self.watcher.stop()
        self.inotify.close()
        assert not self.failures

    def take_paths(self) -> set[bytes]:
        return {change.path for change in self.buffer.take()}

    def wait_for_paths(self, *paths: bytes) -> None:
        """Wait until these have come to the buffer, perhaps one after the other, and take them."""
        found: set[bytes] = set()

        def have_come() -> bool:
            found.update(self.take_paths())
            return found >= set(paths)

        wait_until(have_come, message=lambda: f"only {found} have come")
        assert found == set(paths)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path, max_changes=5)
    yield watched
    watched.stop()


def test_the_first_change_opens_the_window_and_later_ones_follow(
    watched: Watched,
) -> None:
    (watched.source / "0").touch()
    assert watched.opened.wait(SECONDS)
    for number in range(1, 4):
        (watched.source / str(number)).touch()
    watched.wait_for_paths(b"0", b"1", b"2", b"3")


def test_the_first_change_after_a_flush_opens_the_next_window_at_once(watched: Watched) -> None:
    for number in range(ATTEMPTS):
        # It has just filled the buffer.
        assert watched.watcher.drain(SECONDS)
        watched.take_paths()
        watched.opened.clear()
        began = time.monotonic()
        (watched.source / str(number)).touch()
        assert watched.opened.wait(SECONDS)
        if time.monotonic() - began < 0.1:
            return
    raise AssertionError("the window opened late each time")


def test_a_directory_created_right_after_another_change_follows(
    watched: Watched,
) -> None:
    (watched.source / "0").touch()
    assert watched.opened.wait(SECONDS)
    # There is no event of a file, which would be pending.
    (watched.source / "d").mkdir()
    watched.wait_for_paths(b"0", b"d")


def test_after_a_drain_all_earlier_changes_are_in_the_buffer(watched: Watched) -> None:
    for number in range(50):
        name = str(number)
        (watched.source / name).touch()
        assert watched.watcher.drain(SECONDS)
        assert watched.take_paths() == {os.fsencode(name)}


def test_a_full_buffer_is_reported_while_changes_continue(watched: Watched) -> None:
    number = 0
    while not watched.filled.wait(0.01):
        (watched.source / str(number)).touch()
        number += 1
        assert number < SECONDS / 0.01
    assert len(watched.buffer) >= 5


def test_complete_until_does_not_pass_changes_outside_the_buffer(watched: Watched) -> None:
    for number in range(10):
        (watched.source / str(number)).touch()
        touched = clock.now().running
        wait_until(lambda touched=touched: watched.watcher.complete_until.running >= touched)
        assert os.fsencode(str(number)) in watched.take_paths()


def test_complete_until_does_not_pass_changes_after_the_last_read(tmp_path: Path) -> None:
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
            # The queue was empty, and now it is not.
            touched.append(clock.now().running)
            (tmp_path / "late").touch()
        return chunk

    watched.inotify.read = read_late  # type: ignore[method-assign]
    try:
        assert watched.watcher.drain(SECONDS)
        wait_until(lambda: complete)
        assert complete[0] < touched[0]
    finally:
        watched.stop()


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[FileIO]:
    """Yield an open file in the source."""
    with (tmp_path / "log").open("wb", 0) as file:
        yield file


@pytest.fixture
def holding(log_file: FileIO) -> Iterator[Watched]:
    """Yield a directory whose open files are never due."""
    watched = Watched(Path(log_file.name).parent, open_files=OpenFiles(NEVER, 2 * NEVER))
    yield watched
    watched.stop()


def test_only_a_drain_that_asks_for_it_includes_files_that_stay_open(
    holding: Watched, log_file: FileIO
) -> None:
    log_file.write(b"x")
    assert holding.watcher.drain(SECONDS)
    assert holding.take_paths() == set()
    assert holding.watcher.drain(SECONDS, includes_open_files=True)
    assert holding.take_paths() == {b"log"}


def test_complete_until_does_not_pass_a_file_that_stays_open(
    holding: Watched, log_file: FileIO
) -> None:
    log_file.write(b"x")
    written = clock.now().running
    for number in range(3):
        (holding.source / str(number)).touch()
        assert holding.watcher.drain(SECONDS)
        assert holding.watcher.complete_until.running < written
    assert holding.watcher.drain(SECONDS, includes_open_files=True)
    wait_until(lambda: holding.watcher.drain(SECONDS) and complete(holding) >= written)


def complete(watched: Watched) -> float:
    return watched.watcher.complete_until.running


def test_a_file_that_stays_open_opens_a_window_when_it_is_due(
    tmp_path: Path, log_file: FileIO
) -> None:
    watched = Watched(tmp_path, open_files=OpenFiles(0.1, NEVER))
    try:
        log_file.write(b"x")
        assert watched.opened.wait(SECONDS)
        assert watched.take_paths() == {b"log"}
    finally:
        watched.stop()


def test_other_times_for_open_files_apply_at_once(holding: Watched, log_file: FileIO) -> None:
    log_file.write(b"x")
    assert holding.watcher.drain(SECONDS)
    holding.watcher.set_open_file_times(NEVER, 0.0)
    assert holding.opened.wait(SECONDS)
    assert holding.take_paths() == {b"log"}


def test_a_lost_source_is_reported_after_its_last_changes(watched: Watched) -> None:
    (watched.source / "e").touch()
    assert watched.opened.wait(SECONDS)
    # It is not put into the buffer yet, so shortly after the first one.
    (watched.source / "f").touch()
    os.rename(watched.source, watched.source.parent / "elsewhere")
    assert watched.lost.wait(SECONDS)
    assert watched.take_paths() >= {b"e", b"f"}


def on_first_call(do: Callable[[], None]) -> Callable[..., None]:
    """Return a function that calls ``do`` the first time only."""
    left = [do]

    def call(*_: object) -> None:
        if left:
            left.pop()()

    return call


def create_many_directories(source: Path) -> None:
    """Create so many that a walk reads the event queue in between."""
    for number in range(300):
        (source / "many" / str(number)).mkdir(parents=True)


def test_changes_during_the_initial_scan_follow_without_another_event(
    tmp_path: Path,
) -> None:
    create_many_directories(tmp_path)
    watched = Watched(tmp_path, on_progress=on_first_call((tmp_path / "new").touch))
    try:
        assert watched.opened.wait(SECONDS)
        assert watched.take_paths() == {b"new"}
    finally:
        watched.stop()


class SlowRules(Rules):
    """Rules without a pattern that are slow for directories while ``is_slow`` is set."""

    is_slow = threading.Event()
    was_slow = threading.Event()
    slow: ClassVar[list[bytes]] = []

    def __bool__(self) -> bool:
        return True

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        if is_directory and self.is_slow.is_set():
            self.slow.append(path)
            self.was_slow.set()
            time.sleep(SECONDS_PER_DIRECTORY)
        return super().matches(path, is_directory=is_directory)


SECONDS_PER_DIRECTORY, DIRECTORIES = 0.002, 5000


def test_a_stop_aborts_a_running_scan(tmp_path: Path) -> None:
    for number in range(DIRECTORIES):
        (tmp_path / str(number)).mkdir()
    rules = SlowRules()
    watched = Watched(tmp_path, rules=rules)
    assert watched.watcher.drain(SECONDS)
    before = watched.watcher.complete_until
    watched.rescanner.record_overflow()
    rules.is_slow.set()
    try:
        (tmp_path / "new").touch()
        assert rules.was_slow.wait(SECONDS)
        watched.stop()
        assert len(rules.slow) < DIRECTORIES
    finally:
        rules.is_slow.clear()
    assert watched.watcher.complete_until == before
