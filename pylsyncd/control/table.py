"""The status as a table for people. Pure; control characters are escaped here."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pylsyncd.model.formatting import (
    display_width,
    format_count,
    format_duration,
    format_size,
    printable,
    shorten,
)
from pylsyncd.model.status import (
    STALE_STATUS_AGE,
    STATE_WORDS,
    UNVERIFIED,
    Condition,
    DestinationStatus,
    RunStatus,
    SetAside,
    Status,
    SyncStatus,
)

HEADINGS = ("SYNC", "DESTINATION", "STATE", "BEHIND", "WAITING", "LAST RUN", "NEXT ATTEMPT")
_RIGHT_ALIGNED = frozenset({"WAITING"})
_GAP = "  "
_MIN_NAME_WIDTH = 14

# Parameters of the ECMA-48 sequence Select Graphic Rendition, by the word of the state.
_COLOURS = {
    Condition.STARTING.value: "36",
    Condition.IN_SYNC.value: "32",
    Condition.WAITING.value: "36",
    Condition.SYNCING.value: "36",
    Condition.RETRYING.value: "33",
    Condition.HELD.value: "1;31",
    Condition.PAUSED.value: "35",
    Condition.FAILED.value: "1;31",
    UNVERIFIED: "33",
}


class TableRow(NamedTuple):
    """What is said of one destination."""

    state: str
    cells: Sequence[str]
    """The texts below ``HEADINGS``."""
    remarks: Sequence[str]
    """Lines that explain the state."""


def format_table(
    status: Status, *, age: float = 0.0, is_coloured: bool = False, width: int | None = None
) -> list[str]:
    """Return the lines that show a status which is ``age`` seconds old.

    For a window of ``width`` columns names are cut, columns left out, and sentences wrapped.
    """
    rows = table_rows(status)
    columns = zip(HEADINGS, *(row.cells for row in rows), strict=True)
    widths = [max(map(display_width, column)) for column in columns]
    if width is not None:
        widths = _fit_widths(widths, width)
    lines = wrap_lines(_header_lines(status, age), width)
    lines.append(_format_row(HEADINGS, widths))
    for row in rows:
        lines.append(_format_row(row.cells, widths, _COLOURS[row.state] if is_coloured else ""))
        lines += wrap_lines((f"{_GAP}{_GAP}{remark}" for remark in row.remarks), width)
    return [*lines, *wrap_lines(status_remarks(status), width)]


def wrap_lines(lines: Iterable[str], width: int | None) -> list[str]:
    """Return lines that fit into a window of ``width`` columns; what is continued is indented."""
    if width is None:
        return list(lines)
    found = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" ")) + len(_GAP))
        limit = max(width, len(indent) + 1)
        found += textwrap.wrap(
            line, limit, subsequent_indent=indent, break_on_hyphens=False
        ) or [""]  # fmt: skip
    return found


def _fit_widths(widths: Sequence[int], width: int) -> list[int]:
    """Return the widths of the columns in a window, 0 for one that is left out.

    STATE stays whole whatever the window. Names are cut to what the other columns leave them.
    """
    fitted = list(widths)

    def excess() -> int:
        shown = [each for each in fitted if each]
        return sum(shown) + len(_GAP) * (len(shown) - 1) - width

    sync, destination = 0, 1
    for heading in ("LAST RUN", "NEXT ATTEMPT", "WAITING", "BEHIND"):
        cut = sum(max(0, fitted[each] - _MIN_NAME_WIDTH) for each in (sync, destination))
        if excess() > cut:
            fitted[HEADINGS.index(heading)] = 0
    while excess() > 0 and max(fitted[sync], fitted[destination]) > 1:
        longer = sync if fitted[sync] > fitted[destination] else destination
        fitted[longer] -= 1
    if excess() > 0:
        fitted[sync] = fitted[destination] = 0
    return fitted


def table_rows(status: Status) -> list[TableRow]:
    """Return the rows of all destinations, printable."""
    return [
        TableRow(each.state_word, _cells(status, sync, each), _remarks(each))
        for sync in status.syncs
        for each in sync.destinations
    ]


def status_remarks(status: Status) -> list[str]:
    """Return the lines below the table, printable: about the sources and the daemon."""
    return [*_source_remarks(status), *_comparison_remarks(status), *_daemon_remarks(status)]


def describe_set_aside(name: str, set_aside: SetAside) -> list[str]:
    """Return lines that tell what a destination lacks although all else is confirmed."""
    return [f"{name} is in sync, except for {part}" for part in set_aside.descriptions()]


def describe_unverified(name: str, reason: str) -> str:
    """Return the line that tells why a destination is unverified, and what to do."""
    return f"{name} is {UNVERIFIED}: {reason}"


def _remarks(each: DestinationStatus) -> list[str]:
    parts = [f"except for {part}" for part in each.set_aside.descriptions()]
    parts += [f"{UNVERIFIED}: {each.unverified}"] if each.unverified else []
    return [printable(text) for text in (each.error, *parts) if text]


def summary(status: Status) -> str:
    """Return how many destinations are in which condition."""
    counts = Counter(each.state_word for sync in status.syncs for each in sync.destinations)
    total = counts.total()
    destinations = format_count(total, "destination")
    if counts[Condition.IN_SYNC.value] == total:
        return f"{destinations}, in sync" if total == 1 else f"{destinations}, all in sync"
    parts = (f"{counts[word]} {word}" for word in STATE_WORDS if counts[word])
    return f"{destinations}: {', '.join(parts)}"


def describe_daemon(status: Status) -> str:
    """Return version, pid and uptime of the daemon."""
    uptime = format_duration(status.time - status.started)
    return f"pylsyncd {printable(status.version)}, pid {status.pid}, up {uptime}"


def _header_lines(status: Status, age: float) -> Iterator[str]:
    yield f"{describe_daemon(status)}; {summary(status)}"
    if status.stopped is not None:
        yield f"As of {format_duration(max(0.0, age))} ago: pylsyncd was stopped"
    elif age >= 1.0:
        stale = ": pylsyncd has ended or hangs" if age > STALE_STATUS_AGE else ""
        yield f"As of {format_duration(age)} ago{stale}"
    elif age < -STALE_STATUS_AGE:
        ahead = f"As of {format_duration(-age)} ahead of the clock of this machine"
        yield f"{ahead}: pylsyncd has ended, or a clock is wrong"


def _cells(status: Status, sync: SyncStatus, each: DestinationStatus) -> tuple[str, ...]:
    attempt = each.next_attempt
    return (
        printable(sync.name or sync.source),
        # The first column has the name of the sync.
        printable(each.name.removeprefix(f"{sync.name}/" if sync.name else "")),
        each.state_word,
        format_duration(each.behind) if each.behind > 0.0 else "-",
        "everything" if each.owes_everything else str(each.waiting),
        "-" if each.last_run is None else _format_run(each.last_run, status.time),
        "-" if attempt is None else f"in {format_duration(attempt)}" if attempt > 0.0 else "now",
    )


def _format_run(run: RunStatus, now: float) -> str:
    ago = f"{format_duration(now - run.ended)} ago"
    if run.outcome == "done" or run.code == 0:
        deleted = f", {run.deleted} deleted" if run.deleted else ""
        return f"{ago}, {format_count(run.files, 'file')}{deleted}, {format_size(run.bytes_sent)}"
    if run.code < 0:
        return f"{ago}, ended by signal {-run.code}"
    return f"{ago}, exit {run.code}"


def _format_row(cells: Sequence[str], widths: Sequence[int], colour: str = "") -> str:
    found = []
    for heading, whole, width in zip(HEADINGS, cells, widths, strict=True):
        if not width:
            continue
        cell = shorten(whole, width)
        padding = " " * (width - display_width(cell))
        text = f"\x1b[{colour}m{cell}\x1b[0m" if colour and heading == "STATE" else cell
        found.append(padding + text if heading in _RIGHT_ALIGNED else text + padding)
    return _GAP.join(found).rstrip()


def _comparison_remarks(status: Status) -> Iterator[str]:
    for sync in status.syncs:
        for each in sync.destinations:
            if each.compared_since is not None:
                age = format_duration(status.time - each.compared_since)
                count = each.counts.repaired
                repaired = f", {format_count(count, 'path')} repaired" if count else ""
                yield f"All of {printable(each.name)} was compared within the last {age}{repaired}."


def _daemon_remarks(status: Status) -> Iterator[str]:
    if status.stuck_threads:
        names = ", ".join(map(printable, status.stuck_threads))
        yield (
            f"These threads make no progress: {names}. What is said above of their work is old. "
            "Check that the file systems of the source and of local destinations respond."
        )
    if status.reload_error:
        age = format_duration(status.time - (status.last_reload or status.time))
        yield f"The last reload, {age} ago, has failed: {printable(status.reload_error)}"


def _source_remarks(status: Status) -> Iterator[str]:
    for sync in status.syncs:
        source = printable(sync.source)
        if sync.held:
            yield f"The source {source} is held: {printable(sync.held)}"
        for path, reason in sync.held_subtrees.items():
            yield f"{printable(path)} in {source} is held: {printable(reason)}"
        if not (sync.held or sync.is_watching or status.stopped is not None):
            yield f"The source {source} is not watched yet."
        if sync.oldest_look is not None:
            age = format_duration(sync.oldest_look)
            yield f"All of {source} was scanned within the last {age}."
        if sync.unwatched:
            yield (
                f"Polled for lack of a watch: {format_count(sync.unwatched, 'directory')} of "
                f"{source} (fs.inotify.max_user_watches is {status.watch_limit})."
            )
