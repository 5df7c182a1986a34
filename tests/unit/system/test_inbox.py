"""Each message, call and signal wakes the thread that waits for it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager

import pytest
from support.waiting import DEADLINE

from pylsyncd.model.errors import UsageError
from pylsyncd.system.inbox import Call, Inbox, MessageQueue


@contextmanager
def opened() -> Iterator[Inbox[str]]:
    """Open an inbox that catches SIGUSR1, and restore the handler of the signal."""
    before = signal.getsignal(signal.SIGUSR1)
    inbox: Inbox[str] = Inbox()
    inbox.catch_signals([signal.SIGUSR1])
    try:
        yield inbox
    finally:
        inbox.close()
        signal.signal(signal.SIGUSR1, before)


def test_messages_come_in_their_order() -> None:
    with opened() as inbox:
        inbox.put("one")
        inbox.put("two")
        assert [inbox.get(45.0), inbox.get(0.0), inbox.get(0.0)] == ["one", "two", None]


def test_a_wait_ends_after_its_timeout() -> None:
    with opened() as inbox:
        started = time.monotonic()
        assert inbox.get(0.1) is None
        assert 0.1 <= time.monotonic() - started < 45.0


def test_a_message_wakes_the_thread_that_waits() -> None:
    with opened() as inbox:
        thread = threading.Timer(0.05, inbox.put, ["late"])
        thread.start()
        assert inbox.get(45.0) == "late"
        thread.join()


def test_a_signal_delivered_to_another_thread_wakes_the_main_thread() -> None:
    with opened() as inbox:
        ended = threading.Event()
        other = threading.Thread(target=ended.wait)
        other.start()
        assert other.ident is not None
        kill = threading.Timer(0.05, signal.pthread_kill, [other.ident, signal.SIGUSR1])
        kill.start()
        started = time.monotonic()
        try:
            assert inbox.get(90.0) is signal.SIGUSR1
            assert time.monotonic() - started < 45.0
        finally:
            ended.set()
            kill.join()
            other.join()


def test_more_messages_than_the_pipe_holds_are_all_kept() -> None:
    with opened() as inbox:
        for _ in range(100_000):
            inbox.put("x")
        assert sum(1 for _ in iter(lambda: inbox.get(0.0), None)) == 100_000


def test_a_closed_inbox_ignores_signals_and_accepts_messages() -> None:
    with opened() as inbox:
        inbox.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        inbox.put("unread")
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        inbox.close()


def test_an_inbox_that_was_never_closed_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    Inbox[str]()
    assert os.listdir("/proc/self/fd") == before


def test_a_queue_returns_messages_in_their_order_and_none_after_the_timeout() -> None:
    messages: MessageQueue[str] = MessageQueue()
    messages.put("one")
    messages.put("two")
    assert [messages.get(45.0), messages.get(0.0)] == ["one", "two"]
    started = time.monotonic()
    assert messages.get(0.1) is None
    assert 0.1 <= time.monotonic() - started < 45.0


def test_a_call_returns_its_result_to_the_thread_that_has_sent_it() -> None:
    calls: MessageQueue[Call[int]] = MessageQueue()
    receiver = threading.Thread(target=lambda: (call := calls.get(45.0)) and call.run())
    receiver.start()
    call = Call(lambda: threading.get_ident())  # noqa: PLW0108  # it is to run over there
    calls.put(call)
    assert call.future.result(45.0) == receiver.ident
    receiver.join()


def test_an_expected_error_goes_to_the_sender_alone_and_a_bug_to_both_threads() -> None:
    def refuse() -> None:
        raise UsageError("no")

    def fail() -> None:
        raise ValueError("bug")

    call = Call(refuse)
    call.run()
    with pytest.raises(UsageError):
        call.future.result(0.0)
    call = Call(fail)
    with pytest.raises(ValueError, match="bug"):
        call.run()
    with pytest.raises(ValueError, match="bug"):
        call.future.result(0.0)


def test_calls_that_are_not_run_any_more_are_cancelled() -> None:
    messages: MessageQueue[Call[None] | str] = MessageQueue()
    call = Call(lambda: None)
    messages.put("message")
    messages.put(call)
    messages.cancel_calls()
    with pytest.raises(CancelledError):
        call.future.result(0.0)
    call.run()
    assert messages.get(0.0) is None


# Python 3.10's SimpleQueue waited for ever after some hundred.
GETS = 2_000


def test_a_get_with_a_timeout_returns_even_if_the_thread_was_suspended() -> None:
    is_done = threading.Event()
    busy = [threading.Thread(target=lambda: _compute_until(is_done)) for _ in range(2)]
    counts: list[int] = []

    def get_often() -> None:
        counts.extend(1 for _ in range(GETS) if MessageQueue[str]().get(1e-6) is None)
        is_done.set()

    getter = threading.Thread(target=get_often, daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in (*busy, getter):
            thread.start()
        assert is_done.wait(4 * DEADLINE), "a get with a timeout of a microsecond did not return"
    finally:
        sys.setswitchinterval(interval)
        is_done.set()
        for thread in busy:
            thread.join()
    getter.join()
    assert len(counts) == GETS


def _compute_until(is_done: threading.Event) -> None:
    while not is_done.is_set():
        sum(range(100))


def test_a_cancelled_call_is_done_for_all_that_wait_for_it() -> None:
    call: Call[int] = Call(lambda: pytest.fail("it is cancelled"))
    call.cancel()
    assert wait([call.future], 0.0).done == {call.future}
    assert call.future.cancelled()
