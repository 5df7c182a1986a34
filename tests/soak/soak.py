"""Soak: slow churn for a long time; the daemon's memory, threads and descriptors must not grow.

``python -m soak.soak --seconds 1800`` prints a table, and exits 1 if they grew or if a copy is not
equal at the end.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from support import processes
from support.daemon import Pylsyncd
from support.destinations import Destination, local, on_rsync_daemon
from support.processes import ResourceUsage
from support.servers import RsyncDaemon, Unavailable
from support.trees import equal_within
from support.waiting import wait_until
from support.writers import Writers, numbered_logs, operations_done, work_area

SAMPLE_INTERVAL = 1.0  # seconds
WINDOW = "1"  # seconds
WRITERS = 2
# The factor of the churn's pauses, for some 50 operations a second.
PACE = "5"
LEAST_OPERATIONS = 120
EQUALITY_TIMEOUT = 60.0  # seconds
# The permitted growth from the second third of the time to the last.
MAX_MEMORY_GROWTH_RATIO, MAX_MEMORY_GROWTH_BYTES = 0.02, 2_000_000
MAX_COUNT_GROWTH = 2
MAX_TABLE_ROWS = 12


class Sample(NamedTuple):
    """The daemon's resource usage at a time."""

    second: float
    usage: ResourceUsage


class SoakResult(NamedTuple):
    """The result of a soak."""

    samples: list[Sample]
    problems: list[str]
    operations: int


def soak(directory: Path, seconds: float, seed: int) -> SoakResult:
    """Churn with a local destination and, where available, one of an rsync daemon."""
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
        options = ("--pace", PACE, f"--least-operations={LEAST_OPERATIONS // WRITERS}")
        writers = Writers(work_area(source, outside), logs, seed, seconds, options)
        samples = _sample(daemon, stack.enter_context(writers))
        writers.wait()
        problems = _differences(source, destinations, daemon)
        samples.append(_idle_sample(daemon, samples[-1].second))
        problems += _growth(samples)
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
        time.sleep(SAMPLE_INTERVAL)  # between two samples
    return samples


def _idle_sample(daemon: Pylsyncd, second: float) -> Sample:
    """Return the resource usage without a running rsync, of which a busy machine may never see one.

    The children that are still there after a while are leaks.
    """
    with suppress(AssertionError):
        wait_until(lambda: not processes.resource_usage(daemon.pid).children)
    return Sample(second, processes.resource_usage(daemon.pid))


def _differences(source: Path, destinations: Sequence[Destination], daemon: Pylsyncd) -> list[str]:
    problems = []
    for destination in destinations:
        found = equal_within(
            os.fsencode(source), destination.path, EQUALITY_TIMEOUT, ignore=destination.ignore
        )
        if found:
            problems += [f"{destination.argument} is not equal:", *found, daemon.log_tail]
    return problems


def _growth(samples: Sequence[Sample]) -> list[str]:
    """Return a line for each resource that grew from the second third of the time to the last."""
    third = len(samples) // 3
    if not third:
        return ["too few samples"]
    middle = [sample.usage for sample in samples[third : 2 * third]]
    last = [sample.usage for sample in samples[2 * third :]]
    problems = []
    before, after = (statistics.median(usage.memory for usage in part) for part in (middle, last))
    if after > before * (1 + MAX_MEMORY_GROWTH_RATIO) + MAX_MEMORY_GROWTH_BYTES:
        problems.append(f"memory grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
    # The minimum excludes the pipes of running rsyncs.
    for field in ("threads", "descriptors"):
        was, now = (min(getattr(usage, field) for usage in part) for part in (middle, last))
        if now > was + MAX_COUNT_GROWTH:
            problems.append(f"{field} grew from {was} to {now}")
    left = min(usage.children for usage in last)
    if left:
        problems.append(f"always at least {left} children")
    return problems


def table(samples: Sequence[Sample]) -> str:
    """Return a table of evenly spaced samples."""
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
    """Soak for the given time; return the exit status, which is 1 after growth or a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="of an earlier run, to repeat its operations"
    )
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"soak for {options.seconds:.0f} s, seed {seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="soak-") as base:
        result = soak(Path(base), options.seconds, seed)
    print(table(result.samples))  # noqa: T201
    print("\n".join(result.problems) or f"{result.operations} operations: no growth, trees equal")  # noqa: T201
    return 1 if result.problems else 0


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(main(sys.argv[1:]))
