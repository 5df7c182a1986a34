"""The queues through which threads send messages, calls and signals to each other."""

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
        if self.future.cancelled() or not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function())
        except BaseException as error:
            self.future.set_exception(error)
            if not isinstance(error, PylsyncdError):
                raise

    def cancel(self) -> None:
        """Do not run the function, and end the wait of other threads for its result."""
        # A future that is only cancelled is not done for ``concurrent.futures.wait``.
        if self.future.cancel():
            self.future.set_running_or_notify_cancel()


class MessageQueue(Generic[Message]):
    """A queue into which any thread puts messages for one thread.

    Not a SimpleQueue: in Python 3.10 its ``get`` can wait for ever if the thread is suspended until
    after the deadline at a certain point, since it takes a negative rest of the timeout for none.
    """

    def __init__(self) -> None:
        self._messages: queue.Queue[Message] | queue.SimpleQueue[Message] = queue.Queue()

    def put(self, message: Message) -> None:
        """Put a message, and wake the thread that waits."""
        self._messages.put(message)

    def get(self, timeout: float) -> Message | None:
        """Return the next message, or None if there is none within ``timeout`` seconds."""
        with contextlib.suppress(queue.Empty):
            if timeout > 0.0:
                return self._messages.get(timeout=timeout)
            return self._messages.get_nowait()
        return None

    def cancel_calls(self) -> None:
        """Take all messages, and cancel the calls among them."""
        while (message := self.get(0.0)) is not None:
            if isinstance(message, Call):
                message.cancel()


class Inbox(MessageQueue[Message | signal.Signals], Generic[Message]):
    """The queue of the main thread, which gets the signals of the process as well.

    A thread that waits on a lock, as a SimpleQueue does, can sleep through a signal that arrives
    just before the wait. A thread that polls a pipe cannot: Python's C-level signal handler writes
    to the pipe (``signal.set_wakeup_fd``).
    """

    def __init__(self) -> None:
        super().__init__()
        # A signal handler may interrupt a put or a get, and puts as well. Never waited for.
        self._messages = queue.SimpleQueue()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._caught: tuple[signal.Signals, ...] = ()
        self._close_pipe = weakref.finalize(self, _close_all, self._reader, self._writer)
        # Held while the pipe is written to or closed.
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def catch_signals(self, numbers: Iterable[signal.Signals]) -> None:
        """Put these signals into the inbox from now on; only the main thread may call this."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._caught = tuple(numbers)
        for number in self._caught:
            signal.signal(number, self._on_signal)

    def put(self, message: Message | signal.Signals) -> None:
        """Put a message, and wake the main thread."""
        super().put(message)
        # A full pipe wakes the reader just as well.
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._close_pipe.alive:
                os.write(self._writer, b"\0")

    def get(self, timeout: float) -> Message | signal.Signals | None:
        """Return the next message or signal, or None after ``timeout`` seconds without one."""
        deadline = time.monotonic() + timeout
        while (message := super().get(0.0)) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0.0:
                return None
            self._poll.poll(remaining * 1000.0)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        return message

    def close(self) -> None:
        """Ignore the caught signals, since the exit status is decided, and close the pipe.

        Other threads may still put messages, which are not read any more.
        """
        if self._caught:
            signal.set_wakeup_fd(-1)
        for number in self._caught:
            signal.signal(number, signal.SIG_IGN)
        with self._lock:
            self._close_pipe()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._messages.put(signal.Signals(number))


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
