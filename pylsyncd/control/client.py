"""The client of the control socket: sends requests to daemons, to several at a time."""

import contextlib
import os
import time
from collections.abc import Mapping
from types import TracebackType

from pylsyncd.control import protocol
from pylsyncd.control.protocol import (
    MAX_ANSWER_BYTES,
    ControlRequest,
    NoDaemonError,
    NotPermittedError,
    ProtocolError,
)
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError
from pylsyncd.model.formatting import printable
from pylsyncd.system.unix_sockets import connect

ANSWER_TIMEOUT = 20.0
"""Seconds that a daemon has to answer."""

CHECK_TIMEOUT = 5.0
"""The same for a monitoring plugin, which its system ends after ten."""

HOW_TO_BE_PERMITTED = (
    "run this as the user of that pylsyncd or as root, with sudo, or read its status file with "
    "status --file"
)

_READ_SIZE = 1 << 16


class NoAnswerError(PylsyncdError):
    """A daemon may be running, but it does not answer."""


class AnswerTimeoutError(NoAnswerError):
    """A daemon is running, and does not answer in time."""


class PendingRequest:
    """A request that was sent and is not answered yet, so that several daemons work at a time.

    Raises NoDaemonError if no process listens at the socket, NotPermittedError if the user may not
    use it, and NoAnswerError if it cannot be reached.
    """

    def __init__(
        self,
        path: str,
        request: ControlRequest,
        timeout: float = ANSWER_TIMEOUT,
        connect_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.path = path
        self._shown_path = paths.printable(os.fsencode(path))
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        line = protocol.encode_request(request)
        try:
            self._connection = connect(path, min(timeout, connect_timeout))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemonError(
                f"No pylsyncd listens at {self._shown_path}: start it, or name its socket with "
                "--socket."
            ) from None
        except OSError as error:
            raise self._unreachable_error(error) from error
        # A daemon that refuses the connection may send its reason and close before it reads.
        with contextlib.suppress(OSError):
            self._connection.sendall(line)

    def __enter__(self) -> "PendingRequest":  # noqa: PYI034  # typing.Self needs Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def wait_for_answer(self) -> Mapping[str, object]:
        """Return the answer; raises NoAnswerError without one, ProtocolError if it is an error."""
        try:
            return protocol.decode_answer(self._read_line())
        except ProtocolError as error:
            # Each error of a configuration file is a line of its own.
            message = "\n".join(map(printable, str(error).splitlines()))
            raise ProtocolError(f"{message} (pylsyncd at {self._shown_path})") from None
        except TimeoutError:
            raise AnswerTimeoutError(
                f"The pylsyncd at {self._shown_path} has not answered for {self._timeout:.0f} "
                "seconds: see its log."
            ) from None
        except OSError as error:
            raise NoAnswerError(self._incomplete_message(error.strerror or str(error))) from error

    def _read_line(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while not chunks or not chunks[-1].endswith(b"\n"):
            self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
            chunk = self._connection.recv(_READ_SIZE)
            size += len(chunk)
            if not chunk:
                raise NoAnswerError(self._incomplete_message("connection closed"))
            if size > MAX_ANSWER_BYTES:
                raise NoAnswerError(
                    self._incomplete_message(f"it is longer than {MAX_ANSWER_BYTES >> 20} MiB")
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _unreachable_error(self, error: OSError) -> PylsyncdError:
        if isinstance(error, PermissionError):
            return NotPermittedError(
                f"User id {os.geteuid()} may not use the socket {self._shown_path}: "
                f"{HOW_TO_BE_PERMITTED}."
            )
        if isinstance(error, TimeoutError | BlockingIOError):
            return AnswerTimeoutError(
                f"The pylsyncd at {self._shown_path} accepts no connections: see its log."
            )
        return NoAnswerError(
            f"Cannot connect to the socket {self._shown_path}: {error.strerror or error}."
        )

    def _incomplete_message(self, reason: str) -> str:
        return (
            f"The answer of the pylsyncd at {self._shown_path} is incomplete ({reason}): check "
            "that it is still running, and see its log."
        )


def send_request(
    path: str, request: ControlRequest, timeout: float = ANSWER_TIMEOUT
) -> Mapping[str, object]:
    """Return a daemon's answer; raises NoDaemonError, NoAnswerError or ProtocolError."""
    with PendingRequest(path, request, timeout) as pending:
        return pending.wait_for_answer()
