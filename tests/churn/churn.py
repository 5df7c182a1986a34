"""Churn: random operations while the daemon runs; afterwards the trees must be equal.

As a program, it runs rounds with different seeds for a given time, and stops at the first
difference: ``python -m churn.churn --seconds 600 [--seed N]``.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from support.destinations import Destination, local, on_rsync_daemon, over_ssh
from support.replication import Replication
from support.servers import RsyncDaemon, SshServer, Unavailable
from support.writers import Writers, numbered_logs, operations_done, relevant_operations

WRITERS = 3
WINDOW = "0.3"  # seconds
EQUALITY_TIMEOUT = 30.0  # seconds from the last operation to equality
FLUSHED_EQUALITY_TIMEOUT = 10.0  # seconds more after a flush
ROUND_SECONDS = 20.0  # seconds of operations in a round of the program


class TreesDiffer(Exception):  # noqa: N818 - the text is the report
    """The trees are not equal at the end of a round."""


def run_round(
    directory: Path, destinations: Sequence[Destination], seed: int, seconds: float
) -> int:
    """Run writers on a source, and return the number of operations.

    They start before the daemon, so that there are changes during its start and initial sync.

    Raises:
        TreesDiffer: if a destination does not equal the source at the end.

    """
    replication = Replication(directory)
    logs = numbered_logs(directory, WRITERS)
    with ExitStack() as stack:
        # The first content of the source.
        stack.enter_context(Writers(replication.area, logs, seed - 1, 1.0)).wait()
        writers = stack.enter_context(Writers(replication.area, logs, seed, seconds))
        replication.start(*destinations, options=("-v", "-i", "-w", WINDOW))
        running = stack.enter_context(replication)
        writers.wait()
        different = running.find_differences(EQUALITY_TIMEOUT)
        if different:
            # Distinguish lost changes from delayed ones.
            running.daemon.flush()
            lasting = running.find_differences(FLUSHED_EQUALITY_TIMEOUT)
            verdict = "not even after a flush" if lasting else "but equal after a flush"
            raise TreesDiffer(
                _report(different, seed, logs, f"{verdict}\n{running.daemon.log_tail}")
            )
    return operations_done(logs)


def _report(different: Mapping[str, list[str]], seed: int, logs: Sequence[Path], tail: str) -> str:
    lines = [f"churn with seed {seed}: not equal {EQUALITY_TIMEOUT} s after the last operation"]
    for destination, found in different.items():
        lines += [f"--- {destination}:", *found]
    differences = [line for found in different.values() for line in found]
    return "\n".join([*lines, *relevant_operations(differences, logs), tail])


def _kinds(ssh: SshServer | None, rsyncd: RsyncDaemon | None) -> Iterator[str]:
    yield "local"
    if ssh:
        yield "ssh"
    if rsyncd:
        yield "rsyncd"
    if ssh and rsyncd:
        yield "four"


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


def main(arguments: Sequence[str]) -> int:
    """Run rounds for the given time; return the exit status, which is 1 after a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument(
        "--round", type=float, default=ROUND_SECONDS, help="seconds of operations in a round"
    )
    options = parser.parse_args(arguments)
    master = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"churn for {options.seconds:.0f} s, seed {master}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="churn-") as base, ExitStack() as stack:
        return _rounds(Path(base), stack, random.Random(master), options)


def _rounds(base: Path, stack: ExitStack, seeds: random.Random, options: argparse.Namespace) -> int:
    ssh, rsyncd = _servers(base, stack)
    end = time.monotonic() + options.seconds
    number = 0
    while time.monotonic() < end:
        kinds = list(_kinds(ssh, rsyncd))
        kind, seed = kinds[number % len(kinds)], seeds.randrange(10**9)
        directory = base / f"round-{number}"
        directory.mkdir()
        try:
            done = run_round(
                directory, make_destinations(kind, directory, ssh, rsyncd), seed, options.round
            )
        except (AssertionError, TreesDiffer) as failure:
            print(f"round {number}, {kind}: {failure}", flush=True)  # noqa: T201
            return 1
        print(f"round {number}, {kind}, seed {seed}: {done} operations, equal", flush=True)  # noqa: T201
        shutil.rmtree(directory)
        number += 1
    return 0


def _servers(base: Path, stack: ExitStack) -> tuple[SshServer | None, RsyncDaemon | None]:
    ssh = rsyncd = None
    for name in ("sshd", "rsyncd", "module"):
        (base / name).mkdir()
    try:
        ssh = stack.enter_context(SshServer(base / "sshd"))
        rsyncd = stack.enter_context(RsyncDaemon(base / "rsyncd", {"rsyncd": base / "module"}))
    except Unavailable as reason:
        print(f"without some destinations: {reason}", flush=True)  # noqa: T201
    return ssh, rsyncd


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(main(sys.argv[1:]))
