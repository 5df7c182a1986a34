"""The main thread's inbox: no message and no signal fails to wake it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pylsyncd.system.inbox import Inbox


@contextmanager
def opened() -> Iterator[Inbox[str]]:
    """Have an inbox. No fixture is it: pytest would hold it, and its pipe is open until then."""
    before = signal.getsignal(signal.SIGUSR1)
    inbox: Inbox[str] = Inbox()
    inbox.catch_signals([signal.SIGUSR1])
    try:
        yield inbox
    finally:
        inbox.ignore_signals()
        signal.signal(signal.SIGUSR1, before)


def test_messages_come_in_their_order() -> None:
    with opened() as inbox:
        inbox.put("one")
        inbox.put("two")
        assert [inbox.get(), inbox.get(), inbox.get(0.0)] == ["one", "two", None]


def test_waiting_ends_after_its_time() -> None:
    with opened() as inbox:
        started = time.monotonic()
        assert inbox.get(0.1) is None
        assert 0.1 <= time.monotonic() - started < 5.0


def test_a_message_wakes_who_waits() -> None:
    with opened() as inbox:
        thread = threading.Timer(0.05, inbox.put, ["late"])
        thread.start()
        assert inbox.get(20.0) == "late"
        thread.join()


def test_a_signal_that_another_thread_takes_wakes_the_main_thread() -> None:
    with opened() as inbox:
        ended = threading.Event()
        other = threading.Thread(target=ended.wait)
        other.start()
        assert other.ident is not None
        kill = threading.Timer(0.05, signal.pthread_kill, [other.ident, signal.SIGUSR1])
        kill.start()
        started = time.monotonic()
        try:
            assert inbox.get(20.0) is signal.SIGUSR1
            assert time.monotonic() - started < 10.0
        finally:
            ended.set()
            kill.join()
            other.join()


def test_more_messages_than_the_pipe_holds_are_all_kept() -> None:
    with opened() as inbox:
        for _ in range(100_000):
            inbox.put("x")
        assert sum(1 for _ in iter(lambda: inbox.get(0.0), None)) == 100_000
