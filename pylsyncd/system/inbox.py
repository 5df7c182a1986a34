"""What wakes the main thread: signals, and what the parts have to tell it."""

import contextlib
import os
import queue
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import FrameType
from typing import Generic, TypeVar

from pylsyncd.model.errors import PylsyncdError

Message = TypeVar("Message")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A message: a function for the receiving thread to run, and the future of its result."""

    function: Callable[[], Result]
    future: "Future[Result]" = field(default_factory=Future)

    def run(self) -> None:
        """Run the function. Raises what it raises, unless that is a PylsyncdError."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function())
        except BaseException as error:
            self.future.set_exception(error)
            if not isinstance(error, PylsyncdError):
                raise


class Inbox(Generic[Message]):
    """A queue into which any thread puts messages, and which catches signals as well.

    A thread that waits for a lock can sleep through a signal that comes just before; one that
    waits for a pipe cannot, when the signal's handler writes into it (``signal.set_wakeup_fd``).
    """

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message | signal.Signals] = queue.SimpleQueue()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers: tuple[signal.Signals, ...] = ()
        self._close = weakref.finalize(self, _close, self._reader, self._writer)
        # Held while they are used by who puts something, or closed.
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def catch_signals(self, numbers: Iterable[signal.Signals]) -> None:
        """Have signals put into the inbox; to be called by the main thread."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._numbers = tuple(numbers)
        for number in self._numbers:
            signal.signal(number, self._caught)

    def put(self, message: Message) -> None:
        """Put a message, and wake who waits."""
        self._messages.put(message)
        # A full pipe wakes, too.
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._close.alive:
                os.write(self._writer, b"\0")

    def get(self, timeout: float | None = None) -> Message | signal.Signals | None:
        """Return the next message, or None when none has come in ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with contextlib.suppress(queue.Empty):
                return self._messages.get_nowait()
            pause = None if deadline is None else max(0.0, deadline - time.monotonic())
            if pause == 0.0:
                return None
            self._poll.poll(None if pause is None else pause * 1000.0)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)

    def cancel_calls(self) -> None:
        """Take all messages, and cancel the calls among them."""
        while (message := self.get(0.0)) is not None:
            if isinstance(message, Call):
                message.future.cancel()

    def close(self) -> None:
        """Give back what it holds open: nobody looks into it any more, whoever still puts."""
        with self._lock:
            self._close()

    def ignore_signals(self) -> None:
        """Take no signals any more.

        They are ignored: what they ask for is under way, and the exit status is decided.
        """
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self._messages.put(signal.Signals(number))


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
