"""Wires the parts of the daemon and owns their start, their timing and their end."""

import errno
import logging
import os
import signal
import time
from enum import Enum, auto
from itertools import islice

from pylsyncd import __version__, inotify, paths, walk
from pylsyncd.buffer import Buffer
from pylsyncd.carrier import Carrier, Identity, identity
from pylsyncd.changes import EVERYTHING, Changeset, Scope
from pylsyncd.config import Settings
from pylsyncd.errors import WatchError
from pylsyncd.filelist import count_entries
from pylsyncd.inbox import Inbox
from pylsyncd.inotify import Inotify
from pylsyncd.logs import NOTICE, counted
from pylsyncd.optimizer import optimize
from pylsyncd.retry import Pauses
from pylsyncd.tracker import Tracker
from pylsyncd.watcher import Watcher
from pylsyncd.worker import Worker

log = logging.getLogger(__name__)

# Seconds: how long a stop waits for rsync, how long an ended rsync has before it is killed, and
# how long a flush waits for the watcher to hand over what it has.
_GRACE = 10.0
_KILL_AFTER = 2.0
_HAND_OVER = 5.0

# Seconds between two looks at a worker that is about to end.
_BEAT = 0.05

_CHANGES_SHOWN = 100


class _Call(Enum):
    """What the main thread is woken for, besides a signal or a part's name that has failed."""

    OPENED = auto()
    FILLED = auto()
    ROOT_LOST = auto()


