"""A small HTTP server on the loopback, which nobody can make take much of anything."""

import logging
import socket
import socketserver
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias

from pylsyncd.model.errors import UsageError

log = logging.getLogger(__name__)

LOOPBACK_ADDRESS = "127.0.0.1"

MAX_CONNECTIONS = 8
"""How many are served at a time; who comes then is turned away, and the oldest one is cut off."""

# Seconds that one may be silent.
_SILENCE = 10.0

_Request: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"


class MetricsServer(socketserver.TCPServer):
    """Listens from its making on; serves who has connected at each ``handle_request``."""

    # Nobody waits for the connections of a predecessor to be forgotten.
    allow_reuse_address = True
    request_queue_size = 32
    timeout = 0

    def __init__(self, port: int, option: str, handler: type[BaseHTTPRequestHandler]) -> None:
        """Listen at a port, 0 for any; raises UsageError, which names ``option`` as the cure."""
        self._served: dict[socket.socket, None] = {}
        self._threads: list[threading.Thread] = []
        # Held by whoever closes a connection, or cuts it off: its number is another one's after.
        self._lock = threading.Lock()
        try:
            super().__init__((LOOPBACK_ADDRESS, port), handler)
        except OSError as error:
            raise UsageError(
                f"Port {port} of {LOOPBACK_ADDRESS} cannot be listened at: {error.strerror}. "
                f"Name another one with {option}, or end who uses it."
            ) from error
        # Somebody may hang up between the kernel's word and the acceptance.
        self.socket.settimeout(0.0)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection in a thread of its own, or turn it away."""
        connection = _connection(request)
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._served) >= MAX_CONNECTIONS:
                _cut_off(next(iter(self._served)))
                self.close_request(connection)
                return
            thread = threading.Thread(
                target=self._serve, args=(connection, client_address), name="metrics", daemon=True
            )
            thread.start()
            self._served[connection] = None
            self._threads.append(thread)

    def handle_error(self, request: _Request, client_address: object) -> None:  # noqa: ARG002  # the library's signature
        """Say that a connection could not be served, for lack of threads."""
        log.warning("A request for metrics could not be served.")

    def close(self) -> None:
        """Cut off all that is served, and listen no more."""
        with self._lock:
            for connection in self._served:
                _cut_off(connection)
        for thread in self._threads:
            thread.join(_SILENCE)
        self.server_close()

    def _serve(self, connection: socket.socket, client_address: object) -> None:
        connection.settimeout(_SILENCE)
        try:
            self.finish_request(connection, client_address)
        except OSError:
            log.debug("a request for metrics broke off", exc_info=True)
        except Exception:
            log.exception("A request for metrics failed. Please report this.")
        finally:
            with self._lock:
                self._served.pop(connection, None)
                self.shutdown_request(connection)


def _connection(request: _Request) -> socket.socket:
    """Return the connection; only a server for datagrams gets anything else."""
    return request if isinstance(request, socket.socket) else request[1]


def _cut_off(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
