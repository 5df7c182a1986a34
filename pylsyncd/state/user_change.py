"""Gives the user that root switches to the state that pylsyncd has kept while it ran as root.

Called as root. Only files that root's pylsyncd can have written are given away: in a directory that
only root can write, regular, with one name, and named as a state directory names them.
"""

import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import StateError, UsageError
from pylsyncd.model.formatting import format_count
from pylsyncd.state import lock_file, orphans
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.system import private_files
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.users import ProcessUser

log = logging.getLogger(__name__)

_GATE_NAME = "gate"
_GATE_TIMEOUT = 10.0
_LOCK_SUFFIX = ".lock"
_STATE_SUFFIX = ".state"
_OWN_NAME = re.compile(r"(?:[0-9a-f]{16}\.[a-z]+|gate)(?:\.[0-9a-f]{16}\.tmp)?")


@dataclass(frozen=True, slots=True)
class DestinationKeys:
    """The names of the files of one destination in a state directory."""

    state: str
    lock: str
    record: LockRecord

    @classmethod
    def of(cls, syncs: Iterable[SyncSettings]) -> "list[DestinationKeys]":
        """Return those of all destinations of some syncs."""
        return [cls.make(sync, each) for sync in syncs for each in sync.destinations]

    @classmethod
    def make(cls, sync: SyncSettings, settings: DestinationSettings) -> "DestinationKeys":
        """Return those of one destination."""
        location, real_source = settings.destination.location, os.path.realpath(sync.source.path)
        return cls(
            lock_file.destination_key(sync.source.path, location),
            lock_file.destination_key(real_source, location),
            LockRecord(real_source, location, sync.delete),
        )


@dataclass(frozen=True, slots=True)
class UserState:
    """The state directory of the user that root switches to."""

    path: bytes
    user: ProcessUser
    default: bytes
    """The default directory of root, in which the user may have one below."""

    def check(self) -> None:
        """Raise UsageError if :meth:`give` would refuse the directory; change nothing."""
        if self._is_subdirectory and os.path.lexists(self.default):
            os.close(private_files.open_directory(self.default))
        _check_directory(self.path, self.user)

    def give(self, syncs: Iterable[SyncSettings]) -> None:
        """Create the directory for the user, with the states that root has kept of some syncs.

        Raises UsageError if that is not possible.
        """
        keys = DestinationKeys.of(syncs)
        give = _give_subdirectory if self._is_subdirectory else _give_directory
        if count := give(self.path, self.user, keys):
            log.log(
                NOTICE,
                "Gave the state of %s, which pylsyncd has kept as root, to the user %s.",
                format_count(count, "destination"),
                self.user.name or self.user.uid,
            )

    @property
    def _is_subdirectory(self) -> bool:
        return self.path != self.default and os.path.dirname(self.path) == self.default


