"""pylsyncd that believes wrong moves, to test that the chaos suite detects it.

``python lying_daemon.py FILE ARGUMENTS...`` writes the new paths of the wrong moves to FILE.
"""

import sys

from pylsyncd import cli
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.moves import Moves
from pylsyncd.pipeline.buffer import Buffer

_add = Buffer.add


def _add_wrong_moves(buffer: Buffer, changes: MutableChangeset) -> None:
    if changes.moves is not None:
        changes.moves = _exchange_old_paths(changes.moves)
    _add(buffer, changes)


def _exchange_old_paths(moves: Moves) -> Moves:
    """Return moves from the old paths of others, after which nothing has been written."""
    wrong = {}
    for is_directory in (False, True):
        right = [each for each in moves.by_new_path.items() if each[1].is_directory is is_directory]
        for (new, move), (_, other) in zip(right, right[1:] + right[:1], strict=True):
            wrong[new] = move._replace(old=other.old)
    with open(FILE, "a", encoding="ascii") as file:
        file.writelines(f"{new!r}\n" for new in wrong)
    return Moves(wrong)


if __name__ == "__main__":
    FILE = sys.argv.pop(1)
    Buffer.add = _add_wrong_moves  # type: ignore[method-assign]
    raise SystemExit(cli.main())
