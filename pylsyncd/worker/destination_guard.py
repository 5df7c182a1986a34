"""Whether a local destination is where it was: its disk may not be mounted."""

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.paths import InodeId
from pylsyncd.watcher.source_guard import local_directory_id

RELEASE_HINT = "if that is meant, say so with pylsyncctl release, or the signal USR2"
"""What to do about what is held."""


class DestinationHeldError(Exception):
    """A local destination is not where it was; the text says so, as part of a sentence."""


class DestinationGuard:
    """Remembers who a local destination's directory was after the last run."""

    def __init__(self, destination: Destination | None) -> None:
        """Make one; nothing is remembered where there is no destination."""
        self._destination = destination
        self.directory_id: InodeId | None = None
        """Who it was; None for a remote one, or before the first run."""

    def has_moved(self, *, is_released: bool) -> bool:
        """Tell whether it is another directory than before, and may be so.

        Raises DestinationHeldError if nobody said that it may.
        """
        if self.directory_id is None or self._present() == self.directory_id:
            return False
        if not is_released:
            raise DestinationHeldError(
                "it is not the directory that it was: is its disk mounted? Nothing is sent"
            )
        self.directory_id = None
        return True

    def check(self) -> None:
        """Take note of where it is, or see that it has not changed in a run.

        Raises DestinationHeldError if it has.
        """
        present = self._present()
        if self.directory_id not in {None, present}:
            raise DestinationHeldError("it was replaced by another directory during the run")
        self.directory_id = present

    def _present(self) -> InodeId | None:
        return None if self._destination is None else local_directory_id(self._destination)
