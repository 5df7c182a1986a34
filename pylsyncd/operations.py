"""What can be asked of the daemon while it runs, and how everything stands."""

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pylsyncd import __version__
from pylsyncd.calls import Ask
from pylsyncd.config import converters, process_settings
from pylsyncd.config.settings import DestinationSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Condition, DestinationStatus, Status, SyncStatus
from pylsyncd.replication import Replication
from pylsyncd.supervisor import Supervisor
from pylsyncd.system import logs
from pylsyncd.watcher import inotify
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

# Seconds: between two looks at what is waited for, and for a replication to hand over what it has.
_BEAT = 0.02

# Seconds before who could not hand over everything is asked once more.
_AGAIN = 0.25
_HAND_OVER = 30.0


class Operations:
    """See :class:`pylsyncd.control.server.Commands`, which this is. Called by any thread."""

    def __init__(self, replications: Supervisor, reload: Callable[[], None]) -> None:
        self._replications = replications
        self._reload = reload
        self._started = time.time()
        self._watch_limit = inotify.read_limit("max_user_watches")

    def status(self) -> Status:
        """Return how everything stands."""
        # Whoever asks must not fail for lack of a descriptor.
        with suppress(OSError):
            self._watch_limit = inotify.read_limit("max_user_watches")
        return Status(
            __version__, os.getpid(), time.time(), self._started,
            self._watch_limit, tuple(map(_status, self._replications)),
        )  # fmt: skip

    def flush(self, names: Sequence[str] = ()) -> None:
        """Send what has changed, without waiting for the windows to end."""
        for replication, _ in self._concerned(names):
            replication.run_in_thread(
                partial(replication.flusher.flush, is_urgent=True), _HAND_OVER
            )

    def sync(self, names: Sequence[str] = ()) -> None:
        """Begin a full sync."""
        for replication, meant in self._concerned(names):
            replication.run_in_thread(
                partial(replication.flusher.start_full_sync, meant), _HAND_OVER
            )

    def pause(self, names: Sequence[str] = ()) -> None:
        """Run nothing until it is resumed; changes are still collected."""
        self._tell("paused", names)
        for replication, meant in self._concerned(names):
            replication.pause(meant)

    def resume(self, names: Sequence[str] = ()) -> None:
        """End a pause."""
        self._tell("resumed", names)
        for replication, meant in self._concerned(names):
            replication.pause(meant, is_paused=False)

    def release(self, names: Sequence[str] = ()) -> None:
        """Do, once, what is held."""
        for replication, meant in self._concerned(names):
            if not replication.has_begun:
                # It waits for its source, and listens to nothing else.
                replication.handle_signal(signal.SIGUSR2)
                continue
            is_whole = not names or replication.sync.name in names
            replication.run_in_thread(
                partial(replication.release, () if is_whole else meant), _HAND_OVER
            )

    def wait(
        self,
        names: Sequence[str] = (),
        timeout: float = 0.0,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Flush; return those of whom not all is confirmed, after so many seconds at the most."""
        deadline = time.monotonic() + timeout
        waits = [_PendingWait(replication, meant) for replication, meant in self._concerned(names)]
        while True:
            for each in waits:
                each.look(self._replications)
            if not any(each.names for each in waits):
                return []
            if time.monotonic() >= deadline or is_given_up():
                return [name for each in waits for name in each.names]
            time.sleep(_BEAT)

    def set_level(self, level: str) -> None:
        """Log from this level on; raises UsageError when there is none of this name."""
        logs.set_level(process_settings.LOGGING_LEVELS[converters.check_log_level(level)])

    def reload(self) -> None:
        """Read the configuration anew; raises UsageError when it has faults."""
        self._reload()

    def _tell(self, what: str, names: Sequence[str]) -> None:
        """Have it in the log, where somebody will look for the reason."""
        self._concerned(names)
        log.log(logs.NOTICE, "%s (%s)", what, ", ".join(names) or "all")

    def _concerned(self, names: Sequence[str]) -> list[tuple[Replication, list[str]]]:
        """Return which destinations of whom names mean, all for none; raises UsageError.

        A name is a sync's, or a destination's with or without its sync's before it.
        """
        found = []
        unknown = set(names)
        known = []
        for replication in self._replications:
            sync, wanted = replication.sync, []
            for delivery in sync.destinations:
                known.append(delivery.name)
                own = f"{sync.name}/" if sync.name else ""
                meant = {delivery.name, delivery.name.removeprefix(own), sync.name}
                if not names or meant & set(names):
                    wanted.append(delivery.name)
                    unknown -= meant
            if wanted:
                found.append((replication, wanted))
        if unknown:
            raise UsageError(
                f"There is no destination {min(unknown)}. There are: {', '.join(known)}."
            )
        return found


class _PendingWait:
    """Waits until all that has changed in one source is confirmed. Used by one thread."""

    def __init__(self, replication: Replication, names: Sequence[str]) -> None:
        self._replication = replication
        self.names = list(names)
        """The destinations of which it is not."""
        self._asked: Ask | None = None
        self._asked_at = 0.0
        # What confirms all, by its serial number; None as long as not all is ordered.
        self._serial: int | None = None

    def look(self, replications: Supervisor) -> None:
        """See how it stands."""
        replication = replications.find(self._replication.sync.name)
        if replication is None:
            # It was taken out of the configuration.
            self.names = []
            return
        if replication is not self._replication:
            self._replication, self._asked, self._serial = replication, None, None
        if self._serial is None:
            self._ask()
        serial = self._serial
        workers = {worker.name: worker for worker in replication.workers}
        # Who has no worker has not begun, or begins anew.
        served = [each.name for each in replication.sync.destinations]
        self.names = [
            name
            for name in self.names
            if name in served
            and (name not in workers or serial is None or workers[name].confirmed_serial < serial)
        ]

    def _ask(self) -> None:
        """Have all ordered that has changed, unless that was asked a moment ago."""
        is_over = self._asked is None or self._asked.answered.is_set()
        if is_over and time.monotonic() >= self._asked_at + _AGAIN:
            self._asked, self._asked_at = Ask(self._flush), time.monotonic()
            self._replication.submit(self._asked)

    def _flush(self) -> None:
        replication = self._replication
        serial = replication.flusher.flush_all()
        if replication is self._replication:
            self._serial = serial


def _status(replication: Replication) -> SyncStatus:
    """Return how a source and its destinations stand."""
    sync, watching = replication.sync, replication.source_monitor.session
    workers = {worker.name: worker for worker in replication.workers}
    tracker = watching.event_processor if watching is not None else None
    masks = replication.source_monitor.mask_counts
    return SyncStatus(
        sync.name,
        paths.printable(sync.source.path),
        held=replication.source_monitor.hold_reason,
        is_watching=watching is not None,
        directories=tracker.directory_count if tracker is not None else 0,
        unwatched=tracker.unwatched_count if tracker is not None else 0,
        window=sync.window,
        destinations=tuple(
            _destination(replication, workers[delivery.name])
            if delivery.name in workers
            else _beginning(replication, delivery)
            for delivery in sync.destinations
        ),
        events=inotify.events_by_type(masks) if masks is not None else {},
        overflows=replication.source_monitor.overflow_count,
    )


def _beginning(replication: Replication, delivery: DestinationSettings) -> DestinationStatus:
    behind = time.monotonic() - replication.starting_since
    written = delivery.destination.notation
    if replication.source_monitor.hold_reason:
        error = f"the source is held: {replication.source_monitor.hold_reason}."
        return DestinationStatus(delivery.name, written, Condition.HELD, behind=behind, error=error)
    return DestinationStatus(delivery.name, written, Condition.STARTING, behind=behind)


def _destination(replication: Replication, worker: Worker) -> DestinationStatus:
    """Return how a destination stands, with what its source has not handed over yet."""
    found = worker.status()
    waiting, since = replication.buffered_changes
    if replication.source_monitor.hold_reason:
        error = f"the source is held: {replication.source_monitor.hold_reason}."
        return replace(found, condition=Condition.HELD, error=error)
    if not waiting:
        return found
    age = time.monotonic() - since if since is not None else 0.0
    condition = Condition.WAITING if found.condition is Condition.IN_SYNC else found.condition
    return replace(
        found, condition=condition, waiting=found.waiting + waiting, behind=max(found.behind, age)
    )
