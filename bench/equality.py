"""Waiting until destinations are equal to their source, without costing much meanwhile."""

import os
import time
from collections import Counter
from collections.abc import Sequence

from measure import POLL_SECONDS, Failed, Idleness
from peers import Program
from trees import differences

SAMPLES = 40
PATIENCE_SECONDS = 4.0
"""Idle for so long after the window, a daemon will not make the trees equal any more."""


def wait_equal(  # noqa: PLR0913, PLR0917 - all of them say what is waited for
    program: Program,
    source: str,
    copies: Sequence[str],
    names: Sequence[bytes],
    window_seconds: float,
    deadline: float,
) -> float:
    """Return the moment (monotonic) at which all copies were equal, to a poll's accuracy.

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
        if right and not wrong_text(source, copies):
            return moment
        program.check()
        if idleness.seconds() > window_seconds + PATIENCE_SECONDS:
            raise Failed(f"{wrong_text(source, copies)} when idle")
        if moment > deadline:
            raise Failed(f"{wrong_text(source, copies)} at the deadline")
        time.sleep(0.2 if right else POLL_SECONDS)


def wrong_text(source: str, copies: Sequence[str]) -> str:
    """Return how many paths differ in any copy, and in what; nothing when all are equal."""
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
    return found.st_mode, found.st_mtime_ns
