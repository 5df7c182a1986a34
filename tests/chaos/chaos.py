"""Chaos: random faults during random operations; after all are healed, the trees must be equal.

As a program, it runs rounds with different seeds for a given time, and stops at the first failure:
``python -m chaos.chaos --seconds 3600 [--seed N]``. A seed repeats the operations and the faults,
not their timing.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from chaos.injection import Injector
from chaos.moving import MoveCounts, MovePhase
from chaos.round_setup import FEW, KINDS, Program, RoundSetup
from chaos.tracked_files import TrackedFiles
from churn.churn import EAGER_DAEMON
from support.servers import Unavailable
from support.watch_method import INOTIFY, METHODS, watch_method
from support.writers import (
    Writers,
    numbered_logs,
    operations_done,
    relevant_operations,
    work_area,
)

WRITERS = 2
EQUALITY_TIMEOUT = 90.0  # seconds, once the daemon has no pending changes
ROUND_SECONDS = 20.0  # seconds of operations and faults in a round of the program
MOVE_WINDOWS = 8  # in a round of the program
EARLY_WRITE_SECONDS = 1.0  # seconds of operations before the first daemon
TRACKED_CHANGE_INTERVAL = 0.5  # seconds: more than a window


class ChaosFailure(Exception):  # noqa: N818 - the text is the report
    """A round did not end with equal trees and a running daemon."""


class RoundCounts(NamedTuple):
    """The numbers of operations and faults in a round."""

    operations: int
    faults: int
    moves: MoveCounts = MoveCounts()


def run_round(
    directory: Path,
    kind: str,
    seed: int,
    seconds: float,
    equality_timeout: float = EQUALITY_TIMEOUT,
    program: Program = EAGER_DAEMON,
    *,
    least: RoundCounts = RoundCounts(0, 0),  # noqa: B008 - immutable
    move_windows: int = 0,
) -> RoundCounts:
    """Run writers and inject faults for so many seconds, heal all faults, and compare the trees.

    The trees may differ for ``equality_timeout`` seconds after the daemon has no pending changes.
    ``program`` are Python's arguments to start the daemon. On a busy machine the round is longer,
    until there were as many operations and faults as ``least`` says. After that, there are
    windows of moves, and the trees must be equal after each of them.

    Raises:
        ChaosFailure: if a destination differs at the end, or the daemon has exited.

    """
    logs = numbered_logs(directory, WRITERS)
    with RoundSetup(directory, kind, program) as setup:
        try:
            tracked = TrackedFiles(setup.source / "tracked", random.Random(seed))
            count = _write_and_inject(setup, tracked, logs, seed, seconds, least)
            setup.wait_until_confirmed()
            _expect_equal(setup, logs, equality_timeout)
            _change_without_faults(setup, tracked)
            _expect_equal(setup, logs, equality_timeout)
            if move_windows:
                count = count._replace(moves=move(setup, directory / "moves", seed, move_windows))
            setup.stop()
        except Exception as error:
            title = f"chaos ({kind}) with seed {seed}: {error}"
            raise ChaosFailure("\n".join([title, *_report(setup)])) from error
    return count


def _write_and_inject(
    setup: RoundSetup, tracked: TrackedFiles, logs: Sequence[Path], seed: int, seconds: float,
    least: RoundCounts,
) -> RoundCounts:  # fmt: skip
    area, injector = work_area(setup.tree, setup.outside), Injector(setup, seed)
    options = ["--mixed"]
    # In its user namespace, the daemon cannot change owners.
    options += ["--keep-owners"] if setup.kind == FEW else []
    with Writers(area, logs, seed - 1, EARLY_WRITE_SECONDS, options) as early:
        early.wait()
    options += [f"--least-operations={least.operations // WRITERS}"]
    with Writers(area, logs, seed, seconds, options) as writers:
        setup.start(initial_sync=True)
        while writers.are_writing or injector.count < least.faults:
            injector.inject_one()
            tracked.change_some()
        writers.wait()
    injector.heal_all()
    for _ in tracked.change_all():
        time.sleep(TRACKED_CHANGE_INTERVAL)  # the pace of changes
    setup.check_daemon_runs()
    return RoundCounts(operations_done(logs), injector.count)


def _change_without_faults(setup: RoundSetup, tracked: TrackedFiles) -> None:
    setup.wait_until_confirmed()
    for _ in tracked.change_all():
        setup.wait_until_confirmed()


def move(setup: RoundSetup, log_path: Path, seed: int, windows: int) -> MoveCounts:
    """Run windows of random moves, with one fault each at most, and compare the trees after each.

    Raises:
        ChaosFailure: if a destination differs.

    """
    with log_path.open("w", encoding="ascii") as log:
        phase = MovePhase(setup, seed, log)
        return phase.run(windows, lambda: _expect_equal(setup, [log_path], 0.0))


def _expect_equal(setup: RoundSetup, logs: Sequence[Path], equality_timeout: float) -> None:
    different = setup.find_differences(equality_timeout)
    if different:
        lines = [f"not equal after {equality_timeout} s without pending changes"]
        for destination, found in different.items():
            lines += [f"--- {destination}:", *found]
        every = [line for found in different.values() for line in found]
        raise ChaosFailure("\n".join([*lines, *relevant_operations(every, logs)]))


def _report(setup: RoundSetup) -> list[str]:
    return ["--- faults:", *setup.timeline, *setup.log_tails()]


def main(arguments: Sequence[str]) -> int:
    """Run rounds for the given time; return the exit status, which is 1 after a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument(
        "--round", type=float, default=ROUND_SECONDS, help="seconds of faults in a round"
    )
    parser.add_argument(
        "--move-windows", type=int, default=MOVE_WINDOWS, help="windows of moves in a round"
    )
    parser.add_argument(
        "--kind", choices=KINDS, action="append", help="only this kind of destinations"
    )
    parser.add_argument(
        "--watch", choices=METHODS, default=INOTIFY, help="how the daemon watches the source"
    )
    options = parser.parse_args(arguments)
    master = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    print(f"chaos by {options.watch} for {options.seconds:.0f} s, seed {master}", flush=True)  # noqa: T201
    with ExitStack() as stack:
        stack.enter_context(watch_method.using(options.watch))
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        return _rounds(Path(base), random.Random(master), options)


def _rounds(base: Path, seeds: random.Random, options: argparse.Namespace) -> int:
    # Without privileges there is no fanotify.
    possible = [kind for kind in KINDS if kind != FEW or options.watch == INOTIFY]
    kinds = options.kind or possible
    end = time.monotonic() + options.seconds
    number = 0
    while time.monotonic() < end:
        kind, seed = kinds[number % len(kinds)], seeds.randrange(10**9)
        directory = base / f"round-{number}"
        directory.mkdir()
        try:
            windows = 0 if kind == FEW else options.move_windows
            count = run_round(directory, kind, seed, options.round, move_windows=windows)
        except Unavailable as reason:
            print(f"round {number}, {kind}: skipped, {reason}", flush=True)  # noqa: T201
        except ChaosFailure as failure:
            print(f"round {number}: {failure}", flush=True)  # noqa: T201
            return 1
        else:
            done = f"{count.operations} operations, {count.faults} faults"
            done += (
                f"; {count.moves.moved} files moved, {count.moves.faults} faults meanwhile; equal"
            )
            print(f"round {number}, {kind}, seed {seed}: {done}", flush=True)  # noqa: T201
        shutil.rmtree(directory)
        number += 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    raise SystemExit(main(sys.argv[1:]))
