"""Wires the parts of the daemon and owns their start, their timing and their end."""

import logging
import math
import random
import signal
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto

from pylsyncd import __version__
from pylsyncd.destination.beginning import moments
from pylsyncd.destination.crew import Crew
from pylsyncd.destination.orders import Order
from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changes, shown
from pylsyncd.model.errors import WatchError
from pylsyncd.model.optimizer import optimize
from pylsyncd.rsync.filelist import count_entries
from pylsyncd.settings.settings import Settings
from pylsyncd.source.buffer import Buffer
from pylsyncd.source.guard import Guard
from pylsyncd.source.links import Links
from pylsyncd.source.lookout import Lookout
from pylsyncd.system import clock
from pylsyncd.system.heartbeat import Heartbeat
from pylsyncd.system.inbox import Inbox
from pylsyncd.system.logs import NOTICE, counted
from pylsyncd.system.part import Pulse

log = logging.getLogger(__name__)

# Seconds: how long a flush waits for the watcher to hand over what it has, and how often the
# source and the parts are looked at.
_HAND_OVER = 5.0
_ROUND = 2.0
_MOMENT = 0.2

# How much earlier or later a full sync may begin, as a share of the time between two.
_JITTER = 0.1


class _Call(Enum):
    """What the main thread is woken for, besides a signal or a part's name that has failed."""

    OPENED = auto()
    FILLED = auto()
    ROOT_LOST = auto()


