"""Stops workers that do not end by themselves in time."""

import logging
import signal
import time
from collections.abc import Callable, Collection
from functools import partial

from pylsyncd.system.processes import terminate
from pylsyncd.system.threads import join_all
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

# Seconds from SIGTERM to SIGKILL, and to the end of the daemon without a worker that waits for a
# file system that does not respond.
_KILL_AFTER = 2.0
_GIVE_UP_AFTER = 7.0

_JOIN_INTERVAL = 0.05

# Seconds between two looks for a request to stop, while workers end by themselves. With --once that
# is the whole sync.
_REQUEST_CHECK_INTERVAL = 0.25


def wait_for_end(
    workers: Collection[Worker], grace: float, is_stop_requested: Callable[[], bool]
) -> None:
    """Wait for workers, and stop them after ``grace`` seconds or if ``is_stop_requested()``."""
    deadline = time.monotonic() + grace
    while living := [worker for worker in workers if worker.is_alive()]:
        living[0].join(min(_REQUEST_CHECK_INTERVAL, grace))
        if is_stop_requested() or time.monotonic() >= deadline:
            stop_now(living)
            break


def stop_now(workers: Collection[Worker]) -> None:
    """Stop the workers and the rsyncs that they still run."""

    def send_signal(number: signal.Signals) -> None:
        for worker in workers:
            if worker.is_alive():
                worker.abort(number)

    if not terminate(
        send_signal, partial(join_all, workers),
        kill_after=_KILL_AFTER, give_up_after=_GIVE_UP_AFTER, interval=_JOIN_INTERVAL,
    ):  # fmt: skip
        names = ", ".join(worker.name for worker in workers if worker.is_alive())
        log.error("Shutdown timed out; still running: %s.", names)
