"""pylsyncd that moves also what is too small to be worth it, so that random trees are moved.

``python eager_daemon.py ARGUMENTS...``
"""

from pylsyncd import cli
from pylsyncd.worker import linked_runs, moves

if __name__ == "__main__":
    linked_runs.MIN_LINKED_BYTES = 1  # type: ignore[misc]
    linked_runs.MIN_LINKED_BYTES_PER_FILE = 0  # type: ignore[misc]
    moves.MIN_BYTES_OVER_SSH = 1  # type: ignore[misc]
    raise SystemExit(cli.main())
