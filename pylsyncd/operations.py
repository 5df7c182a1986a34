"""The operations that pylsyncctl can request, and the status of the daemon."""

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pylsyncd import __version__
from pylsyncd.config import converters, process_settings
from pylsyncd.config.settings import DestinationSettings
from pylsyncd.confirmation import ConfirmationWait
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import (
    MAX_NAMED_PATHS,
    Condition,
    DestinationStatus,
    Status,
    SyncStatus,
    WaitResult,
    selecting_names,
)
from pylsyncd.replication import Replication, ReplicationState
from pylsyncd.supervisor import ApplyError, Supervisor
from pylsyncd.system import logs
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.watcher import inotify
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

# Seconds to wait for a replication to carry out a request.
_REQUEST_TIMEOUT = 30.0

# Seconds that a request for the status waits for a look at the sources: one may be on a file server
# that does not respond.
_LOOK_TIMEOUT = 1.0

# Characters: a file may have thousands of errors, which the log names all.
_MAX_RELOAD_ERROR = 1_000

# Seconds between two checks of what is confirmed.
_CONFIRMED_POLL_INTERVAL = 0.02


class Operations:
    """The implementation of :class:`pylsyncd.control.server.ControlCommands`, for any thread."""

    def __init__(
        self,
        supervisor: Supervisor,
        reload: Callable[[], None],
        stuck_threads: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._supervisor = supervisor
        self._reload = reload
        self._stuck_threads = stuck_threads
        self._started_at = time.time()
        self._last_reload: float | None = None
        self._reload_errors: Sequence[ApplyError] = ()
        self.configuration = ""
        """The absolute path of the configuration file; empty without one."""
        self.status_file: AtomicFile | None = None
        """The status file, whose age the status tells."""
        self._watch_limit = inotify.read_limit("max_user_watches")

    def status(self) -> Status:
        """Return the status of all syncs and destinations, after a look at the sources."""
        looks = [
            replication.submit(replication.look_at_source)
            for replication in self._supervisor
            if replication.state is ReplicationState.RUNNING
        ]
        futures.wait(looks, _LOOK_TIMEOUT)
        return self.known_status()

    def known_status(self) -> Status:
        """Return the status of all syncs and destinations, without a look at the sources.

        A replaced source may be unnoticed for some seconds.
        """
        # A lack of file descriptors must not make the status unavailable.
        with suppress(OSError):
            self._watch_limit = inotify.read_limit("max_user_watches")
        file = self.status_file
        return Status(
            __version__, os.getpid(), time.time(), self._started_at,
            self._watch_limit, tuple(map(_sync_status, self._supervisor)),
            self._last_reload, self._reload_error(),
            status_file_written=None if file is None else file.written_at or 0.0,
            stuck_threads=self._stuck_threads(), configuration=self.configuration,
        )  # fmt: skip

    def flush(self, names: Sequence[str] = ()) -> None:
        """Sync the changes now, without waiting for the windows to end."""
        flushes = [
            replication.submit(partial(replication.flush, time.monotonic()))
            for replication, _ in self._select(names)
        ]
        futures.wait(flushes, _REQUEST_TIMEOUT)

    def sync(self, names: Sequence[str] = ()) -> None:
        """Start a full sync. Raises UsageError if a sync waits for its source."""
        requests = {
            replication.submit(partial(replication.flusher.start_full_sync, destinations)): (
                replication
            )
            for replication, destinations in self._select(names)
        }
        done, _ = futures.wait(requests, _REQUEST_TIMEOUT)
        waiting = [requests[each] for each in done if each.cancelled()]
        if found := [each for each in waiting if each.source_monitor.hold_reason]:
            titles = ", ".join(sorted(each.title for each in found))
            raise UsageError(
                f"No full sync of {titles}: the source is held, as pylsyncctl status tells. Run "
                "this again when the source is there."
            )

    def pause(self, names: Sequence[str] = ()) -> None:
        """Run no rsync until resumed; changes are still collected."""
        self._set_paused(names, is_paused=True)

    def resume(self, names: Sequence[str] = ()) -> None:
        """End a pause."""
        self._set_paused(names, is_paused=False)

    def release(self, names: Sequence[str] = ()) -> None:
        """Carry out, once, what is held."""
        releases = []
        for replication, destinations in self._select(names):
            if replication.state in {ReplicationState.STARTING, ReplicationState.WAITING}:
                # A replication that waits for its source only handles signals.
                replication.handle_signal(signal.SIGUSR2)
                continue
            is_whole = not names or replication.sync.name in names
            released = partial(replication.release, () if is_whole else destinations)
            releases.append(replication.submit(released))
        futures.wait(releases, _REQUEST_TIMEOUT)

    def wait(
        self,
        names: Sequence[str] = (),
        timeout: float = 0.0,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> WaitResult:
        """Flush, and wait until all changes are confirmed, or only what is set aside is not.

        Returns for which destinations they are not confirmed at the timeout, and what the others
        lack.
        """
        deadline = time.monotonic() + timeout
        wait = ConfirmationWait(self._supervisor, self._select(names))
        while True:
            wait.update()
            if wait.is_over:
                # Raises for a destination that was removed from the configuration meanwhile.
                self._select(names)
            if wait.is_over or time.monotonic() >= deadline or is_cancelled():
                return wait.result
            time.sleep(_CONFIRMED_POLL_INTERVAL)

    def set_level(self, level: str) -> None:
        """Set the log level. Raises UsageError for an unknown level."""
        logs.set_level(process_settings.LOGGING_LEVELS[converters.check_log_level(level)])

    def level(self) -> str:
        """Return the log level."""
        present = logs.level()
        names = process_settings.LOGGING_LEVELS.items()
        return next((name for name, level in names if level <= present), "debug")

    def reload(self) -> None:
        """Read the configuration again. Raises UsageError if it has errors."""
        self._reload()

    def record_reload(self, errors: Sequence[ApplyError] = ()) -> None:
        """Record for the status that the configuration was read again, and why that failed."""
        self._last_reload, self._reload_errors = time.time(), errors

    def _reload_error(self) -> str:
        """Return why the last reload failed, as one line, without what was applied since."""
        lasting = [
            each.message
            for each in self._reload_errors
            if not each.waiting_sync or self._supervisor.waits(each.waiting_sync)
        ]
        return "\n".join(lasting)[:_MAX_RELOAD_ERROR].replace(":\n", ": ").replace("\n", "; ")

    def _set_paused(self, names: Sequence[str], *, is_paused: bool) -> None:
        selected = self._select(names)
        action = "paused" if is_paused else "resumed"
        log.log(logs.NOTICE, "%s (%s)", action, ", ".join(names) or "all")
        for replication, destinations in selected:
            replication.set_paused(destinations, is_paused=is_paused)

    def _select(self, names: Sequence[str]) -> list[tuple[Replication, list[str]]]:
        """Return the replications and destinations that names stand for; all for no names.

        Raises UsageError for an unknown name; see ``selecting_names``.
        """
        selected = []
        unknown = set(names)
        known = []
        for replication in self._supervisor:
            sync, destinations = replication.sync, []
            for destination in sync.destinations:
                known.append(destination.name)
                notation = destination.destination.notation
                selecting = selecting_names(sync.name, destination.name, notation)
                if not names or selecting & set(names):
                    destinations.append(destination.name)
                    unknown -= selecting
            if destinations:
                selected.append((replication, destinations))
        if unknown:
            raise UsageError(
                f"There is no destination {min(unknown)}. Known destinations: {', '.join(known)}."
            )
        return selected


def _sync_status(replication: Replication) -> SyncStatus:
    sync, monitor = replication.sync, replication.source_monitor
    workers = {worker.name: worker for worker in replication.workers}
    return SyncStatus(
        sync.name,
        paths.printable(sync.source.path),
        held=monitor.hold_reason,
        held_subtrees={
            paths.printable(path): reason
            for path, reason in sorted(monitor.held_subtrees.items())[:MAX_NAMED_PATHS]
        },
        is_watching=monitor.session is not None,
        directories=monitor.directory_count,
        unwatched=monitor.unwatched_count,
        window=sync.window,
        destinations=tuple(
            _destination_status(replication, workers[each.name])
            if each.name in workers
            else _starting_status(replication, each)
            for each in sync.destinations
        ),
        events=monitor.events_by_type(),
        overflows=monitor.overflow_count,
        oldest_look=monitor.oldest_look,
    )


def _starting_status(
    replication: Replication, destination: DestinationSettings
) -> DestinationStatus:
    """Return the status of a destination that has no worker yet."""
    reason = replication.source_monitor.hold_reason
    return DestinationStatus(
        destination.name,
        destination.destination.notation,
        Condition.HELD if reason else Condition.STARTING,
        behind=time.monotonic() - replication.starting_since,
        error=f"the source is held: {reason}." if reason else "",
    )


def _destination_status(replication: Replication, worker: Worker) -> DestinationStatus:
    """Return the status of a destination, with the changes that are still in the buffer."""
    # In the order in which changes go through the stages, so that none is overlooked on its way.
    reason = replication.source_monitor.hold_reason
    is_changing = replication.source_monitor.is_source_changing
    buffered, since = replication.buffered_changes
    held = replication.source_monitor.held_subtrees.keys()
    status = worker.status()
    status = replace(status, set_aside=status.set_aside.with_held(held))
    if reason and status.condition is not Condition.FAILED:
        error = f"the source is held: {reason}."
        return replace(status, condition=Condition.HELD, error=error)
    if is_changing:
        condition = Condition.WAITING if status.condition is Condition.IN_SYNC else status.condition
        return replace(status, condition=condition, owes_everything=True)
    if replication.source_monitor.is_catching_up and status.condition is Condition.IN_SYNC:
        status = replace(status, condition=Condition.WAITING)
    if not buffered:
        is_held = bool(held) and status.condition is Condition.IN_SYNC
        return replace(status, condition=Condition.HELD) if is_held else status
    age = time.monotonic() - since if since is not None else 0.0
    condition = Condition.WAITING if status.condition is Condition.IN_SYNC else status.condition
    return replace(
        status,
        condition=condition,
        waiting=status.waiting + buffered,
        behind=max(status.behind, age),
    )
