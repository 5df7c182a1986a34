"""Which sources have an inotify instance of their own, and which share one."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.limits import instance_limit_prefix, no_more_threads
from support.servers import Unavailable
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.system.threads import SupervisedThread, ThreadLimitError
from pylsyncd.watcher.inotify import Inotify, WatchingInstance
from pylsyncd.watcher.inotify_pool import InotifyPool
from pylsyncd.watcher.shared_inotify import SharedInotify

READER = "inotify reader"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what the test opens, in reverse order."""
    with ExitStack() as stack:
        yield stack


def open_some(opened: ExitStack, pool: InotifyPool, count: int) -> list[WatchingInstance]:
    instances = [pool.open_instance(print) for _ in range(count)]
    for instance in instances:
        opened.callback(instance.close)
    return instances


def is_reading() -> bool:
    return READER in {thread.name for thread in threading.enumerate()}


def test_a_single_source_has_the_only_instance(opened: ExitStack) -> None:
    pool = InotifyPool()
    assert isinstance(open_some(opened, pool, 1)[0], Inotify)
    assert (pool.instance_count, is_reading()) == (1, False)


def test_the_first_sources_have_an_instance_each_and_the_others_share_some(
    opened: ExitStack,
) -> None:
    pool = InotifyPool(max_own=3, max_shared=2)
    instances = open_some(opened, pool, 9)
    assert [isinstance(each, Inotify) for each in instances] == [True] * 3 + [False] * 6
    assert pool.instance_count == 5
    shared = {each.instance for each in instances[3:]}  # type: ignore[attr-defined]
    assert sorted(map(len, shared)) == [3, 3]


def test_with_the_second_source_an_instance_is_kept_for_those_to_come(opened: ExitStack) -> None:
    pool = InotifyPool()
    counts = []
    for _ in range(3):
        open_some(opened, pool, 1)
        counts.append(pool.instance_count)
    assert counts == [1, 3, 4]
    assert not is_reading()


def test_a_source_that_remains_alone_has_the_only_instance(opened: ExitStack) -> None:
    pool = InotifyPool()
    open_some(opened, pool, 1)
    pool.open_instance(print).close()
    assert pool.instance_count == 1


def test_instances_and_the_reader_end_with_their_sources(opened: ExitStack) -> None:
    started: list[SupervisedThread] = []
    pool = InotifyPool(started.append, max_own=2, max_shared=2)
    instances = [pool.open_instance(print) for _ in range(6)]
    assert [thread.name for thread in started] == [READER]
    counts = []
    for instance in instances[2:]:
        instance.close()
        counts.append((pool.instance_count, is_reading()))
    # One is kept for sources to come.
    assert counts == [(4, True), (4, True), (3, True), (3, False)]
    open_some(opened, pool, 1)
    assert is_reading()
    for instance in instances[:2]:
        instance.close()
    opened.close()
    assert (pool.instance_count, is_reading()) == (0, False)


def test_sources_that_share_an_instance_wake_up_for_their_own_events(
    opened: ExitStack, tmp_path: Path
) -> None:
    pool = InotifyPool(max_own=0, max_shared=1)
    watched = []
    for number, instance in enumerate(open_some(opened, pool, 3)):
        (tmp_path / str(number)).mkdir()
        watched.append(WatchedSource(os.fsencode(tmp_path / str(number)), instance))
    ready = select.poll()
    for each in watched:
        ready.register(each.events.descriptor, select.POLLIN)
    for each, name in zip(watched, "012", strict=True):
        (tmp_path / name / "new").mkdir()
        assert ready.poll(30_000) == [(each.events.descriptor, select.POLLIN)]
        each.process_events()
        assert set(each.processor.take_changes()) == {Change(b"new", Scope.TREE)}
        assert not ready.poll(0)


def test_a_source_that_comes_and_goes_does_not_disturb_the_others(
    opened: ExitStack, tmp_path: Path
) -> None:
    pool = InotifyPool(max_own=0, max_shared=2)
    watched = WatchedSource(os.fsencode(tmp_path), open_some(opened, pool, 1)[0])
    for number in range(20):
        with ExitStack() as others:
            for other in open_some(others, pool, 3):
                WatchedSource(os.fsencode(tmp_path), other)
            (tmp_path / str(number)).mkdir()
            assert select.select([watched.events.descriptor], [], [], 30.0)[0]
        watched.process_events()
        assert set(watched.processor.take_changes()) == {Change(b"%d" % number, Scope.TREE)}


def test_all_sources_fail_if_the_reader_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opened: ExitStack
) -> None:
    def fail(_: SharedInotify) -> bool:
        raise RuntimeError

    monkeypatch.setattr(SharedInotify, "distribute_some", fail)
    pool = InotifyPool(max_own=0)
    failures: list[str] = []
    for _ in range(2):
        opened.callback(pool.open_instance(failures.append).close)
    directory = os.open(tmp_path, os.O_RDONLY)
    opened.callback(os.close, directory)
    instance = open_some(opened, pool, 1)[0]
    instance.add_watch(directory)
    (tmp_path / "new").mkdir()
    wait_until(lambda: failures == [READER, READER])


def test_the_lack_of_a_thread_leaves_nothing_behind(opened: ExitStack) -> None:
    pool = InotifyPool(max_own=0)
    with no_more_threads(), pytest.raises(ThreadLimitError):
        pool.open_instance(print)
    assert pool.instance_count == 0
    open_some(opened, pool, 1)
    assert is_reading()


OPENS_MANY = """
from pylsyncd.model.errors import WatchError
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.inotify_pool import InotifyPool
pool = InotifyPool()
opened = [pool.open_instance(print) for _ in range(40)]
print([isinstance(each, Inotify) for each in opened].count(True), pool.instance_count)
try:
    InotifyPool().open_instance(print)
except WatchError as error:
    print(error)
"""


def test_sources_share_an_instance_if_the_user_has_no_more() -> None:
    try:
        prefix = instance_limit_prefix(3)
    except Unavailable as reason:
        pytest.skip(str(reason))
    ended = subprocess.run(
        [*prefix, sys.executable, "-c", OPENS_MANY],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    count, *message = ended.stdout.splitlines()
    assert (count, ended.stderr) == ("2 3", "")
    assert "no inotify instances left" in message[0]
