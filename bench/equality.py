"""Waits cheaply until destinations equal their source."""

import os
import time
from collections import Counter
from collections.abc import Sequence

from measure import POLL_SECONDS, Idleness, MeasurementFailed
from peers import Program
from trees import differences

SAMPLES = 40
IDLE_TIMEOUT_SECONDS = 4.0
"""A daemon that is idle for so long after the window has failed to make the trees equal."""


def wait_equal(  # noqa: PLR0913, PLR0917 - all of them describe the condition
    program: Program,
    source: str,
    copies: Sequence[str],
    names: Sequence[bytes],
    window_seconds: float,
    deadline: float,
) -> float:
    """Return the monotonic time at which all copies were equal, to the accuracy of a poll.

    A sample of the names that have to change is looked at often, whole trees only when that is
    right. Raises ``Failed`` with what is wrong when the program has died or settled, or at the
    deadline.
    """
    step = max(1, len(names) // SAMPLES)
    sample = [name[2:].rstrip(b"/") for name in [*names[::step], *names[-1:]]]
    idleness = Idleness(program.pid)
    while True:
        moment = time.monotonic()
        right = all(_alike(source, path, sample) for path in copies)
        if right and not differences_text(source, copies):
            return moment
        program.check()
        if idleness.seconds() > window_seconds + IDLE_TIMEOUT_SECONDS:
            raise MeasurementFailed(f"{differences_text(source, copies)} when idle")
        if moment > deadline:
            raise MeasurementFailed(f"{differences_text(source, copies)} at the deadline")
        time.sleep(0.2 if right else POLL_SECONDS)


def differences_text(source: str, copies: Sequence[str]) -> str:
    """Return how many paths differ in the copies, and how; empty if all are equal."""
    wrong: dict[bytes, str] = {}
    for path in copies:
        wrong.update(_wrong(os.fsencode(source), os.fsencode(path)))
    if not wrong:
        return ""
    kinds = Counter(wrong.values())
    return f"{len(wrong)} wrong (" + ", ".join(f"{n} {kind}" for kind, n in kinds.items()) + ")"


def _wrong(source: bytes, destination: bytes) -> dict[bytes, str]:
    try:
        return dict(differences(source, destination))
    except OSError as error:  # what is being deleted under our eyes is not equal yet
        return {os.fsencode(error.filename): "names"}


def _alike(source: str, destination: str, sample: Sequence[bytes]) -> bool:
    return all(
        _look(os.fsencode(source), path) == _look(os.fsencode(destination), path) for path in sample
    )


def _look(root: bytes, path: bytes) -> tuple[int, ...] | None:
    try:
        found = os.lstat(os.path.join(root, path))
    except OSError:
        return None
    return found.st_mode, found.st_uid, found.st_mtime_ns
