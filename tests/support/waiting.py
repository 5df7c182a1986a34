"""Waiting for a condition, with a deadline instead of a fixed sleep."""

import time
from collections.abc import Callable

POLL_INTERVAL = 0.01
DEADLINE = 45.0
"""Seconds: long for a busy machine, but shorter than a window and a poll interval by default."""


def wait_until(
    condition: Callable[[], object],
    seconds: float = DEADLINE,
    message: str | Callable[[], str] = "",
    interval: float = POLL_INTERVAL,
) -> None:
    """Return as soon as ``condition()`` is true; fail with the message after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            shown = message() if callable(message) else message
            raise AssertionError(f"not true within {seconds:g} s: {shown or condition}")
        time.sleep(interval)
