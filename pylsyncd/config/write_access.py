"""Checks who else can write the files that pylsyncd obeys, and the directories that it reads.

The configuration names commands that run with the rights of pylsyncd, so a file that other users
can write is refused. What they could do with other files, or below a source, is a warning.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator

from pylsyncd.config import sync_options
from pylsyncd.config.raw_options import RawConfiguration
from pylsyncd.config.settings import Settings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.system import path_resolution

# The first rsync that a user cannot lead out of a directory by exchanging it for a symbolic link.
_SAFE_RSYNC = (3, 5, 0)


def check_config_file(path: str, status: os.stat_result, shown: str) -> None:
    """Check that only root and this user can write the open configuration file at ``path``.

    For root, nor may others be able to replace it. Raises UsageError with what to do.
    """
    uid = os.geteuid()
    if status.st_uid not in path_resolution.trusted_uids():
        raise UsageError(
            f"The configuration file {shown} belongs to the user id {status.st_uid}, who could "
            f"have commands run as the user id {uid}: run chown {uid} {shown}."
        )
    # A device such as /dev/null keeps nothing that is written to it.
    if not (stat.S_ISCHR(status.st_mode) or path_resolution.is_protected(status)):
        raise UsageError(
            f"The configuration file {shown} is writable by other users, who could have commands "
            f"run as the user id {uid}: run chmod go-w {shown}."
        )
    if uid == 0 and (directory := _find_open_directory(path)) is not None:
        in_directory = paths.printable(os.fsencode(directory))
        raise UsageError(
            f"The directory {in_directory} is writable by all users, who could replace the "
            f"configuration file {shown} and have commands run as root: run chmod o-w "
            f"{in_directory}, or move the file."
        )


def _find_open_directory(path: str) -> str | None:
    """Return a directory above a file in which any user can replace an entry; None without one."""
    for start in dict.fromkeys((path, os.path.realpath(path))):
        above = start
        while above != (above := os.path.dirname(above)):
            try:
                mode = os.stat(above).st_mode
            except OSError:
                continue
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return above
    return None


def find_weaknesses(raw: RawConfiguration, settings: Settings, uid: int) -> Iterator[str]:
    """Yield a sentence for each way in which others can influence a pylsyncd of a user."""
    for path in dict.fromkeys(_exclude_files(raw)):
        if _can_be_written_by_others(path, uid):
            shown = paths.printable(os.fsencode(path))
            yield (
                f"The exclude file {shown} is writable by other users, who decide what is copied: "
                f"run chown {uid} {shown} and chmod go-w {shown}."
            )
    for path in dict.fromkeys(_programs(settings.syncs)):
        if _can_be_written_by_others(path, uid):
            shown = paths.printable(os.fsencode(path))
            yield (
                f"The program {shown} is writable by other users, who could have commands run as "
                f"the user id {uid}: run chown {uid} {shown} and chmod go-w {shown}."
            )
    if uid == 0 and (sync := _find_race(settings.syncs)) is not None:
        yield (
            f"This rsync is older than {'.'.join(map(str, _SAFE_RSYNC))}, and other users own "
            f"directories in {paths.printable(sync.source.path)}: by exchanging directories for "
            "symbolic links during a run, they could read files of root. Install a newer rsync, or "
            "run pylsyncd as their user (see SECURITY in pylsyncd(8))."
        )


def _exclude_files(raw: RawConfiguration) -> Iterator[str]:
    sections = (*raw.syncs, *raw.destinations)
    for layer in (raw.defaults, raw.overrides, *(section.options for section in sections)):
        for each in layer:
            if each.option is sync_options.EXCLUDE_FROM:
                yield from (os.path.join(each.directory, text) for text in each.texts)


def _programs(syncs: Iterable[SyncSettings]) -> Iterator[str]:
    """Yield the paths of the hooks and the rsyncs."""
    for sync in syncs:
        hooks = sync.hooks
        commands = (
            hooks.before, hooks.batch, hooks.error, hooks.recovery, hooks.held, hooks.repair,
        )  # fmt: skip
        names = [command[0] for command in commands if command]
        for name in (*names, *(each.rsync.program for each in sync.destinations)):
            if path := shutil.which(name):
                yield path


def _can_be_written_by_others(path: str, uid: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return not (stat.S_ISCHR(status.st_mode) or path_resolution.is_protected(status, uid))


def _find_race(syncs: Iterable[SyncSettings]) -> SyncSettings | None:
    """Return a sync of directories of other users with an rsync that they can mislead."""
    for sync in syncs:
        is_old = any(each.rsync.version < _SAFE_RSYNC for each in sync.destinations)
        if is_old and _has_foreign_directory(sync.source.path):
            return sync
    return None


def _has_foreign_directory(source: bytes) -> bool:
    """Return True if the source, or a directory directly in it, does not belong to root."""
    try:
        if os.stat(source).st_uid != 0:
            return True
        with os.scandir(source) as entries:
            return any(
                entry.is_dir(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_uid != 0
                for entry in entries
            )
    except OSError:
        return False
