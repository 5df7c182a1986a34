"""The locks and saved states of the destinations of one source."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import everything_with
from pylsyncd.model.formatting import format_count
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.state import lock_file, orphans
from pylsyncd.state.checkpoint import Checkpoint, LoadedState
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.state.repair_state import RepairFile
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system.logs import NOTICE
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.start_plan import StartPlan, plan_start
from pylsyncd.worker.verification import Verification

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """One locked destination, with its settings and its saved state."""

    settings: DestinationSettings
    state_key: str = ""
    """The key of its state and its lock."""
    checkpoint: Checkpoint | None = None
    loaded: LoadedState = field(default_factory=LoadedState)
    repair_file: RepairFile | None = None
    lock_record: LockRecord | None = None
    """As it was locked: the real path of the source may have changed since."""

    @property
    def location(self) -> bytes:
        """What identifies the destination, whatever its name is."""
        return self.settings.destination.location

    def plan_start(self, *, requested_title: str, is_source_empty: bool) -> StartPlan:
        """Return how it starts; see :func:`pylsyncd.worker.start_plan.plan_start`."""
        return plan_start(
            self.settings.name, self.checkpoint, self.loaded,
            requested_title=requested_title, is_source_empty=is_source_empty,
            deletes_only_now=self.settings.rsync.delete_only is DeletionTime.STARTUP,
        )  # fmt: skip

    def verification(self, *, was_verified: bool = False) -> Verification:
        """Return what is known of the copy, once its first work item was created.

        ``was_verified`` tells that a worker before has verified it, which the saved state may not
        know yet.
        """
        is_saved = self.checkpoint is not None and self.checkpoint.is_verified
        return Verification(
            is_verified=is_saved or was_verified, is_dry_run=self.settings.rsync.dry_run
        )

    def continued_item(self, item: WorkItem) -> WorkItem:
        """Return the first work item under new settings, given what is not confirmed."""
        state = self.loaded.state
        if self.checkpoint is None or state is None:
            return item
        if reason := self.checkpoint.full_sync_reason(state):
            log.log(NOTICE, "[%s] Starting a full sync: %s.", self.settings.name, reason)
            everything = everything_with(item.changeset, state.pending)
            # Saved now, so that the full sync is pending whatever happens next.
            self.checkpoint.confirm(
                item.complete_until or state.confirmed, everything, item.last_scan or state.scanned
            )
            return replace(item, changeset=everything, titles=item.titles or ("full sync",))
        self.checkpoint.resume_from(state)
        return item


class DestinationRegistry:
    """The state directory of a source's destinations: locks them and loads their states.

    Raises UsageError if it cannot be used. Without a directory nothing is locked or loaded.
    """

    def __init__(self, state_directory: bytes | None, guard: SourceGuard) -> None:
        self._guard = guard
        self._directory = StateDirectory(state_directory) if state_directory is not None else None

    def close(self) -> None:
        """Release all locks."""
        if self._directory is not None:
            self._directory.close()

    def add(
        self, sync: SyncSettings, destinations: Collection[DestinationSettings]
    ) -> list[DestinationEntry]:
        """Lock destinations, load their states, and terminate the orphans of a killed pylsyncd."""
        entries: list[DestinationEntry] = []
        try:
            for settings in destinations:
                entries.append(self._lock(sync, settings, None))  # noqa: PERF401  # released below
            keys = [entry.state_key for entry in entries if entry.state_key]
            if count := orphans.terminate_orphans(keys):
                processes = format_count(count, "process")
                log.log(NOTICE, "Terminated %s left by a killed pylsyncd.", processes)
        except BaseException:
            for entry in entries:
                self.remove(entry)
            raise
        return entries

    def reload(
        self, sync: SyncSettings, settings: DestinationSettings, before: DestinationEntry
    ) -> DestinationEntry:
        """Keep the lock of a destination for new settings, and load its present state."""
        return self._lock(sync, settings, before.lock_record)

    def remove(self, entry: DestinationEntry) -> None:
        """Release the lock of a destination."""
        if self._directory is not None and entry.lock_record is not None:
            self._directory.release_lock(entry.lock_record)

    def _lock(
        self, sync: SyncSettings, settings: DestinationSettings, held: LockRecord | None
    ) -> DestinationEntry:
        if self._directory is None:
            return DestinationEntry(settings)
        location = settings.destination.location
        record = held or LockRecord(os.path.realpath(sync.source.path), location, sync.delete)
        self._directory.acquire_lock(record)
        # Not of the real path, which changes when a symlink to the source is switched.
        key = lock_file.destination_key(sync.source.path, location)
        checkpoint = Checkpoint(
            self._directory, key, self._guard, settings.destination, settings.rsync
        )
        return DestinationEntry(
            settings, key, checkpoint, checkpoint.load(), RepairFile(self._directory, key), record
        )
