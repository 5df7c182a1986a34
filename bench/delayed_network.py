"""A proxy on the loopback that delays what passes, like the line to a distant host.

(A network namespace with netem would do the same, but many kernels lack its module.)
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections import deque

LOOPBACK = "127.0.0.1"
_CHUNK = 1 << 16


class _Direction:
    """What is on its way from one socket to another."""

    def __init__(self, origin: socket.socket, target: socket.socket) -> None:
        self.origin = origin
        self.target = target
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.is_ended = False

    def receive(self, delay: float) -> None:
        """Take what has been sent."""
        try:
            data = self.origin.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.chunks.append((time.monotonic() + delay, data))
        self.size += len(data)
        self.is_ended = not data

    def deliver(self, now: float) -> float | None:
        """Pass on what is due; return when more will be, None if nothing waits for that."""
        while self.chunks:
            due_at, data = self.chunks[0]
            if due_at > now:
                return due_at
            if not data:
                with contextlib.suppress(OSError):
                    self.target.shutdown(socket.SHUT_WR)
                self.chunks.popleft()
                continue
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                return now + 0.001
            except OSError:
                self.is_ended = True
                self.chunks.clear()
                return None
            self.size -= sent
            self.chunks[0] = due_at, data[sent:]
            if sent == len(data):
                self.chunks.popleft()
        return None


class _Proxy:
    def __init__(self, listener: socket.socket, port: int, delay: float, window: int) -> None:
        self._listener = listener
        self._port = port
        self._delay = delay
        self._window = window
        self._directions: list[_Direction] = []

    def serve(self) -> None:
        while True:
            self._wait()
            now = time.monotonic()
            for direction in self._directions:
                direction.deliver(now)
            self._directions = [
                each for each in self._directions if each.chunks or not each.is_ended
            ]

    def _wait(self) -> None:
        now = time.monotonic()
        due = [each.chunks[0][0] for each in self._directions if each.chunks]
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            for each in self._directions:
                if not each.is_ended and each.size < self._window:
                    selector.register(each.origin, selectors.EVENT_READ, each)
            timeout = max(0.0005, min(due) - now) if due else None
            for key, _ in selector.select(timeout):
                if key.data is None:
                    self._accept()
                else:
                    key.data.receive(self._delay)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection((LOOPBACK, self._port))
        for each in (near, far):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._directions += [_Direction(near, far), _Direction(far, near)]


class DelayedPort:
    """A port whose connections lead to another one, through a process that delays the data."""

    def __init__(self, port: int, round_trip: float, window: int) -> None:
        """Delay by half a round trip, in seconds, with up to ``window`` bytes on their way."""
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._arguments = port, round_trip / 2, window
        self._pid = 0

    def __enter__(self) -> "DelayedPort":  # noqa: PYI034 - Self is younger than Python 3.10
        """Start the process."""
        self._pid = os.fork()
        if not self._pid:
            try:
                _Proxy(self._listener, *self._arguments).serve()
            finally:
                os._exit(1)
        self._listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
