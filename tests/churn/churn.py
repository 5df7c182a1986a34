"""Churn: random operations while the daemon runs; afterwards the trees must be equal.

Whenever the writers have stopped and ``pylsyncctl wait`` has returned 0, the trees must be equal
at that moment. As a program, it runs rounds until one fails or a time is over, or so many of each
kind of destination, and prints how to repeat those that failed.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from support.destinations import Destination, local, on_rsync_daemon, over_ssh
from support.replication import Replication
from support.servers import RsyncDaemon, SshServer, Unavailable
from support.watch_method import INOTIFY, METHODS, watch_method
from support.writers import (
    BurstWriters,
    Writers,
    numbered_logs,
    operations_done,
    relevant_operations,
)

WRITERS = 3
WINDOW = "0.3"  # seconds
WAIT_TIMEOUT = 75.0  # seconds of `pylsyncctl wait`
LATE_EQUALITY_TIMEOUT = 10.0  # seconds more, to tell a delayed change from a lost one
ROUND_SECONDS = 20.0  # seconds of operations in a round of the program
SEED_STEP = 10_000  # more than there are writers' seeds in a round
KINDS = ("local", "ssh", "rsyncd", "four")
EAGER_DAEMON = (Path(__file__).with_name("eager_daemon.py"),)
Program = Sequence[str | os.PathLike[str]]


class TreesDiffer(Exception):  # noqa: N818 - the text is the report
    """The trees are not equal although `pylsyncctl wait` says so, or it never does."""


class Round(NamedTuple):
    """The kind of destinations of a round, and its seed."""

    kind: str
    seed: int


class RoundCounts(NamedTuple):
    """The numbers of operations in a round, and of waits after which the trees were equal."""

    operations: int
    waits: int
    moved: int
    """The files that were moved at the destinations."""


def run_round(
    directory: Path, destinations: Sequence[Destination], seed: int, seconds: float, waits: int = 1,
    *, least_operations: int = 0, program: Program = EAGER_DAEMON,
) -> RoundCounts:  # fmt: skip
    """Run writers on a source for so many seconds, and stop them for so many waits.

    On a busy machine they write longer, until they have done the least number of operations.

    ``program`` are Python's arguments to start the daemon. The writers start before it, so that
    there are changes during its start and initial sync.

    Raises:
        TreesDiffer: if a destination does not equal the source after a wait.

    """
    replication = Replication(directory)
    logs = numbered_logs(directory, WRITERS)
    burst_options = [f"--least-operations={least_operations // (WRITERS * waits)}"]
    with ExitStack() as stack:
        # The first content of the source.
        stack.enter_context(Writers(replication.area, logs, seed - 1, 1.0)).wait()
        writers = stack.enter_context(BurstWriters(replication.area, logs, seed, burst_options))
        writers.begin_burst(seconds / waits)
        replication.start(*destinations, options=("-v", "-i", "-w", WINDOW), program=program)
        stack.enter_context(replication)
        for number in range(waits):
            if number:
                writers.begin_burst(seconds / waits)
            writers.wait()
            problem = _wait_and_compare(replication, logs)
            if problem:
                title = f"churn with seed {seed}, wait {number + 1} of {waits}: {problem}"
                raise TreesDiffer(f"{title}\n{replication.daemon.log_tail}")
        moved = replication.counts()["moved_files"]
    return RoundCounts(operations_done(logs), waits, moved)


def _wait_and_compare(replication: Replication, logs: Sequence[Path]) -> str:
    """Return a report if the trees are not equal when `pylsyncctl wait` ends, or it fails."""
    answer = replication.wait_confirmed(WAIT_TIMEOUT)
    different = replication.find_differences(0.0)
    if not (different or answer.returncode):
        return ""
    lasting = replication.find_differences(LATE_EQUALITY_TIMEOUT)
    later = f"not even equal after {LATE_EQUALITY_TIMEOUT:g} s" if lasting else "equal later"
    title = f"wait returned {answer.returncode}, the trees are {later} {answer.stderr}"
    return "\n".join([title, *_differences(different, logs)])


def _differences(different: Mapping[str, list[str]], logs: Sequence[Path]) -> Iterator[str]:
    for destination, found in different.items():
        yield f"--- {destination}:"
        yield from found
    every = [line for found in different.values() for line in found]
    yield from relevant_operations(every, logs)


class Servers(NamedTuple):
    """The servers of the rounds; None where they are not available."""

    ssh: SshServer | None
    rsyncd: RsyncDaemon | None

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of destinations that are possible."""
        missing = {"ssh"} if self.ssh is None else set()
        missing |= {"rsyncd"} if self.rsyncd is None else set()
        missing |= {"four"} if missing else set()
        return [kind for kind in KINDS if kind not in missing]


