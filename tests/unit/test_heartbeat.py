"""No part stands still without a word."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pylsyncd.heartbeat import Heartbeat
from pylsyncd.part import Part, Pulse

STUCK, INTERVAL = 0.2, 0.01


class Sleeper(Part):
    """Beats once, then stands still until it is told to go on, and waits for its end."""

    def __init__(self) -> None:
        super().__init__("sleeper", lambda _: None)
        self.goes_on, self.ends = threading.Event(), threading.Event()

    def work(self) -> None:
        self.pulse.beat()
        self.goes_on.wait(20)
        with self.pulse.waiting():
            self.ends.wait(20)


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
def heartbeat(failed: list[str]) -> Iterator[Heartbeat]:
    running = Heartbeat(failed.append, STUCK, INTERVAL)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    part = Sleeper()
    part.start()
    yield part
    part.goes_on.set()
    part.ends.set()
    part.join()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def test_a_part_that_stands_still_is_told_once_and_again_when_it_moves(
    heartbeat: Heartbeat, sleeper: Sleeper, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    heartbeat.listen(sleeper)
    wait_until(lambda: "[sleeper] has not moved" in caplog.text)
    sleeper.goes_on.set()
    wait_until(lambda: "[sleeper] moves again" in caplog.text)
    assert caplog.text.count("has not moved") == 1
    assert failed == []


def test_a_vital_part_that_stands_still_has_failed(
    heartbeat: Heartbeat, sleeper: Sleeper, failed: list[str]
) -> None:
    heartbeat.listen(sleeper, is_vital=True)
    wait_until(lambda: failed == ["sleeper"])


def test_the_main_thread_is_listened_to(
    heartbeat: Heartbeat, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    pulse = Pulse()
    pulse.beat()
    heartbeat.listen_to_main(pulse)
    wait_until(lambda: "[main] has not moved" in caplog.text)
    assert failed == []


def test_who_waits_is_not_stuck() -> None:
    pulse = Pulse()
    with pulse.waiting():
        assert pulse.silence == 0.0
    assert pulse.silence > 0.0
