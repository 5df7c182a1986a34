"""The rsync that is installed: its version, and the environment it is run in."""

import os
import re

from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable
from pylsyncd.rsync.command import MIN_RSYNC_VERSION
from pylsyncd.rsync.quoting import Version
from pylsyncd.system import processes

_UNWANTED = frozenset(
    (
        "RSYNC_OLD_ARGS",
        "RSYNC_PROTECT_ARGS",
        "RSYNC_RSH",
        "RSYNC_ICONV",
        "RSYNC_PARTIAL_DIR",
        "LANGUAGE",
    )
)

# Seconds. A busy machine may be slow, and one that waits for a file system may take ever.
_LONGEST_ANSWER = 60.0


def rsync_version(program: str) -> Version:
    """Return the version of an rsync. Raises UsageError if there is none, or it is too old."""
    shown = printable(program)
    try:
        answer = processes.capture_output(
            [program, "--version"], rsync_environment(), _LONGEST_ANSWER
        )
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be run: {error.strerror or error}. "
            "Install rsync, or name the program with --rsync."
        ) from None
    found = re.match(rb"rsync +version v?(\d+)\.(\d+)\.(\d+)", answer)
    if not found:
        raise UsageError(f"{shown} does not answer to --version as rsync does.")
    number = int(found[1]), int(found[2]), int(found[3])
    if number < MIN_RSYNC_VERSION:
        raise UsageError(
            f"{shown} is rsync {'.'.join(map(str, number))}; "
            f"{'.'.join(map(str, MIN_RSYNC_VERSION))} or later is needed."
        )
    return number


def rsync_environment() -> dict[str, str]:
    """Return the environment for rsync: messages untranslated, and nothing that adds an option.

    RSYNC_PASSWORD, RSYNC_PROXY and RSYNC_CONNECT_PROG are meant for it: how a daemon is reached.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**kept, "LC_ALL": "C"}
