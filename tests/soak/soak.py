"""Soak: paced churn for long, while what the daemon holds is sampled; it has to stay flat.

``python -m soak.soak --seconds 1800`` prints a table and exits 1 when something grew, or
when a copy is not equal in the end.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from support import processes
from support.daemon import Pylsyncd
from support.destinations import Destination, local, on_rsync_daemon
from support.processes import ResourceUsage
from support.servers import RsyncDaemon, Unavailable
from support.trees import equal_within
from support.writers import Writers, numbered_logs, operations_done, work_area

SAMPLE_INTERVAL = 1.0  # seconds between two samples
WINDOW = "1"  # seconds
WRITERS = 2
# Pauses of the writers, so many times as long as the churn's: some 50 operations a second.
PACE = "5"
EQUALITY_TIMEOUT = 60.0  # seconds
# What still counts as flat, from the second third of the time to the last.
MAX_MEMORY_GROWTH_RATIO, MAX_MEMORY_GROWTH_BYTES = 0.02, 2_000_000
MAX_COUNT_GROWTH = 2
MAX_TABLE_ROWS = 12


class Sample(NamedTuple):
    """What the daemon held at some second."""

    second: float
    usage: ResourceUsage


class SoakResult(NamedTuple):
    """What came of it."""

    samples: list[Sample]
    problems: list[str]
    operations: int


def soak(directory: Path, seconds: float, seed: int) -> SoakResult:
    """Churn for so long with a local destination and, where available, one of an rsync daemon."""
    source, outside = directory / "source", directory / "outside"
    source.mkdir()
    outside.mkdir()
    logs = numbered_logs(directory, WRITERS)
    with ExitStack() as stack:
        destinations = [local(directory / "copy"), *_remote(directory, stack)]
        daemon = Pylsyncd(
            *("-i", "-w", WINDOW, "--timeout", "30", f"{source}/./"),
            *(destination.argument for destination in destinations),
            names=[destination.name for destination in destinations],
        )
        stack.enter_context(daemon)
        daemon.wait_ready()
        writers = Writers(work_area(source, outside), logs, seed, seconds, ("--pace", PACE))
        samples = _sample(daemon, stack.enter_context(writers))
        writers.wait()
        problems = [*_uneven(samples), *_different(source, destinations, daemon)]
    return SoakResult(samples, problems, operations_done(logs))


def _remote(directory: Path, stack: ExitStack) -> list[Destination]:
    for name in ("server", "module"):
        (directory / name).mkdir()
    try:
        server = RsyncDaemon(directory / "server", {"module": directory / "module"})
        return [on_rsync_daemon(stack.enter_context(server), "module", "in-module")]
    except Unavailable:
        return []


def _sample(daemon: Pylsyncd, writers: Writers) -> list[Sample]:
    begin, samples = time.monotonic(), []
    while writers.are_writing:
        samples.append(Sample(time.monotonic() - begin, processes.resource_usage(daemon.pid)))
        time.sleep(SAMPLE_INTERVAL)  # the interval of the samples
    return samples


def _different(source: Path, destinations: Sequence[Destination], daemon: Pylsyncd) -> list[str]:
    problems = []
    for destination in destinations:
        found = equal_within(
            os.fsencode(source), destination.path, EQUALITY_TIMEOUT, ignore=destination.ignore
        )
        if found:
            problems += [f"{destination.argument} is not equal:", *found, daemon.log_tail]
    return problems


def _uneven(samples: Sequence[Sample]) -> list[str]:
    """Return what has grown from the second third of the samples to the last."""
    third = len(samples) // 3
    if not third:
        return ["there are too few samples to tell"]
    middle = [sample.usage for sample in samples[third : 2 * third]]
    last = [sample.usage for sample in samples[2 * third :]]
    problems = []
    before, after = (statistics.median(usage.memory for usage in part) for part in (middle, last))
    if after > before * (1 + MAX_MEMORY_GROWTH_RATIO) + MAX_MEMORY_GROWTH_BYTES:
        problems.append(f"memory grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
    # While rsync runs there are its pipes: the least is what is held between two runs.
    for field in ("threads", "descriptors"):
        was, now = (min(getattr(usage, field) for usage in part) for part in (middle, last))
        if now > was + MAX_COUNT_GROWTH:
            problems.append(f"{field} grew from {was} to {now}")
    left = min(usage.children for usage in last)
    if left:
        problems.append(f"{left} children are never gone")
    return problems


def table(samples: Sequence[Sample]) -> str:
    """Return lines for some of the samples, evenly spaced."""
    lines = ["second  memory MB  threads  descriptors  children"]
    step = max(1, len(samples) // MAX_TABLE_ROWS)
    for sample in samples[::step]:
        usage = sample.usage
        lines.append(
            f"{sample.second:6.0f}  {usage.memory / 1e6:9.1f}  {usage.threads:7}"
            f"  {usage.descriptors:11}  {usage.children:8}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Soak for as long as told; return the exit status: 1 when something was not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=None, help="repeats the operations of a run")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"soak for {options.seconds:.0f} s, seed {seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="soak-") as base:
        soaked = soak(Path(base), options.seconds, seed)
    print(table(soaked.samples))  # noqa: T201
    print("\n".join(soaked.problems) or f"{soaked.operations} operations: flat, and equal")  # noqa: T201
    return 1 if soaked.problems else 0


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(main(sys.argv[1:]))