def _check_directory(path: bytes, user: ProcessUser) -> None:
    """Raise UsageError unless a directory is missing, the user's, or root's with states alone."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid == user.uid:
        return
    shown, name = paths.printable(path), user.name or user.uid
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"The state directory {shown} belongs to the user id {status.st_uid}, but pylsyncd "
            f"runs as {name}: run chown -R {name} {shown}, or choose another directory with "
            "--state-dir."
        )
    with os.scandir(path) as entries:
        for entry in entries:
            is_own = _OWN_NAME.fullmatch(os.fsdecode(entry.name))
            if not (is_own and entry.is_file(follow_symlinks=False)):
                raise UsageError(
                    f"The state directory {shown} belongs to root and has something else in it "
                    f"({paths.printable(entry.name)}): choose a directory for the user {name} with "
                    "--state-dir."
                )


def _give_directory(path: bytes, user: ProcessUser, keys: Collection[DestinationKeys]) -> int:
    """Create a state directory for the user, or give the user the one that root has used.

    Return how many states root has left in it. Raises UsageError if it cannot be given, or if a
    pylsyncd of root uses it.
    """
    private_files.create_directory_for_user(path, user.uid, user.gid)
    _check_directory(path, user)
    if os.lstat(path).st_uid == user.uid:
        return 0
    with _locked_directory(path, keys, any_destination=True) as directory:
        names = os.listdir(directory)
        for name in names:
            _give_file(directory, name, user)
        # At last: before, only root could write there.
        os.fchown(directory, user.uid, user.gid)
    return sum(name.endswith(_STATE_SUFFIX) for name in names)


def _give_subdirectory(path: bytes, user: ProcessUser, keys: Collection[DestinationKeys]) -> int:
    """Do the same for the user's directory below that of root, which root goes on using.

    The states of the destinations are moved from root's directory.
    """
    with _locked_directory(os.path.dirname(path), keys, any_destination=False) as directory:
        _let_others_search(directory)
        given = _give_directory(path, user, keys)
        states = {each.state for each in keys}
        names = [
            name
            for name in os.listdir(directory)
            if _OWN_NAME.fullmatch(name)
            and name.partition(".")[0] in states
            and not name.endswith(_LOCK_SUFFIX)
        ]
        target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in names:
                _give_file(directory, name, user)
                os.rename(name, name, src_dir_fd=directory, dst_dir_fd=target)
        finally:
            os.close(target)
    return given + sum(name.endswith(_STATE_SUFFIX) for name in names)


@contextmanager
def _locked_directory(
    path: bytes, keys: Collection[DestinationKeys], *, any_destination: bool
) -> Iterator[int]:
    """Open a directory of root in which no pylsyncd starts meanwhile, nor serves a destination.

    With ``any_destination``, one that serves others is refused, too. What a killed pylsyncd
    of root has left running for the destinations is terminated.
    """
    shown = paths.printable(path)
    directory = gate = -1
    try:
        directory = private_files.open_directory(path)
        gate = private_files.open_file(directory, _GATE_NAME, os.O_RDWR | os.O_CREAT, shown)
        if not private_files.acquire_lock(gate, _GATE_TIMEOUT):
            raise UsageError(
                f"The state directory {shown} is in use: stop the process that uses it."
            )
        _refuse_running(directory, keys, any_destination=any_destination)
        orphans.terminate_orphans({each.state for each in keys})
        yield directory
    except StateError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise private_files.unusable_error(shown, error) from error
    finally:
        for descriptor in (gate, directory):
            if descriptor >= 0:
                os.close(descriptor)


def _refuse_running(
    directory: int, keys: Collection[DestinationKeys], *, any_destination: bool
) -> None:
    """Raise UsageError if a lock in a directory is held."""
    records = {each.lock + _LOCK_SUFFIX: each.record for each in keys}
    for name in os.listdir(directory):
        if not name.endswith(_LOCK_SUFFIX) or not (any_destination or name in records):
            continue
        descriptor = private_files.open_file(directory, name, os.O_RDWR, name)
        try:
            if private_files.try_acquire_lock(descriptor):
                continue
            pid, record = lock_file.decode(private_files.read_all(descriptor, name))
            ours = records.get(name, record)
            raise UsageError(lock_file.conflict_message(ours, record, pid))
        finally:
            os.close(descriptor)


def _give_file(directory: int, name: str, user: ProcessUser) -> None:
    """Give a file of root to the user; raises StateError for one that pylsyncd has not written."""
    if os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid == user.uid:
        return  # By an attempt before this one, which was killed.
    descriptor = private_files.open_file(directory, name, os.O_RDONLY, name)
    try:
        os.fchown(descriptor, user.uid, user.gid)
    finally:
        os.close(descriptor)


def _let_others_search(directory: int) -> None:
    """Let the user reach a directory of its own below root's; root's files have the mode 0600."""
    mode = stat.S_IMODE(os.fstat(directory).st_mode)
    if not mode & stat.S_IXOTH:
        os.fchmod(directory, mode | stat.S_IXGRP | stat.S_IXOTH)
