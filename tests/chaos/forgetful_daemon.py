"""pylsyncd that loses one change in a thousand, to test that the chaos suite detects it.

``python forgetful_daemon.py FILE ARGUMENTS...`` writes the lost changes to FILE.
"""

import itertools
import sys

from pylsyncd import cli
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.pipeline.buffer import Buffer

ONE_IN = 1000
_add = Buffer.add
_numbers = itertools.count(1)


def _add_most(buffer: Buffer, changes: MutableChangeset) -> None:
    kept, lost = MutableChangeset(), set[bytes]()
    for change in changes:
        if next(_numbers) % ONE_IN:
            kept.add(change.path, change.scope)
        else:
            lost.add(change.path)
            with open(FILE, "a", encoding="ascii") as file:
                file.write(f"{change.path!r}\n")
    # Without its hint, a kept change would be lost too where only the content is new.
    for hint in changes.new_content:
        if hint.path not in lost:
            kept.new_content.add(hint.path, hint.scope)
    _add(buffer, kept)


if __name__ == "__main__":
    FILE = sys.argv.pop(1)
    Buffer.add = _add_most  # type: ignore[method-assign]
    raise SystemExit(cli.main())
