"""The cost of watching, compared with inotifywait: CPU per event; CPU and memory of the start."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import workloads
from kernel_queue import watched_queue, watches
from measure import QUIET_SECONDS, MeasurementFailed, cpu, median, resident_bytes, seconds_text
from peers import Peers, Program, remove
from report import TableRow, is_within, ratio
from watch_limit import watch_limit

FILES = 200_000
EVENTS_PER_FILE = 2  # IN_CREATE and IN_CLOSE_WRITE
DIRECTORIES = 1000
FILES_PER_SECOND = 40_000.0
TRANSACTIONS = 20_000
TRANSACTIONS_PER_SECOND = 10_000.0
EVENTS_PER_TRANSACTION = 5
REPEATS = 3
WINDOW_SECONDS = 2.0
MAX_BYTES_PER_DIRECTORY = 200

COLLECTING = ("-w", "3600", "--max-changes", "100000000")
_OTHER = "pylsyncd, inotify"
MARKED = (*COLLECTING, "--watch", "fanotify")


@dataclass(frozen=True)
class Events:
    """CPU of a running program per event of a paced writer."""

    name: str
    options: tuple[str, ...]
    repeats: int
    what: str
    flushes: bool
    other_options: tuple[str, ...] | None = None
    """Those of another pylsyncd to compare with."""

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the programs in turn, and yield the rows of the table."""
        ours, theirs = _EventFigures("pylsyncd"), _EventFigures("inotifywait")
        others = _EventFigures(_OTHER)
        for _ in range(self.repeats):
            self._pylsyncd(peers, scale, ours, self.options)
            self._inotifywait(peers, scale, theirs)
            if self.other_options is not None:
                self._pylsyncd(peers, scale, others, self.other_options)
        mine, yours = median(ours.own), median(theirs.own)
        yield TableRow(
            self.name,
            "CPU per event",
            seconds_text(mine) if ours.own else "-",
            "inotifywait -m",
            seconds_text(yours) if theirs.own else "-",
            ratio(mine, yours) if ours.own and theirs.own else "-",
            "<= 1 x",
            is_within(mine, yours) if theirs.own else "-",
            f"{ours.note()}; {theirs.note()}",
        )
        if self.other_options is not None:
            yield _beside_other(self.name, "CPU per event", mine, median(others.own))
        if self.flushes:
            rsync = seconds_text(median(ours.children)) if ours.own else "-"
            yield TableRow(self.name, "CPU of rsync per event", rsync, "-", "-", "-")

    def _pylsyncd(
        self, peers: Peers, scale: float, figures: "_EventFigures", options: tuple[str, ...]
    ) -> None:
        source, destination = _fresh(peers)
        workloads.make_tree(source, DIRECTORIES, 0)
        workloads.make_tree(destination, DIRECTORIES, 0)
        kill = not self.flushes
        # A program that flushes is also idle between two windows.
        quiet = QUIET_SECONDS + (WINDOW_SECONDS if self.flushes else 0)
        try:
            with peers.start_pylsyncd(source, [destination], *options, kill=kill) as program:
                figures.measure(program, source, int(FILES * scale), quiet)
        except MeasurementFailed as failure:
            figures.failure = str(failure)
        if self.flushes:
            arrived = sum(len(names) for _, _, names in os.walk(destination))
            missing = int(FILES * scale) - arrived
            if missing:
                figures.failure += f" {missing:,} files were not copied"

    def _inotifywait(self, peers: Peers, scale: float, figures: "_EventFigures") -> None:
        source, _ = _fresh(peers)
        workloads.make_tree(source, DIRECTORIES, 0)
        try:
            with peers.start_inotifywait(source) as program:
                figures.measure(program, source, int(FILES * scale))
        except MeasurementFailed as failure:
            figures.failure = str(failure)


