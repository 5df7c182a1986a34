"""The daemon's side of the control socket: a thread for each client, which answers its requests.

A client that is silent, slow or sends garbage is disconnected; one too many gets an error.
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
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.model.status import Status, WaitResult
from pylsyncd.model.status_json import encode_status
from pylsyncd.system.threads import SupervisedThread, join_all
from pylsyncd.system.unix_sockets import ControlSocket, peer_uid

log = logging.getLogger(__name__)

_READ_SIZE = 4096
# Seconds.
_CLIENTS_STOP_TIMEOUT = 1.0
_ACCEPT_RETRY_DELAY = 1.0

# Seconds that a new client waits at the limit for the threads of clients that have left: on a busy
# machine these end later.
_LEFT_CLIENTS_TIMEOUT = 1.0

_Answer = Mapping[str, object]


class ControlCommands(Protocol):
    """The commands that the daemon accepts. Called by several threads at a time.

    ``names`` are names of destinations; empty for all. Raises UsageError for an unknown name.
    """

    def status(self) -> Status:
        """Return the status of the daemon."""

    def flush(self, names: Sequence[str]) -> None:
        """Send collected changes now, before the window ends."""

    def sync(self, names: Sequence[str]) -> None:
        """Start a full sync."""

    def pause(self, names: Sequence[str]) -> None:
        """Start no rsync until resumed; changes are still collected."""

    def resume(self, names: Sequence[str]) -> None:
        """End a pause."""

    def release(self, names: Sequence[str]) -> None:
        """Carry out what is held, once."""

    def wait(
        self, names: Sequence[str], timeout: float, is_cancelled: Callable[[], bool]
    ) -> WaitResult:
        """Flush, and wait until all changes up to now are confirmed, except for what is set aside.

        Returns what is not confirmed then, or after ``timeout`` seconds, or when ``is_cancelled()``
        becomes true.
        """

    def set_level(self, level: str) -> None:
        """Set the log level; raises UsageError for an unknown one."""

    def level(self) -> str:
        """Return the log level."""

    def reload(self) -> None:
        """Reload the configuration file; raises UsageError if it has errors."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits for clients."""

    max_connections: int = 64
    max_waits: int = 32
    """How many of the connections may wait, so that some are left for the status."""
    line_timeout: float = 10.0
    """Seconds to receive a request, from its first to its last byte, or to send an answer."""
    socket_check_interval: float = 5.0
    """Seconds between two looks whether the socket is still at its path."""


class ControlServer(SupervisedThread):
    """The control socket and the thread that accepts its clients.

    ``path`` is the socket, or a directory with a slash at the end, in which the socket is named
    after the pid: so create this after the fork. Raises UsageError if the socket cannot be created.
    """

    def __init__(
        self,
        path: str,
        commands: ControlCommands,
        on_failed: Callable[[str], None],
        limits: ClientLimits | None = None,
    ) -> None:
        super().__init__("control", on_failed)
        self._limits = limits or ClientLimits()
        self._handler = _RequestHandler(commands, self._limits)
        self._uid = os.geteuid()
        # Used by this thread alone until it has ended.
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._stop_requested = threading.Event()
        self._has_logged_error = False
        self._has_logged_loss = False
        self._listener = ControlSocket(path)
        self._listener.socket.settimeout(0.0)
        self.path = self._listener.path
        self._shown_path = paths.printable(os.fsencode(self.path))

    def work(self) -> None:
        """Accept connections until stopped."""
        while not self._stop_requested.is_set():
            try:
                with self.activity.waiting():
                    connection = self._accept()
            except OSError as error:
                self._wait_after(error)
                continue
            if connection is None:
                self._restore_socket()
                continue
            self._has_logged_error = False
            self._serve(connection)

    def _accept(self) -> socket.socket | None:
        """Return the next connection; None if there was none until the socket is to be checked.

        accept(2) has no timeout, and Python's would not end at the stop: it polls and accepts in a
        loop, while a listening socket that was shut down is always ready and never accepts.
        """
        poll = select.poll()
        poll.register(self._listener.socket, select.POLLIN)
        if (
            not poll.poll(self._limits.socket_check_interval * 1000)
            or self._stop_requested.is_set()
        ):
            return None
        # The client may have left meanwhile.
        with suppress(BlockingIOError):
            return self._listener.socket.accept()[0]
        return None

    def stop(self) -> None:
        """Accept no more connections, close those that are open, and remove the socket."""
        self._stop_requested.set()
        with suppress(OSError):
            self._listener.socket.shutdown(socket.SHUT_RDWR)
        if self.is_alive():
            self.join()
        self._listener.close()
        for connection in self._clients.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # A daemon thread that is still busy after this ends with the process.
        join_all(self._clients, _CLIENTS_STOP_TIMEOUT)

    def _restore_socket(self) -> None:
        """Create the socket again if it, or its directory, was removed."""
        if self._stop_requested.is_set() or self._listener.is_in_place:
            return
        lost = self._listener
        try:
            created = ControlSocket(self.path)
        except (UsageError, OSError) as error:
            if not self._has_logged_loss:
                self._has_logged_loss = True
                log.warning(
                    "The control socket %s was removed, so that pylsyncctl does not find this "
                    "pylsyncd: %s Retrying.",
                    self._shown_path, str(error).rstrip(".") + ".",
                )  # fmt: skip
            return
        created.socket.settimeout(0.0)
        # In this order, because stop() requests the stop before it looks for the listener.
        self._listener = created
        lost.close()
        self._has_logged_loss = False
        log.warning("The control socket %s was removed, and is created again.", self._shown_path)

    def _wait_after(self, error: OSError) -> None:
        """Pause after a failed accept, which mostly means that descriptors ran out."""
        if self._stop_requested.is_set():
            return
        if not self._has_logged_error:
            self._has_logged_error = True
            log.warning("Cannot accept a connection of pylsyncctl: %s. Retrying.", error.strerror)
        self._stop_requested.wait(_ACCEPT_RETRY_DELAY)

    def _serve(self, connection: socket.socket) -> None:
        """Start a thread for a connection, or refuse it."""
        connection.settimeout(self._limits.line_timeout)
        refusal = self._refusal(connection)
        if not refusal:
            thread = threading.Thread(
                target=self._handler.run, args=(connection,), name="control client", daemon=True
            )
            try:
                thread.start()
                self._clients[thread] = connection
            except RuntimeError:
                refusal = "pylsyncd cannot start another thread: try again later."
        if refusal:
            # A client that does not read must not block this thread.
            connection.settimeout(0.0)
            _send(connection, {"error": refusal})
            connection.close()

    def _forget_ended(self) -> None:
        for thread in [thread for thread in self._clients if not thread.is_alive()]:
            del self._clients[thread]

    def _refusal(self, connection: socket.socket) -> str:
        """Return why a connection is refused; empty if it is not."""
        if peer_uid(connection) not in {0, self._uid}:
            return f"Only root and user id {self._uid} may control this pylsyncd."
        limit = self._limits.max_connections
        self._forget_ended()
        if len(self._clients) >= limit:
            left = [thread for thread, each in self._clients.items() if _has_left(each)]
            join_all(left, _LEFT_CLIENTS_TIMEOUT)
            self._forget_ended()
        if len(self._clients) < limit:
            return ""
        return f"This pylsyncd already has {limit} open connections: try again later."