class Service:
    """One source and its destinations. Made and run by the main thread, which takes the signals."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = settings.source.path
        self._inbox: Inbox[_Call | str] = Inbox()
        self._buffer = Buffer(
            settings.max_changes,
            lambda: self._inbox.put(_Call.OPENED),
            lambda: self._inbox.put(_Call.FILLED),
        )
        self._workers: list[Worker] = []
        self._closes: float | None = None
        self._status = 0

    def run(self) -> int:
        """Watch and sync until told to stop; return the exit status.

        Raises WatchError if the source cannot be watched.
        """
        self._inbox.catch([signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
        try:
            return self._run_once() if self._settings.once else self._run_watching()
        finally:
            self._inbox.close()

    def _run_once(self) -> int:
        self._start_workers(self._identify())
        for worker in self._workers:
            worker.finish()
        while any(worker.is_alive() for worker in self._workers):
            if self._stop_is_asked(wait=_BEAT):
                self._end_workers()
                return 1
        return 1 if self._status or any(worker.debt for worker in self._workers) else 0

    def _run_watching(self) -> int:
        identity_of_source = self._identify()
        notify = Inotify(modify=self._settings.modify)
        tracker = self._arm(notify)
        watcher = Watcher(notify, tracker, self._buffer, self._lost, self._inbox.put)
        self._announce(tracker.directories)
        watcher.start()
        self._start_workers(identity_of_source)
        self._serve(watcher)
        self._stop(watcher)
        notify.close()
        return self._status

    # Start

    def _lost(self) -> None:
        self._inbox.put(_Call.ROOT_LOST)

    def _identify(self) -> Identity:
        try:
            root = walk.open_root(self._source)
        except OSError as error:
            raise self._cannot_watch(error) from None
        try:
            return identity(root)
        finally:
            os.close(root)

    def _arm(self, notify: Inotify) -> Tracker:
        try:
            tracker = Tracker(self._source, notify, self._settings.rsync.rules)
        except OSError as error:
            raise self._cannot_watch(error) from None
        if tracker.unwatched:
            raise WatchError(
                f"{inotify.watch_limit_reached(tracker.directories)} "
                f"{counted(tracker.unwatched, 'directory')} of {paths.show(self._source)} would "
                "not be watched, and their changes be missed."
            )
        return tracker

    def _cannot_watch(self, error: OSError) -> WatchError:
        if error.errno == errno.ENOSPC:
            return WatchError(inotify.watch_limit_reached(0))
        shown = paths.show(self._source)
        return WatchError(f"The source {shown} cannot be watched: {error.strerror}.")

    def _start_workers(self, identity_of_source: Identity) -> None:
        for destination in self._settings.destinations:
            carrier = Carrier(self._source, identity_of_source, destination, self._settings.rsync)
            self._workers.append(Worker(carrier, Pauses(), self._inbox.put))
        title = "initial sync" if self._settings.initial_sync or self._settings.once else ""
        if title:
            # Before they start, so that none of them begins with a probe.
            self._put(EVERYTHING, title)
        for worker in self._workers:
            worker.start()

    def _announce(self, directories: int) -> None:
        names = ", ".join(destination.name for destination in self._settings.destinations)
        log.log(
            NOTICE, "pylsyncd %s watching %s (%s) for %s, window %g s",
            __version__, paths.show(self._source), counted(directories, "directory"), names,
            self._settings.window,
        )  # fmt: skip
        if not self._settings.initial_sync:
            log.log(NOTICE, "No initial sync (-i): what differs already stays as it is.")

    # The main loop

    def _serve(self, watcher: Watcher) -> None:
        while True:
            pause = None if self._closes is None else max(0.0, self._closes - time.monotonic())
            call = self._inbox.get(pause)
            if call is None:
                self._flush(watcher)
                continue
            if call in {signal.SIGTERM, signal.SIGINT}:
                log.log(NOTICE, "stopping (%s)", call.name)
                return
            if isinstance(call, str):
                self._status = 1
                return
            self._answer(call, watcher)

    def _answer(self, call: _Call | signal.Signals, watcher: Watcher) -> None:
        if call is _Call.OPENED:
            if self._buffer and self._closes is None:
                self._closes = time.monotonic() + self._settings.window
        elif call is _Call.FILLED:
            if self._buffer.is_full:
                self._flush(watcher)
        elif call is _Call.ROOT_LOST:
            log.error(
                "The source %s was deleted, moved or unmounted. Nothing is deleted at any "
                "destination. Put it back and restart pylsyncd.", paths.show(self._source),
            )  # fmt: skip
        elif call is signal.SIGUSR1:
            self._flush(watcher, is_urgent=True)
        elif call is signal.SIGHUP:
            self._put(EVERYTHING, "full sync", is_urgent=True)

    def _flush(self, watcher: Watcher, *, is_urgent: bool = False) -> None:
        """End the window: hand what changed in it to all destinations."""
        self._closes = None
        if not watcher.drain(_HAND_OVER):
            log.warning("Events come faster than they can be read; syncing what is known.")
        changes = self._buffer.take()
        if not changes and not is_urgent:
            return
        changeset = optimize(changes, count_entries(self._source))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", counted(len(changes), "change"), _shown(changes))
            log.debug("reduced to %d: %s", len(changeset), _shown(changeset))
        title = "full sync" if changeset.is_everything else ""
        self._put(changeset, title, is_urgent=is_urgent)

    def _put(self, changeset: Changeset, title: str = "", *, is_urgent: bool = False) -> None:
        for worker in self._workers:
            worker.put(changeset, title, is_urgent=is_urgent)

    # Stop

    def _stop(self, watcher: Watcher) -> None:
        """Sync what has come, within the grace period, and end all parts."""
        if watcher.is_alive():
            self._flush(watcher)
            watcher.stop()
        for worker in self._workers:
            worker.finish()
        deadline = time.monotonic() + _GRACE
        while any(worker.is_alive() for worker in self._workers):
            if self._stop_is_asked(wait=_BEAT) or time.monotonic() >= deadline:
                self._end_workers()
        for worker in self._workers:
            if worker.debt:
                owed = counted(worker.debt, "change")
                log.warning("[%s] stopped before all was synced: owed %s.", worker.name, owed)
        log.log(NOTICE, "stopped")

    def _stop_is_asked(self, wait: float) -> bool:
        """Wait a moment for a worker to end or a signal to come; tell whether it says to stop."""
        for worker in self._workers:
            if worker.is_alive():
                worker.join(wait)
                break
        while (call := self._inbox.get(0.0)) is not None:
            if call in {signal.SIGTERM, signal.SIGINT}:
                return True
            if isinstance(call, str):
                self._status = 1
        return False

    def _end_workers(self) -> None:
        """End what rsync still runs: ask, and after a moment kill."""
        number, deadline = signal.SIGTERM, time.monotonic() + _KILL_AFTER
        while living := [worker for worker in self._workers if worker.is_alive()]:
            for worker in living:
                worker.end(number)
            living[0].join(_BEAT)
            if time.monotonic() >= deadline:
                number = signal.SIGKILL


def _shown(changeset: Changeset) -> str:
    """Return the first changes of a set as text: a file, a directory/ listed, a tree/**."""
    marks = {Scope.ENTRY: "", Scope.LISTING: "/", Scope.TREE: "/**"}
    first = [
        paths.show(change.path) + marks[change.scope]
        for change in islice(changeset, _CHANGES_SHOWN)
    ]
    return " ".join(first) + (" ..." if len(changeset) > len(first) else "")
