"""The cost of a search for hard links where there are none, compared with rsync's per name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import workloads
from measure import MeasurementFailed, median, seconds_text
from peers import REPOSITORY, Peers, copy, remove
from report import TableRow, is_within, ratio

TURNS = 5


@dataclass(frozen=True)
class Links:
    """All files of a tree have changed, and none has a second name."""

    name: str
    directories: int
    files_each: int
    what: str

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure ours and rsync in turn, and yield the row of the table."""
        source, destination, ours, theirs = self._prepare(peers, scale)
        names = [
            b"./d%d/f%d" % (directory, name)
            for directory in range(int(self.directories * scale))
            for name in range(self.files_each)
        ]
        for _ in range(TURNS):
            ours.append(_complete(source) / len(names))
            one = peers.bare_rsync(source, destination, names[:1]).cpu
            theirs.append((peers.bare_rsync(source, destination, names).cpu - one) / len(names))
        mine, yours = median(ours), median(theirs)
        yield TableRow(
            self.name,
            "CPU per changed path",
            seconds_text(mine),
            "rsync, per name",
            seconds_text(yours),
            ratio(mine, yours),
            "<= 0.25 x",
            is_within(mine, 0.25 * yours),
            f"medians of {TURNS}; rsync has the same names, unchanged: both its ends",
        )

    def _prepare(self, peers: Peers, scale: float) -> tuple[str, str, list[float], list[float]]:
        source, destination = f"{peers.scratch}/source", f"{peers.scratch}/destination"
        for path in (source, destination):
            remove(path)
            os.mkdir(path)
        workloads.make_tree(source, int(self.directories * scale), self.files_each, b"x" * 10)
        copy(source, destination)
        return source, destination, [], []


def _complete(source: str) -> float:
    """Return the CPU seconds of ``Links.complete`` for all files, in a process of its own."""
    script = f"{os.path.dirname(os.path.abspath(__file__))}/hard_link_cost.py"
    environment = {**os.environ, "PYTHONPATH": REPOSITORY}
    done = subprocess.run(
        [sys.executable, script, source], env=environment, capture_output=True, check=False
    )
    if done.returncode:
        raise MeasurementFailed(done.stderr.decode(errors="replace")[-200:])
    return float(done.stdout)


CASES = (
    Links("links", 1000, 100, "Links.complete for 100,000 changed files, 100 in each directory"),
    Links("links-spread", 10_000, 10, "the same, 10 in each of 10,000 directories"),
)
