"""What is known of each destination before its worker begins: its lock, its state."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import EVERYTHING
from pylsyncd.model.formatting import format_count
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.state import lock_file, orphans
from pylsyncd.state.checkpoint import Checkpoint, LoadedState
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system.logs import NOTICE
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.start_plan import StartPlan, plan_start
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DestinationEntry:
    """One destination, before and after its worker has begun."""

    settings: DestinationSettings
    state_key: str = ""
    """Of its state and its lock."""
    checkpoint: Checkpoint | None = None
    loaded: LoadedState = field(default_factory=LoadedState)
    lock_record: LockRecord | None = None
    """As it was made: where the source is may have changed since."""
    worker: Worker | None = None
    is_paused: bool = False

    def plan_start(self, *, requested_title: str, is_source_empty: bool) -> StartPlan:
        """Decide how it begins; see :func:`pylsyncd.worker.start_plan.begin`."""
        return plan_start(
            self.settings.name, self.checkpoint, self.loaded,
            requested_title=requested_title, is_source_empty=is_source_empty,
        )  # fmt: skip

    def continued_item(self, order: WorkItem) -> WorkItem:
        """Return the order with which it goes on, when it is served differently from now on."""
        state = self.loaded.state
        if self.checkpoint is None or state is None:
            return order
        if reason := self.checkpoint.full_sync_reason(state):
            log.log(NOTICE, "[%s] Everything is compared: %s.", self.settings.name, reason)
            # Whatever the next start is told to do: this is owed from now on.
            until, scanned = (
                order.complete_until or state.confirmed,
                order.last_scan or state.scanned,
            )
            self.checkpoint.confirm(until, EVERYTHING, scanned)
            titles = order.titles or ("full sync",)
            return replace(order, changeset=EVERYTHING, titles=titles)
        self.checkpoint.resume_from(state)
        return order


class DestinationRegistry:
    """The state directory of one source's destinations: who has a lock in it, and what it holds.

    Raises UsageError when it cannot be used.
    """

    def __init__(self, sync: SyncSettings, guard: SourceGuard) -> None:
        self.sync = sync
        self._guard = guard
        self._directory = StateDirectory(sync.state_dir) if sync.state_dir is not None else None

    def close(self) -> None:
        """Give back all locks."""
        if self._directory is not None:
            self._directory.close()

    def add(self, deliveries: Collection[DestinationSettings]) -> list[DestinationEntry]:
        """Take the locks of destinations, read their states, and end what a killed one has left."""
        posts: list[DestinationEntry] = []
        try:
            for delivery in deliveries:
                posts.append(self._enter(delivery, None))  # noqa: PERF401  # those before are given back
            keys = [post.state_key for post in posts if post.state_key]
            if ended := orphans.terminate_orphans(keys):
                left = format_count(ended, "process")
                log.log(NOTICE, "Ended %s that a killed pylsyncd had left.", left)
        except BaseException:
            for post in posts:
                self.remove(post)
            raise
        return posts

    def reload(self, delivery: DestinationSettings, before: DestinationEntry) -> DestinationEntry:
        """Keep a destination's lock, and read what is known of it by now."""
        return self._enter(delivery, before.lock_record)

    def _enter(self, delivery: DestinationSettings, claimed: LockRecord | None) -> DestinationEntry:
        if self._directory is None:
            return DestinationEntry(delivery)
        claim = claimed or self._claim_of(delivery)
        self._directory.acquire_lock(claim)
        # Not the real path, which is another one when a symlink to the source was switched.
        key = lock_file.destination_key(self.sync.source.path, delivery.destination.location)
        checkpoint = Checkpoint(
            self._directory, key, self._guard, delivery.destination, delivery.rsync
        )
        return DestinationEntry(delivery, key, checkpoint, checkpoint.load(), claim)

    def remove(self, post: DestinationEntry) -> None:
        """Give back a destination's lock."""
        if self._directory is not None and post.lock_record is not None:
            self._directory.release_lock(post.lock_record)

    def _claim_of(self, delivery: DestinationSettings) -> LockRecord:
        source = os.path.realpath(self.sync.source.path)
        return LockRecord(source, delivery.destination.location, self.sync.delete)
