"""Detects that a local destination directory was replaced, for example because of a lost mount."""

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.paths import InodeId
from pylsyncd.watcher.source_guard import local_directory_id

RELEASE_HINT = "if this is intended, run pylsyncctl release or send SIGUSR2"
"""What to do about changes that are held."""


class DestinationHeldError(Exception):
    """A local destination directory was replaced; the text says so, as part of a sentence."""


class DestinationGuard:
    """The directory that a local destination was after the last run."""

    def __init__(self, destination: Destination | None) -> None:
        """Guard a destination; None guards nothing."""
        self._destination = destination
        self._known: InodeId | None = None

    def accept_replaced(self, *, is_released: bool) -> bool:
        """Return True if the directory was replaced and a person has released it.

        Raises DestinationHeldError if it was replaced and not released.
        """
        if self.is_unchanged():
            return False
        if not is_released:
            raise DestinationHeldError(
                "the destination is another directory than before: check that its disk is mounted"
            )
        self._known = None
        return True

    def is_unchanged(self) -> bool:
        """Return True if the directory is the one of the last run, or none is known."""
        return self._known is None or self._present() == self._known

    def verify_unchanged(self) -> None:
        """Remember the directory after the first run; after others, check it.

        Raises DestinationHeldError if it was replaced during the run.
        """
        present = self._present()
        if self._known not in {None, present}:
            raise DestinationHeldError("the destination directory was replaced during the run")
        self._known = present

    def _present(self) -> InodeId | None:
        return None if self._destination is None else local_directory_id(self._destination)
