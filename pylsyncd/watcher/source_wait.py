"""Decides, when a sync starts, whether its source may be used yet.

The source may be missing, or the file system that it is on: at a boot, both may come later than
pylsyncd.
"""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.moments import Moment
from pylsyncd.system import clock
from pylsyncd.watcher import mounts
from pylsyncd.watcher.source_guard import SourceGuard


class WaitReason(NamedTuple):
    """Why a source must not be used yet."""

    text: str
    """Without a full stop."""
    can_be_released: bool
    """Whether a person may say that the source is right as it is."""


class SourceWait:
    """The wait of a sync for its source. Used by the source's own thread.

    ``saved_mount_points`` are those of the last run. Unless it ``waits_if_missing``, only a source
    that was there is waited for. ``find_conflict()`` returns why the directory that the source
    leads to now cannot be synced: the settings were checked before it was there.
    """

    def __init__(
        self,
        guard: SourceGuard,
        saved_mount_points: Collection[bytes],
        *,
        waits_if_missing: bool,
        find_conflict: Callable[[], str] = lambda: "",
        fstab: str = mounts.FSTAB,
    ) -> None:
        self._guard = guard
        self._saved_mount_points = saved_mount_points
        self._waits_if_missing = waits_if_missing
        self._find_conflict = find_conflict
        self._fstab = fstab
        self._started = clock.now()
        self._reason: WaitReason | None = None
        self._is_released = False
        self._has_waited = False

    @property
    def missing_since(self) -> Moment | None:
        """When the wait began; None if the source could be used at once."""
        return self._started if self._has_waited else None

    def release(self) -> bool:
        """Use the source as it is now; return False if the last reason does not permit that."""
        self._is_released = self._reason is not None and self._reason.can_be_released
        return self._is_released

    def find_reason(self) -> WaitReason | None:
        """Return why the source must not be used now; None if it may be.

        A person can release a source whose file system is not mounted, but not an unsafe link. A
        source that is missing is left to the caller if only one that was there is waited for.
        """
        reason = self._reason_against_path()
        if reason is None and not self._is_released:
            reason = self._reason_against_mount()
        elif reason is not None:
            # What comes into its place was not released.
            self._is_released = False
        self._has_waited |= reason is not None
        self._reason = reason
        return reason

    def _reason_against_path(self) -> WaitReason | None:
        only_links = not (self._waits_if_missing or self._has_waited)
        if text := self._guard.why_not_opened(only_links=only_links):
            if point := self._missing_mount():
                text += f", and no file system is mounted at {paths.printable(point)}"
            return WaitReason(text, can_be_released=False)
        text = self._find_conflict() if self._has_waited else ""
        return WaitReason(text, can_be_released=False) if text else None

    def _reason_against_mount(self) -> WaitReason | None:
        if point := self._guard.find_missing_mount(self._saved_mount_points):
            shown = paths.printable(point)
            text = f"no file system is mounted at {shown}, unlike in the last run"
            return WaitReason(text, can_be_released=True)
        # At the first start nothing is known of the last run.
        with suppress(OSError):
            if self._guard.is_empty() and (point := self._missing_mount(is_source=True)):
                shown = paths.printable(point)
                text = f"it is empty; nothing is mounted at {shown}, unlike in {self._fstab}"
                return WaitReason(text, can_be_released=True)
        return None

    def _missing_mount(self, *, is_source: bool = False) -> bytes | None:
        """Return a mount point of a boot, above or at the source, at which nothing is mounted now.

        If it ``is_source``, it is the source itself.
        """
        source = os.path.realpath(self._guard.source)
        in_fstab = map(os.path.realpath, mounts.read_fstab_mount_points(self._fstab))
        return self._guard.find_missing_mount(
            point
            for point in (*self._saved_mount_points, *in_fstab)
            if point == source
            or (not is_source and paths.covers(point.strip(b"/"), source.strip(b"/")))
        )