class Service:
    """One source and its destinations. Made and run by the main thread, which takes the signals.

    Raises UsageError if the state directory cannot be used, or another pylsyncd is in the way.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shown = paths.show(settings.source.path)
        self._inbox: Inbox[_Call | str] = Inbox()
        self._buffer = Buffer(
            settings.max_changes,
            lambda: self._inbox.put(_Call.OPENED),
            lambda: self._inbox.put(_Call.FILLED),
        )
        rules = settings.rsync.rules
        self._links = Links(settings.source.path, rules)
        self._guard = Guard(settings.source.path, rules)
        self._crew = Crew(settings, self._guard, self._inbox)
        self._pulse = Pulse()
        self._heartbeat = Heartbeat(self._inbox.put)
        self._lookout = Lookout(
            settings, self._guard, self._buffer, self._heartbeat,
            lambda: self._inbox.put(_Call.ROOT_LOST),
        )  # fmt: skip
        self._until = clock.now()
        self._window_closes = math.inf
        self._next_round = math.inf
        self._next_full_sync = math.inf
        self._status = 0

    def run(self) -> int:
        """Watch and sync until told to stop; return the exit status.

        Raises WatchError if the source cannot be watched.
        """
        self._inbox.catch(
            [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT]
        )
        try:
            self._run()
        finally:
            self._crew.close()
            self._guard.close()
            self._inbox.close()
        return self._status

    def _run(self) -> None:
        if not self._wait_for_the_source():
            return
        self._begin()
        if self._settings.once:
            self._crew.finish(math.inf)
            self._status |= int(any(worker.debt for worker in self._crew.workers))
        else:
            self._serve()
            self._stop()
        self._status |= int(self._crew.has_failed)

    # Start

    def _wait_for_the_source(self) -> bool:
        """Wait until the file system that the source was on is mounted; tell whether to go on."""
        is_told = False
        while point := self._guard.missing_mount(self._crew.remembered_mount_points):
            reason = f"nothing is mounted at {paths.show(point)}, where it was in the last run"
            if self._settings.once:
                raise WatchError(f"The source {self._shown} is not used: {reason}.")
            if not is_told:
                self._lookout.tell_held(reason)
                is_told = True
            call = self._inbox.get(_ROUND)
            if call in {signal.SIGTERM, signal.SIGINT}:
                return False
            if call is signal.SIGUSR2:
                break
        return True

    def _begin(self) -> None:
        settings = self._settings
        try:
            self._guard.accept(self._crew.remembered_mounts)
            is_vacant = self._guard.is_vacant()
        except OSError as error:
            raise WatchError(
                f"The source {self._shown} cannot be watched: {error.strerror}."
            ) from None
        forced = "initial sync" if settings.initial_sync or settings.once else ""
        beginnings = self._crew.begin(forced=forced, is_vacant=is_vacant)
        start = self._until = clock.now()
        caught_up: Mapping[int, Changes] = {}
        if not settings.once:
            scans = [each.scanned for each in beginnings if each.scanned is not None]
            earliest = min(scans, key=lambda moment: moment.wall, default=None)
            watching = self._lookout.watch(moments(beginnings), earliest)
            caught_up = watching.tracker.recovery.caught_up
            watching.tracker.recovery.caught_up = {}
            self._announce(watching.tracker.directories)
        self._lookout.tell_mounts()
        self._crew.start(beginnings, caught_up, start)

    def _announce(self, directories: int) -> None:
        names = ", ".join(destination.name for destination in self._settings.destinations)
        log.log(
            NOTICE, "pylsyncd %s watching %s (%s) for %s, window %g s",
            __version__, self._shown, counted(directories, "directory"), names,
            self._settings.window,
        )  # fmt: skip

    # The main loop

    def _serve(self) -> None:
        self._next_round = time.monotonic() + _ROUND
        self._plan_full_sync()
        self._heartbeat.listen_to_main(self._pulse)
        for worker in self._crew.workers:
            self._heartbeat.listen(worker)
        self._heartbeat.start()
        while True:
            next_time = min(self._window_closes, self._next_round, self._next_full_sync)
            with self._pulse.waiting():
                call = self._inbox.get(max(0.0, next_time - time.monotonic()))
            if call in {signal.SIGTERM, signal.SIGINT}:
                log.log(NOTICE, "stopping (%s)", signal.Signals(call).name)
                return
            if isinstance(call, str):
                self._status = 1
            elif call is not None:
                self._answer(call)
            if self._status:
                return
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if now >= self._window_closes:
            self._flush()
        if now >= self._next_full_sync:
            self._plan_full_sync()
            self._crew.put(Order(EVERYTHING, self._until, titles=("full sync",)))
        if now >= self._next_round:
            self._next_round = now + _ROUND
            self._look_after_the_source()
            self._learn_links()

    def _answer(self, call: _Call | signal.Signals) -> None:
        full_sync = Order(EVERYTHING, self._until, titles=("full sync",), is_urgent=True)
        answers: dict[_Call | signal.Signals, Callable[[], None]] = {
            _Call.OPENED: self._open_window,
            _Call.FILLED: self._flush_if_full,
            _Call.ROOT_LOST: self._look_soon,
            signal.SIGUSR1: lambda: self._flush(is_urgent=True),
            signal.SIGUSR2: self._release,
            signal.SIGHUP: lambda: self._crew.put(full_sync),
        }
        answers[call]()

    def _look_soon(self) -> None:
        # Who renames another directory into the source's place is not done yet.
        self._next_round = min(self._next_round, time.monotonic() + _MOMENT)

    def _open_window(self) -> None:
        if self._buffer and self._window_closes == math.inf:
            self._window_closes = time.monotonic() + self._settings.window

    def _flush_if_full(self) -> None:
        if self._buffer.is_full:
            self._flush()

    def _plan_full_sync(self) -> None:
        interval = self._settings.full_sync_interval
        if interval:
            jitter = 1.0 + _JITTER * (2.0 * random.random() - 1.0)  # noqa: S311  # no secret
            self._next_full_sync = time.monotonic() + interval * jitter

    def _learn_links(self) -> None:
        """Take what scans have found of files with several names."""
        if (watching := self._lookout.watching) is not None:
            while not watching.tracker.linked.empty():
                self._links.learn(watching.tracker.linked.get())

    def _flush(self, *, is_urgent: bool = False) -> None:
        """End the window: hand what changed in it to all destinations."""
        self._window_closes = math.inf
        scanned = None
        if (watching := self._lookout.watching) is not None:
            watcher = watching.watcher
            if not watcher.drain(_HAND_OVER):
                log.info("The watcher is busy: what it has not handed over waits.")
            # Read before the changes are taken, which may be newer.
            self._until, scanned = watcher.complete_until, watcher.scanned
        changes = self._buffer.take()
        if not changes and not is_urgent:
            return
        found = len(changes)
        self._learn_links()
        self._links.complete(changes)
        changeset = optimize(changes, count_entries(self._settings.source.path))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", counted(found, "change"), shown(changes))
            log.debug("reduced to %d: %s", len(changeset), shown(changeset))
        titles = ("full sync",) if changeset.is_everything else ()
        self._crew.put(Order(changeset, self._until, scanned, titles, is_urgent=is_urgent))

    # The source and the parts

    def _look_after_the_source(self) -> None:
        start = self._lookout.look()
        if start is not None:
            self._until = start
            self._crew.put(Order(EVERYTHING, start, start, ("full sync",), is_urgent=True))

    def _release(self) -> None:
        """Do, once, what is held: somebody has looked."""
        log.log(NOTICE, "released (USR2)")
        if self._lookout.trust():
            self._crew.put(Order(NOTHING, is_urgent=True, is_release=True))
            self._look_after_the_source()

    def _stop(self) -> None:
        """Sync what has come, within the grace period, and end all parts."""
        self._heartbeat.stop()
        watching = self._lookout.watching
        if watching is None or watching.watcher.is_alive():
            self._flush()
        if not self._status:
            self._lookout.stop_watching()
        self._crew.finish()
        log.log(NOTICE, "stopped")