class _RequestHandler:
    """The answers to requests; used by the threads of all clients."""

    def __init__(self, commands: ControlCommands, limits: ClientLimits) -> None:
        self._limits = limits
        self._wait_slots = threading.BoundedSemaphore(limits.max_waits)
        self._commands = commands
        self._handlers: Mapping[str, Callable[[ControlRequest], None]] = {
            "flush": lambda request: commands.flush(request.names),
            "sync": lambda request: commands.sync(request.names),
            "pause": lambda request: commands.pause(request.names),
            "resume": lambda request: commands.resume(request.names),
            "release": lambda request: commands.release(request.names),
            "log-level": lambda request: commands.set_level(request.level),
            "reload": lambda _: commands.reload(),
        }

    def run(self, connection: socket.socket) -> None:
        """Answer a client until it disconnects, times out or sends garbage; then close."""
        try:
            self._answer_all(connection)
        except OSError:
            pass  # The client has gone, or does not read its answer.
        except Exception:
            log.exception("A command failed. This is a bug in pylsyncd: please report it.")
        finally:
            connection.close()

    def _answer_all(self, connection: socket.socket) -> None:
        reader = _RequestReader(connection, self._limits.line_timeout)
        try:
            while (line := reader.read_line()) is not None:
                request = protocol.decode_request(line)
                if not _send(connection, self._answer(request, partial(_is_closed, connection))):
                    return
        except ProtocolError as error:
            _send(connection, {"error": str(error)})

    def _answer(self, request: ControlRequest, is_cancelled: Callable[[], bool]) -> _Answer:
        try:
            if request.command == "status":
                return {"status": encode_status(self._commands.status())}
            if request.command == "wait":
                return self._wait(request, is_cancelled)
            if request.command == "log-level" and not request.level:
                return {"level": self._commands.level()}
            self._handlers[request.command](request)
        except PylsyncdError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("A command failed. This is a bug in pylsyncd: please report it.")
            return {"error": "The command failed. This is a bug in pylsyncd: see its log."}
        return {}

    def _wait(self, request: ControlRequest, is_cancelled: Callable[[], bool]) -> _Answer:
        if not self._wait_slots.acquire(blocking=False):
            return {
                "error": f"{self._limits.max_waits} clients already wait for this pylsyncd: "
                "interrupt one of them."
            }
        try:
            result = self._commands.wait(request.names, request.timeout, is_cancelled)
        finally:
            self._wait_slots.release()
        return {
            "late": list(result.late),
            "set_aside": encode_status(result.set_aside),
            "unverified": encode_status(result.unverified),
        }


class _RequestReader:
    """The lines that a client sends, each within a time limit."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._buffer = bytearray()

    def read_line(self) -> bytes | None:
        """Return the next line; None at the end, or if it is not complete in time.

        Raises ProtocolError if it is too long.
        """
        deadline = time.monotonic() + self._timeout
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched >= MAX_REQUEST_BYTES:
                raise ProtocolError(f"A request must not be longer than {MAX_REQUEST_BYTES} bytes.")
            # One deadline for the whole line: a byte now and then must not extend it.
            remaining = deadline - time.monotonic()
            if remaining <= 0.0:
                return None
            self._connection.settimeout(remaining)
            try:
                chunk = self._connection.recv(_READ_SIZE)
            except TimeoutError:
                return None
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._connection.settimeout(self._timeout)
        return line


def _send(connection: socket.socket, answer: _Answer) -> bool:
    """Send an answer; return True if the client took it in time."""
    try:
        connection.sendall(protocol.encode_answer(answer))
    except OSError:
        return False
    return True


def _is_closed(connection: socket.socket) -> bool:
    """Return True if the client has closed its end, and so wants no answer any more."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _has_left(connection: socket.socket) -> bool:
    """Return True if a connection is closed at either end; its thread is about to end."""
    try:
        return _is_closed(connection)
    except (OSError, ValueError):
        # The thread has closed it.
        return True
