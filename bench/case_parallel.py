"""An initial sync to a distant host, by one rsync and by several at a time."""

import os
import subprocess
import time
from collections.abc import Iterator

import workloads
from delayed_network import DelayedPort
from equality import differences_text
from measure import MeasurementFailed, median, seconds_text
from peers import Peers, remove
from report import TableRow, is_within, ratio
from rsyncd import RsyncDaemon

DIRECTORIES = 200
FILES_EACH = 50
FILE_BYTES = 10_000
TURNS = 3
ROUND_TRIP_SECONDS = 0.1
WINDOW_BYTES = 256 << 10
RUNS = (1, 4, 8)
GOALS = {4: 0.6, 8: 0.6}
"""By the number of runs, compared with one: on two processors, four runs have use for them."""
DEADLINE_SECONDS = 300.0


class Parallel:
    """A new copy, and then a full sync that finds it equal."""

    name = "parallel"
    what = (
        f"initial sync of {DIRECTORIES * FILES_EACH:,} files of {FILE_BYTES:,} bytes to an rsync"
        f" daemon {ROUND_TRIP_SECONDS * 1000:.0f} ms away (a proxy that delays, with up to"
        f" {WINDOW_BYTES >> 10} KiB of a connection on their way); then another full sync"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure bare rsync, and the daemon with one run at a time and with several."""
        for name in os.listdir(peers.scratch):
            remove(f"{peers.scratch}/{name}")
        source, copy = f"{peers.scratch}/source", f"{peers.scratch}/destination"
        workloads.make_tree(
            source, max(20, int(DIRECTORIES * scale)), FILES_EACH, os.urandom(FILE_BYTES)
        )
        turns = max(1, int(TURNS * scale))
        times: dict[tuple[int, str], list[float]] = {}
        os.mkdir(copy)
        with (
            RsyncDaemon(peers.scratch, copy) as server,
            DelayedPort(server.port, ROUND_TRIP_SECONDS, WINDOW_BYTES) as distant,
        ):
            url = server.url.replace(str(server.port), str(distant.port))
            for _ in range(turns):
                for runs in (0, *RUNS):
                    _empty(copy)
                    for kind in ("initial", "again"):
                        seconds = _sync(peers, runs, source, url)
                        times.setdefault((runs, kind), []).append(seconds)
                    # rsync alone takes times of the same second for equal.
                    if runs and (found := differences_text(source, [copy])):
                        raise MeasurementFailed(found)
        for kind, measure in (("initial", "initial sync"), ("again", "full sync, nothing new")):
            single = median(times[1, kind])
            bare = median(times[0, kind])
            yield self._row(measure, 1, single, "rsync -a", bare, f"median of {turns}")
            for runs in RUNS[1:]:
                seconds = median(times[runs, kind])
                yield self._row(
                    measure, runs, seconds, "--parallel 1", single, f"median of {turns}",
                    GOALS[runs] if kind == "initial" else None,
                )  # fmt: skip

    def _row(  # noqa: PLR0913, PLR0917 - the cells
        self,
        measure: str,
        runs: int,
        ours: float,
        peer: str,
        theirs: float,
        note: str,
        goal: float | None = None,
    ) -> TableRow:
        return TableRow(
            self.name,
            f"{measure}, --parallel {runs}",
            seconds_text(ours),
            peer,
            seconds_text(theirs),
            ratio(ours, theirs),
            "-" if goal is None else f"<= {goal}",
            "-" if goal is None else is_within(ours / theirs, goal),
            note,
        )


def _empty(directory: str) -> None:
    for name in os.listdir(directory):
        remove(f"{directory}/{name}")


def _sync(peers: Peers, runs: int, source: str, url: str) -> float:
    """Sync by so many runs at a time, with 0 by rsync alone; return the seconds."""
    started = time.monotonic()
    if not runs:
        command = ["rsync", "-a", "--delete", "--sockopts=TCP_NODELAY", f"{source}/", f"{url}/"]
        subprocess.run(command, check=True, timeout=DEADLINE_SECONDS)
        return time.monotonic() - started
    program = peers.pylsyncd_program(source, [url], "--once", "--parallel", str(runs))
    try:
        status = program.process.wait(DEADLINE_SECONDS)
    finally:
        program.stop()
    if status:
        raise MeasurementFailed(f"exit {status}: {program.logged()[-200:]}")
    return time.monotonic() - started


CASES = (Parallel(),)
