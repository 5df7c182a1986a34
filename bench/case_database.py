"""A SQLite database in WAL mode with an active writer: what its copy opens as."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from peers import Peers, remove
from report import TableRow

SECONDS = 60.0
WINDOW_SECONDS = 1.0
SECONDS_BETWEEN_OPENINGS = 1.0

# Inserts rows with their times in transactions, and updates old ones, so that pages are split and
# moved. SQLite writes the log back to the database by itself, every 1,000 pages.
WRITER = """
import random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE rows (written REAL, key INTEGER, text TEXT)")
connection.execute("CREATE INDEX keys ON rows (key)")
chance, end = random.Random(1), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    connection.execute("BEGIN")
    for _ in range(20):
        key = chance.randrange(10**6)
        connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (time.time(), key, "x" * 200))
    connection.execute(
        "UPDATE rows SET text = text || 'y' WHERE key BETWEEN ? AND ?", (key - 500, key)
    )
    connection.execute("COMMIT")
    time.sleep(0.005)
"""


@dataclass(frozen=True)
class Database:
    """How often the copy of a database opens, is whole, and how old it is."""

    name: str = "wal-database"
    what: str = (
        f"a SQLite database in WAL mode that is written to for {SECONDS:g} s, with a window of"
        f" {WINDOW_SECONDS:g} s; its copy is opened every {SECONDS_BETWEEN_OPENINGS:g} s"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Open copies of the copy while the writer runs, and the copy itself after that."""
        seconds = max(5.0, SECONDS * scale)
        top = Path(peers.scratch)
        source, destination, opened = top / "source", top / "destination", top / "opened"
        for path in (source, destination, opened):
            remove(str(path))
        source.mkdir()
        destination.mkdir()
        found: Counter[str] = Counter()
        ages = []
        command = [sys.executable, "-c", WRITER, str(source / "database"), str(seconds)]
        options = ("-w", f"{WINDOW_SECONDS:g}", "--open-file-interval", "0")
        with peers.start_pylsyncd(str(source), [str(destination)], *options):
            with subprocess.Popen(command) as writer:
                while writer.poll() is None:
                    time.sleep(SECONDS_BETWEEN_OPENINGS)
                    # Without the temporary files of rsync.
                    shutil.copytree(destination, opened, ignore=shutil.ignore_patterns(".*"))
                    outcome, age = _open(opened / "database")
                    found[outcome] += 1
                    ages += [age] if age is not None else []
                    shutil.rmtree(opened)
            time.sleep(10 * WINDOW_SECONDS)
            final, _ = _open(destination / "database")
        total = sum(found.values())
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in found.most_common())
        oldest = f"the last row is up to {max(ages):.1f} s old" if ages else "no row was read"
        yield TableRow(
            self.name, "whole copies", f"{found['whole']} of {total}", "-", "-", "-",
            note=f"{outcomes}; {oldest}; after the end of the writer: {final}",
        )  # fmt: skip


def _open(database: Path) -> tuple[str, float | None]:
    """Return as what a database opens, and the age of its last row in seconds."""
    if not database.exists():
        return "not there yet", None
    try:
        with closing(sqlite3.connect(database)) as connection:
            if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                return "damaged", None
            (written,) = connection.execute("SELECT max(written) FROM rows").fetchone()
    except sqlite3.DatabaseError as error:
        is_empty = "no such table" in str(error)
        return ("empty" if is_empty else "damaged (does not open)"), None
    return "whole", None if written is None else time.time() - written


CASES = (Database(),)
