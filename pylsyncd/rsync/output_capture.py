"""Captures the output of a program that is not rsync, within bounds of length and time."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pylsyncd.system import processes
from pylsyncd.system.processes import GracefulStop, Process

# Bytes of its messages: for a line of the log, and with the banner that ssh shows before them.
_MAX_MESSAGES = 16_000


@dataclass(frozen=True, slots=True)
class CapturedOutput:
    """What a program has printed, and how it ended."""

    exit_status: int
    """Negative for the signal that ended it."""
    output: bytes = b""
    messages: bytes = b""
    """The beginning of its standard error."""
    has_timed_out: bool = False
    """Whether it was stopped because it took too long."""


class OutputCapture:
    """The output of a running program, which is stopped when it takes or prints too much."""

    def __init__(
        self,
        process: Process,
        send_signal: Callable[[signal.Signals], None],
        *,
        max_bytes: int,
        timeout: float,
    ) -> None:
        """Read up to ``max_bytes``, and one byte more if there are more."""
        self.output, self.messages = bytearray(), bytearray()
        self._process = process
        self._max_bytes = max_bytes
        self._deadline = time.monotonic() + timeout
        self._stop = GracefulStop(send_signal)

    @property
    def has_timed_out(self) -> bool:
        """Whether the program was stopped because it took too long."""
        return self._stop.is_requested and len(self.output) <= self._max_bytes

    def wait(self) -> None:
        """Return when the program has ended."""
        readers = {}
        for stream, kept, limit in (
            (self._process.stdout, self.output, self._max_bytes + 1),
            (self._process.stderr, self.messages, _MAX_MESSAGES),
        ):
            if stream is not None:
                readers[stream.fileno()] = partial(_keep, kept, limit)
        processes.read_until_exit(self._process, readers, self._check)

    def _check(self) -> float:
        """Stop a program that has taken or printed too much; return the seconds until the next."""
        if self._stop.is_requested:
            return self._stop.kill_if_due()
        left = self._deadline - time.monotonic()
        if left <= 0 or len(self.output) > self._max_bytes:
            self._stop.request()
            return self._stop.kill_if_due()
        return left


def _keep(kept: bytearray, limit: int, chunk: bytes) -> None:
    kept += chunk[: limit - len(kept)]
