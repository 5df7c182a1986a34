"""Faults: each is done to a stage, and is healed later if it lasts.

A fault returns what it did, in words, and how it is healed; the words are empty when it could not
be done just then, and there is nothing to heal when it is over at once.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from chaos.configuration import LONGER_WINDOW, WINDOW
from chaos.stage import Stage
from support import faults, processes
from support.limits import max_queued_events
from support.mounts import Busy
from support.operations import exchange_paths

MOST_EVENTS = 200_000  # a longer queue is not filled
FREE_BLOCK, SMALL_BLOCK = 1 << 20, 1 << 12


class Done(NamedTuple):
    """What was done, and how to heal it."""

    what: str = ""
    heal: Callable[[], None] | None = None


Fault = Callable[[Stage, random.Random], Done]


def kill_rsync(stage: Stage, chance: random.Random) -> Done:
    """Kill an rsync of either end, or an ssh: of the daemon's children, or of our servers'."""
    found = [p for p in processes.descendants(stage.daemon.pid) if p.name in {"rsync", "ssh"}]
    for server in stage.servers:
        if not server.is_running:
            continue
        found += [p for p in processes.descendants(server.pid) if p.name == "rsync"]
    if not found:
        return Done()
    victim = chance.choice(found)
    number = chance.choice((signal.SIGTERM, signal.SIGKILL))
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, number)
    return Done(f"{number.name} for {victim.name} {victim.pid}")


def exit_code(stage: Stage, chance: random.Random) -> Done:
    """Have some runs fail with any exit status; with the work done, or not."""
    code, count = chance.randrange(1, 128), chance.choice((1, 1, 2, 5))
    text = chance.choice((faults.exits, faults.exits, faults.lies))(code)
    for _ in range(count):
        stage.faulty.order(text)
    return Done(f"{count} times: {text}")


def misbehave(stage: Stage, chance: random.Random) -> Done:
    """Have a run hang, flood its stderr, or die."""
    orders = [
        faults.floods(5, chance.randrange(1, 128)),
        faults.floods(5, chance.randrange(1, 128), in_lines=False),
        faults.dies(chance.choice(("KILL", "SEGV", "TERM", "HUP"))),
        "sleep 0.5",
        "sleep 2",
        faults.hangs(),
        faults.hangs(stubbornly=True),
    ]
    text = chance.choice(orders)
    stage.faulty.order(text)
    return Done(text)


def fill_up(stage: Stage, _chance: random.Random) -> Done:
    """Leave no room on the first destination's file system."""
    if stage.small is None:
        return Done()
    filler = stage.small / "filler"
    try:
        with filler.open("xb", buffering=0) as file:
            for block in (FREE_BLOCK, SMALL_BLOCK):
                _fill(file.fileno(), block)
    except OSError:  # read-only, or full already
        return Done()
    return Done("the first destination is full", lambda: filler.unlink(missing_ok=True))


