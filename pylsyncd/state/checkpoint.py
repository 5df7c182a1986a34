"""Keeps what is confirmed of one destination on disk, so that a restart need not compare all."""

import hashlib
import logging
import os
import time
from dataclasses import dataclass, replace

from pylsyncd.model.changes import Changeset
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.errors import StateError
from pylsyncd.model.moments import Moment, reason_to_distrust
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.state.destination_state import DestinationState, decode, encode
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard, SourceIdentity, local_directory_id

log = logging.getLogger(__name__)

# Seconds from one writing to the next. What is on disk may be old: then a restart looks at more.
_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What a start finds: the state, or why there is none that can be used."""

    state: DestinationState | None = None
    error: str = ""


class Checkpoint:
    """The state of one destination. Written by its worker, read before that is started."""

    def __init__(
        self, directory: StateDirectory, name: str, guard: SourceGuard, destination: Destination,
        rsync: RsyncOptions,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._file = name + ".state"
        self._guard = guard
        self._destination = destination
        self._shape = _shape(destination, rsync)
        self._state: DestinationState | None = None
        self._footing: SourceIdentity | None = None
        self._written = 0.0
        self._is_written = True
        self._is_failing = False

    @property
    def due_at(self) -> float | None:
        """When to call :meth:`save`, by the monotonic clock; None for not at all."""
        return None if self._is_written else self._written + _INTERVAL

    def load(self) -> LoadedState:
        """Read what the last run has left."""
        try:
            content = self._directory.read(self._file)
            return LoadedState(decode(content) if content is not None else None)
        except StateError as error:
            return LoadedState(error=str(error))

    def full_sync_reason(self, state: DestinationState) -> str:
        """Say why a state does not tell what has changed since; empty when it does.

        To be asked when the source was accepted.
        """
        present = clock.now()
        if state.shape != self._shape:
            return "the options or the excludes have changed"
        if state.source[0] != self._guard.accepted.inode_id[0]:
            return "the source is on another device"
        if state.source != self._guard.accepted.inode_id:
            return "the source is another directory"
        if state.destination != local_directory_id(self._destination):
            return "the destination is another directory"
        if state.confirmed.boot != present.boot and not state.is_stopped:
            # What was not on the disk yet may have been lost, at the source or at a destination.
            return "the machine went down while pylsyncd ran"
        return reason_to_distrust(state.confirmed, present)

    def resume_from(self, state: DestinationState) -> None:
        """Go on from a state: from now on it is one of a running daemon."""
        self._state = replace(state, is_stopped=False)
        self.save()

    def record_source(self, *, is_everything: bool) -> None:
        """Take note of what the source stands on, before a run: it may be replaced meanwhile.

        What was confirmed of one directory tells nothing of another, until everything is compared.
        """
        present = self._guard.accepted
        if is_everything or self._footing is None or self._footing.inode_id == present.inode_id:
            self._footing = present

    def changed_mounts(self, state: DestinationState) -> list[bytes]:
        """Return the subtrees on which another file system is mounted than a state tells.

        To be asked when the source was accepted. All in them may be old, and yet differ.
        """
        mounts = self._guard.accepted.nested_mounts
        return [path for path, mounted in mounts.items() if state.mounts.get(path) != mounted]

    def confirm(self, until: Moment, debt: Changeset, scanned: Moment | None = None) -> None:
        """Take note that all that has changed until a moment is at the destination, but a debt.

        For ``scanned`` see :class:`DestinationState`; None for the same moment.
        """
        footing = self._footing or self._guard.accepted
        self._state = DestinationState(
            until, scanned or until, footing.inode_id, footing.mount_point, footing.nested_mounts,
            local_directory_id(self._destination), self._shape, debt, is_stopped=False,
        )  # fmt: skip
        self._is_written = False
        if time.monotonic() >= self._written + _INTERVAL:
            self.save()

    def save_clean_stop(self) -> None:
        """Write that the daemon has ended in order."""
        if self._state is not None:
            self._state = replace(self._state, is_stopped=True)
            self.save()

    def save(self) -> None:
        """Write what is to be kept, if there is anything; say so when that fails."""
        if self._state is None:
            return
        self._written = time.monotonic()
        try:
            self._directory.write(self._file, encode(self._state))
        except OSError as error:
            if not self._is_failing:
                log.error(  # noqa: TRY400  # it is not about the program
                    "[%s] The state cannot be written (%s): mend that. Until then, a restart "
                    "compares more than need be.", self._destination.name, error.strerror,
                )  # fmt: skip
            self._is_failing = True
            return
        self._is_failing = False
        self._is_written = True


def _shape(destination: Destination, rsync: RsyncOptions) -> str:
    """Return what stands for all that shapes the copy."""
    parts = [
        destination.target,
        *rsync.rules.arguments(),
        *(os.fsencode(option) for option in rsync.extra_options),
        b"delete" if rsync.delete else b"keep",
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:%s," % (len(part), part))
    return digest.hexdigest()
