"""No part stands still without a word."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator

import pytest
from support.waiting import wait_until

from pylsyncd.system.part import ActivityTimer, SupervisedThread
from pylsyncd.system.threads import ThreadMonitor

STUCK, INTERVAL = 0.2, 0.01


class Sleeper(SupervisedThread):
    """Beats once, then stands still until it is told to go on, and waits for its end."""

    def __init__(self, name: str = "sleeper") -> None:
        super().__init__(name, lambda _: None)
        self.goes_on, self.ends = threading.Event(), threading.Event()

    def work(self) -> None:
        self.activity.mark_active()
        self.goes_on.wait(20)
        with self.activity.waiting():
            self.ends.wait(20)


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
def heartbeat(failed: list[str]) -> Iterator[ThreadMonitor]:
    running = ThreadMonitor(failed.append, STUCK, INTERVAL)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def sleeper(request: pytest.FixtureRequest) -> Iterator[Sleeper]:
    part = Sleeper(getattr(request, "param", "sleeper"))
    part.start()
    yield part
    part.goes_on.set()
    part.ends.set()
    part.join()


def test_a_part_that_stands_still_is_told_once_and_again_when_it_moves(
    heartbeat: ThreadMonitor, sleeper: Sleeper, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    heartbeat.add_thread(sleeper)
    wait_until(lambda: "[sleeper] has not moved" in caplog.text)
    sleeper.goes_on.set()
    wait_until(lambda: "[sleeper] moves again" in caplog.text)
    assert caplog.text.count("has not moved") == 1
    assert failed == []


def test_a_vital_part_that_stands_still_has_failed(
    heartbeat: ThreadMonitor, sleeper: Sleeper, failed: list[str]
) -> None:
    heartbeat.add_thread(sleeper, heartbeat.on_failed)
    wait_until(lambda: failed == ["sleeper"])


def test_the_main_thread_is_listened_to(
    heartbeat: ThreadMonitor, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    pulse = ActivityTimer()
    pulse.mark_active()
    heartbeat.add_main_thread(pulse)
    wait_until(lambda: "[main] has not moved" in caplog.text)
    assert failed == []


@pytest.mark.parametrize("sleeper", ["watcher", "main"], indirect=True)
def test_a_part_does_not_replace_another_one_of_its_name(
    heartbeat: ThreadMonitor, sleeper: Sleeper, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    pulse = ActivityTimer()
    pulse.mark_active()
    heartbeat.add_main_thread(pulse)
    heartbeat.add_thread(sleeper, heartbeat.on_failed)
    waiting = Sleeper(sleeper.name)
    waiting.goes_on.set()
    waiting.start()
    heartbeat.add_thread(waiting)
    wait_until(lambda: failed == [sleeper.name])
    wait_until(lambda: "[main] has not moved" in caplog.text)
    assert waiting.is_alive()
    waiting.ends.set()
    waiting.join()


def test_a_part_that_has_ended_is_forgotten_without_a_word(
    heartbeat: ThreadMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    class Mortal(SupervisedThread):
        def work(self) -> None:
            self.activity.mark_active()
            end.wait(20)

    end = threading.Event()
    part = Mortal("mortal", lambda _: None)
    part.start()
    heartbeat.add_thread(part)
    wait_until(lambda: "[mortal] has not moved" in caplog.text)
    end.set()
    part.join()
    known = weakref.ref(part)
    del part

    def is_forgotten() -> bool:
        gc.collect()
        return known() is None

    wait_until(is_forgotten)
    assert "moves again" not in caplog.text


def test_who_waits_is_not_stuck() -> None:
    pulse = ActivityTimer()
    with pulse.waiting():
        assert pulse.inactive_seconds == 0.0
    assert pulse.inactive_seconds > 0.0
