"""A writer of the churn: a process that does random operations of every kind, from a seed.

Several writers work in one tree, so an operation may fail because of another writer. Its log has
a line for each operation, with the error if it failed.
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from churn.random_operations import RandomOperations
from support.operations import Operation, WorkArea

BURST_LENGTH = 20  # operations without a pause
BURST_INTERVALS = (0.01, 0.02, 0.05, 0.1, 0.2)  # seconds between bursts
PRUNE_INTERVAL = 300  # operations
IS_ROOT = os.geteuid() == 0


class Writer:
    """Does random operations, and logs them."""

    def __init__(
        self, seed: int, operations: RandomOperations, log: TextIO, *, pace: float
    ) -> None:
        self.random = random.Random(seed)
        self.operations = operations
        self.pace = pace
        self.log = log
        self.operation_count = 0

    def run(self, seconds: float, least_operations: int = 0) -> None:
        """Do random operations for so many seconds, and longer until so many are done."""
        end, least_count = time.monotonic() + seconds, self.operation_count + least_operations
        while time.monotonic() < end or self.operation_count < least_count:
            for operation in self.operations.draw():
                self.do(operation)
            if self.random.random() < 1 / BURST_LENGTH:
                interval = self.random.choice(BURST_INTERVALS) * self.pace
                time.sleep(min(interval, max(0.0, end - time.monotonic())))  # the pace
        self.log.flush()

    def do(self, operation: Operation) -> None:
        """Do one operation, and log it with its error, if any."""
        problem = ""
        try:
            operation(self.operations.area)
        except (OSError, shutil.Error, subprocess.CalledProcessError) as error:
            problem = f" -> {type(error).__name__} {getattr(error, 'errno', '')}"
        self.log.write(f"{time.time():.6f} {operation!r}{problem}\n")
        self.operation_count += 1
        if self.operation_count % PRUNE_INTERVAL == 0:
            for removal in self.operations.prune():
                self.do(removal)


def main(arguments: Sequence[str]) -> None:
    """Do random operations in a tree for the given time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--seconds", type=float, help="by default, standard input has a line for each burst"
    )
    parser.add_argument("--log", required=True)
    parser.add_argument(
        "--mixed", action="store_true", help="use any name for any kind, and change linked files"
    )
    parser.add_argument("--keep-owners", action="store_true", help="do not change owners")
    parser.add_argument("--pace", type=float, default=1.0, help="factor of the pauses")
    parser.add_argument(
        "--least-operations", type=int, default=0, help="of each burst, if its time is too short"
    )
    parser.add_argument("inside", type=os.fsencode)
    parser.add_argument("outside", type=os.fsencode)
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(
            open(options.log, "w", encoding="ascii", errors="backslashreplace")
        )
        operations = RandomOperations(
            options.seed,
            WorkArea(options.inside, options.outside),
            mixed=options.mixed,
            owners=IS_ROOT and not options.keep_owners,
        )
        stack.callback(operations.close)
        writer = Writer(options.seed, operations, log, pace=options.pace)
        if options.seconds is not None:
            writer.run(options.seconds, options.least_operations)
            return
        for line in sys.stdin:
            writer.run(float(line), options.least_operations)
            print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
