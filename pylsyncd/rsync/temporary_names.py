"""The names of rsync's temporary files. Pure.

rsync writes a file to ``.name.XXXXXX`` beside it until the file is complete. It does not double a
leading dot of the name, drops a dot at its end, and cuts a long name; if the cut is within
non-ASCII characters, all of those before it go, too (get_tmpname in rsync's receiver.c, the same
in all versions since 3.1).
"""

import re
from typing import Final

from pylsyncd.model import paths

# Bytes: rsync never cuts a name that is not longer.
_MAX_UNCUT_NAME: Final = 200


def temporary_pattern(path: bytes) -> bytes:
    """Return an rsync pattern that matches every temporary file of ``path``."""
    directory, name = paths.split(path)
    start, middle = _start_and_middle(name)
    own = b"." + escape_wildcards(start) + middle + b"??????"
    return b"/" + paths.join(escape_wildcards(directory), own)


def temporary_regex(path: bytes) -> re.Pattern[bytes]:
    """Return the same for names alone, as a regular expression."""
    start, middle = _start_and_middle(paths.split(path)[1])
    between = re.escape(middle).replace(rb"\*", b".*")
    return re.compile(rb"\." + re.escape(start) + between + b".{6}", re.DOTALL)


def escape_wildcards(text: bytes) -> bytes:
    """Return a text that matches itself in a pattern with wildcards."""
    return re.sub(rb"[\\*?[]", rb"\\\g<0>", text)


def _start_and_middle(name: bytes) -> tuple[bytes, bytes]:
    """Return how a temporary name goes on after its dot, and what precedes its last six bytes."""
    start = name.removeprefix(b".")
    if len(start) <= _MAX_UNCUT_NAME:
        return start.removesuffix(b"."), b"."
    start = re.sub(rb"[.\x80-\xff]+\Z", b"", start[:_MAX_UNCUT_NAME])
    return start, b"*." if start else b"*"
