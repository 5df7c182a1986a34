"""Faults, which are injected into a round and healed later if they last.

A fault returns its description and a function that heals it. The description is empty if the
fault is impossible at that time; a fault that is over at once has nothing to heal.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from chaos.configuration import LONGER_WINDOW, WINDOW
from chaos.round_setup import Carrier, RoundSetup
from churn.eager_daemon import RENAME
from support import faults, processes
from support.destinations import Destination
from support.limits import max_queued_events
from support.mounts import MountBusy
from support.operations import exchange_paths

MAX_QUEUED_EVENTS = 200_000  # a longer queue is not filled up
FREE_BLOCK, SMALL_BLOCK = 1 << 20, 1 << 12


class AppliedFault(NamedTuple):
    """The description of a fault, and the function that heals it."""

    description: str = ""
    heal: Callable[[], None] | None = None


Fault = Callable[[RoundSetup, random.Random], AppliedFault]


def kill_rsync(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Kill an rsync or ssh of the daemon, or an rsync of a server."""
    found = [p for p in processes.descendants(setup.daemon.pid) if p.name in {"rsync", "ssh"}]
    for server in setup.servers:
        if not server.is_running:
            continue
        found += [p for p in processes.descendants(server.pid) if p.name == "rsync"]
    if not found:
        return AppliedFault()
    victim = rng.choice(found)
    number = rng.choice((signal.SIGTERM, signal.SIGKILL))
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, number)
    return AppliedFault(f"{number.name} for {victim.name} {victim.pid}")


