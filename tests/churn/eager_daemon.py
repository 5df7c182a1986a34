"""pylsyncd that moves also what is too small to be worth it, so that random trees are moved.

``python eager_daemon.py ARGUMENTS...``. Before each local rename, it runs the program that the
environment variable PAUSE_BEFORE_RENAME names.
"""

import os
import subprocess

from pylsyncd import cli
from pylsyncd.worker import linked_runs, moves, renames

PAUSE_VARIABLE = "PAUSE_BEFORE_RENAME"
RENAME = "rename"
_rename_below = renames.rename_below


def move_everything() -> None:
    """Make no move too small, and pause before each rename if asked to."""
    linked_runs.MIN_LINKED_BYTES = 1  # type: ignore[misc]
    linked_runs.MIN_LINKED_BYTES_PER_FILE = 0  # type: ignore[misc]
    moves.MIN_BYTES_OVER_SSH = 1  # type: ignore[misc]
    if PAUSE_VARIABLE in os.environ:
        renames.rename_below = _pause_and_rename  # type: ignore[assignment]


def _pause_and_rename(root: int, old: bytes, new: bytes, *, is_directory: bool) -> None:
    # If this daemon is killed, its output ends at once.
    subprocess.run(
        (os.environ[PAUSE_VARIABLE], RENAME),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _rename_below(root, old, new, is_directory=is_directory)


if __name__ == "__main__":
    move_everything()
    raise SystemExit(cli.main())
