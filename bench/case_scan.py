"""The scan in slices: what it takes of a processor while nothing happens."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from measure import cpu
from peers import Peers, remove
from report import TableRow, is_within

FILES = 100_000
FILES_PER_DIRECTORY = 100
BUDGET_PERCENT = 0.5
MAX_SHARE = 0.0075

# The first round starts a minute after the start.
SECONDS_BEFORE = 60.0
SECONDS = 60.0


@dataclass(frozen=True)
class SlicedScan:
    """The share of a processor that an idle daemon takes with and without its scan."""

    name: str = "sliced-scan"
    what: str = (
        f"an idle source of {FILES:,} files, for {SECONDS:g} s from the start of the first round on"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure an idle daemon with the scan and without it."""
        source, destination = f"{peers.scratch}/source", f"{peers.scratch}/destination"
        for path in (source, destination):
            remove(path)
            os.mkdir(path)
        for number in range(int(FILES * scale) // FILES_PER_DIRECTORY):
            os.mkdir(f"{source}/{number}")
            for name in range(FILES_PER_DIRECTORY):
                os.close(os.open(f"{source}/{number}/{name}", os.O_CREAT | os.O_WRONLY))
        shares = {}
        for budget in ("0", f"{BUDGET_PERCENT:g}"):
            with peers.start_pylsyncd(source, [destination], "--scan-budget", budget) as program:
                time.sleep(SECONDS_BEFORE)
                before, started = cpu(program.pid), time.monotonic()
                time.sleep(SECONDS)
                elapsed = time.monotonic() - started
                shares[budget] = (cpu(program.pid) - before).own / elapsed
        without, share = shares.values()
        yield TableRow(
            self.name, "share of a processor", f"{share:.2%}", "--scan-budget 0",
            f"{without:.2%}", "-", f"<= {MAX_SHARE:.2%}", is_within(share, MAX_SHARE),
        )  # fmt: skip


CASES = (SlicedScan(),)
