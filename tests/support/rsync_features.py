"""What the rsync that is installed is able to do: tests use it, or are skipped and say why."""

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

# The options that came after the oldest rsync that is allowed, from rsync's NEWS. What is not here
# must be known: a misspelled option is none of a later rsync.
_CAME_WITH: dict[str, Version] = {
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
    """Return the version of the rsync that is installed."""
    return rsync_version("rsync")


def has_option(option: str) -> bool:
    """Tell whether rsync is new enough for an option, which may have an argument."""
    return installed_version() >= _CAME_WITH.get(option.partition("=")[0], (0, 0, 0))


@functools.cache
def can_delete_by_name() -> bool:
    """Tell whether rsync deletes what is listed and missing (3.4.3 cannot; see rsync issue 910).

    No version tells that: the fault is in some that were patched, too. Anything else that goes
    wrong is for the tests to find.
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
"""What a destination on this machine, and by this rsync, is found to be able to do."""

DELETE_OPTIONS = ("--delete", f"--{'delete' if can_delete_by_name() else 'ignore'}-missing-args")
"""The options of a list that is to delete, as `Rsync.listed` has them for these abilities."""

CANNOT_DELETE_BY_NAME = (
    "it is about deletion by name, which the rsync here cannot do (rsync issue 910)"
)

needs_deletion_by_name = pytest.mark.skipif(not can_delete_by_name(), reason=CANNOT_DELETE_BY_NAME)


def can_quote_wildcards() -> bool:
    """Tell whether a remote shell gets a path with wildcards as it was written."""
    return installed_version() >= (3, 5, 0)
