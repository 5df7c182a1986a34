"""The replications of the process: by their names, and as the settings want them."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.replication import Replication
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

# Seconds: how long a stop waits, which is more than a replication needs for its own grace period
# and for ending what does not end; how long for one that is still looking through its source; and
# between two looks at whether one has ended.
_PATIENCE = 30.0
_PATIENCE_AT_START = 2.0
_BEAT = 0.05


class Supervisor:
    """All that run. Changed by the main thread; any thread may ask.

    Making it makes one for each sync. Raises UsageError if a state directory cannot be used, or
    another pylsyncd is in the way.
    """

    def __init__(
        self, syncs: Sequence[SyncSettings], make: Callable[[SyncSettings], Replication]
    ) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._running: dict[str, Replication] = {}
        # Those that take longer to end than a reload waits, which still run, and who follows each.
        self._followers: dict[str, SyncSettings | None] = {}
        # Those that were asked to serve other destinations, and have not done so in time.
        self._asked: set[str] = set()
        try:
            for sync in syncs:
                self._running[sync.name] = make(sync)
        except BaseException:
            for replication in self._running.values():
                replication.close()
            raise

    def __iter__(self) -> Iterator[Replication]:
        with self._lock:
            return iter(list(self._running.values()))

    def start(self) -> None:
        """Start all; to be called once."""
        for replication in self:
            replication.start()

    def forward_signal(self, number: signal.Signals) -> None:
        """Pass a signal on to all."""
        for replication in self:
            replication.handle_signal(number)

    def remove_failed_starts(self) -> None:
        """Do without those that could not begin, and say so."""
        for replication in self:
            if replication.has_ended and replication.error is not None:
                log.error("%s", replication.error)
                with self._lock:
                    del self._running[replication.sync.name]

    def apply(self, syncs: Sequence[SyncSettings]) -> list[str]:
        """Have exactly these run; return what could not be done, as sentences.

        What has not changed is not touched. Where only the destinations have, the watcher goes on.
        """
        wanted = {sync.name: sync for sync in syncs}
        changed = [each for each in self if self._is_changed(each, wanted.get(each.sync.name))]
        if not changed and len(wanted) == len(list(self)):
            log.log(NOTICE, "Nothing has changed about what is synced.")
        faults: list[str] = []
        replaced: list[tuple[Replication, SyncSettings]] = []
        restarted: list[Replication] = []
        for each in changed:
            name = each.sync.name
            sync = wanted.get(name)
            if name in self._followers:
                self._followers[name] = sync
            elif sync is not None and _is_served_otherwise(each, sync):
                replaced.append((each, sync))
            elif sync is not None and (reason := each.hold_reason):
                # Begun anew, it would take what stands in its source's place for the source.
                faults.append(
                    f"The sync {name} stays as it was, since its source is held: {reason}. Have "
                    "the configuration read again when it is back, or released."
                )
            else:
                restarted.append(each)
        # First, since what they serve may be served by others from now on.
        ended = self._end_some(restarted, wanted)
        faults += self._replace_all(replaced, syncs)
        before = {each.sync.name: each for each in ended}
        for name, sync in wanted.items():
            if name in before or name not in self._running:
                faults += self._begin(sync, before.get(name))
        self._sort(list(wanted))
        return faults

    def _sort(self, names: Sequence[str]) -> None:
        """Have them in this order, for those who look; those that are ending come last."""
        order = {name: number for number, name in enumerate(names)}
        with self._lock:
            items = sorted(self._running.items(), key=lambda item: order.get(item[0], len(order)))
            self._running = dict(items)

    def find(self, name: str) -> Replication | None:
        """Return the one of a sync, None if there is none; any thread may ask."""
        with self._lock:
            return self._running.get(name)

    def start_successors(self) -> None:
        """Begin those that follow others which have ended only now."""
        for name, sync in list(self._followers.items()):
            before = self._running[name]
            if not before.has_ended:
                continue
            del self._followers[name]
            if sync is None:
                with self._lock:
                    del self._running[name]
                continue
            for fault in self._begin(sync, before):
                log.error("%s", fault)

    def stop(self, look: Callable[[], None]) -> None:
        """Let all sync what has come, and end them; ``look()`` is called every now and then."""
        self.forward_signal(signal.SIGTERM)
        _wait_for(list(self), look)

    def _is_changed(self, replication: Replication, wanted: SyncSettings | None) -> bool:
        name = replication.sync.name
        if name in self._followers:
            return self._followers[name] != wanted
        return replication.sync != wanted or name in self._asked

    def _begin(self, sync: SyncSettings, before: Replication | None) -> list[str]:
        """Start a replication, or if that cannot be, the one that there was before."""
        if before is None:
            log.log(NOTICE, "%s is synced, too.", sync.name)
        else:
            log.log(NOTICE, "%s is started anew: %s.", sync.name, _difference(before.sync, sync))
        faults = []
        for each in (sync, before.sync if before is not None else None):
            if each is None:
                continue
            try:
                replication = self._make(each)
            except (UsageError, OSError) as error:
                reason = f"{error.strerror}." if isinstance(error, OSError) else error
                faults.append(f"The sync {each.name} is not started: {reason}")
                continue
            if before is not None:
                replication.follow(before)
            with self._lock:
                self._running[each.name] = replication
            replication.start()
            return faults
        with self._lock:
            self._running.pop(sync.name, None)
        return faults

    def _end_some(
        self, replications: Sequence[Replication], wanted: Mapping[str, SyncSettings]
    ) -> list[Replication]:
        """End some; return those that have ended, and see that all others are followed."""
        for replication in replications:
            if replication.sync.name not in wanted:
                log.log(NOTICE, "%s is not synced any more.", replication.sync.name)
            replication.handle_signal(signal.SIGTERM)
        _wait_for(replications, is_reload=True)
        ended = [each for each in replications if each.has_ended]
        for replication in replications:
            name = replication.sync.name
            if replication not in ended:
                self._followers[name] = wanted.get(name)
                log.log(NOTICE, "%s ends as soon as it can; what follows waits for that.", name)
            elif name not in wanted:
                with self._lock:
                    del self._running[name]
        return ended

    def _replace_all(
        self, replaced: Sequence[tuple[Replication, SyncSettings]], syncs: Sequence[SyncSettings]
    ) -> list[str]:
        """Have replications serve other destinations, of which some may go from one to another."""
        faults = []
        for replication, sync in replaced:
            if sync != replication.sync:
                log.log(NOTICE, "%s: %s.", sync.name, _difference(replication.sync, sync))
            own = _spots(sync)
            others = {spot for each in syncs if each.name != sync.name for spot in _spots(each)}
            kept = tuple(
                each
                for each in replication.sync.destinations
                if each.destination.location in own or each.destination.location not in others
            )
            if len(kept) < len(replication.sync.destinations):
                faults += self._replace(replication, replace(replication.sync, destinations=kept))
        for replication, sync in replaced:
            faults += self._replace(replication, sync)
        return faults

    def _replace(self, replication: Replication, sync: SyncSettings) -> list[str]:
        """Have a replication serve other destinations; return why it does not."""
        faults: list[str] = []

        def do() -> None:
            try:
                replication.replace_destinations(sync)
            except (PylsyncdError, OSError) as error:
                faults.append(f"The sync {sync.name} stays as it was: {error}")
                if sync.name in self._asked:
                    log.error("%s", faults[0])  # noqa: TRY400  # it is not about the program

        patience = _PATIENCE if replication.has_begun else _PATIENCE_AT_START
        if replication.run_in_thread(do, patience):
            self._asked.discard(sync.name)
            return faults
        self._asked.add(sync.name)
        return [f"The sync {sync.name} is busy: its destinations change when it is not."]


def _spots(sync: SyncSettings) -> set[bytes]:
    return {each.destination.location for each in sync.destinations}


def _is_served_otherwise(replication: Replication, after: SyncSettings) -> bool:
    """Tell whether it can go on: nothing has changed that the watching of its source depends on."""
    before = replication.sync
    if replication.source_monitor.hold_reason and not replication.has_begun:
        # It waits for its source, and serves nobody yet.
        return False
    return before == replace(
        after,
        destinations=before.destinations,
        window=before.window,
        initial_sync=before.initial_sync,
        full_sync_interval=before.full_sync_interval,
        hooks=before.hooks,
    )


def _difference(before: SyncSettings, after: SyncSettings) -> str:
    """Return in words what has changed of a sync."""
    old, new = ({each.name: each for each in sync.destinations} for sync in (before, after))
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    changed = [name for name in new if name in old and new[name] != old[name]]
    options = [
        each.name.replace("_", " ")
        for each in fields(after)
        if each.name != "destinations" and getattr(before, each.name) != getattr(after, each.name)
    ]
    parts = {
        "new": added,
        "gone": removed,
        "changed": [*options, *changed],
    }
    told = [f"{', '.join(names)} {what}" for what, names in parts.items() if names]
    return "; ".join(told) or "its destinations have another order"


def _wait_for(
    replications: Sequence[Replication],
    look: Callable[[], None] = lambda: None,
    *,
    is_reload: bool = False,
) -> None:
    """Wait for replications that were told to end."""
    start = time.monotonic()
    while living := [each for each in replications if each.is_alive()]:
        living[0].join(_BEAT)
        look()
        passed = time.monotonic() - start
        # Nothing is lost with one that has not begun: its next start finds the same.
        if passed >= _PATIENCE_AT_START and not any(each.has_begun for each in living):
            return
        if passed >= _PATIENCE:
            if is_reload:
                return
            log.error("Ending, although these do not: %s.", ", ".join(each.name for each in living))
            return
