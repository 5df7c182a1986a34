"""One changed file over ssh: with the connection kept open between the runs, and without."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import workloads
from measure import MeasurementFailed, median, seconds_text
from peers import REPOSITORY, Peers, Program, remove
from report import TableRow, is_within, ratio

sys.path.insert(0, f"{REPOSITORY}/tests")
from support.servers import SshServer, Unavailable  # the tests start one, too

WINDOW_SECONDS = 0.05
DEADLINE_SECONDS = 20.0
RATIO_GOAL = 0.7


class Shared:
    """A file is overwritten repeatedly; a real sshd is on the loopback."""

    name = "ssh-sharing"
    what = "one file overwritten, a destination reached by ssh on the loopback, window 0.05 s"

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the daemon with shared connections, and without."""
        turns = max(3, int(21 * scale))
        directory = Path(peers.scratch, "sshd")
        remove(str(directory))
        directory.mkdir()
        try:
            with SshServer(directory) as server:
                shared = self._latencies(peers, server, turns)
                single = self._latencies(peers, server, turns, "--no-share-ssh")
        except (MeasurementFailed, Unavailable) as failure:
            yield TableRow(self.name, "closed to copied, less window", str(failure), "-", "-", "-")
            return
        value = median(shared) / median(single)
        yield TableRow(
            self.name,
            "closed to copied, less window",
            seconds_text(median(shared)),
            "--no-share-ssh",
            seconds_text(median(single)),
            ratio(median(shared), median(single)),
            f"<= {RATIO_GOAL}",
            is_within(value, RATIO_GOAL),
            f"median of {turns}; the first, which logs in: {shared[0]:.2f} s",
        )

    def _latencies(self, peers: Peers, server: SshServer, turns: int, *options: str) -> list[float]:
        source, copy = f"{peers.scratch}/source", f"{peers.scratch}/destination"
        for path in (source, copy):
            remove(path)
            os.mkdir(path)
        options = ("-e", server.rsh, "-w", f"{WINDOW_SECONDS:g}", *options)
        with peers.start_pylsyncd(source, [f"localhost:{copy}"], *options) as program:
            return [_change(program, source, copy, turn) for turn in range(turns)]


def _change(program: Program, source: str, copy: str, turn: int) -> float:
    content = b"turn %06d" % turn
    program.wait_idle()
    workloads.write(f"{source}/f", content)
    closed = time.monotonic()
    while True:
        try:
            with open(f"{copy}/f", "rb") as file:
                if file.read() == content:
                    return time.monotonic() - closed - WINDOW_SECONDS
        except FileNotFoundError:
            pass
        if time.monotonic() > closed + DEADLINE_SECONDS:
            program.check()
            raise MeasurementFailed(f"not copied in {DEADLINE_SECONDS:.0f} s")
        time.sleep(0.001)


CASES = (Shared(),)
