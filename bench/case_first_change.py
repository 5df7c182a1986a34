"""The first change after a start on a large tree, compared with later ones."""

from collections.abc import Iterator
from dataclasses import dataclass

from large_tree import large_tree, wait_copied
from measure import MeasurementFailed, median, seconds_text, stopwatch
from peers import Peers
from report import TableRow, is_within, ratio

DIRECTORIES = 12_000
STARTS = 3
LATER_CHANGES = 5
# Each change writes to another file.
FILES_EACH = STARTS * (1 + LATER_CHANGES)
WINDOW_SECONDS = 0.2
GOAL = 1.2


@dataclass(frozen=True)
class FirstChange:
    """A start with an initial sync of a tree that is equal; then files change one by one."""

    name: str = "first-change"
    what: str = (
        f"{DIRECTORIES:,} directories with {FILES_EACH} files in each, -i with nothing to copy, a"
        f" window of {WINDOW_SECONDS:g} s: from the first writes after the initial sync to their"
        " copies, and the same for later writes"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure some starts, and yield the row of the table."""
        first: list[float] = []
        later: list[float] = []
        try:
            _measure(peers, max(20, int(DIRECTORIES * scale)), first, later)
            note = f"the slowest first one: {seconds_text(max(first))}"
        except MeasurementFailed as failure:
            note = str(failure)
        yield TableRow(
            self.name,
            "change to copies",
            seconds_text(median(first)) if first else "-",
            "later changes",
            seconds_text(median(later)) if later else "-",
            ratio(median(first), median(later)) if later else "-",
            f"<= {GOAL:g} x",
            is_within(median(first), GOAL * median(later)) if later else "-",
            note,
        )


def _measure(peers: Peers, directories: int, first: list[float], later: list[float]) -> None:
    with large_tree(peers, directories, FILES_EACH) as tree:
        for start in range(STARTS):
            program = peers.pylsyncd_program(
                tree.source, tree.destinations, "-v", "-i", "-w", f"{WINDOW_SECONDS:g}"
            )
            with peers.watching(program, "watching"):
                program.wait_logged("initial sync complete", len(tree.destinations))
                program.wait_idle()
                for turn in range(1 + LATER_CHANGES):
                    with stopwatch() as elapsed:
                        names = tree.change(start * (1 + LATER_CHANGES) + turn)
                        wait_copied(tree, names, 60.0)
                        (later if turn else first).append(elapsed())


CASES = (FirstChange(),)
