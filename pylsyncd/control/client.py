"""The client's side of the control socket: asks daemons, one or several at a time."""

import contextlib
import os
import time
from collections.abc import Mapping
from types import TracebackType

from pylsyncd.control import protocol
from pylsyncd.control.protocol import MAX_ANSWER_BYTES, ControlRequest, NoDaemonError, ProtocolError
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError
from pylsyncd.model.formatting import printable
from pylsyncd.system.unix_sockets import connect

ANSWER_TIMEOUT = 20.0
"""Seconds that a daemon has for an answer."""

_CHUNK = 1 << 16


class NoAnswerError(PylsyncdError):
    """A daemon is there, and there is no answer from it."""


class PendingRequest:
    """A request on its way, so that several daemons can work at a time.

    Raises AbsentError when nobody listens at the path, SilentError when there may be somebody.
    """

    def __init__(
        self, path: str, request: ControlRequest, patience: float = ANSWER_TIMEOUT
    ) -> None:
        self.path = path
        self._shown = paths.printable(os.fsencode(path))
        self._patience = patience
        self._deadline = time.monotonic() + patience
        line = protocol.encode_request(request)
        try:
            self._connection = connect(path, ANSWER_TIMEOUT)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemonError(
                f"No pylsyncd listens at {self._shown}: see that it runs, and that this is its "
                "socket."
            ) from None
        except OSError as error:
            raise NoAnswerError(self._unreachable(error)) from error
        # It may refuse, and say why, before it has read anything.
        with contextlib.suppress(OSError):
            self._connection.sendall(line)

    def __enter__(self) -> "PendingRequest":  # noqa: PYI034  # typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def wait_for_answer(self) -> Mapping[str, object]:
        """Return the answer; raises SilentError without one, ProtocolError for a refusal."""
        try:
            return protocol.decode_answer(self._line())
        except ProtocolError as error:
            # The faults of a configuration have a line each.
            told = "\n".join(map(printable, str(error).splitlines()))
            raise ProtocolError(f"{told} (pylsyncd at {self._shown})") from None
        except TimeoutError:
            raise NoAnswerError(
                f"The pylsyncd at {self._shown} has not answered for {self._patience:.0f} seconds: "
                "see its log."
            ) from None
        except OSError as error:
            raise NoAnswerError(self._broken(error.strerror or str(error))) from error

    def _line(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while not chunks or not chunks[-1].endswith(b"\n"):
            self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
            chunk = self._connection.recv(_CHUNK)
            size += len(chunk)
            if not chunk or size > MAX_ANSWER_BYTES:
                raise NoAnswerError(self._broken("it ended" if not chunk else "it is endless"))
            chunks.append(chunk)
        return b"".join(chunks)

    def _unreachable(self, error: OSError) -> str:
        if isinstance(error, PermissionError):
            return (
                f"The socket {self._shown} is not for the user id {os.geteuid()}: run this as the "
                "user of that pylsyncd, or as root."
            )
        if isinstance(error, TimeoutError | BlockingIOError):
            return f"The pylsyncd at {self._shown} takes no connections: see its log."
        return f"The socket {self._shown} cannot be reached: {error.strerror or error}."

    def _broken(self, reason: str) -> str:
        return (
            f"The pylsyncd at {self._shown} broke off before its answer was complete ({reason}): "
            "see whether it still runs, and its log."
        )


def send_request(
    path: str, request: ControlRequest, patience: float = ANSWER_TIMEOUT
) -> Mapping[str, object]:
    """Return a daemon's answer; raises AbsentError, SilentError or ProtocolError."""
    with PendingRequest(path, request, patience) as asking:
        return asking.wait_for_answer()
