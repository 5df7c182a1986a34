"""Many syncs in one process, beside a single one: what each costs."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from measure import MeasurementFailed, cpu, resident_bytes, seconds_text, stopwatch, wait_until
from peers import Peers, Program, remove
from report import TableRow, is_within

COUNT = 200
DIRECTORIES = 10
WINDOW_SECONDS = 1.0
IDLE_SECONDS = 20.0
DEADLINE_SECONDS = 300.0

MAX_IDLE_SHARE = 0.05
MAX_KIBIBYTES = 400.0


@dataclass(frozen=True, slots=True)
class _Figures:
    """What a program with some syncs has taken; seconds, and bytes of memory."""

    start: float
    start_cpu: float
    memory: int
    idle_share: float
    threads: int
    files: int
    copied: float
    copied_cpu: float
    reload: float = 0.0
    stop: float = 0.0


class _Trees:
    """Sources and destinations, each with some directories."""

    def __init__(self, scratch: str, count: int) -> None:
        for name in os.listdir(scratch):
            remove(f"{scratch}/{name}")
        self.sources = [f"{scratch}/sources/{number}" for number in range(count)]
        self.destinations = [f"{scratch}/copies/{number}" for number in range(count)]
        for top in (*self.sources, *self.destinations):
            for name in range(DIRECTORIES):
                os.makedirs(f"{top}/{name}")

    def write(self, name: str) -> None:
        """Write a file in each source."""
        for source in self.sources:
            with open(f"{source}/0/{name}", "w", encoding="ascii") as file:
                file.write(name)

    def are_copied(self, name: str) -> bool:
        """Return True if each destination has the file."""
        return all(os.path.exists(f"{path}/0/{name}") for path in self.destinations)


@dataclass(frozen=True)
class ManySyncs:
    """One process with 200 syncs, then with one, and lsyncd with as many."""

    name: str = "many-syncs"
    what: str = (
        f"{COUNT} syncs of {DIRECTORIES + 1} directories in one process: start, {IDLE_SECONDS:g} s"
        " of nothing, a change in each, reload without half of them, stop"
    )

    def run(self, peers: Peers, scale: float) -> Iterator[TableRow]:
        """Measure all, and yield the rows of the table."""
        count = max(2, int(COUNT * scale))
        many, single = _measure_ours(peers, count), _measure_ours(peers, 1)
        theirs, failure = None, ""
        try:
            theirs = _measure_lsyncd(peers, count)
        except MeasurementFailed as error:
            failure = str(error)
        each = (many.memory - single.memory) / (count - 1) / 1024
        yield self._row("memory for each sync", f"{each:.0f} KiB", "lsyncd, in all", failure,
                        f"{theirs.memory / 1024 / 1024:.0f} MiB" if theirs else "",
                        goal=f"<= {MAX_KIBIBYTES:.0f} KiB", met=each <= MAX_KIBIBYTES,
                        note=f"{many.memory / 1024 / 1024:.0f} MiB in all")  # fmt: skip
        yield self._row("share of a processor when idle", f"{many.idle_share:.2%}", "lsyncd",
                        failure, f"{theirs.idle_share:.2%}" if theirs else "",
                        goal=f"<= {MAX_IDLE_SHARE:.0%}", met=many.idle_share <= MAX_IDLE_SHARE,
                        note=f"one sync: {single.idle_share:.2%}")  # fmt: skip
        for what, name in (
            ("start to watching", "start"), ("the same, CPU", "start_cpu"),
            ("a change in each, until copied", "copied"), ("the same, CPU in all", "copied_cpu"),
        ):  # fmt: skip
            yield self._row(what, seconds_text(getattr(many, name)), "lsyncd", failure,
                            seconds_text(getattr(theirs, name)) if theirs else "",
                            note=f"one sync: {seconds_text(getattr(single, name))}")  # fmt: skip
        yield self._row("reload without half of them", seconds_text(many.reload))
        yield self._row("stop", seconds_text(many.stop))
        yield self._row("threads, open files", f"{many.threads}, {many.files}",
                        note=f"one sync: {single.threads}, {single.files}")  # fmt: skip

    def _row(  # noqa: PLR0913  # each is a cell
        self, measure: str, ours: str, peer: str = "-", failure: str = "", theirs: str = "-",
        *, goal: str = "-", met: bool | None = None, note: str = "",
    ) -> TableRow:  # fmt: skip
        verdict = "-" if met is None else is_within(0.0 if met else 1.0, 0.5)
        return TableRow(self.name, measure, ours, peer, failure or theirs, "-", goal, verdict, note)


def _measure_ours(peers: Peers, count: int) -> _Figures:
    trees = _Trees(peers.scratch, count)
    file = f"{peers.scratch}/pylsyncd.conf"
    _write_configuration(file, trees, range(count))
    with stopwatch() as elapsed:
        program = peers.pylsyncd_with_file(file)
        with _stopped(program):
            figures = _measure(program, trees, elapsed, "watching ", count)
            _write_configuration(file, trees, range(count // 2, count))
            with stopwatch() as reload_time:
                program.process.send_signal(signal.SIGHUP)
                program.wait_logged("Configuration reloaded")
            reload = reload_time()
            with stopwatch() as stop_time:
                program.stop()
            fields = {name: getattr(figures, name) for name in _Figures.__slots__}
            return _Figures(**{**fields, "reload": reload, "stop": stop_time()})


def _measure_lsyncd(peers: Peers, count: int) -> _Figures:
    trees = _Trees(peers.scratch, count)
    with stopwatch() as elapsed:
        program = peers.lsyncd_program_of_many(trees.sources, trees.destinations, WINDOW_SECONDS)
        with _stopped(program):
            return _measure(program, trees, elapsed, "Startup of", count)


@contextlib.contextmanager
def _stopped(program: Program) -> Iterator[None]:
    try:
        yield
    finally:
        program.stop()


def _measure(
    program: Program, trees: _Trees, elapsed: Callable[[], float], ready: str, count: int
) -> _Figures:
    program.wait_logged(ready, count)
    start, start_cpu = elapsed(), cpu(program.pid).total
    trees.write("first")
    _wait_copied(program, trees, "first")
    program.wait_idle(quiet=0.1)
    before = cpu(program.pid).total
    time.sleep(IDLE_SECONDS)
    idle_share = (cpu(program.pid).total - before) / IDLE_SECONDS
    memory = resident_bytes(program.pid)
    threads, files = (len(os.listdir(f"/proc/{program.pid}/{name}")) for name in ("task", "fd"))
    before = cpu(program.pid).total
    with stopwatch() as copying:
        trees.write("second")
        _wait_copied(program, trees, "second")
        copied = copying()
    program.wait_idle(quiet=0.1)
    copied_cpu = cpu(program.pid).total - before
    return _Figures(start, start_cpu, memory, idle_share, threads, files, copied, copied_cpu)


def _wait_copied(program: Program, trees: _Trees, name: str) -> None:
    def are_copied() -> bool:
        program.check()
        return trees.are_copied(name)

    if not wait_until(are_copied, DEADLINE_SECONDS):
        raise MeasurementFailed(f"not copied in {DEADLINE_SECONDS:.0f} s")


def _write_configuration(file: str, trees: _Trees, numbers: Sequence[int]) -> None:
    with open(file, "w", encoding="utf-8") as text:
        print(f"[pylsyncd]\nwindow = {WINDOW_SECONDS:g}", file=text)
        for number in numbers:
            print(
                f"[sync s{number}]\nsource = {trees.sources[number]}/./\n"
                f"destinations = {trees.destinations[number]}/", file=text,
            )  # fmt: skip


CASES = (ManySyncs(),)
