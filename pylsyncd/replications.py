"""The replications of the process: by their names, and as the settings want them."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace

from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.replication import Replication
from pylsyncd.settings.settings import Sync
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

# Seconds: how long a stop waits, which is more than a replication needs for its own grace period
# and for ending what does not end; how long for one that is still looking through its source; and
# between two looks at whether one has ended.
_PATIENCE = 30.0
_PATIENCE_AT_START = 2.0
_BEAT = 0.05


class Replications:
    """All that run. Changed by the main thread; any thread may ask.

    Making it makes one for each sync. Raises UsageError if a state directory cannot be used, or
    another pylsyncd is in the way.
    """

    def __init__(self, syncs: Sequence[Sync], make: Callable[[Sync], Replication]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._running: dict[str, Replication] = {}
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

    def pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on to all."""
        for replication in self:
            replication.take(number)

    def drop_failed_starts(self) -> None:
        """Do without those that could not begin, and say so."""
        for replication in self:
            if replication.has_ended and replication.error is not None:
                log.error("%s", replication.error)
                with self._lock:
                    del self._running[replication.sync.name]

    def apply(self, syncs: Sequence[Sync]) -> list[str]:
        """Have exactly these run; return what could not be done, as sentences.

        What has not changed is not touched. Where only the destinations have, the watcher goes on.
        """
        wanted = {sync.name: sync for sync in syncs}
        faults: list[str] = []
        changed = [each for each in self if wanted.get(each.sync.name) != each.sync]
        if not changed and len(wanted) == len(list(self)):
            log.log(NOTICE, "Nothing has changed in the configuration.")
        restarted = []
        for replication in changed:
            sync = wanted.get(replication.sync.name)
            if sync is None or not _is_served_otherwise(replication.sync, sync):
                restarted.append(replication)
                continue
            log.log(NOTICE, "The destinations of %s have changed.", sync.name)
            faults += _replace(replication, sync)
        self._end_some(restarted, wanted)
        running = {replication.sync.name for replication in self}
        before = {replication.sync.name: replication.sync for replication in restarted}
        for name, sync in wanted.items():
            if name not in running:
                faults += self._begin(sync, before.get(name))
        with self._lock:
            order = {name: number for number, name in enumerate(wanted)}
            self._running = dict(sorted(self._running.items(), key=lambda item: order[item[0]]))
        return faults

    def end(self, look: Callable[[], None]) -> None:
        """Let all sync what has come, and end them; ``look()`` is called every now and then."""
        self.pass_on(signal.SIGTERM)
        _wait_for(list(self), look)

    def _begin(self, sync: Sync, before: Sync | None) -> list[str]:
        """Start a replication, or if that cannot be, the one that there was before."""
        what = "is started anew, since its options have changed" if before else "is synced, too"
        log.log(NOTICE, "%s %s.", sync.name, what)
        faults = []
        for each in (sync, before):
            if each is None:
                continue
            try:
                replication = self._make(each)
                replication.is_new = before is None
            except UsageError as error:
                faults.append(f"The sync {each.name} is not started: {error}")
                continue
            with self._lock:
                self._running[each.name] = replication
            replication.start()
            break
        return faults

    def _end_some(self, replications: Sequence[Replication], wanted: Container[str]) -> None:
        for replication in replications:
            if replication.sync.name not in wanted:
                log.log(NOTICE, "%s is not synced any more.", replication.sync.name)
            replication.take(signal.SIGTERM)
        _wait_for(replications)
        with self._lock:
            for replication in replications:
                del self._running[replication.sync.name]


def _is_served_otherwise(before: Sync, after: Sync) -> bool:
    """Tell whether nothing has changed that the watching of a source depends on."""
    return before == replace(
        after,
        deliveries=before.deliveries,
        window=before.window,
        initial_sync=before.initial_sync,
        full_sync_interval=before.full_sync_interval,
        hooks=before.hooks,
    )


def _replace(replication: Replication, sync: Sync) -> list[str]:
    """Have a replication serve other destinations; return why it does not."""
    faults: list[str] = []

    def do() -> None:
        try:
            replication.replace(sync)
        except (PylsyncdError, OSError) as error:
            faults.append(f"The sync {sync.name} stays as it was: {error}")

    if not replication.ask(do, _PATIENCE):
        faults.append(f"The sync {sync.name} is busy: its destinations change when it is not.")
    return faults


def _wait_for(replications: Sequence[Replication], look: Callable[[], None] = lambda: None) -> None:
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
            log.error("Ending, although these do not: %s.", ", ".join(each.name for each in living))
            return
