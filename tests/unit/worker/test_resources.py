"""Run slots: never more than the limit, granted in order, and left at once by a stopped thread."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.waiting import wait_until

from pylsyncd.worker.resources import RunSlots

SECONDS = 45.0


def never() -> bool:
    return False


class SlotUser(threading.Thread):
    """A thread that acquires a slot and holds it until ``go`` is set."""

    def __init__(self, slots: RunSlots, name: str, log: list[str], repeat: int = 1) -> None:
        super().__init__(name=name)
        self.slots, self.log, self.repeat = slots, log, repeat
        self.holds, self.is_ended = threading.Event(), threading.Event()
        self.go = threading.Event()
        self.was_granted: list[bool] = []

    def run(self) -> None:
        for _ in range(self.repeat):
            with self.slots.acquire(self.is_ended.is_set) as is_granted:
                self.was_granted.append(is_granted)
                if is_granted:
                    self.log.append(self.name)
                    self.holds.set()
                    assert self.go.wait(SECONDS)
                    self.holds.clear()


@pytest.fixture
def users() -> Iterator[Callable[..., SlotUser]]:
    """Return a function that starts threads, which are stopped at the end."""
    made: list[SlotUser] = []

    def make(slots: RunSlots, name: str, log: list[str], repeat: int = 1) -> SlotUser:
        user = SlotUser(slots, name, log, repeat)
        made.append(user)
        before = _waiting(slots)
        user.start()
        # It has a slot, or waits for one, before the next thread starts.
        wait_until(
            lambda: user.holds.is_set() or _waiting(slots) > before, message=f"{name} has come"
        )
        return user

    yield make
    for user in made:
        user.is_ended.set()
        user.go.set()
    for user in made:
        user.join(SECONDS)
        assert not user.is_alive()


def _waiting(slots: RunSlots) -> int:
    with slots._changed:  # noqa: SLF001  # nothing else shows that a thread waits
        return len(slots._waiting)  # noqa: SLF001


def test_without_a_limit_no_thread_waits(users: Callable[..., SlotUser]) -> None:
    log: list[str] = []
    slots = RunSlots()
    for number in range(5):
        assert users(slots, str(number), log).holds.wait(SECONDS)
    assert log == ["0", "1", "2", "3", "4"]


def test_no_more_threads_than_the_limit_hold_a_slot() -> None:
    slots = RunSlots(2)
    lock = threading.Lock()
    present, most = 0, 0

    def work() -> None:
        nonlocal present, most
        for _ in range(20):
            with slots.acquire(never) as is_granted:
                assert is_granted
                with lock:
                    present += 1
                    most = max(most, present)
                time.sleep(0.0005)
                with lock:
                    present -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert (most, present) == (2, 0)


def test_slots_are_granted_in_order_and_a_thread_with_endless_work_waits_in_turn(
    users: Callable[..., SlotUser],
) -> None:
    log: list[str] = []
    slots = RunSlots(1)
    greedy = users(slots, "greedy", log, repeat=3)
    others = [users(slots, name, log) for name in ("a", "b", "c")]
    greedy.go.set()
    for user in others:
        assert user.holds.wait(SECONDS)
        user.go.set()
    for user in (greedy, *others):
        user.join(SECONDS)
    assert log == ["greedy", "a", "b", "c", "greedy", "greedy"]


def test_a_stopped_thread_leaves_the_queue_at_once_and_delays_no_other(
    users: Callable[..., SlotUser],
) -> None:
    log: list[str] = []
    slots = RunSlots(1)
    first = users(slots, "first", log)
    leaving = users(slots, "leaving", log)
    last = users(slots, "last", log)
    leaving.is_ended.set()
    leaving.join(SECONDS)
    assert not leaving.is_alive()
    assert leaving.was_granted == [False]
    first.go.set()
    assert last.holds.wait(SECONDS)
    assert log == ["first", "last"]


def test_a_stopped_thread_gets_no_slot_even_if_one_is_free() -> None:
    with RunSlots(1).acquire(lambda: True) as is_granted:
        assert not is_granted


def test_an_error_releases_the_slot() -> None:
    slots = RunSlots(1)
    with pytest.raises(ZeroDivisionError), slots.acquire(never):
        _ = 1 / 0
    with slots.acquire(never) as is_granted:
        assert is_granted


def test_a_new_limit_applies_to_waiting_threads(users: Callable[..., SlotUser]) -> None:
    log: list[str] = []
    slots = RunSlots(1)
    some = [users(slots, str(number), log) for number in range(4)]
    slots.set_limit(3)
    wait_until(lambda: len(log) == 3, message="three threads hold a slot")
    slots.set_limit(1)
    for user in some[:2]:
        user.go.set()
        user.join(SECONDS)
    # One thread still holds the only slot.
    assert log == ["0", "1", "2"]
    some[2].go.set()
    assert some[3].holds.wait(SECONDS)
    slots.set_limit(None)
    assert users(slots, "4", log).holds.wait(SECONDS)