def make_destinations(
    kind: str, directory: Path, ssh: SshServer | None, rsyncd: RsyncDaemon | None
) -> list[Destination]:
    """Return new destinations: ``local``, ``ssh``, ``rsyncd``, or ``four`` for all of them."""
    found = []
    if kind in {"local", "four"}:
        found.append(local(directory / "copy"))
    if kind == "four":
        found.append(local(directory / "second"))
    if ssh and kind in {"ssh", "four"}:
        found.append(over_ssh(ssh, directory / "by-ssh"))
    if rsyncd and kind in {"rsyncd", "four"}:
        found.append(on_rsync_daemon(rsyncd, "rsyncd", directory.name))
    return found


class RoundRunner:
    """Runs rounds side by side, and prints a line for each."""

    def __init__(self, base: Path, servers: Servers, options: argparse.Namespace) -> None:
        self._base = base
        self._servers = servers
        self._options = options
        self._end = time.monotonic() + options.seconds
        self._rounds = self._all_rounds()
        self._lock = threading.Lock()
        self.wait_count = 0
        self.failures: list[str] = []
        """The options that repeat each round that has failed."""

    def run(self) -> None:
        """Run the rounds that the options ask for."""
        with ThreadPoolExecutor(self._options.jobs) as executor:
            for done in [executor.submit(self._run_rounds) for _ in range(self._options.jobs)]:
                done.result()

    def _all_rounds(self) -> Iterator[Round]:
        kinds = [kind for kind in self._servers.kinds if kind in self._options.kinds]
        seed = self._options.seed
        while self._goes_on(seed):
            for kind in kinds:
                yield Round(kind, seed)
            seed += SEED_STEP

    def _goes_on(self, seed: int) -> bool:
        if self._options.seeds:
            return seed < self._options.seed + self._options.seeds * SEED_STEP
        return time.monotonic() < self._end and not self.failures

    def _run_rounds(self) -> None:
        while True:
            with self._lock:
                following = next(self._rounds, None)
            if following is None:
                return
            self._run_round(following)

    def _run_round(self, following: Round) -> None:
        kind, seed = following
        directory, options = self._base / f"{kind}-{seed}", self._options
        directory.mkdir()
        destinations = make_destinations(kind, directory, *self._servers)
        try:
            counts = run_round(directory, destinations, seed, options.round, options.waits)
        except (AssertionError, TreesDiffer) as failure:
            self.failures.append(f"--kinds {kind} --seeds 1 --seed {seed}")
            print(f"{kind}: {failure}", flush=True)  # noqa: T201
        else:
            self.wait_count += counts.waits
            done = f"{counts.operations} operations, {counts.moved} files moved"
            done += f", equal after {counts.waits} waits"
            print(f"{kind}, seed {seed}: {done}", flush=True)  # noqa: T201
            shutil.rmtree(directory)


def main(arguments: Sequence[str]) -> int:
    """Run rounds; return the exit status, which is 1 after a difference."""
    options = _parse(arguments)
    length = f"{options.seeds} seeds" if options.seeds else f"{options.seconds:.0f} s"
    print(f"churn by {options.watch}, {length}, seed {options.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="churn-") as base, ExitStack() as stack:
        stack.enter_context(watch_method.using(options.watch))
        program = RoundRunner(Path(base), _servers(Path(base), stack), options)
        program.run()
    print(f"equal after {program.wait_count} waits, {len(program.failures)} rounds failed")  # noqa: T201
    for failure in program.failures:
        print(f"failed: --round {options.round:g} --waits {options.waits} {failure}")  # noqa: T201
    return 1 if program.failures else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, help="rounds of each kind, instead of the time")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**9), help="the first one"
    )
    parser.add_argument(
        "--round", type=float, default=ROUND_SECONDS, help="seconds of operations in a round"
    )
    parser.add_argument(
        "--waits", type=int, default=1, help="how often the writers stop in a round"
    )
    parser.add_argument("--jobs", type=int, default=1, help="rounds side by side")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--watch", choices=METHODS, default=INOTIFY, help="how the daemon watches the source"
    )
    return parser.parse_args(arguments)


def _servers(base: Path, stack: ExitStack) -> Servers:
    ssh = rsyncd = None
    for name in ("sshd", "rsyncd", "module"):
        (base / name).mkdir()
    try:
        ssh = stack.enter_context(SshServer(base / "sshd"))
        rsyncd = stack.enter_context(RsyncDaemon(base / "rsyncd", {"rsyncd": base / "module"}))
    except Unavailable as reason:
        print(f"without some destinations: {reason}", flush=True)  # noqa: T201
    return Servers(ssh, rsyncd)


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(main(sys.argv[1:]))
