"""Detects that a local destination was replaced or is not mounted."""

from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.outcomes import RELEASE_COMMAND
from pylsyncd.system import walk
from pylsyncd.system.path_resolution import UnsafeLinkError
from pylsyncd.watcher import mounts
from pylsyncd.watcher.identification import local_directory_id

RELEASE_HINT = f"if this is intended, run {RELEASE_COMMAND}, or send SIGUSR2 to release everything"
"""What to do about changes that are held."""

_LINK_HINT = "remove the link, or name its target as the destination"


class DestinationHeldError(Exception):
    """A local destination directory must not be used; the text says why, as part of a sentence."""

    def __init__(self, reason: str, hint: str = RELEASE_HINT) -> None:
        super().__init__(reason)
        self.hint = hint
        """What to do about it."""


class DestinationGuard:
    """The directory that a local destination was after the last run."""

    def __init__(self, destination: Destination | None, fstab: str = mounts.FSTAB) -> None:
        """Guard a destination; None guards nothing."""
        self._destination = destination
        self._fstab = fstab
        self._known: DirectoryId | None = None

    def accept_replaced(self, *, is_released: bool) -> bool:
        """Return True if the directory was replaced, or is not mounted, and a person released it.

        Raises DestinationHeldError if it was not released, or if its path leads through an unsafe
        link.
        """
        self._refuse_unsafe_link()
        if self.is_unchanged():
            return False
        if not is_released:
            raise DestinationHeldError(self._reason())
        self._known = None
        return True

    def is_unchanged(self) -> bool:
        """Return True if the directory is the one of the last run.

        If none is known, return True if the path is safe to open, and its file system is mounted.
        """
        if self._known is None:
            return not self._find_unsafe_link() and self._find_unmounted_point() is None
        present = self._present()
        return present is not None and present.is_same(self._known)

    def verify_unchanged(self) -> None:
        """Remember the directory after the first run; after others, check it.

        Raises DestinationHeldError if it was replaced during the run.
        """
        self._refuse_unsafe_link()
        present = self._present()
        if self._known is not None and (present is None or not present.is_same(self._known)):
            raise DestinationHeldError("the destination directory was replaced during the run")
        self._known = present

    def _reason(self) -> str:
        """Return why a person has to release the destination."""
        if self._known is None and (point := self._find_unmounted_point()):
            shown = paths.printable(point)
            return f"nothing is mounted at {shown}, unlike in {self._fstab}: mount its disk"
        return "the destination is another directory than before: check that its disk is mounted"

    def _find_unmounted_point(self) -> bytes | None:
        destination = self._destination
        if destination is None or destination.transport is not Transport.LOCAL:
            return None
        return mounts.find_unmounted_point(destination.target, self._fstab)

    def _refuse_unsafe_link(self) -> None:
        """Raise DestinationHeldError for a link with which another user could redirect rsync."""
        if reason := self._find_unsafe_link():
            raise DestinationHeldError(f"the destination cannot be opened: {reason}", _LINK_HINT)

    def _find_unsafe_link(self) -> str:
        """Return why the path of the destination must not be followed; empty if it may be."""
        destination = self._destination
        if destination is None or destination.transport is not Transport.LOCAL:
            return ""
        try:
            with walk.opened_root(destination.target):
                return ""
        except UnsafeLinkError as error:
            return error.strerror or ""
        except OSError:
            return ""

    def _present(self) -> DirectoryId | None:
        return None if self._destination is None else local_directory_id(self._destination)
