"""Moves without any other disturbance than one fault, in the middle of the step that carries them.

Random faults one after the other leave few windows in which moves are known. So the source is
quiet and confirmed before each window of moves, and no scan takes place.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TextIO

from chaos import injection
from chaos.injection import AppliedFault
from chaos.round_setup import Carrier, RoundSetup
from churn.random_moves import RandomMoves
from support import processes
from support.operations import Operation, WorkArea
from support.pausing import MAX_COUNT
from support.watch_method import watch_method

KINDS_IN_A_WINDOW = 5  # of moves, at most
MAX_WINDOWS = 30
FAULT_SHARE = 0.7  # of the windows have a fault
POLL_INTERVAL, POLLS = 0.01, 50  # seconds; polls before the daemon is asked
REACH_TIMEOUT = 60.0
MAX_DELAY = 0.1  # seconds from the release of the step to the fault
MAX_DURATION = 0.6  # seconds that a fault lasts


class MoveCounts(NamedTuple):
    """What happened in the windows of moves."""

    moved: int = 0
    """The files that were moved at the destinations."""
    faults: int = 0
    """The faults in the middle of a step that carries moves."""


class MovePhase:
    """Windows of random moves in a part of the source of their own."""

    def __init__(self, setup: RoundSetup, seed: int, log: TextIO) -> None:
        """Create one; ``log`` gets a line for each operation."""
        self._setup = setup
        self._random = random.Random(seed)
        self._log = log
        inside, outside = setup.source / "moves", setup.outside / "moves"
        inside.mkdir()
        outside.mkdir()
        area = WorkArea(os.fsencode(inside), os.fsencode(outside))
        self._moves = RandomMoves(seed, area)

    def run(self, windows: int, expect_equal: Callable[[], None]) -> MoveCounts:
        """Run so many windows, and on until files were moved and a fault was in the middle.

        Where moves are not reported, it ends after the windows. After each, ``expect_equal`` is
        called when the daemon has no pending changes.
        """
        before, hits = self._setup.moved_files(), 0
        self._setup.configuration.is_calm = True
        self._setup.reload()
        for number in range(MAX_WINDOWS):
            counts = MoveCounts(self._setup.moved_files() - before, hits)
            if number >= windows and (all(counts) or not watch_method.reports_moves):
                return counts
            top = b"%d" % number
            self._do_all(self._moves.fill(top))
            self._setup.wait_until_confirmed()
            if number and self._random.random() < FAULT_SHARE:
                hits += self._move_with_fault(top)
            else:
                self._move(top)
            self._setup.wait_until_confirmed()
            expect_equal()
        return counts

    def _move(self, top: bytes) -> None:
        self._do_all(self._moves.move_filled(top))
        for _ in range(self._random.randrange(1, KINDS_IN_A_WINDOW + 1)):
            self._do_all(self._moves.draw())

    def _move_with_fault(self, top: bytes) -> bool:
        """Move, and inject a fault when a step waits; return True if one has waited."""
        step = self._random.choice(sorted(self._setup.carriers))
        pause = self._setup.pause_point
        pause.pause_at(step, self._random.randint(1, MAX_COUNT))
        self._move(top)
        is_reached = self._wait_for_step()
        if is_reached:
            self._inject(step)
        pause.release()
        return is_reached

    def _inject(self, step: str) -> None:
        carrier, pause = self._setup.carriers[step], self._setup.pause_point
        faults = _FAULTS if carrier.server else _FAULTS[2:]
        if self._random.random() < 0.5:
            pause.release()
            time.sleep(self._random.uniform(0, MAX_DELAY))  # the moment of the fault
        done = self._random.choice(faults)(self._setup, carrier, self._random)
        self._setup.add_to_timeline(f"while {step}: {done.description or 'no fault'}")
        pause.release()
        time.sleep(self._random.uniform(0, MAX_DURATION))  # the duration of the fault
        if done.heal:
            done.heal()
            self._setup.add_to_timeline("healed")

    def _wait_for_step(self) -> bool:
        """Return True if a step waits; False when the moves are confirmed without it."""
        deadline = time.monotonic() + REACH_TIMEOUT
        while time.monotonic() < deadline:
            for _ in range(POLLS):
                if self._setup.pause_point.is_reached:
                    return True
                time.sleep(POLL_INTERVAL)
            if self._setup.is_confirmed():
                return False
        return False

    def _do_all(self, operations: Iterator[Operation]) -> None:
        for operation in operations:
            problem = ""
            try:
                operation(self._moves.area)
            except OSError as error:
                problem = f" -> {type(error).__name__} {error.errno}"
            self._log.write(f"{time.time():.6f} {operation!r}{problem}\n")
        self._log.flush()


def _kill_process(setup: RoundSetup, carrier: Carrier, rng: random.Random) -> AppliedFault:
    """Kill a process of the step, here or at the server."""
    found = processes.descendants(setup.daemon.pid)
    if carrier.server is not None:
        found += processes.descendants(carrier.server.pid)
    found = [process for process in found if process.name in {"rsync", "ssh", "sh"}]
    if not found:
        return AppliedFault()
    victim = rng.choice(found)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGKILL)
    return AppliedFault(f"{victim.name} {victim.pid} is killed")


def _stop_server(_setup: RoundSetup, carrier: Carrier, _rng: random.Random) -> AppliedFault:
    """Stop the server with all its connections."""
    server = carrier.server
    if server is None:
        return AppliedFault()
    connections = processes.descendants(server.pid)
    server.stop()
    for process in connections:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return AppliedFault(f"{type(server).__name__} is down", server.start)


_FAULTS: Sequence[Callable[[RoundSetup, Carrier, random.Random], AppliedFault]] = (
    _kill_process,
    _stop_server,
    lambda setup, _, rng: injection.crash_daemon(setup, rng),
    lambda _setup, carrier, _rng: injection.fill(carrier),
    lambda setup, carrier, _rng: injection.make_read_only(setup, carrier),
    lambda _setup, carrier, _rng: injection.hide(carrier.destination),
)