def fail_runs(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Make some runs exit with a random status, with or without doing the work."""
    code, count = rng.randrange(1, 128), rng.choice((1, 1, 2, 5))
    text = rng.choice((faults.exit_with, faults.exit_with, faults.work_and_exit_with))(code)
    for _ in range(count):
        setup.faulty_rsync.add_fault(text)
    return AppliedFault(f"{count} times: {text}")


def misbehave(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Make a run hang, flood its standard error, or die."""
    orders = [
        faults.flood_stderr(5, rng.randrange(1, 128)),
        faults.flood_stderr(5, rng.randrange(1, 128), in_lines=False),
        faults.kill_itself(rng.choice(("KILL", "SEGV", "TERM", "HUP"))),
        "sleep 0.5",
        "sleep 2",
        faults.hang(),
        faults.hang(ignore_sigterm=True),
    ]
    text = rng.choice(orders)
    setup.faulty_rsync.add_fault(text)
    return AppliedFault(text)


def fill_disk(setup: RoundSetup, _rng: random.Random) -> AppliedFault:
    """Fill the first destination's file system."""
    return fill(setup.carriers[RENAME])


def fill(carrier: Carrier) -> AppliedFault:
    """Fill the file system of a destination."""
    if carrier.disk is None:
        return AppliedFault()
    filler = carrier.disk / "filler"
    try:
        with filler.open("xb", buffering=0) as file:
            for block in (FREE_BLOCK, SMALL_BLOCK):
                _fill(file.fileno(), block)
    except OSError:  # read-only, or full already
        return AppliedFault()
    return AppliedFault(f"{carrier.name} is full", lambda: filler.unlink(missing_ok=True))


def _fill(descriptor: int, block: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            size = os.fstat(descriptor).st_size
            os.posix_fallocate(descriptor, size, block)


def remount_read_only(setup: RoundSetup, _rng: random.Random) -> AppliedFault:
    """Remount the first destination's file system read-only."""
    return make_read_only(setup, setup.carriers[RENAME])


def make_read_only(setup: RoundSetup, carrier: Carrier) -> AppliedFault:
    """Remount the file system of a destination read-only."""
    disk = carrier.disk
    if disk is None:
        return AppliedFault()
    try:
        setup.mounts.remount(disk, "ro")
    except MountBusy:
        return AppliedFault()
    return AppliedFault(f"{carrier.name} is read-only", lambda: setup.mounts.remount(disk, "rw"))


def rename_destination(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Rename a destination; a file in its place prevents that it is created again."""
    return hide(rng.choice(setup.destinations))


def hide(destination: Destination) -> AppliedFault:
    """Put a file into the place of a destination."""
    path = destination.path
    away = path + b".away"
    try:
        with open(away, "xb"):
            pass
        exchange_paths(path, away)
    except OSError:  # already renamed, not created yet, or on a full or read-only disk
        return AppliedFault()

    def heal() -> None:
        exchange_paths(path, away)
        os.unlink(away)

    return AppliedFault(f"{os.fsdecode(path)} is absent", heal)


def stop_server(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Stop an sshd or an rsync daemon with its connections."""
    up = [server for server in setup.servers if server.is_running]
    if not up:
        return AppliedFault()
    server = rng.choice(up)
    server.stop()
    return AppliedFault(f"{type(server).__name__} is down", server.start)


def crash_daemon(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Kill the daemon and restart it after a pause; its children continue."""
    setup.crash()
    pause = rng.choice((0.0, 0.2, 1.0))
    time.sleep(pause)  # the fault: a time without a daemon
    setup.restart()
    if rng.random() < 0.7:
        # Otherwise the next fault may hit its start.
        setup.wait_ready()
    return AppliedFault(f"kill -9, restart after {pause} s")


def restart_daemon(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Stop the daemon, and restart it after a pause."""
    # Otherwise a hanging rsync would delay the stop for the whole grace period.
    setup.stop(twice=rng.random() < 0.7)
    pause = rng.choice((0.0, 0.5))
    time.sleep(pause)  # the fault: a time without a daemon
    setup.restart()
    return AppliedFault(f"stop, restart after {pause} s")


def overflow_queue(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Make the kernel drop events, including those of the writers, by a full queue."""
    most = max_queued_events()
    if most > MAX_QUEUED_EVENTS:
        return AppliedFault()
    paths = [os.fsencode(setup.source / name) for name in ("flood-1", "flood-2")]
    setup.daemon.pause()
    try:
        with contextlib.suppress(OSError):
            for path in paths:
                os.mknod(path, 0o600)
        with contextlib.suppress(OSError):
            # Alternately, because the kernel merges an event with an identical previous one.
            for _ in range(most // len(paths) + 1):
                for path in paths:
                    os.utime(path, follow_symlinks=False)
        time.sleep(rng.uniform(0.05, 0.6))  # the fault: events are dropped
    finally:
        setup.daemon.resume()
    return AppliedFault("overflow")


def reload_configuration(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Reload a configuration with random changes."""
    wanted = setup.configuration
    if rng.random() < 0.5:
        wanted.window = LONGER_WINDOW if wanted.window == WINDOW else WINDOW
    if rng.random() < 0.3:
        wanted.modify = not wanted.modify
    setup.reload()
    return AppliedFault(f"reload: window {wanted.window}, modify {wanted.modify}")


def reload_faulty_configuration(setup: RoundSetup, _rng: random.Random) -> AppliedFault:
    """Reload an invalid configuration, which must change nothing."""
    setup.wait_ready()
    mark = setup.daemon.log_length()
    # Not before: a start with an invalid file would fail.
    setup.configuration.replace("[sync chaos]\nsource = /nowhere\n")
    setup.send_sighup()
    setup.daemon.wait_for("The configuration has errors", after=mark)
    # The daemon may not have read the file of a reload before that one.
    setup.reload()
    return AppliedFault("reload of an invalid configuration")


def remove_destination_for_a_while(setup: RoundSetup, rng: random.Random) -> AppliedFault:
    """Remove a destination from the configuration until healed."""
    left = {each.argument for each in setup.destinations} - setup.configuration.omitted_destinations
    if len(left) < 2:
        return AppliedFault()
    which = rng.choice(sorted(left))
    setup.configuration.omitted_destinations.add(which)
    setup.reload()

    def heal() -> None:
        setup.configuration.omitted_destinations.remove(which)
        setup.reload()

    return AppliedFault(f"{which} is removed", heal)


FAULTS: dict[Fault, int] = {
    kill_rsync: 10,
    fail_runs: 6,
    misbehave: 6,
    fill_disk: 3,
    remount_read_only: 3,
    rename_destination: 4,
    stop_server: 5,
    crash_daemon: 5,
    restart_daemon: 2,
    overflow_queue: 4,
    reload_configuration: 3,
    reload_faulty_configuration: 1,
    remove_destination_for_a_while: 3,
}
"""The weights of the faults."""


class Injector:
    """Injects random faults from a seed, and heals each after a while."""

    FAULT_INTERVALS = (0.0, 0.1, 0.3, 0.6, 1.2)  # seconds between two faults
    FAULT_DURATION = (0.3, 3.0)  # seconds that a fault lasts, at least and at most

    def __init__(self, setup: RoundSetup, seed: int) -> None:
        self._setup = setup
        self._rng = random.Random(seed)
        self._healing: list[tuple[float, str, Callable[[], None]]] = []
        self.count = 0

    def inject_one(self) -> None:
        """Heal the faults that are due, inject one, and pause."""
        self._setup.check_daemon_runs()
        self.heal_due(until=time.monotonic())
        (fault,) = self._rng.choices(list(FAULTS), list(FAULTS.values()))
        done = fault(self._setup, self._rng)
        if done.description:
            self.count += 1
            self._setup.add_to_timeline(done.description)
        if done.heal:
            due_at = time.monotonic() + self._rng.uniform(*self.FAULT_DURATION)
            self._healing.append((due_at, done.description, done.heal))
        time.sleep(self._rng.choice(self.FAULT_INTERVALS))  # the pace of faults

    def heal_due(self, until: float) -> None:
        """Heal the faults that last until then or less."""
        waiting = sorted(self._healing, key=lambda entry: entry[0])
        self._healing = []
        for due_at, description, heal in waiting:
            if due_at > until:
                self._healing.append((due_at, description, heal))
                continue
            try:
                heal()
            except OSError:  # on a disk that another fault has made read-only
                self._healing.append((due_at + 0.5, description, heal))
            else:
                self._setup.add_to_timeline(f"healed: {description}")

    def heal_all(self) -> None:
        """Heal all faults now, and discard those that no run has taken."""
        deadline = time.monotonic() + 10.0
        while self._healing:
            assert time.monotonic() < deadline, f"cannot be healed: {self._healing}"
            self.heal_due(until=float("inf"))
        self._setup.faulty_rsync.discard_faults()
        self._setup.add_to_timeline("all faults are healed")
