"""The installed rsync: its version, and the environment that it runs in."""

import os
import re

from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable
from pylsyncd.rsync.command import MIN_RSYNC_VERSION
from pylsyncd.rsync.quoting import Version
from pylsyncd.system import processes

# They change rsync's options or the language of its messages.
_REMOVED_VARIABLES = frozenset([
    "RSYNC_OLD_ARGS", "RSYNC_PROTECT_ARGS", "RSYNC_RSH", "RSYNC_ICONV", "RSYNC_PARTIAL_DIR",
    "LANGUAGE",
])  # fmt: skip

# Seconds for `rsync --version`: long for a busy machine, short for a file system that hangs.
_VERSION_TIMEOUT = 60.0


def rsync_version(program: str) -> Version:
    """Return the version of an rsync. Raises UsageError if there is none, or it is too old."""
    shown = printable(program)
    try:
        answer = processes.capture_output(
            [program, "--version"], rsync_environment(), _VERSION_TIMEOUT
        )
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be run: {error.strerror or error}. "
            "Install rsync, or name the program with --rsync."
        ) from None
    found = re.match(rb"rsync +version v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", answer)
    if b"openrsync" in answer:
        raise UsageError(
            f"{shown} is openrsync, which lacks options that pylsyncd needs. "
            "Install rsync from samba.org, or name the program with --rsync."
        )
    if not found:
        raise UsageError(
            f"{shown} is not rsync: its answer to --version does not name an rsync version. "
            "Install rsync, or name the program with --rsync."
        )
    version = int(found[1]), int(found[2]), int(found[3])
    if version < MIN_RSYNC_VERSION:
        raise UsageError(
            f"{shown} is rsync {'.'.join(map(str, version))}, too old: install rsync "
            f"{'.'.join(map(str, MIN_RSYNC_VERSION))} or later, or name another one with --rsync."
        )
    return version


def rsync_environment() -> dict[str, str]:
    """Return the environment for rsync: messages in English, and no variable that adds an option.

    RSYNC_PASSWORD, RSYNC_PROXY and RSYNC_CONNECT_PROG stay: they say how to reach a daemon.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _REMOVED_VARIABLES}
    return {**kept, "LC_ALL": "C"}
