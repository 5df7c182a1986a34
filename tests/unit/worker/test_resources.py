"""Turns: never more than the limit, in the order of coming, and left at once by who is ended."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.waiting import wait_until

from pylsyncd.worker.resources import RunSlots

SECONDS = 10.0


def never() -> bool:
    return False


class Guest(threading.Thread):
    """Takes turns, and holds each until told to go."""

    def __init__(self, turns: RunSlots, name: str, log: list[str], rounds: int = 1) -> None:
        super().__init__(name=name)
        self.turns, self.log, self.rounds = turns, log, rounds
        self.holds, self.is_ended = threading.Event(), threading.Event()
        self.go = threading.Event()
        self.was_granted: list[bool] = []

    def run(self) -> None:
        for _ in range(self.rounds):
            with self.turns.acquire(self.is_ended.is_set) as is_granted:
                self.was_granted.append(is_granted)
                if is_granted:
                    self.log.append(self.name)
                    self.holds.set()
                    assert self.go.wait(SECONDS)
                    self.holds.clear()


@pytest.fixture
def guests() -> Iterator[Callable[..., Guest]]:
    """Return what makes guests, which are let go at the end."""
    made: list[Guest] = []

    def make(turns: RunSlots, name: str, log: list[str], rounds: int = 1) -> Guest:
        guest = Guest(turns, name, log, rounds)
        made.append(guest)
        before = _waiting(turns)
        guest.start()
        # It has its turn, or stands in the line, before the next one comes.
        wait_until(
            lambda: guest.holds.is_set() or _waiting(turns) > before, message=f"{name} has come"
        )
        return guest

    yield make
    for guest in made:
        guest.is_ended.set()
        guest.go.set()
    for guest in made:
        guest.join(SECONDS)
        assert not guest.is_alive()


def _waiting(turns: RunSlots) -> int:
    with turns._changed:  # noqa: SLF001  # nothing else shows that a thread waits
        return len(turns._waiting)  # noqa: SLF001


def test_without_a_limit_nobody_waits(guests: Callable[..., Guest]) -> None:
    log: list[str] = []
    turns = RunSlots()
    for number in range(5):
        assert guests(turns, str(number), log).holds.wait(SECONDS)
    assert log == ["0", "1", "2", "3", "4"]


def test_no_more_than_the_limit_have_their_turn_at_a_time() -> None:
    turns = RunSlots(2)
    lock = threading.Lock()
    present, most = 0, 0

    def work() -> None:
        nonlocal present, most
        for _ in range(20):
            with turns.acquire(never) as is_granted:
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


def test_who_came_first_is_first_and_who_has_endless_work_goes_to_the_end_of_the_line(
    guests: Callable[..., Guest],
) -> None:
    log: list[str] = []
    turns = RunSlots(1)
    greedy = guests(turns, "greedy", log, rounds=3)
    others = [guests(turns, name, log) for name in ("a", "b", "c")]
    greedy.go.set()
    for guest in others:
        assert guest.holds.wait(SECONDS)
        guest.go.set()
    for guest in (greedy, *others):
        guest.join(SECONDS)
    assert log == ["greedy", "a", "b", "c", "greedy", "greedy"]


def test_who_is_ended_leaves_the_line_at_once_and_holds_nobody_up(
    guests: Callable[..., Guest],
) -> None:
    log: list[str] = []
    turns = RunSlots(1)
    first = guests(turns, "first", log)
    leaving = guests(turns, "leaving", log)
    last = guests(turns, "last", log)
    leaving.is_ended.set()
    leaving.join(1.0)
    assert not leaving.is_alive()
    assert leaving.was_granted == [False]
    first.go.set()
    assert last.holds.wait(SECONDS)
    assert log == ["first", "last"]


def test_who_is_ended_gets_no_turn_even_if_one_is_free() -> None:
    with RunSlots(1).acquire(lambda: True) as is_granted:
        assert not is_granted


def test_a_turn_ends_with_an_error_too() -> None:
    turns = RunSlots(1)
    with pytest.raises(ZeroDivisionError), turns.acquire(never):
        _ = 1 / 0
    with turns.acquire(never) as is_granted:
        assert is_granted


def test_another_limit_is_for_those_who_wait_already(guests: Callable[..., Guest]) -> None:
    log: list[str] = []
    turns = RunSlots(1)
    some = [guests(turns, str(number), log) for number in range(4)]
    turns.set_limit(3)
    wait_until(lambda: len(log) == 3, message="three have their turn")
    turns.set_limit(1)
    for guest in some[:2]:
        guest.go.set()
        guest.join(SECONDS)
    # Still one too many for the fourth.
    assert log == ["0", "1", "2"]
    some[2].go.set()
    assert some[3].holds.wait(SECONDS)
    turns.set_limit(None)
    assert guests(turns, "4", log).holds.wait(SECONDS)
