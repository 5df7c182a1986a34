"""What can be asked of the daemon while it runs, and how everything stands."""

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pylsyncd import __version__
from pylsyncd.destination.worker import Worker
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Condition, DestinationStatus, Status, SyncStatus
from pylsyncd.replication import Replication
from pylsyncd.replications import Replications
from pylsyncd.settings import process, values
from pylsyncd.settings.settings import Delivery
from pylsyncd.source import census, inotify
from pylsyncd.system import logs

log = logging.getLogger(__name__)

# Seconds: between two looks at what is waited for, and for a replication to hand over what it has.
_BEAT = 0.02
_HAND_OVER = 30.0


class Operations:
    """See :class:`pylsyncd.report.control.Commands`, which this is. Called by any thread."""

    def __init__(self, replications: Replications, reload: Callable[[], None]) -> None:
        self._replications = replications
        self._reload = reload
        self._started = time.time()

    def status(self) -> Status:
        """Return how everything stands."""
        return Status(
            __version__, os.getpid(), time.time(), self._started,
            inotify.limit("max_user_watches"), tuple(map(_status, self._replications)),
        )  # fmt: skip

    def flush(self, names: Sequence[str] = ()) -> None:
        """Send what has changed, without waiting for the windows to end."""
        for replication, _ in self._concerned(names):
            replication.ask(partial(replication.dispatch.flush, is_urgent=True), _HAND_OVER)

    def sync(self, names: Sequence[str] = ()) -> None:
        """Begin a full sync."""
        for replication, workers in self._concerned(names):
            known = [worker.name for worker in workers]
            replication.ask(partial(replication.dispatch.sync_everything, known), _HAND_OVER)

    def pause(self, names: Sequence[str] = ()) -> None:
        """Run nothing until it is resumed; changes are still collected."""
        for _, workers in self._concerned(names):
            for worker in workers:
                worker.pause()

    def resume(self, names: Sequence[str] = ()) -> None:
        """End a pause."""
        for _, workers in self._concerned(names):
            for worker in workers:
                worker.pause(is_paused=False)

    def release(self, names: Sequence[str] = ()) -> None:
        """Do, once, what is held."""
        for replication, workers in self._concerned(names):
            if not replication.has_begun:
                # It waits for its source, and listens to nothing else.
                replication.take(signal.SIGUSR2)
                continue
            known = [worker.name for worker in workers] if names else []
            replication.ask(partial(replication.release, known), _HAND_OVER)

    def wait(
        self,
        names: Sequence[str] = (),
        timeout: float = 0.0,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Flush; return those of whom not all is confirmed, after so many seconds at the most."""
        deadline = time.monotonic() + timeout
        awaited: list[tuple[Replication, str, int | None]] = []
        for replication, workers in self._concerned(names):
            serials: list[int] = []
            ask = partial(_flush_for, replication, serials)
            replication.ask(ask, max(0.0, deadline - time.monotonic()))
            # Who could not be asked does not confirm.
            serial = serials[0] if serials else None
            named = [w.name for w in workers] or [d.name for d in replication.sync.deliveries]
            awaited += [(replication, name, serial) for name in named]
        while True:
            awaited = [each for each in awaited if not _is_confirmed(*each)]
            if not awaited or time.monotonic() >= deadline or is_given_up():
                return [name for _, name, _ in awaited]
            time.sleep(_BEAT)

    def set_level(self, level: str) -> None:
        """Log from this level on; raises UsageError when there is none of this name."""
        logs.set_level(process.LEVELS[values.level(level)])

    def reload(self) -> None:
        """Read the configuration anew; raises UsageError when it has faults."""
        self._reload()

    def _concerned(self, names: Sequence[str]) -> list[tuple[Replication, list[Worker]]]:
        """Return whom names mean, all where there are none; raises UsageError.

        A name is a sync's, or a destination's with or without its sync's before it.
        """
        found = []
        unknown = set(names)
        for replication in self._replications:
            workers = []
            is_meant = not names
            for delivery in replication.sync.deliveries:
                meant = {delivery.name, delivery.name.rpartition("/")[2], replication.sync.name}
                if names and not meant & set(names):
                    continue
                is_meant = True
                unknown -= meant
                workers += [each for each in replication.workers if each.name == delivery.name]
            if is_meant:
                found.append((replication, workers))
        if unknown:
            known = ", ".join(
                delivery.name for each in self._replications for delivery in each.sync.deliveries
            )
            raise UsageError(f"There is no destination {min(unknown)}. There are: {known}.")
        return found


def _flush_for(replication: Replication, serials: list[int]) -> None:
    serials.append(replication.dispatch.flush(is_urgent=True))


def _is_confirmed(replication: Replication, name: str, serial: int | None) -> bool:
    worker = next((each for each in replication.workers if each.name == name), None)
    if worker is None:
        # It was taken out of the configuration, or has not begun.
        return replication.has_begun
    return serial is not None and worker.confirmed_serial >= serial


def _status(replication: Replication) -> SyncStatus:
    """Return how a source and its destinations stand."""
    sync, watching = replication.sync, replication.lookout.watching
    workers = {worker.name: worker for worker in replication.workers}
    tracker = watching.tracker if watching is not None else None
    masks = replication.lookout.masks
    return SyncStatus(
        sync.name,
        paths.show(sync.source.path),
        held=replication.lookout.held,
        is_watching=watching is not None,
        directories=tracker.directories if tracker is not None else 0,
        unwatched=tracker.unwatched if tracker is not None else 0,
        window=sync.window,
        destinations=tuple(
            _destination(replication, workers[delivery.name])
            if delivery.name in workers
            else _beginning(replication, delivery)
            for delivery in sync.deliveries
        ),
        events=census.by_type(masks) if masks is not None else {},
        overflows=replication.lookout.overflows,
    )


def _beginning(replication: Replication, delivery: Delivery) -> DestinationStatus:
    behind = time.monotonic() - replication.began
    written = delivery.destination.written
    return DestinationStatus(delivery.name, written, Condition.STARTING, behind=behind)


def _destination(replication: Replication, worker: Worker) -> DestinationStatus:
    """Return how a destination stands, with what its source has not handed over yet."""
    found = worker.status()
    waiting, since = replication.buffered
    if replication.lookout.held:
        return replace(found, condition=Condition.HELD, error=f"{replication.lookout.held}.")
    if not waiting:
        return found
    age = time.monotonic() - since if since is not None else 0.0
    condition = Condition.WAITING if found.condition is Condition.IN_SYNC else found.condition
    return replace(
        found, condition=condition, waiting=found.waiting + waiting, behind=max(found.behind, age)
    )
