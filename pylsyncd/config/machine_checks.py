"""Asks the machine whether what was said can be used. Each raises UsageError with a sentence."""

import os
import shutil
import stat

from pylsyncd.config import converters
from pylsyncd.model import endpoints, paths
from pylsyncd.model.endpoints import Source
from pylsyncd.model.errors import UsageError
from pylsyncd.rules import excludes
from pylsyncd.rules.filters import RuleStep


def check_source(directory: str, text: str) -> Source:
    """Convert and check a source: it is there, a directory, and can be read."""
    found = endpoints.parse_source(os.fsencode(text), cwd=os.fsencode(directory))
    shown = paths.printable(found.path)
    try:
        status = os.stat(found.path)
    except OSError as error:
        raise UsageError(f"The source {shown} {_why_unseen(found.path, error)}.") from None
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"The source {shown} is not a directory.")
    if not os.access(found.path, os.R_OK | os.X_OK):
        raise UsageError(
            f"The source {shown} cannot be read by this user: read and search permission is needed."
        )
    return found


def _why_unseen(path: bytes, error: OSError) -> str:
    """Say why nothing can be told of a path."""
    if isinstance(error, PermissionError):
        return "cannot be reached by this user: a directory above it denies search permission"
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"cannot be used: {error.strerror}"
    if os.path.islink(path):
        return f"is a symbolic link to {paths.printable(os.readlink(path))}, which does not exist"
    return "does not exist"


def read_exclude_file(directory: str, name: str) -> tuple[RuleStep, ...]:
    """Read a file of exclude patterns, as rsync's ``--exclude-from`` does."""
    shown = paths.printable(os.fsencode(name))
    try:
        with open(os.path.join(directory, name), "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"The exclude file {shown} cannot be read: {error.strerror}.") from None
    try:
        return excludes.parse_exclude_lines(content, shown)
    except UsageError as error:
        # It begins with the name and the line.
        raise UsageError(f"The exclude file {error}") from None


def check_output_file(directory: str, name: str) -> str:
    """Return the absolute path of a file that is to be written, whose directory is there."""
    path = absolute_path(directory, name)
    parent = os.path.dirname(path)
    if _is_no_directory(parent):
        raise UsageError(f"There is no directory {_shown(parent)} for it: make it.")
    if os.path.isdir(path):
        raise UsageError(f"{_shown(path)} is a directory: name a file.")
    return path


def check_directory(base: str, name: str) -> str:
    """Return the absolute path of a directory that is there."""
    path = absolute_path(base, name)
    if _is_no_directory(path):
        raise UsageError(f"{_shown(path)} is not a directory.")
    return path


def _is_no_directory(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # Perhaps root could tell, who has opened what is there before it became this user.
        return False


def check_password_file(base: str, name: str) -> str:
    """Return the absolute path of a file with a password, which rsync will accept."""
    path = absolute_path(base, name)
    shown = _shown(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}.") from None
    # rsync refuses it otherwise (rsync 3.5.0, authenticate.c: "must not be other-accessible").
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsageError(f"{shown} can be read or written by others: chmod o= {shown}.")
    return path


def check_command(base: str, text: str) -> tuple[str, ...]:
    """Return the words of a command whose program is there."""
    first, *others = converters.split_command(text)
    program_path = resolve_program(base, first)
    if shutil.which(program_path) is None:
        raise UsageError(f"The program {_shown(first)} is not there, or cannot be run.")
    return program_path, *others


def resolve_program(base: str, name: str) -> str:
    """Return a program so that it is found from any directory: rsync runs in the source."""
    return absolute_path(base, name) if "/" in name else name


def check_remote_shell(text: str) -> None:
    """Check a remote shell: as rsync, by its words."""
    first = converters.split_command(text)[0]
    if "/" in first and not first.startswith("/"):
        raise UsageError(
            f"The remote shell's program {_shown(first)} needs its whole path, since rsync runs in "
            "the source."
        )
    if shutil.which(first) is None:
        raise UsageError(f"The remote shell's program {_shown(first)} is not installed.")


def absolute_path(base: str, name: str) -> str:
    """Return an absolute path; a relative one is below ``base``."""
    return os.path.abspath(os.path.join(base, name))


def _shown(name: str) -> str:
    return paths.printable(os.fsencode(name))
