"""The daemon's side of pylsyncctl: a socket at which it answers one line with another.

Whatever comes, the daemon goes on: who is silent, slow or talks nonsense is cut off, and who comes
when there are too many is told so.
"""

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pylsyncd.control import protocol
from pylsyncd.control.protocol import MAX_REQUEST_BYTES, ControlRequest, ProtocolError
from pylsyncd.model.errors import PylsyncdError
from pylsyncd.model.status import Status
from pylsyncd.model.status_json import encode_status
from pylsyncd.system.threads import SupervisedThread
from pylsyncd.system.unix_sockets import ControlSocket, peer_uid

log = logging.getLogger(__name__)

_CHUNK = 4096
# Seconds: for those that are served when the daemon stops, and before another try to accept.
_GRACE = 1.0
_PAUSE = 1.0

_Answer = Mapping[str, object]


class ControlCommands(Protocol):
    """What can be asked of the daemon. Called by any thread, and by several at a time.

    ``names`` are those of destinations, and all where there are none. Raises UsageError for a name
    that there is none of.
    """

    def status(self) -> Status:
        """Return how everything stands."""

    def flush(self, names: Sequence[str]) -> None:
        """Send what has changed, without waiting for the windows to end."""

    def sync(self, names: Sequence[str]) -> None:
        """Begin a full sync."""

    def pause(self, names: Sequence[str]) -> None:
        """Run nothing until it is resumed; changes are still collected."""

    def resume(self, names: Sequence[str]) -> None:
        """End a pause."""

    def release(self, names: Sequence[str]) -> None:
        """Do, once, what is held."""

    def wait(
        self, names: Sequence[str], timeout: float, is_given_up: Callable[[], bool]
    ) -> Sequence[str]:
        """Flush, and return when all that has changed until now is confirmed.

        That takes at most so many seconds, and less if ``is_given_up()`` tells that nobody waits
        any more; returns the names that were not confirmed by then.
        """

    def set_level(self, level: str) -> None:
        """Log from this level on; raises UsageError when there is none of this name."""

    def reload(self) -> None:
        """Read the configuration anew; raises UsageError when it has faults."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What the clients may take; the times are in seconds."""

    max_connections: int = 64
    max_waits: int = 32
    """Of these, so that there is always one for a status."""
    line_timeout: float = 10.0
    """For a request to come, from its first to its last byte, or for an answer to be taken."""


class ControlServer(SupervisedThread):
    """Listens to pylsyncctl. Making it makes the socket: after a fork, which the name may tell.

    ``path`` is the socket, or a directory with a slash at the end, in which it is called by the
    pid. Raises UsageError when it cannot be made.
    """

    def __init__(
        self,
        path: str,
        commands: ControlCommands,
        failed: Callable[[str], None],
        limits: ClientLimits | None = None,
    ) -> None:
        super().__init__("control", failed)
        self._limits = limits or ClientLimits()
        self._serving = _RequestHandler(commands, self._limits)
        self._user = os.geteuid()
        # Of the control thread, until that has ended.
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._end = threading.Event()
        self._is_told = False
        self._listener = ControlSocket(path)
        self.path = self._listener.path

    def work(self) -> None:
        """Take connections until stopped, a thread for each."""
        while not self._end.is_set():
            try:
                with self.activity.waiting():
                    connection = self._listener.socket.accept()[0]
            except OSError as error:
                self._refused(error)
                continue
            self._is_told = False
            self._take(connection)

    def stop(self) -> None:
        """Take no more connections, end those that there are, and remove the socket."""
        self._end.set()
        with suppress(OSError):
            self._listener.socket.shutdown(socket.SHUT_RDWR)
        if self.is_alive():
            self.join()
        self._listener.close()
        for connection in self._clients.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _GRACE
        for thread in self._clients:
            # Who waits for what the daemon does not do any more ends with the process.
            thread.join(max(0.0, deadline - time.monotonic()))

    def _refused(self, error: OSError) -> None:
        """Go on after a connection could not be taken: for lack of descriptors, most likely."""
        if self._end.is_set():
            return
        if not self._is_told:
            self._is_told = True
            log.warning(
                "No connection of pylsyncctl can be taken: %s. It is tried again.", error.strerror
            )
        self._end.wait(_PAUSE)

    def _take(self, connection: socket.socket) -> None:
        connection.settimeout(self._limits.line_timeout)
        refusal = self._refusal(connection)
        if not refusal:
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="control client", daemon=True
            )
            try:
                thread.start()
                self._clients[thread] = connection
            except RuntimeError:  # There can be no more threads.
                refusal = "pylsyncd has no room for another thread: try again later."
        if refusal:
            # Nobody waits here for one who does not read.
            connection.settimeout(0.0)
            _send(connection, {"error": refusal})
            connection.close()

    def _refusal(self, connection: socket.socket) -> str:
        """Return why a connection is not served; empty when it is."""
        if peer_uid(connection) not in {0, self._user}:
            return f"Only root and the user id {self._user} may command this pylsyncd."
        for thread in [thread for thread in self._clients if not thread.is_alive()]:
            del self._clients[thread]
        if len(self._clients) < self._limits.max_connections:
            return ""
        return (
            f"This pylsyncd serves {self._limits.max_connections} connections already: try "
            "again later."
        )

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._serving.serve(connection)
        except OSError:
            pass  # It has gone, or does not take its answer.
        except Exception:
            log.exception("A command failed. This is a bug in pylsyncd: please report it.")
        finally:
            connection.close()