def _fill(descriptor: int, block: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            size = os.fstat(descriptor).st_size
            os.posix_fallocate(descriptor, size, block)


def read_only(stage: Stage, _chance: random.Random) -> Done:
    """Make the first destination's file system read-only."""
    small = stage.small
    if small is None:
        return Done()
    try:
        stage.mounts.remount(small, "ro")
    except Busy:
        return Done()
    return Done("the first destination is read-only", lambda: stage.mounts.remount(small, "rw"))


def absent(stage: Stage, chance: random.Random) -> Done:
    """Rename a destination away; a file in its place keeps it from being created anew."""
    path = os.fsencode(chance.choice(stage.destinations).path)
    away = path + b".away"
    try:
        with open(away, "xb"):
            pass
        exchange_paths(path, away)
    except OSError:  # it is away already, or was not there yet, or its disk is full or read-only
        return Done()

    def heal() -> None:
        exchange_paths(path, away)
        os.unlink(away)

    return Done(f"{os.fsdecode(path)} is absent", heal)


def server_down(stage: Stage, chance: random.Random) -> Done:
    """Stop an sshd or an rsync daemon, and what it serves."""
    up = [server for server in stage.servers if server.is_running]
    if not up:
        return Done()
    server = chance.choice(up)
    server.stop()
    return Done(f"{type(server).__name__} is down", server.start)


def crash(stage: Stage, chance: random.Random) -> Done:
    """Kill the daemon and start it again, sooner or later; what it has started goes on."""
    stage.crash()
    pause = chance.choice((0.0, 0.2, 1.0))
    time.sleep(pause)  # the fault itself: time without a daemon
    stage.restart()
    if chance.random() < 0.7:
        # Else its start has its share of faults, too.
        stage.wait_ready()
    return Done(f"kill -9, and started again after {pause} s")


def orderly_restart(stage: Stage, chance: random.Random) -> Done:
    """Stop the daemon in order, and start it again."""
    # What hangs would else keep it, and the other faults, for the whole grace period.
    stage.stop(in_a_hurry=chance.random() < 0.7)
    pause = chance.choice((0.0, 0.5))
    time.sleep(pause)  # likewise
    stage.restart()
    return Done(f"stopped, and started again after {pause} s")


def overflow(stage: Stage, chance: random.Random) -> Done:
    """Have the kernel drop events: those of the writers, too, while the queue is full."""
    most = max_queued_events()
    if most > MOST_EVENTS:
        return Done()
    paths = [os.fsencode(stage.source / name) for name in ("flood-1", "flood-2")]
    stage.daemon.pause()
    try:
        with contextlib.suppress(OSError):
            for path in paths:
                os.mknod(path, 0o600)
        with contextlib.suppress(OSError):
            # By turns: the kernel merges what is equal to the event before it.
            for _ in range(most // len(paths) + 1):
                for path in paths:
                    os.utime(path, follow_symlinks=False)
        time.sleep(chance.uniform(0.05, 0.6))  # the fault itself: what comes now is dropped
    finally:
        stage.daemon.resume()
    return Done("overflow")


def reload(stage: Stage, chance: random.Random) -> Done:
    """Have the daemon read a configuration that is another one in some respect."""
    wanted = stage.configuration
    if chance.random() < 0.5:
        wanted.window = LONGER_WINDOW if wanted.window == WINDOW else WINDOW
    if chance.random() < 0.3:
        wanted.modify = not wanted.modify
    stage.reload()
    return Done(f"reload: window {wanted.window}, modify {wanted.modify}")


def faulty_reload(stage: Stage, _chance: random.Random) -> Done:
    """Have the daemon read a configuration that has faults: all stays as it was."""
    stage.wait_ready()
    mark = stage.daemon.mark()
    # Only now: a start would not bear it.
    stage.configuration.replace("[sync chaos]\nsource = /nowhere\n")
    stage.hang_up()
    stage.daemon.wait_for("The configuration has errors", after=mark)
    return Done("reload of a configuration with faults")


def left_out(stage: Stage, chance: random.Random) -> Done:
    """Have a destination not served for a while."""
    left = {each.argument for each in stage.destinations} - stage.configuration.left_out
    if len(left) < 2:
        return Done()
    which = chance.choice(sorted(left))
    stage.configuration.left_out.add(which)
    stage.reload()

    def heal() -> None:
        stage.configuration.left_out.remove(which)
        stage.reload()

    return Done(f"{which} is left out", heal)


FAULTS: dict[Fault, int] = {
    kill_rsync: 10,
    exit_code: 6,
    misbehave: 6,
    fill_up: 3,
    read_only: 3,
    absent: 4,
    server_down: 5,
    crash: 5,
    orderly_restart: 2,
    overflow: 4,
    reload: 3,
    faulty_reload: 1,
    left_out: 3,
}
"""All that can happen, and how often."""


class Injector:
    """Draws faults from a seed, does them, and heals each after a while."""

    PAUSES = (0.0, 0.1, 0.3, 0.6, 1.2)  # seconds between two faults
    LASTING = (0.3, 3.0)  # seconds that a fault lasts, at least and at most

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._chance = random.Random(seed)
        self._healing: list[tuple[float, str, Callable[[], None]]] = []
        self.count = 0

    def step(self) -> None:
        """Heal what has lasted long enough, do one fault, and pause."""
        self._stage.check()
        self.heal(until=time.monotonic())
        (fault,) = self._chance.choices(list(FAULTS), list(FAULTS.values()))
        done = fault(self._stage, self._chance)
        if done.what:
            self.count += 1
            self._stage.note(done.what)
        if done.heal:
            over = time.monotonic() + self._chance.uniform(*self.LASTING)
            self._healing.append((over, done.what, done.heal))
        time.sleep(self._chance.choice(self.PAUSES))  # a pace, not a wait

    def heal(self, until: float) -> None:
        """Heal what was to last until some moment."""
        waiting = sorted(self._healing, key=lambda entry: entry[0])
        self._healing = []
        for over, what, heal in waiting:
            if over > until:
                self._healing.append((over, what, heal))
                continue
            try:
                heal()
            except OSError:  # on a disk that another fault has made read-only
                self._healing.append((over + 0.5, what, heal))
            else:
                self._stage.note(f"over: {what}")

    def heal_all(self) -> None:
        """End all faults now, and take back all orders."""
        deadline = time.monotonic() + 10.0
        while self._healing:
            assert time.monotonic() < deadline, f"cannot be healed: {self._healing}"
            self.heal(until=float("inf"))
        self._stage.faulty.clear()
        self._stage.note("all is healed")
