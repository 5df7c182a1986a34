"""Waits until the destinations have confirmed all that has changed in their sources."""

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from functools import partial

from pylsyncd.flusher import Flush
from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.status import SetAside, WaitResult
from pylsyncd.replication import Replication
from pylsyncd.supervisor import Supervisor

# Seconds between two flushes of a source whose watcher has not reported everything.
_FLUSH_RETRY_INTERVAL = 0.25


class ConfirmationWait:
    """A wait for destinations of several sources. Used by one thread."""

    def __init__(
        self, supervisor: Supervisor, selected: Iterable[tuple[Replication, Sequence[str]]]
    ) -> None:
        self._supervisor = supervisor
        self._waits = [_SourceWait(*each) for each in selected]
        self._upstream = _find_upstream(self._waits)

    @property
    def is_over(self) -> bool:
        """Whether all changes are confirmed, except for what is set aside."""
        return not any(each.names for each in self._waits)

    @property
    def result(self) -> WaitResult:
        """The destinations that are not confirmed yet, and what the others lack."""
        set_aside: dict[str, SetAside] = {}
        for each in self._waits:
            set_aside.update(each.set_aside)
        unverified: dict[str, str] = {}
        for each in self._waits:
            unverified.update(each.unverified)
        late = tuple(name for each in self._waits for name in each.names)
        return WaitResult(late, set_aside, unverified)

    def update(self) -> None:
        """Find out which destinations have confirmed all changes by now."""
        unfinished = [each for each in self._waits if each.names]
        ready = [each for each in unfinished if not any(up.names for up in self._upstream[each])]
        # Without this, sources that seem to feed each other would wait for ever.
        for each in ready or unfinished:
            each.update(self._supervisor)


class _SourceWait:
    """A wait for destinations of one source."""

    def __init__(self, replication: Replication, names: Sequence[str]) -> None:
        self._replication = replication
        self.source = _real_path(replication.sync.source.path)
        self.copies = [
            _real_path(each.destination.target)
            for each in replication.sync.destinations
            if each.destination.transport is Transport.LOCAL
        ]
        self.names = list(names)
        """The destinations for which the changes are not confirmed."""
        self.set_aside: dict[str, SetAside] = {}
        """What the other destinations lack, if they lack anything."""
        self.unverified: dict[str, str] = {}
        """Why some of them are unverified, and what to do."""
        self._started_at: float | None = None
        self._flush: Future[Flush] | None = None
        self._flushed_at = -math.inf

    def update(self, supervisor: Supervisor) -> None:
        """Remove the names of the destinations for which all changes are confirmed by now."""
        replication = supervisor.find(self._replication.sync.name)
        if replication is None:
            # The sync was removed from the configuration.
            self.names = []
            return
        if replication is not self._replication:
            self._replication, self._flush = replication, None
        held = replication.source_monitor.held_subtrees.keys()
        serial = self._serial(held)
        workers = {worker.name: worker for worker in replication.workers}
        # A destination without a worker has not started yet, or is restarting.
        configured = {each.name for each in replication.sync.destinations}
        self.names = [name for name in self.names if name in configured]
        if serial is None:
            return
        for name in [name for name in self.names if name in workers]:
            settlement = workers[name].settlement
            if settlement.serial >= serial:
                self.names.remove(name)
                set_aside = settlement.set_aside.with_held(held)
                if set_aside.count:
                    self.set_aside[name] = set_aside
                if reason := workers[name].status().unverified:
                    self.unverified[name] = reason

    def _serial(self, held: AbstractSet[bytes]) -> int | None:
        """Return the number of the work item that covers all changes; None if there is none yet.

        In that case the source is flushed again, after a pause; and also if a subtree that was held
        during the flush is not held any more.
        """
        if self._started_at is None:
            self._started_at = time.monotonic()
        if self._flush is not None:
            if not self._flush.done():
                return None
            if not self._flush.cancelled() and self._flush.exception() is None:
                flush = self._flush.result()
                if flush.is_complete and self._replication.awaits_mount_checks(self.names):
                    return None
                if flush.is_complete and flush.held <= held:
                    return flush.serial
        if time.monotonic() >= self._flushed_at + _FLUSH_RETRY_INTERVAL:
            flush_now = partial(self._replication.flush, self._started_at)
            self._flush, self._flushed_at = self._replication.submit(flush_now), time.monotonic()
        return None


def _find_upstream(waits: Sequence[_SourceWait]) -> dict[_SourceWait, set[_SourceWait]]:
    """Return for each source the others with a local copy in it, or around it.

    What these copies receive is a change of that source, so its own wait begins afterwards.
    """
    by_copy: dict[bytes, set[_SourceWait]] = defaultdict(set)
    by_place: dict[bytes, set[_SourceWait]] = defaultdict(set)
    for each in waits:
        for copy in each.copies:
            by_copy[copy].add(each)
            for place in (copy, *paths.ancestors(copy)):
                by_place[place].add(each)
    found = {}
    for each in waits:
        around = (by_copy.get(path, ()) for path in paths.ancestors(each.source))
        found[each] = by_place.get(each.source, set()).union(*around) - {each}
    return found


def _real_path(path: bytes) -> bytes:
    """Return an absolute path without symlinks and without slashes at its ends."""
    return os.path.realpath(path).strip(b"/")
