"""Finds, for ``--check-config``, what else a start, or the first run, would fail with.

Nothing is created or changed. What a running daemon holds (locks, sockets, ports) is left out.
"""

import importlib.util
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from pylsyncd.config import process_options, sync_options
from pylsyncd.config.machine_checks import METRICS_NEED_LIBRARY
from pylsyncd.config.option import Option
from pylsyncd.config.raw_options import ErrorCollector, OptionReader, RawConfiguration, Section
from pylsyncd.config.settings import DestinationSettings, ProcessSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync import option_trial
from pylsyncd.system import path_resolution, private_files, unix_sockets, users, walk
from pylsyncd.system.private_files import STATE_DIRECTORY, DirectoryPurpose
from pylsyncd.system.users import ProcessUser


class StartChecks:
    """The checks of a configuration; they add what they find to the errors."""

    def __init__(self, raw: RawConfiguration, errors: ErrorCollector) -> None:
        self._raw = raw
        self._errors = errors
        # By program and options, since many destinations have the same.
        self._refusals: dict[tuple[str, tuple[str, ...]], str] = {}

    def check(self, process: ProcessSettings, syncs: Iterable[SyncSettings]) -> None:
        """Check the settings, with the permissions of the user that the daemon will run as."""
        user = None
        with suppress(UsageError):  # The user is an error of its own.
            user = users.find_user(process.user, process.group)
        self._check_process(process, user)
        sections = {section.name: section for section in self._raw.syncs}
        for sync in syncs:
            section = sections[sync.name]
            reader = OptionReader(self._raw.sync_layers(section), self._errors)
            # The start holds the sync, and starts the others.
            check = partial(_check_source, sync, user)
            self._try(reader, sync_options.SOURCE, check, is_fatal=False)
            if sync.state_dir is not None:
                check = partial(_check_directory, sync.state_dir, STATE_DIRECTORY, user)
                self._try(self._process_reader, process_options.STATE_DIR, check)
            for each in sync.destinations:
                self._check_destination(each, section, user)

    def _check_process(self, process: ProcessSettings, user: ProcessUser | None) -> None:
        checks: tuple[tuple[Option[Any], Any, Callable[[Any], None]], ...] = (
            # Opened before the daemon changes to its user.
            (process_options.LOGFILE, process.log.file, _check_appended),
            (process_options.PIDFILE, process.pidfile, _check_appended),
            (process_options.STATUS_FILE, process.status_file, partial(_check_replaced, user)),
            (process_options.METRICS_FILE, process.metrics_file, partial(_check_replaced, user)),
            (process_options.METRICS_FILE, process.metrics_file, _check_library),
            (process_options.METRICS_PORT, process.metrics_port, _check_library),
            (process_options.CONTROL, process.control or None, partial(_check_socket, user)),
        )
        for option, value, check in checks:
            if value is not None:
                self._try(self._process_reader, option, partial(check, value))

    def _check_destination(
        self, settings: DestinationSettings, section: Section, user: ProcessUser | None
    ) -> None:
        name = settings.name.removeprefix(f"{section.name}/" if section.name else "")
        reader = OptionReader(self._raw.destination_layers(section, name), self._errors)
        if path := settings.rsync.password_file:
            check = partial(_check_readable, user, path)
            self._try(reader, sync_options.PASSWORD_FILE, check, is_fatal=False)
        self._try(reader, sync_options.RSYNC_OPTION, partial(self._check_rsync, settings))

    def _check_rsync(self, settings: DestinationSettings) -> None:
        options = settings.rsync
        if not options.extra_options:
            return
        key = options.program, options.extra_options
        if key not in self._refusals:
            self._refusals[key] = option_trial.why_refused(options)
        if refusal := self._refusals[key]:
            raise UsageError(f"rsync refuses these options: {refusal.rstrip('.')}.")

    @property
    def _process_reader(self) -> OptionReader:
        return OptionReader(self._raw.process_layers, self._errors)

    @staticmethod
    def _try(
        reader: OptionReader,
        option: Option[Any],
        check: Callable[[], None],
        *,
        is_fatal: bool = True,
    ) -> None:
        try:
            check()
        except UsageError as error:
            reader.add_error(option, str(error), is_fatal=is_fatal)