class _RequestHandler:
    """Answers the requests of one client or of several."""

    def __init__(self, commands: ControlCommands, limits: ClientLimits) -> None:
        self._limits = limits
        self._waits = threading.BoundedSemaphore(limits.max_waits)
        self._commands = commands
        self._done: Mapping[str, Callable[[ControlRequest], None]] = {
            "flush": lambda asked: commands.flush(asked.names),
            "sync": lambda asked: commands.sync(asked.names),
            "pause": lambda asked: commands.pause(asked.names),
            "resume": lambda asked: commands.resume(asked.names),
            "release": lambda asked: commands.release(asked.names),
            "log-level": lambda asked: commands.set_level(asked.level),
            "reload": lambda _: commands.reload(),
        }

    def serve(self, connection: socket.socket) -> None:
        """Answer until the client ends, falls silent or is not understood; raises OSError."""
        lines = _RequestReader(connection, self._limits.line_timeout)
        try:
            while (line := lines.next()) is not None:
                asked = protocol.decode_request(line)
                if not _send(connection, self._answer(asked, partial(_has_left, connection))):
                    return
        except ProtocolError as error:
            _send(connection, {"error": str(error)})

    def _answer(self, asked: ControlRequest, has_left: Callable[[], bool]) -> _Answer:
        try:
            if asked.command == "status":
                return {"status": encode_status(self._commands.status())}
            if asked.command == "wait":
                return self._wait(asked, has_left)
            self._done[asked.command](asked)
        except PylsyncdError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("A command failed. This is a bug in pylsyncd: please report it.")
            return {"error": "The command failed. This is a bug in pylsyncd: see its log."}
        return {}

    def _wait(self, asked: ControlRequest, has_left: Callable[[], bool]) -> _Answer:
        if not self._waits.acquire(blocking=False):
            return {"error": f"{self._limits.max_waits} wait for this pylsyncd already: end some."}
        try:
            late = self._commands.wait(asked.names, asked.timeout, has_left)
        finally:
            self._waits.release()
        return {"late": list(late)}


class _RequestReader:
    """Cuts what a client sends into lines, each in its time."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._begun = bytearray()

    def next(self) -> bytes | None:
        """Return the next line; None at the end, or when it has not come in time.

        Raises ProtocolError when it is too long.
        """
        deadline = time.monotonic() + self._seconds
        searched = 0
        while (end := self._begun.find(b"\n", searched)) < 0:
            searched = len(self._begun)
            if searched >= MAX_REQUEST_BYTES:
                raise ProtocolError(f"A request must not be longer than {MAX_REQUEST_BYTES} bytes.")
            # From its first byte to its last: or one byte now and then would do for ever.
            left = deadline - time.monotonic()
            if left <= 0.0:
                return None
            self._connection.settimeout(left)
            try:
                chunk = self._connection.recv(_CHUNK)
            except TimeoutError:
                return None
            if not chunk:
                return None
            self._begun += chunk
        line = bytes(self._begun[:end])
        del self._begun[: end + 1]
        self._connection.settimeout(self._seconds)
        return line


def _send(connection: socket.socket, answer: _Answer) -> bool:
    """Send an answer and tell whether that was possible in time."""
    try:
        connection.sendall(protocol.encode_answer(answer))
    except OSError:
        return False
    return True


def _has_left(connection: socket.socket) -> bool:
    """Tell whether a client has closed its end: it wants no answer any more."""
    asked = select.poll()
    asked.register(connection, select.POLLRDHUP)
    return bool(asked.poll(0))
