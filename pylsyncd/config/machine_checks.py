"""Checks of options that need the machine: the files, directories and programs they name.

Each check takes the directory that a relative path starts from, then the value. It returns the
value to use, or raises UsageError with a sentence that does not name the option.
"""

import os
import shutil
import stat

from pylsyncd.config import converters
from pylsyncd.config.literal_values import check_path
from pylsyncd.model import endpoints, paths
from pylsyncd.model.endpoints import Source
from pylsyncd.model.errors import UsageError
from pylsyncd.rules import filters
from pylsyncd.rules.filters import RuleStep
from pylsyncd.system import logs, walk
from pylsyncd.system.unix_sockets import MAX_ADDRESS_LENGTH

METRICS_NEED_LIBRARY = (
    "Metrics need the Prometheus client library, which is not installed: run apt install "
    "python3-prometheus-client or pip install 'pylsyncd[metrics]', or remove --metrics-file and "
    "--metrics-port."
)


def parse_source(directory: str, text: str) -> Source:
    """Return the source that a notation describes; it need not exist."""
    check_path(text)
    return endpoints.parse_source(os.fsencode(text), cwd=os.fsencode(directory))


def check_source(source: Source) -> None:
    """Check that a source is a readable directory."""
    if reason := walk.why_not_readable(source.path):
        raise UsageError(f"The source {paths.printable(source.path)} {reason}.")


def read_exclude_file(directory: str, name: str) -> tuple[RuleStep, ...]:
    """Return the rules in a file of patterns, as rsync's ``--exclude-from`` reads it."""
    check_path(name)
    shown = _printable(name)
    try:
        with open(os.path.join(directory, name), "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"Cannot read the exclude file {shown}: {error.strerror}.") from None
    try:
        return filters.parse_exclude_lines(content, shown)
    except UsageError as error:
        # The error begins with the name of the file and the line.
        raise UsageError(f"The exclude file {error}") from None


def check_output_file(directory: str, name: str) -> str:
    """Check that a file can be created and return its absolute path."""
    path = absolute_path(directory, name)
    parent = os.path.dirname(path)
    if not _may_be_directory(parent):
        raise UsageError(f"The directory {_printable(parent)} does not exist: create it.")
    if os.path.isdir(path):
        raise UsageError(f"{_printable(path)} is a directory: name a file.")
    return path


def check_directory(directory: str, name: str) -> str:
    """Check that a directory exists and return its absolute path."""
    path = absolute_path(directory, name)
    if not _may_be_directory(path):
        raise UsageError(f"{_printable(path)} is not a directory.")
    return path


def _may_be_directory(path: str) -> bool:
    """Return False if a path is known not to be a directory."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # At a reload this user may not see what root opened before it dropped its privileges.
        return True


def check_socket(directory: str, name: str) -> str:
    """Check that a control socket can be created and return its absolute path."""
    path = check_output_file(directory, name)
    if len(os.fsencode(path)) > MAX_ADDRESS_LENGTH:
        raise UsageError(
            f"{_printable(path)} is longer than {MAX_ADDRESS_LENGTH} bytes, the limit for the path "
            "of a socket: choose a shorter path."
        )
    return path


def check_password_file(directory: str, name: str, uid: int) -> str:
    """Check that an rsync of a user will accept a password file and return its absolute path."""
    path = absolute_path(directory, name)
    shown = _printable(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        raise UsageError(f"Cannot read {shown}: {error.strerror}.") from None
    # rsync refuses such a file (rsync 3.5.0, authenticate.c: "must not be other-accessible").
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsageError(f"{shown} is accessible to other users: run chmod o= {shown}.")
    # Likewise ("must be owned by root when running as root").
    if uid == 0 and status.st_uid != 0:
        raise UsageError(
            f"{shown} belongs to the user id {status.st_uid}, but an rsync that runs as root "
            f"accepts only a password file of root: run chown root {shown}."
        )
    return path


def check_command(directory: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """Check that the program of a command exists and return the command."""
    program, *arguments = command
    path = resolve_program(directory, program)
    if shutil.which(path) is None:
        raise UsageError(f"The program {_printable(program)} does not exist or is not executable.")
    return path, *arguments


def resolve_program(directory: str, name: str) -> str:
    """Return a program so that it is found from any directory: rsync runs in the source."""
    return absolute_path(directory, name) if "/" in name else name


def check_remote_shell(text: str) -> None:
    """Check that the program of a remote shell exists."""
    program = converters.split_command(text)[0]
    if "/" in program and not program.startswith("/"):
        raise UsageError(
            f"The remote shell {_printable(program)} needs an absolute path: rsync runs in the "
            "source."
        )
    if shutil.which(program) is None:
        raise UsageError(f"The remote shell {_printable(program)} is not installed.")


def check_syslog_facility(_directory: str, name: str) -> str:
    """Check that syslog has a facility and return it."""
    return converters.check_choice(logs.FACILITIES, name)


def absolute_path(directory: str, name: str) -> str:
    """Return an absolute path."""
    check_path(name)
    return os.path.abspath(os.path.join(directory, name))


def _printable(name: str) -> str:
    return paths.printable(os.fsencode(name))
