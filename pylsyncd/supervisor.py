"""Starts, replaces and stops the replications that the configuration asks for."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, fields, replace
from functools import partial

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.replication import Replication, ReplicationState
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import ThreadLimitError

log = logging.getLogger(__name__)

# Seconds that a stop waits: more than the grace period of a replication and the time to kill what
# remains; for replications that are still starting; and between two checks.
_STOP_TIMEOUT = 30.0
_STOP_TIMEOUT_AT_START = 2.0
_STOP_POLL_INTERVAL = 0.05

MakeReplication = Callable[[SyncSettings, Replication | None], Replication]
"""Creates the replication of a sync, which continues one that has ended."""


@dataclass(frozen=True, slots=True)
class ApplyError:
    """Why the configuration is not applied to a sync, or to all of them."""

    message: str
    waiting_sync: str = ""
    """The sync to which it is applied later without another reload; empty if that is not so."""


class Supervisor:
    """The replications of the process. Changed by the main thread; any thread may read.

    The constructor creates a replication for each sync. Raises UsageError if a state directory is
    unusable, or another pylsyncd serves a destination.
    """

    def __init__(self, syncs: Sequence[SyncSettings], make: MakeReplication) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._running: dict[str, Replication] = {}
        # For each replication that takes longer to stop than a reload waits, the settings of its
        # successor; None for no successor.
        self._successors: dict[str, SyncSettings | None] = {}
        # The syncs whose new destinations were not applied while the reload waited.
        self._delayed: set[str] = set()
        try:
            for sync in syncs:
                self._running[sync.name] = make(sync, None)
        except BaseException:
            for replication in self._running.values():
                replication.close()
            raise

    def __iter__(self) -> Iterator[Replication]:
        with self._lock:
            return iter(list(self._running.values()))

    def start(self) -> None:
        """Start all replications, once. Raises ThreadLimitError; then some are running."""
        try:
            for replication in self:
                replication.start()
        except ThreadLimitError:
            for replication in self:
                if replication.ident is None:
                    replication.close()
            raise

    def stop(self, on_poll: Callable[[], None]) -> None:
        """Let all replications sync their last changes, and stop them."""
        self.forward_signal(signal.SIGTERM)
        if running := _wait_until_ended(list(self), on_poll):
            names = ", ".join(each.name for each in running)
            log.error("Shutdown timed out; still running: %s.", names)

    def forward_signal(self, number: signal.Signals) -> None:
        """Send a signal to all replications."""
        for replication in self:
            replication.handle_signal(number)

    def find(self, name: str) -> Replication | None:
        """Return the replication of a sync; None if there is none."""
        with self._lock:
            return self._running.get(name)

    def waits(self, name: str) -> bool:
        """Return True if a sync does not run yet as the configuration asks."""
        replication = self.find(name)
        is_running = replication is not None and replication.state is ReplicationState.RUNNING
        return name in self._delayed or not is_running

    def remove_failed_starts(self) -> None:
        """Remove the replications that ended with an error, and log the error."""
        for replication in self:
            if replication.state.has_ended and replication.error is not None:
                log.error("%s", replication.error)
                self._remove(replication.sync.name)

    def start_successors(self) -> None:
        """Start the successors of replications that have ended by now."""
        for name, sync in list(self._successors.items()):
            predecessor = self._running[name]
            if not predecessor.state.has_ended:
                continue
            del self._successors[name]
            if sync is None:
                self._remove(name)
                continue
            for error in self._start(sync, predecessor):
                log.error("%s", error.message)

    def apply(self, syncs: Sequence[SyncSettings]) -> list[ApplyError]:
        """Run exactly these syncs; return an error for each that cannot be applied.

        Unchanged syncs are not touched. If only the destinations changed, the watcher continues.
        """
        wanted = {sync.name: sync for sync in syncs}
        changed = [each for each in self if self._is_changed(each, wanted.get(each.sync.name))]
        if not changed and len(wanted) == len(list(self)):
            log.log(NOTICE, "No sync has changed.")
        errors: list[ApplyError] = []
        updated: list[tuple[Replication, SyncSettings]] = []
        restarted: list[Replication] = []
        for each in changed:
            name = each.sync.name
            sync = wanted.get(name)
            if name in self._successors:
                self._successors[name] = sync
            elif sync is not None and _can_continue(each, sync):
                updated.append((each, sync))
            elif _has_same_source(each, sync) and (reason := each.find_hold_reason()):
                # A new replication would accept whatever is in the source's place.
                held = f"The sync {name} is unchanged because its source is held: {reason}."
                again = f"Reload again when the source is back, or after pylsyncctl release {name}."
                errors.append(ApplyError(f"{held} {again}"))
            else:
                restarted.append(each)
        # First, because the destinations may move to other syncs.
        ended = self._stop_some(restarted, wanted)
        errors += self._replace_all(updated, syncs)
        predecessors = {each.sync.name: each for each in ended}
        for name, sync in wanted.items():
            if name in predecessors or name not in self._running:
                errors += self._start(sync, predecessors.get(name)) or self._why_held(name)
        self._sort(list(wanted))
        return errors

    def _why_held(self, name: str) -> list[ApplyError]:
        """Return an error if a sync that was started waits for its source."""
        replication = self.find(name)
        if replication is None or not (reason := replication.missing_source):
            return []
        shown = paths.printable(replication.sync.source.path)
        held = f"The sync {name} is held: the source {shown} {reason}."
        return [ApplyError(f"{held} The sync starts by itself when the source is there.", name)]

    def _is_changed(self, replication: Replication, wanted: SyncSettings | None) -> bool:
        name = replication.sync.name
        if name in self._successors:
            return self._successors[name] != wanted
        return replication.sync != wanted or name in self._delayed

    def _sort(self, names: Sequence[str]) -> None:
        """Put the replications into the order of the file, for reports; stopping ones come last."""
        order = {name: number for number, name in enumerate(names)}
        with self._lock:
            items = sorted(self._running.items(), key=lambda item: order.get(item[0], len(order)))
            self._running = dict(items)

    def _remove(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)

    def _start(self, sync: SyncSettings, predecessor: Replication | None) -> list[ApplyError]:
        """Start a replication, or if that fails, one with the predecessor's settings."""
        if predecessor is None:
            log.log(NOTICE, "Starting the sync %s.", sync.name)
        else:
            difference = _difference(predecessor.sync, sync)
            log.log(NOTICE, "Restarting the sync %s (%s).", sync.name, difference)
        errors: list[ApplyError] = []
        for each in (sync, predecessor.sync if predecessor is not None else None):
            if each is None:
                continue
            try:
                replication = self._make(each, predecessor)
                with self._lock:
                    self._running[each.name] = replication
                _start_thread(replication)
            except (UsageError, ThreadLimitError, OSError) as error:
                reason = f"{error.strerror}." if isinstance(error, OSError) else error
                errors.append(ApplyError(f"Cannot start the sync {each.name}: {reason}"))
                continue
            return errors
        self._remove(sync.name)
        return errors

    def _stop_some(
        self, replications: Sequence[Replication], wanted: Mapping[str, SyncSettings]
    ) -> list[Replication]:
        """Stop replications; return those that have ended, and note the successors of the rest."""
        for replication in replications:
            if replication.sync.name not in wanted:
                log.log(NOTICE, "Stopping the sync %s: it was removed.", replication.sync.name)
            replication.handle_signal(signal.SIGTERM)
        _wait_until_ended(replications)
        ended = [each for each in replications if each.state.has_ended]
        for replication in replications:
            name = replication.sync.name
            if replication not in ended:
                self._successors[name] = wanted.get(name)
                log.log(
                    NOTICE, "Still stopping the sync %s; its new configuration takes effect "
                    "afterwards.", name,
                )  # fmt: skip
            elif name not in wanted:
                self._remove(name)
        return ended

    def _replace_all(
        self, updated: Sequence[tuple[Replication, SyncSettings]], syncs: Sequence[SyncSettings]
    ) -> list[ApplyError]:
        """Change the destinations of replications; some may move from one to another."""
        errors: list[ApplyError] = []
        for replication, sync in updated:
            if sync != replication.sync:
                log.log(NOTICE, "Changing the sync %s (%s).", sync.name,
                        _difference(replication.sync, sync))  # fmt: skip
            own = _locations(sync)
            others = {path for each in syncs if each.name != sync.name for path in _locations(each)}
            kept = tuple(
                each
                for each in replication.sync.destinations
                if each.destination.location in own or each.destination.location not in others
            )
            if len(kept) < len(replication.sync.destinations):
                # Release the lock of a destination before another sync acquires it.
                errors += self._replace(replication, replace(replication.sync, destinations=kept))
        for replication, sync in updated:
            errors += self._replace(replication, sync)
        return errors

    def _replace(self, replication: Replication, sync: SyncSettings) -> list[ApplyError]:
        """Change the destinations of a replication; return an error if that fails."""
        is_running = replication.state is ReplicationState.RUNNING
        future = replication.submit(partial(replication.replace_destinations, sync))
        wait([future], _STOP_TIMEOUT if is_running else _STOP_TIMEOUT_AT_START)
        if future.done() and not future.cancelled():
            error = future.exception()
            if error is None or isinstance(error, PylsyncdError):
                self._delayed.discard(sync.name)
                if error is None:
                    return []
                return [ApplyError(f"The sync {sync.name} is unchanged: {error}")]
        self._delayed.add(sync.name)
        future.add_done_callback(partial(self._end_delay, sync.name))
        busy = f"The sync {sync.name} is busy: its destinations change later."
        return [ApplyError(busy, sync.name)]

    def _end_delay(self, name: str, future: "Future[None]") -> None:
        """Log why destinations were not changed later; otherwise, nothing more is to be applied."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._delayed.discard(name)
        elif isinstance(error, PylsyncdError):
            log.error("The sync %s is unchanged: %s", name, error)


def _start_thread(replication: Replication) -> None:
    try:
        replication.start()
    except ThreadLimitError:
        replication.close()
        raise


def _locations(sync: SyncSettings) -> set[bytes]:
    return {each.destination.location for each in sync.destinations}


def _has_same_source(replication: Replication, sync: SyncSettings | None) -> bool:
    return sync is not None and sync.source == replication.sync.source


def _can_continue(replication: Replication, after: SyncSettings) -> bool:
    """Return True if the settings changed in nothing that the watching depends on."""
    before = replication.sync
    if replication.state is ReplicationState.WAITING:
        # It has no workers yet, and cancels calls.
        return False
    return before == replace(
        after,
        destinations=before.destinations,
        window=before.window,
        open_file_interval=before.open_file_interval,
        initial_sync=before.initial_sync,
        full_sync_interval=before.full_sync_interval,
        hooks=before.hooks,
    )


def _difference(before: SyncSettings, after: SyncSettings) -> str:
    """Return what changed in a sync, as text for the log."""
    old, new = ({each.name: each for each in sync.destinations} for sync in (before, after))
    options = [
        each.name.replace("_", " ")
        for each in fields(after)
        if each.name != "destinations" and getattr(before, each.name) != getattr(after, each.name)
    ]
    parts = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [*options, *(name for name in new if name in old and new[name] != old[name])],
    }
    texts = [f"{what} {', '.join(names)}" for what, names in parts.items() if names]
    return "; ".join(texts) or "changed order of destinations"


def _wait_until_ended(
    replications: Sequence[Replication], on_poll: Callable[[], None] = lambda: None
) -> list[Replication]:
    """Wait for replications that were told to stop; return those that still run at the timeout.

    Those that are still starting are not waited for, and not returned: they have no work to lose,
    since the next start finds the same changes.
    """
    start = time.monotonic()
    while running := [each for each in replications if each.is_alive()]:
        running[0].join(_STOP_POLL_INTERVAL)
        on_poll()
        elapsed = time.monotonic() - start
        is_any_running = any(each.state is ReplicationState.RUNNING for each in running)
        if elapsed >= _STOP_TIMEOUT_AT_START and not is_any_running:
            return []
        if elapsed >= _STOP_TIMEOUT:
            return running
    return []