@dataclass(frozen=True)
class Noise:
    """CPU of a running program per event outside the source, on the same file system."""

    name: str = "noise-marked"
    what: str = (
        f"{TRANSACTIONS:,} transactions of a database beside the source at"
        f" {TRANSACTIONS_PER_SECOND:,.0f} a second, watched by fanotify; inotifywait watches the"
        " database"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure both programs in turn, and yield the rows of the table."""
        source, destination = _fresh(peers)
        noise = f"{peers.scratch}/noise"
        remove(noise)
        os.mkdir(noise)
        transactions = int(TRANSACTIONS * scale)
        ours, theirs, whole, note = [], [], [], ""
        for _ in range(REPEATS):
            with peers.start_pylsyncd(source, [destination], *MARKED, kill=True) as program:
                if watches(program.pid):
                    note = "fanotify is not possible here"
                used = _noise(program, noise, transactions)
                ours.append(used / transactions / EVENTS_PER_TRANSACTION)
                whole.append(used)
            if peers.inotifywait:
                with peers.start_inotifywait(noise) as program:
                    used = _noise(program, noise, transactions)
                    theirs.append(used / transactions / EVENTS_PER_TRANSACTION)
        mine, yours = median(ours), median(theirs)
        yield TableRow(
            self.name,
            "CPU per foreign event",
            seconds_text(mine),
            "inotifywait -m",
            seconds_text(yours) if theirs else "-",
            ratio(mine, yours) if theirs else "-",
            "<= 1 x",
            is_within(mine, yours) if theirs else "-",
            note or f"pylsyncd: {seconds_text(median(whole))} for all of them",
        )


def _noise(program: Program, directory: str, transactions: int) -> float:
    """Return the seconds of CPU that a program takes while a database is written."""
    before = cpu(program.pid)
    workloads.write_transactions(directory, transactions, TRANSACTIONS_PER_SECOND)
    program.wait_idle()
    return (cpu(program.pid) - before).own


class _EventFigures:
    """Seconds of CPU per event of one program, and the fill of its queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.own: list[float] = []
        self.children: list[float] = []
        self.most_events = 0
        self.failure = ""

    def measure(
        self, program: Program, source: str, files: int, quiet: float = QUIET_SECONDS
    ) -> None:
        """Run the writer, and add the usage of the program."""
        before = cpu(program.pid)
        with watched_queue(program.pid) as fill:
            workloads.create_and_close(source, DIRECTORIES, files, FILES_PER_SECOND)
        program.wait_idle(quiet=quiet)
        used = cpu(program.pid) - before
        self.own.append(used.own / files / EVENTS_PER_FILE)
        self.children.append(used.children / files / EVENTS_PER_FILE)
        self.most_events = max(self.most_events, fill.most_events)
        self.failure = self.failure or fill.warning()

    def note(self) -> str:
        """Return a failure, or the largest number of waiting events."""
        return f"{self.name}: {self.failure or f'{self.most_events:,} events waited at the most'}"


@dataclass(frozen=True)
class WatchSetup:
    """CPU and memory of a start on a large tree minus those of a start on an empty one."""

    name: str
    make: Callable[[str, float], int]
    what: str
    options: tuple[str, ...] = COLLECTING
    other_options: tuple[str, ...] | None = None
    """Those of another pylsyncd to compare with."""
    repeats: int = REPEATS
    cpu_goal: float = 1.2
    """A multiple of what inotifywait takes."""

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the programs in turn, and yield the rows of the table."""
        source, destination = _fresh(peers)
        os.mkdir(f"{peers.scratch}/empty")
        directories = self.make(source, scale)
        ours, theirs, others, note = [], [], [], ""
        for _ in range(self.repeats):
            try:
                ours.append(_growth(peers, source, destination, directories, self.options))
                if self.other_options is not None:
                    others.append(
                        _growth(peers, source, destination, directories, self.other_options)
                    )
            except MeasurementFailed as failure:
                note = f"pylsyncd: {failure}"
            if peers.inotifywait:
                theirs.append(_growth(peers, source, None, directories, ()))
        cpu_pair = [median([used for used, _ in pairs]) for pairs in (ours, theirs)]
        size_pair = [median([size / directories for _, size in pairs]) for pairs in (ours, theirs)]
        yield TableRow(
            self.name,
            f"CPU, {directories:,} directories",
            seconds_text(cpu_pair[0]) if ours else "-",
            "inotifywait -m",
            seconds_text(cpu_pair[1]) if theirs else "-",
            ratio(*cpu_pair) if ours and theirs else "-",
            f"<= {self.cpu_goal:g} x",
            is_within(cpu_pair[0], self.cpu_goal * cpu_pair[1]) if theirs else "-",
            note,
        )
        yield TableRow(
            self.name,
            "memory per directory",
            f"{size_pair[0]:.0f} B" if ours else "-",
            "inotifywait -m",
            f"{size_pair[1]:.0f} B" if theirs else "-",
            ratio(*size_pair) if ours and theirs else "-",
            f"<= {MAX_BYTES_PER_DIRECTORY} B",
            is_within(size_pair[0], MAX_BYTES_PER_DIRECTORY),
            note,
        )
        if others:
            used = median([used for used, _ in others])
            yield _beside_other(self.name, f"CPU, {directories:,} directories", cpu_pair[0], used)
            size = median([size / directories for _, size in others])
            yield TableRow(
                self.name,
                "memory per directory",
                f"{size_pair[0]:.0f} B",
                _OTHER,
                f"{size:.0f} B",
                ratio(size_pair[0], size),
            )


@dataclass(frozen=True)
class ManyWatches(WatchSetup):
    """The same with more watches than are permitted by default."""

    count: int = 0
    """How many watches it needs."""

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure the programs in turn, if there are enough watches."""
        if (limit := watch_limit()) > self.count * scale:
            yield from super().run(peers, scale)
            return
        note = f"max_user_watches is {limit:,}: --raise-limit raises it meanwhile, as root"
        yield TableRow(self.name, "memory per directory", "-", "-", "-", "-", note=note)


def _beside_other(name: str, measure: str, mine: float, others: float) -> TableRow:
    return TableRow(
        name, measure, seconds_text(mine), _OTHER, seconds_text(others), ratio(mine, others)
    )


def _growth(
    peers: Peers,
    source: str,
    destination: str | None,
    directories: int,
    options: tuple[str, ...],
) -> tuple[float, float]:
    used, size = [], []
    for top in (f"{peers.scratch}/empty", source):
        started = (
            peers.start_pylsyncd(top, [destination], *options)
            if destination
            else peers.start_inotifywait(top)
        )
        with started as program:
            used.append(cpu(program.pid).total)
            size.append(resident_bytes(program.pid))
            if options == MARKED and watches(program.pid):
                raise MeasurementFailed("fanotify is not possible here")
            if top == source and options != MARKED and watches(program.pid) <= directories:
                raise MeasurementFailed(
                    f"{watches(program.pid):,} watches for {directories + 1:,} directories"
                )
    return round(used[1] - used[0], 6), size[1] - size[0]


def _fresh(peers: Peers) -> tuple[str, str]:
    paths = f"{peers.scratch}/source", f"{peers.scratch}/destination"
    for path in (*paths, f"{peers.scratch}/empty"):
        remove(path)
    for path in paths:
        os.mkdir(path)
    return paths


CASES = (
    Events(
        "events-collect",
        COLLECTING,
        REPEATS,
        f"{FILES:,} files created and closed over {DIRECTORIES:,} directories at"
        f" {FILES_PER_SECOND:,.0f} a second, the window never closes",
        flushes=False,
    ),
    Events(
        "events-marked",
        MARKED,
        REPEATS,
        "events-collect with fanotify, beside both inotifywait and pylsyncd with inotify",
        flushes=False,
        other_options=COLLECTING,
    ),
    Noise(),
    Events(
        "events-flush",
        ("-w", f"{WINDOW_SECONDS:g}"),
        1,
        "the same with a window of 2 s: own CPU with lists and flushes, rsync's apart",
        flushes=True,
    ),
    WatchSetup(
        "arm-wide",
        lambda root, scale: workloads.make_wide(root, int(1000 * scale), 99),
        "1,000 directories with 99 in each; whole start less a start on an empty directory",
    ),
    ManyWatches(
        "arm-million",
        lambda root, scale: workloads.make_levels(root, int(100 * scale), 100),
        "arm-wide with 1,010,100 directories, 100 in each of three levels",
        repeats=1,
        cpu_goal=1.0,
        count=1_050_000,
    ),
    WatchSetup(
        "arm-marked",
        lambda root, scale: workloads.make_wide(root, int(1000 * scale), 99),
        "arm-wide with fanotify, beside both inotifywait and pylsyncd with inotify",
        MARKED,
        COLLECTING,
    ),
    WatchSetup(
        "arm-deep",
        lambda root, scale: workloads.make_deep(root, int(1000 * scale), 25, 4),
        "1,000 chains of 25 directories with 4 files in each; likewise",
    ),
)
