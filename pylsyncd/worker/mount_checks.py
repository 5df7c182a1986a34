"""Asks what is at the copies of directories over which file systems were mounted."""

from collections.abc import Mapping
from typing import NamedTuple

from pylsyncd.model.directory_id import MountId
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.worker.transfer import Transfer


class MountCheck(NamedTuple):
    """What is at the copy of a directory over which a file system was mounted."""

    mount: MountId
    is_copy_empty: bool
    """Whether nothing of the copy can be lost."""


class MountChecks:
    """The checks of one destination for the present mounts. Used by its worker's thread."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self.by_path: Mapping[bytes, MountCheck] = {}
        """The checks of the present mounts; any thread may ask."""

    @property
    def has_unchecked(self) -> bool:
        """Whether there is a mount whose copy was not looked at."""
        return bool(self._transfer.new_mounts.keys() - self.by_path.keys())

    def update(self) -> Outcome:
        """Ask what is at the copies that were not looked at; return a failure if there is one."""
        mounts = self._transfer.new_mounts
        checks = {
            path: check for path, check in self.by_path.items() if mounts.get(path) == check.mount
        }
        outcome = Outcome(Verdict.DONE)
        for path in mounts.keys() - checks.keys():
            outcome = self._transfer.check_copy(path)
            if outcome.verdict in {Verdict.RETRY_NOW, Verdict.RETRY_LATER}:
                break
            checks[path] = MountCheck(mounts[path], outcome.verdict is Verdict.DONE)
        else:
            outcome = Outcome(Verdict.DONE)
        self.by_path = checks
        return outcome