def _check_library(_value: object) -> None:
    with suppress(ModuleNotFoundError):
        if importlib.util.find_spec("prometheus_client") is not None:
            return
    raise UsageError(METRICS_NEED_LIBRARY)


def _check_source(sync: SyncSettings, user: ProcessUser | None) -> None:
    """Raise UsageError unless the daemon's user can read a source that this user can read."""
    source = sync.source.path
    if walk.why_not_readable(source):
        return  # It is an error already.
    shown = paths.printable(source)
    with users.acting_as(user):
        if reason := walk.why_not_readable(source):
            name = users.name_of(os.geteuid())
            raise UsageError(f"For the user {name}, the source {shown} {reason}.")
        try:
            os.close(walk.open_root(source))
        except OSError as error:
            raise UsageError(f"The source {shown} cannot be opened: {error.strerror}.") from None


def _check_readable(user: ProcessUser | None, path: str) -> None:
    with users.acting_as(user):
        if not os.access(path, os.R_OK, effective_ids=True):
            raise _no_permission("read", path)


def _check_appended(path: str) -> None:
    """Raise UsageError if a file cannot be written, or not be created."""
    _check_writable(path if os.path.exists(path) else os.path.dirname(path))


def _check_replaced(user: ProcessUser | None, path: str) -> None:
    """Raise UsageError if the daemon's user cannot replace a file again and again."""
    directory = os.path.dirname(path)
    with users.acting_as(user):
        try:
            os.close(path_resolution.resolve_directory(directory))
        except OSError as error:
            raise UsageError(f"{_printable(directory)} cannot be used: {error.strerror}.") from None
        _check_writable(directory)
        if _is_kept_by_sticky_bit(path):
            shown = _printable(path)
            raise UsageError(
                f"{shown} belongs to another user, and only that user can replace it: remove it."
            )


def _is_kept_by_sticky_bit(path: str) -> bool:
    """Return True if only the owner of a file can replace it."""
    directory = os.stat(os.path.dirname(path))
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        return False
    is_sticky = bool(directory.st_mode & stat.S_ISVTX)
    return is_sticky and os.geteuid() not in {0, owner, directory.st_uid}


def _check_socket(user: ProcessUser | None, path: str) -> None:
    directory = os.fsencode(os.path.dirname(path))
    _check_directory(directory, unix_sockets.SOCKET_DIRECTORY, user)


def _check_directory(path: bytes, purpose: DirectoryPurpose, user: ProcessUser | None) -> None:
    """Raise UsageError if a directory cannot be used, or not be created where it is missing."""
    try:
        owner = os.lstat(path).st_uid
    except OSError:
        # Root creates it for another user.
        above = path
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        _check_writable(os.fsdecode(above))
        return
    if purpose is STATE_DIRECTORY and user is not None and owner != user.uid:
        return  # ``daemonize.check`` decides whether the start gives it to the user.
    with users.acting_as(user):
        os.close(private_files.open_directory(path, purpose))
        _check_writable(os.fsdecode(path))


def _check_writable(path: str) -> None:
    """Raise UsageError if a file, or an entry of a directory, cannot be written."""
    mode = os.W_OK | os.X_OK if os.path.isdir(path) else os.W_OK
    if not os.access(path, mode, effective_ids=True):
        raise _no_permission("write", path)


def _no_permission(verb: str, path: str) -> UsageError:
    name = users.name_of(os.geteuid())
    where = "in the directory " if os.path.isdir(path) else ""
    return UsageError(f"The user {name} cannot {verb} {where}{_printable(path)}.")


def _printable(path: str) -> str:
    return paths.printable(os.fsencode(path))
