"""The features of the installed rsync, and the reason for tests that are skipped without one."""

import functools
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pylsyncd.rsync.command import RsyncCapabilities
from pylsyncd.rsync.quoting import Version
from pylsyncd.rsync.version import rsync_version

RSYNC = shutil.which("rsync")

# The options that are newer than the oldest supported rsync, from rsync's NEWS. Every rsync must
# have an option that is not listed, so a misspelled option fails the test.
_ADDED_IN: dict[str, Version] = {
    "--old-args": (3, 2, 4),
    "--no-old-args": (3, 2, 4),
    "--fsync": (3, 2, 4),
    "--trust-sender": (3, 2, 5),
    "--secluded-args": (3, 2, 6),
    "--no-secluded-args": (3, 2, 6),
    "--compress-threads": (3, 4, 2),
    "--zt": (3, 4, 2),
    "--confine-root": (3, 5, 0),
    "--drop-D": (3, 5, 0),
    "--insecure-links": (3, 5, 0),
}


@functools.cache
def installed_version() -> Version:
    """Return the version of the installed rsync."""
    return rsync_version("rsync")


def has_option(option: str) -> bool:
    """Return True if rsync is new enough for an option, which may have an argument."""
    return installed_version() >= _ADDED_IN.get(option.partition("=")[0], (0, 0, 0))


@functools.cache
def can_delete_by_name() -> bool:
    """Return True if rsync deletes listed paths that are missing (not 3.4.3: rsync issue 910).

    The version does not decide, because patched older versions have the bug as well. Any other
    failure is left to the tests.
    """
    if RSYNC is None:
        return True
    with TemporaryDirectory(prefix="pylsyncd-installed-rsync-") as directory:
        source, replica = Path(directory, "source"), Path(directory, "replica")
        for each in (source, replica):
            each.mkdir()
        (replica / "gone").touch()
        run = subprocess.run(
            [RSYNC, "--dirs", "--delete", "--delete-missing-args", "--from0", "--files-from=-",
             f"{source}/", f"{replica}/"],
            input=b"./gone\0", capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    return run.returncode != 2 or b"invalid file mode 00" not in run.stderr


CAPABILITIES = RsyncCapabilities(has_delete_missing_args=can_delete_by_name())
"""The capabilities of a destination on this machine."""

DELETE_OPTIONS = ("--delete", f"--{'delete' if can_delete_by_name() else 'ignore'}-missing-args")
"""The options of a run that deletes listed paths, with these capabilities."""

CANNOT_DELETE_BY_NAME = "the installed rsync cannot delete by name (rsync issue 910)"

needs_deletion_by_name = pytest.mark.skipif(not can_delete_by_name(), reason=CANNOT_DELETE_BY_NAME)


def can_quote_wildcards() -> bool:
    """Return True if rsync quotes wildcards for the remote shell."""
    return installed_version() >= (3, 5, 0)
