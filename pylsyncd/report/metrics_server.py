"""A small HTTP server for metrics and the status on the loopback, with bounds for its clients.

Measured with prometheus_client 0.26, whose ``start_http_server`` has no such bounds: 200 silent
connections became 200 threads and 5 MB, none of which had ended after 15 s or after its stop; with
its backlog of 5, 500 connections at once took more than a minute. It also starts its thread in the
call that listens, and no thread survives the fork of a daemon; 0.17 returns nothing to stop.
"""

import logging
import re
import socket
import socketserver
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import TypeAlias

from pylsyncd.model.errors import UsageError
from pylsyncd.report.http_response import HttpResponse, Pages

log = logging.getLogger(__name__)

LOOPBACK_ADDRESS = "127.0.0.1"

MAX_CONNECTIONS = 8
"""Above it a new connection is closed, and so is the oldest."""

# Seconds without a byte after which a connection is closed.
_SILENCE_TIMEOUT = 10.0

# A web page in a local browser must not reach the metrics under the name of its own site.
_LOCAL_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)

METRICS_PATH = "/metrics"

# No other site may read or guess the content, and no browser keeps it.
_COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_Request: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"


class MetricsServer(socketserver.TCPServer):
    """Listens from its creation on; accepts one connection at each ``handle_request``."""

    # Connections of an earlier process in TIME_WAIT must not keep the port.
    allow_reuse_address = True
    request_queue_size = 32
    timeout = 0

    def __init__(
        self,
        port: int,
        option: str,
        metrics_handler: type[BaseHTTPRequestHandler],
        pages: Pages = MappingProxyType({}),
    ) -> None:
        """Listen on a port, 0 for any; raises UsageError, which names ``option`` as the remedy.

        ``metrics_handler`` serves the metrics, ``pages`` are what is served at other paths.
        """
        handler = type(
            "LocalHandler",
            (_LocalRequestHandler, metrics_handler),
            {"pages": MappingProxyType(pages)},
        )
        self._connections: dict[socket.socket, None] = {}
        self._threads: list[threading.Thread] = []
        # Held while a connection is closed or shut down: its descriptor is reused after that.
        self._lock = threading.Lock()
        try:
            super().__init__((LOOPBACK_ADDRESS, port), handler)
        except OSError as error:
            raise UsageError(
                f"Cannot listen on port {port} of {LOOPBACK_ADDRESS}: {error.strerror}. "
                f"Stop the process that uses it, or choose another port with {option}."
            ) from error
        # A client may disconnect after poll() has reported it and before accept().
        self.socket.settimeout(0.0)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def process_request(self, request: _Request, client_address: object) -> None:
        """Serve a connection in a thread of its own, or refuse it."""
        connection = _connection(request)
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._connections) >= MAX_CONNECTIONS:
                _shut_down(next(iter(self._connections)))
                self.close_request(connection)
                return
            thread = threading.Thread(
                target=self._serve, args=(connection, client_address), name="metrics", daemon=True
            )
            thread.start()
            self._connections[connection] = None
            self._threads.append(thread)

    def handle_error(self, request: _Request, client_address: object) -> None:  # noqa: ARG002  # signature of socketserver
        """Log that no thread could be started for a connection."""
        log.warning("Cannot serve a request for metrics: the limit of threads is reached.")

    def close(self) -> None:
        """Close the socket and all connections."""
        with self._lock:
            for connection in self._connections:
                _shut_down(connection)
        for thread in self._threads:
            thread.join(_SILENCE_TIMEOUT)
        self.server_close()

    def _serve(self, connection: socket.socket, client_address: object) -> None:
        connection.settimeout(_SILENCE_TIMEOUT)
        try:
            self.finish_request(connection, client_address)
        except OSError:
            log.debug("a request for metrics was aborted", exc_info=True)
        except Exception:
            log.exception(
                "A request for metrics failed. This is a bug in pylsyncd: please report it."
            )
        finally:
            with self._lock:
                self._connections.pop(connection, None)
                self.shutdown_request(connection)


class _LocalRequestHandler(BaseHTTPRequestHandler):
    """Answers requests for this machine: those for metrics by the class that follows it."""

    pages: Pages = MappingProxyType({})

    def parse_request(self) -> bool:
        """Return True if the request is to be answered."""
        if not super().parse_request():
            return False
        if _LOCAL_HOST.fullmatch(self.headers.get("Host", "")):
            return True
        self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        return False

    def do_GET(self) -> None:
        """Send a page, or the metrics."""
        if self.path.partition("?")[0] == METRICS_PATH:
            super().do_GET()  # type: ignore[misc]  # of the handler for metrics
        else:
            self.do_HEAD()

    def do_HEAD(self) -> None:
        """Send a page, for a HEAD request without its content."""
        path, _, query = self.path.partition("?")
        if (make_page := self.pages.get(path)) is not None:
            self._send(make_page(query))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, response: HttpResponse) -> None:
        self.send_response(response.status)
        headers = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.content)),
            **_COMMON_HEADERS,
            **response.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.content)


def _connection(request: _Request) -> socket.socket:
    """Return the connection; only datagram servers get a tuple."""
    return request if isinstance(request, socket.socket) else request[1]


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
