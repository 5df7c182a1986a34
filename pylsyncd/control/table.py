"""The status as a table for people. Pure; what the daemon says is made printable here."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pylsyncd.model.formatting import (
    display_width,
    format_count,
    format_duration,
    format_size,
    printable,
)
from pylsyncd.model.status import Condition, DestinationStatus, RunStatus, Status, SyncStatus

STALE_AFTER_SECONDS = 60.0
"""Seconds: a status that is older was made by a daemon that has ended or hangs."""

_HEADINGS = ("SYNC", "DESTINATION", "STATE", "BEHIND", "WAITING", "LAST RUN", "NEXT ATTEMPT")
_TO_THE_RIGHT = frozenset({"WAITING"})
_GAP = "  "

# By select graphic rendition, of ECMA-48.
_COLOURS = {
    Condition.STARTING: "36",
    Condition.IN_SYNC: "32",
    Condition.WAITING: "36",
    Condition.SYNCING: "36",
    Condition.RETRYING: "33",
    Condition.HELD: "1;31",
    Condition.PAUSED: "35",
}


class _TableRow(NamedTuple):
    cells: Sequence[str]
    condition: Condition
    error: str


def format_table(status: Status, *, age: float = 0.0, is_coloured: bool = False) -> list[str]:
    """Return the lines that show how a daemon stands, as it stood ``age`` seconds ago."""
    rows = [
        _TableRow(_cells(status, sync, each), each.condition, printable(each.error))
        for sync in status.syncs
        for each in sync.destinations
    ]
    columns = zip(_HEADINGS, *(row.cells for row in rows), strict=True)
    widths = [max(map(display_width, column)) for column in columns]
    lines = [*_headlines(status, age), _line(_HEADINGS, widths)]
    for row in rows:
        line = _line(row.cells, widths, _COLOURS[row.condition] if is_coloured else "")
        lines.append(line)
        if row.error:
            lines.append(f"{_GAP}{_GAP}{row.error}")
    return [*lines, *_remarks(status)]


def summary(status: Status) -> str:
    """Return in a few words how many destinations stand how."""
    found = Counter(each.condition for sync in status.syncs for each in sync.destinations)
    total = found.total()
    all_of_them = format_count(total, "destination")
    if found[Condition.IN_SYNC] == total:
        return f"{all_of_them}, in sync" if total == 1 else f"{all_of_them}, all in sync"
    counts = (f"{found[each]} {each.value}" for each in Condition if found[each])
    return f"{all_of_them}: {', '.join(counts)}"


def _headlines(status: Status, age: float) -> Iterator[str]:
    running = format_duration(status.time - status.started)
    version = printable(status.version)
    yield f"pylsyncd {version}, pid {status.pid}, up {running}; {summary(status)}"
    if age >= 1.0:
        doubt = ": it does not run any more, or hangs" if age >= STALE_AFTER_SECONDS else ""
        yield f"As of {format_duration(age)} ago{doubt}"


def _cells(status: Status, sync: SyncStatus, each: DestinationStatus) -> tuple[str, ...]:
    attempt = each.next_attempt
    return (
        printable(sync.name or sync.source),
        # Its sync stands beside it.
        printable(each.name.removeprefix(f"{sync.name}/" if sync.name else "")),
        each.condition.value,
        format_duration(each.behind) if each.behind > 0.0 else "-",
        "everything" if each.owes_everything else str(each.waiting),
        "-" if each.last_run is None else _last(each.last_run, status.time),
        "-" if attempt is None else f"in {format_duration(attempt)}" if attempt > 0.0 else "now",
    )


def _last(run: RunStatus, now: float) -> str:
    ago = f"{format_duration(now - run.ended)} ago"
    if run.outcome == "done" or run.code == 0:
        deleted = f", {run.deleted} deleted" if run.deleted else ""
        return f"{ago}, {format_count(run.files, 'file')}{deleted}, {format_size(run.bytes_sent)}"
    if run.code < 0:
        return f"{ago}, ended by signal {-run.code}"
    return f"{ago}, exit {run.code}"


def _line(cells: Sequence[str], widths: Sequence[int], colour: str = "") -> str:
    found = []
    for heading, cell, width in zip(_HEADINGS, cells, widths, strict=True):
        padding = " " * (width - display_width(cell))
        text = f"\x1b[{colour}m{cell}\x1b[0m" if colour and heading == "STATE" else cell
        found.append(padding + text if heading in _TO_THE_RIGHT else text + padding)
    return _GAP.join(found).rstrip()


def _remarks(status: Status) -> Iterator[str]:
    """Yield what is to be said of the sources."""
    for sync in status.syncs:
        source = printable(sync.source)
        if sync.held:
            yield f"The source {source} is held: {printable(sync.held)}"
        elif not sync.is_watching:
            yield f"The source {source} is not watched yet."
        if sync.unwatched:
            yield (
                f"Polled for lack of a watch: {format_count(sync.unwatched, 'directory')} of "
                f"{source} "
                f"(fs.inotify.max_user_watches is {status.watch_limit})."
            )
