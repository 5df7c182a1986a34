"""Renames the copies of what was moved in the source, where the destination permits it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pylsyncd.model.moves import Move
from pylsyncd.worker.session import RsyncSession

MIN_BYTES_OVER_SSH: Final = 65536
"""The size from which on a rename over ssh takes less time than sending the content again."""


@dataclass(frozen=True, slots=True)
class RenameResult:
    """What became of some moves."""

    carried: frozenset[bytes] = frozenset()
    """The new paths whose copies were renamed."""
    is_available: bool = True
    """False once it is known that nothing can be renamed at this destination."""
    is_unreachable: bool = False
    """The connection has failed: the moves that are not carried may be tried again later."""


class Renames:
    """The renames at one destination. Used by the thread that uses the session."""

    def __init__(self, session: RsyncSession) -> None:
        self._session = session

    def carry(self, pairs: Mapping[bytes, Move], root: int) -> RenameResult:
        """Rename the copies of moved paths; return those that were renamed.

        The keys are the new paths; ``root`` is the open source. The first pairs are taken if there
        are too many. Whatever the destination does, this raises nothing.
        """
        del pairs, root
        return RenameResult(is_available=False)
