"""Keeps on disk what is confirmed of a destination, so that a restart need not compare all."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset, union
from pylsyncd.model.directory_id import DirectoryId, MountId
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.errors import StateError
from pylsyncd.model.moments import Moment, reason_to_distrust
from pylsyncd.model.scoped_paths import NO_PATHS, Scope, ScopedPaths
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.state.age_record import AgeRecord
from pylsyncd.state.destination_state import DestinationState, decode, encode
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system import clock
from pylsyncd.watcher.identification import local_directory_id
from pylsyncd.watcher.source_guard import SourceGuard, SourceIdentity

log = logging.getLogger(__name__)

# A state file may be old by this much, and makes a restart compare more.
_SAVE_INTERVAL = 1.0

# Seconds until the kernel has written a file: 35 by default (vm.dirty_expire_centisecs and
# vm.dirty_writeback_centisecs), with a margin.
_MAX_WRITE_DELAY = 120.0


@dataclass(frozen=True, slots=True)
class LoadedState:
    """The state that was found at the start, or the reason why it cannot be used."""

    state: DestinationState | None = None
    error: str = ""


class Checkpoint:
    """The state file of one destination. Loaded before its worker starts, saved by the worker."""

    def __init__(
        self, directory: StateDirectory, name: str, guard: SourceGuard, destination: Destination,
        rsync: RsyncOptions,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._file = name + ".state"
        self._guard = guard
        self._destination = destination
        self._options_digest = _options_digest(destination, rsync)
        self._state: DestinationState | None = None
        self._source: SourceIdentity | None = None
        self._ages = AgeRecord(guard, destination, rsync.rules)
        # The paths at which something was mounted since the last run of everything.
        self._mounted: set[bytes] = set()
        self._saved_at = 0.0
        self._is_saved = True
        self._has_failed = False

    @property
    def due_at(self) -> float | None:
        """When :meth:`save` is due, as a monotonic time; None if there is nothing to save."""
        return None if self._is_saved else self._saved_at + _SAVE_INTERVAL

    def load(self) -> LoadedState:
        """Return the state that the last run has saved."""
        try:
            content = self._directory.read(self._file)
            return LoadedState(decode(content) if content is not None else None)
        except StateError as error:
            return LoadedState(error=str(error))

    def full_sync_reason(self, state: DestinationState) -> str:
        """Return why a full sync has to replace the catch-up from ``state``; "" if none has to.

        The guard must have accepted the source.
        """
        present = clock.now()
        if state.options_digest != self._options_digest:
            return "the options or the excludes have changed"
        source = self._guard.accepted.directory
        if not source.is_on_same_file_system(state.source):
            return "the source is on another device"
        if not source.is_same(state.source):
            return "the source is another directory"
        if not _is_same(state.destination, local_directory_id(self._destination)):
            return "the destination is another directory"
        if state.confirmed.boot != present.boot and not state.is_clean_stop:
            # The source or a destination may have lost what was not on the disk yet.
            return "the machine went down while pylsyncd ran"
        return reason_to_distrust(state.confirmed, present)

    def is_other_source(self, state: DestinationState) -> bool:
        """Return True if another directory of the same file system has replaced the source."""
        source = self._guard.accepted.directory
        return source.is_on_same_file_system(state.source) and not source.is_same(state.source)

    def contents_known_until(self, state: DestinationState) -> Moment | None:
        """Return since when ctimes tell which contents may be new; None if they do not tell it.

        For a full sync. The guard must have accepted the source.
        """
        known, present = state.confirmed, clock.now()
        is_same = self._guard.accepted.directory.is_same(state.source)
        if not is_same or reason_to_distrust(known, present):
            return None
        if known.boot != present.boot and not state.is_clean_stop:
            # The destination may have lost contents, but not sizes and times.
            return replace(known, wall=known.wall - _MAX_WRITE_DELAY)
        return known

    def find_older_copy(self, state: DestinationState) -> str:
        """Return why the source or a local destination must be an older copy; "" if neither is.

        The guard must have accepted the source.
        """
        # Of another directory, older ctimes prove nothing.
        is_same_source = self._guard.accepted.directory.is_same(state.source)
        is_same_copy = _is_same(state.destination, local_directory_id(self._destination))
        return self._ages.find_older_copy(
            state.source_ctimes if is_same_source else {},
            state.destination_ctimes if is_same_copy else {},
            self.changed_mounts(state),
        )

    def reason_against_scan(self) -> str:
        """Return why a scan by ctime would miss changes since the last run; "" if it would not.

        The guard must have accepted the source.
        """
        with contextlib.suppress(OSError):
            if paths.ROOT in self._guard.find_directories_without_ctimes():
                return "the file system of the source has no times of the last change (ctime)"
        return ""

    def resume_from(self, state: DestinationState) -> None:
        """Continue from a loaded state, and save that pylsyncd is running."""
        self._state = replace(state, is_clean_stop=False)
        self._ages.resume_from(state.source_ctimes, state.destination_ctimes)
        self.save()

    def record_run(self, changeset: Changeset) -> None:
        """Record what a run is about to carry, and from which source, which may be replaced.

        A directory that has replaced the source counts only from a run of everything on. So does
        what was mounted below the source: until then, its whole tree is saved as pending.
        """
        present, before = self._guard.accepted, self._source
        self._ages.record_run(changeset)
        if changeset.is_everything or before is None:
            self._source = present
            self._mounted.clear()
        elif before.directory.is_same(present.directory):
            self._source = present
            self._mounted.update(_changed(before.nested_mounts, present.nested_mounts))

    def changed_mounts(self, state: DestinationState) -> list[bytes]:
        """Return the mount points below the source with another file system than in ``state``.

        Their files may differ in spite of old ctimes. The guard must have accepted the source.
        """
        return _changed(state.nested_mounts, self._guard.accepted.nested_mounts)

    @property
    def unset_attributes(self) -> Changeset:
        """What is at the destination without some attributes, according to the last state."""
        some = NO_PATHS if self._state is None else self._state.unset_attributes
        return Changeset(some.entries, some.listings, some.trees)

    @property
    def is_verified(self) -> bool:
        """Whether the destination was carried as a whole, according to the last state."""
        return self._state is not None and self._state.is_verified

    def confirm(
        self,
        until: Moment,
        pending: Changeset,
        scanned: Moment | None = None,
        unset_attributes: ScopedPaths = NO_PATHS,
        *,
        is_verified: bool = False,
    ) -> None:
        """Record that all changes before ``until`` are at the destination, except ``pending``.

        For the others see :class:`DestinationState`; ``scanned`` is by default ``until``.
        """
        source = self._source or self._guard.accepted
        if self._mounted:
            mounted = MutableChangeset()
            for path in self._mounted:
                mounted.add(path, Scope.TREE)
            pending = union(pending, mounted)
        self._ages.look(source, is_complete=not pending.is_everything)
        self._state = DestinationState(
            until, scanned or until, source.directory, source.mount_point, source.nested_mounts,
            local_directory_id(self._destination), self._options_digest, pending,
            self._ages.source.ctimes, self._ages.destination.ctimes, is_clean_stop=False,
            unset_attributes=unset_attributes, is_verified=is_verified,
        )  # fmt: skip
        self._is_saved = False
        if time.monotonic() >= self._saved_at + _SAVE_INTERVAL:
            self.save()

    def save_clean_stop(self) -> None:
        """Save that pylsyncd has shut down."""
        if self._state is not None:
            self._state = replace(self._state, is_clean_stop=True)
            self.save()

    def save(self) -> None:
        """Save the state if there is one; log the first failure."""
        if self._state is None:
            return
        self._saved_at = time.monotonic()
        try:
            self._directory.write(self._file, encode(self._state))
        except OSError as error:
            if not self._has_failed:
                log.error(  # noqa: TRY400  # it is not about the program
                    "[%s] The state file cannot be written (%s). Correct that: until then, a "
                    "restart compares more than necessary.",
                    self._destination.name, error.strerror,
                )  # fmt: skip
            self._has_failed = True
            return
        self._has_failed = False
        self._is_saved = True


def _changed(known: Mapping[bytes, MountId], present: Mapping[bytes, MountId]) -> list[bytes]:
    """Return the paths at which something else is mounted than before, or now."""
    return [
        path
        for path, mount in present.items()
        if path not in known or not mount.is_same(known[path])
    ]


def _is_same(one: DirectoryId | None, other: DirectoryId | None) -> bool:
    return one is other if one is None or other is None else one.is_same(other)


def _options_digest(destination: Destination, rsync: RsyncOptions) -> str:
    """Return a digest of all options and rules that determine the copy."""
    parts = [
        destination.target,
        *rsync.rules.arguments(),
        *(os.fsencode(option) for option in rsync.extra_options),
        b"delete" if rsync.delete else b"keep",
        *([rsync.delete_only.value.encode()] if rsync.delete_only is not None else []),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:%s," % (len(part), part))
    return digest.hexdigest()
