"""A thread that fails or is stuck is reported."""

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from support.limits import no_more_threads
from support.waiting import wait_until

from pylsyncd.system.threads import (
    ActivityTimer,
    Crash,
    CrashLog,
    SupervisedThread,
    ThreadMonitor,
    join_all,
)

TIMEOUT, INTERVAL = 0.2, 0.01


class Sleeper(SupervisedThread):
    """A thread that is active once, is stuck until told to continue, and then waits for its end."""

    def __init__(self, name: str = "sleeper") -> None:
        super().__init__(name, lambda _: None)
        self.may_continue, self.may_end = threading.Event(), threading.Event()

    def work(self) -> None:
        self.activity.mark_active()
        self.may_continue.wait(45)
        with self.activity.waiting():
            self.may_end.wait(45)


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
def monitor(failed: list[str]) -> Iterator[ThreadMonitor]:
    started = ThreadMonitor(failed.append, TIMEOUT, INTERVAL)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def sleeper(request: pytest.FixtureRequest) -> Iterator[Sleeper]:
    thread = Sleeper(getattr(request, "param", "sleeper"))
    thread.start()
    yield thread
    thread.may_continue.set()
    thread.may_end.set()
    thread.join()


def test_a_thread_that_raises_is_logged_with_its_traceback_and_reported(
    failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(SupervisedThread):
        def work(self) -> None:
            raise ValueError("the reason")

    thread = Faulty("faulty", failed.append)
    thread.start()
    thread.join()
    assert failed == ["faulty"]
    assert "faulty failed. This is a bug in pylsyncd: please report it." in caplog.text
    assert "ValueError: the reason" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_no_exception_ends_a_thread_unnoticed(
    failed: list[str], caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    class Unnoticed(SupervisedThread):
        def work(self) -> None:
            raise kind

    thread = Unnoticed("unnoticed", failed.append)
    thread.start()
    thread.join()
    assert failed == ["unnoticed"]
    assert thread.crash is not None
    assert thread.crash.error == kind.__name__
    assert "unnoticed failed." in caplog.text


def test_a_thread_that_lacks_another_one_names_the_limit_and_no_bug(
    failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    other = Sleeper("other")

    class Starter(SupervisedThread):
        def work(self) -> None:
            with no_more_threads():
                other.start()

    thread = Starter("starter", failed.append)
    thread.start()
    thread.join()
    assert failed == ["starter"]
    assert [record.exc_text for record in caplog.records] == [None]
    assert "Cannot start the thread other: the limit of threads is reached." in caplog.text


def test_a_second_start_is_a_bug_and_no_lack_of_threads() -> None:
    other = Sleeper("other")
    other.may_continue.set()
    other.may_end.set()
    other.start()
    with pytest.raises(RuntimeError, match="once"):
        other.start()
    other.join()


def test_a_failure_is_reported_even_if_it_cannot_be_logged(failed: list[str]) -> None:
    class Mute(SupervisedThread):
        def work(self) -> None:
            raise ValueError

        def report_crash(self, crash: Crash) -> None:
            raise OSError(crash.error)

    thread = Mute("mute", failed.append)
    with pytest.raises(OSError, match="ValueError"):
        thread.run()
    assert failed == ["mute"]


def _ping(count: int) -> int:
    return _pong(count + 1)


def _pong(count: int) -> int:
    return _ping(count + 1)


def _crash(function: Callable[[], object]) -> Crash:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # any one
        function()
    return Crash.from_exception(caught.value)


def test_the_description_of_an_exception_is_bounded_and_one_line() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise ValueError

    def raise_text(text: str) -> None:
        raise ValueError(text)

    def raise_unprintable() -> None:
        raise UnprintableError

    for crash in (
        _crash(lambda: _ping(0)),
        _crash(lambda: raise_text("evil\n\x1b" * 100_000)),
        _crash(lambda: raise_text("x" * 1_000_000)),
        _crash(raise_unprintable),
    ):
        assert crash.error.isprintable()
        assert len(crash.error) < 1_500
        assert len(crash.traceback.splitlines()) <= 100
        assert len(crash.traceback) < 50_000


def test_the_same_bug_has_the_same_place_whatever_its_text_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    crash_log = CrashLog()
    crashes = [_crash(lambda text=text: int(text)) for text in ("a", "b", "c")]  # type: ignore[misc]
    crashes += [_crash(lambda: tuple[int]()[0])]
    assert len({crash.place for crash in crashes}) == 2
    for number, crash in enumerate(crashes):
        crash_log.report(crash, f"message {number}", is_news=number == 1)
    assert [record.levelno for record in caplog.records] == [
        logging.ERROR, logging.WARNING, logging.INFO, logging.ERROR,
    ]  # fmt: skip
    assert caplog.text.count("Traceback") == 2


def test_the_number_of_logged_tracebacks_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    crash_log = CrashLog()
    for number in range(100):
        crash = Crash("ValueError", f"place {number}", "Traceback")
        crash_log.report(crash, "message", is_news=False)
    assert caplog.text.count("Traceback") == 20


def test_a_stuck_thread_is_logged_once_and_once_when_it_makes_progress_again(
    monitor: ThreadMonitor, sleeper: Sleeper, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monitor.add_thread(sleeper)
    wait_until(lambda: "[sleeper] no progress for" in caplog.text)
    assert monitor.stuck_names == ("sleeper",)
    sleeper.may_continue.set()
    wait_until(lambda: "[sleeper] makes progress again" in caplog.text)
    assert monitor.stuck_names == ()
    assert caplog.text.count("no progress for") == 1
    assert failed == []


def test_a_stuck_thread_is_reported_to_its_callback(
    monitor: ThreadMonitor, sleeper: Sleeper, failed: list[str]
) -> None:
    monitor.add_thread(sleeper, monitor.on_failed)
    wait_until(lambda: failed == ["sleeper"])


def test_the_main_thread_is_monitored(
    monitor: ThreadMonitor, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    activity = ActivityTimer()
    activity.mark_active()
    monitor.add_main_thread(activity)
    wait_until(lambda: "[main] no progress for" in caplog.text)
    assert failed == []


@pytest.mark.parametrize("sleeper", ["watcher", "main"], indirect=True)
def test_a_thread_does_not_replace_another_one_of_its_name(
    monitor: ThreadMonitor, sleeper: Sleeper, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    activity = ActivityTimer()
    activity.mark_active()
    monitor.add_main_thread(activity)
    monitor.add_thread(sleeper, monitor.on_failed)
    waiting = Sleeper(sleeper.name)
    waiting.may_continue.set()
    waiting.start()
    monitor.add_thread(waiting)
    wait_until(lambda: failed == [sleeper.name])
    wait_until(lambda: "[main] no progress for" in caplog.text)
    assert waiting.is_alive()
    waiting.may_end.set()
    waiting.join()


def test_a_thread_that_has_ended_is_forgotten_without_a_message(
    monitor: ThreadMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    class Mortal(SupervisedThread):
        def work(self) -> None:
            self.activity.mark_active()
            end.wait(45)

    end = threading.Event()
    thread = Mortal("mortal", lambda _: None)
    thread.start()
    monitor.add_thread(thread)
    wait_until(lambda: "[mortal] no progress for" in caplog.text)
    end.set()
    thread.join()
    known = weakref.ref(thread)
    del thread

    def is_forgotten() -> bool:
        gc.collect()
        return known() is None

    wait_until(is_forgotten)
    assert "makes progress again" not in caplog.text


def test_only_a_check_that_finds_no_stuck_thread_is_reported_as_all_active(
    sleeper: Sleeper, caplog: pytest.LogCaptureFixture
) -> None:
    checks: list[str] = []
    monitor = ThreadMonitor(
        lambda _: None, TIMEOUT, INTERVAL, on_all_active=lambda: checks.append("all active")
    )
    monitor.start()
    try:
        wait_until(lambda: checks)
        monitor.add_thread(sleeper)
        wait_until(lambda: "[sleeper] no progress for" in caplog.text)
        count = len(checks)
        sleeper.may_continue.set()
        wait_until(lambda: len(checks) > count)
        assert "[sleeper] makes progress again" in caplog.text
    finally:
        monitor.stop()


def test_a_thread_that_waits_is_not_stuck() -> None:
    activity = ActivityTimer()
    with activity.waiting():
        assert activity.inactive_seconds == 0.0
    assert activity.inactive_seconds > 0.0


def test_threads_are_joined_within_one_timeout() -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(300)]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    assert not join_all(threads, 0.2)
    # One after the other, they take 60 s.
    assert 0.2 <= time.monotonic() - started < 45.0
    end.set()
    assert join_all([*threads, threading.Thread()], 45.0)
