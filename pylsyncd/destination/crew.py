"""The workers of all destinations: how they are made, what they begin with, and how they end."""

import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pylsyncd.destination.beginning import Beginning, begin
from pylsyncd.destination.carrier import Carrier
from pylsyncd.destination.orders import Order
from pylsyncd.destination.worker import Worker
from pylsyncd.model.changes import Changes
from pylsyncd.model.moments import Moment
from pylsyncd.rsync.retry import Pauses
from pylsyncd.settings.settings import Settings
from pylsyncd.source.guard import Guard
from pylsyncd.state import claims, orphans
from pylsyncd.state.checkpoint import Checkpoint, Remembered
from pylsyncd.state.claims import Claim
from pylsyncd.state.statedir import StateDirectory
from pylsyncd.system.inbox import Inbox
from pylsyncd.system.logs import NOTICE, counted

log = logging.getLogger(__name__)

# Seconds: how long a stop waits for rsync, and how long an ended rsync has before it is killed.
_GRACE = 10.0
_KILL_AFTER = 2.0
_GIVE_UP_AFTER = 5.0

# Seconds between two looks at a worker that is about to end.
_BEAT = 0.05


class Crew:
    """One worker for each destination.

    Making one takes the locks of all destinations and reads their states. Raises UsageError when
    the state directory cannot be used, or another pylsyncd is in the way.
    """

    def __init__(self, settings: Settings, guard: Guard, inbox: Inbox[Any]) -> None:
        self._settings = settings
        self._guard = guard
        self._inbox = inbox
        self._directory: StateDirectory | None = None
        self._keys: dict[str, str] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._remembered: dict[str, Remembered] = {}
        self.workers: list[Worker] = []
        self.has_failed = False
        """A worker has failed while the others were being ended."""
        if settings.state_dir is not None:
            self._directory = StateDirectory(settings.state_dir)
            self._claim(self._directory)

    def close(self) -> None:
        """End whatever still runs, and give back the locks."""
        for worker in self.workers:
            worker.end(signal.SIGTERM)
        if self._directory is not None:
            self._directory.close()

    def _claim(self, directory: StateDirectory) -> None:
        source, rsync = os.path.realpath(self._settings.source.path), self._settings.rsync
        for destination in self._settings.destinations:
            try:
                directory.claim(Claim(source, destination.spot, rsync.delete))
            except BaseException:
                directory.close()
                raise
            # Not the real path, which is another one when a symlink to the source was switched.
            key = claims.key(self._settings.source.path, destination.spot)
            self._keys[destination.name] = key
            checkpoint = Checkpoint(directory, key, self._guard, destination, rsync)
            self._checkpoints[destination.name] = checkpoint
            self._remembered[destination.name] = checkpoint.load()
        if ended := orphans.end(self._keys.values()):
            log.log(NOTICE, "Ended %s that a killed pylsyncd had left.", counted(ended, "process"))

    @property
    def remembered_mount_points(self) -> list[bytes]:
        """Where the file systems were mounted that the source was on."""
        states = [remembered.state for remembered in self._remembered.values()]
        return [state.mount for state in states if state is not None]

    @property
    def remembered_mounts(self) -> Mapping[bytes, str]:
        """What was mounted below the source."""
        found: dict[bytes, str] = {}
        for remembered in self._remembered.values():
            if remembered.state is not None:
                found.update(remembered.state.mounts)
        return found

    def begin(self, *, forced: str, is_vacant: bool) -> list[Beginning]:
        """Decide how each destination begins; see :func:`pylsyncd.destination.beginning.begin`."""
        return [
            begin(
                destination.name,
                self._checkpoints.get(destination.name),
                self._remembered.get(destination.name, Remembered()),
                forced=forced,
                is_vacant=is_vacant,
            )
            for destination in self._settings.destinations
        ]

    def start(
        self, beginnings: Sequence[Beginning], caught_up: Mapping[int, Changes], start: Moment
    ) -> None:
        """Start the workers, each with its first order already there: so none begins by a probe."""
        for destination, beginning in zip(self._settings.destinations, beginnings, strict=True):
            key = self._keys.get(destination.name, "")
            carrier = Carrier(
                self._guard, destination, self._settings.rsync, {orphans.MARK: key} if key else {}
            )
            checkpoint = self._checkpoints.get(destination.name)
            worker = Worker(carrier, Pauses(), checkpoint, self._inbox.put)
            worker.put(beginning.order(caught_up, start))
            self.workers.append(worker)
        for worker in self.workers:
            worker.start()

    def put(self, order: Order) -> None:
        """Give all workers an order."""
        for worker in self.workers:
            worker.put(order)

    def finish(self, grace: float = _GRACE) -> None:
        """Let the workers carry what they have, for so many seconds, and end them."""
        for worker in self.workers:
            worker.finish()
        deadline = time.monotonic() + grace
        while any(worker.is_alive() for worker in self.workers):
            if self._stop_is_asked(wait=_BEAT) or time.monotonic() >= deadline:
                self._end()
                break
        for worker in self.workers:
            if worker.debt:
                owed = counted(worker.debt, "change")
                log.warning("[%s] stopped before all was synced: owed %s.", worker.name, owed)

    def _stop_is_asked(self, wait: float) -> bool:
        """Wait a moment for a worker to end or a signal to come; tell whether it says to stop."""
        for worker in self.workers:
            if worker.is_alive():
                worker.join(wait)
                break
        while (call := self._inbox.get(0.0)) is not None:
            if call in {signal.SIGTERM, signal.SIGINT}:
                return True
            self.has_failed |= isinstance(call, str)
        return False

    def _end(self) -> None:
        """End what rsync still runs: ask, and after a moment kill."""
        number, deadline = signal.SIGTERM, time.monotonic() + _KILL_AFTER
        # Who waits for a file system that does not answer ends with the process.
        given_up = deadline + _GIVE_UP_AFTER
        while living := [worker for worker in self.workers if worker.is_alive()]:
            for worker in living:
                worker.end(number)
            living[0].join(_BEAT)
            if time.monotonic() >= deadline:
                number = signal.SIGKILL
            if time.monotonic() >= given_up:
                names = ", ".join(worker.name for worker in living)
                log.error("Ending, although these do not: %s.", names)
                return
