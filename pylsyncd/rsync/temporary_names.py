"""The names of what rsync writes a file to until it is complete. Pure.

These are ``.name.XXXXXX`` beside the file, where a leading dot of the name is not doubled, a dot at
its end is dropped, and what is too long is cut; if that is in the middle of characters that are not
ASCII, all of those before it go, too (get_tmpname in rsync's receiver.c, the same in all versions
since 3.1).
"""

import re
from typing import Final

from pylsyncd.model import paths

# Bytes of a name of which none is cut.
_UNCUT: Final = 200


def temporary_pattern(path: bytes) -> bytes:
    """Return a pattern, as rsync's rules have them, for all that a file may be written to."""
    directory, name = paths.split(path)
    start, middle = _start(name)
    return b"/" + paths.join(
        escape_wildcards(directory), b"." + escape_wildcards(start) + middle + b"??????"
    )


def temporary_regex(path: bytes) -> re.Pattern[bytes]:
    """Return what matches the names that the same pattern matches."""
    start, middle = _start(paths.split(path)[1])
    between = re.escape(middle).replace(rb"\*", b".*")
    return re.compile(rb"\." + re.escape(start) + between + b".{6}", re.DOTALL)


def escape_wildcards(text: bytes) -> bytes:
    """Return a text that means itself in a pattern with wildcards."""
    return re.sub(rb"[\\*?[]", rb"\\\g<0>", text)


def _start(name: bytes) -> tuple[bytes, bytes]:
    """Return what such a name begins with after its dot, and what stands before its last part."""
    start = name.removeprefix(b".")
    if len(start) <= _UNCUT:
        return start.removesuffix(b"."), b"."
    start = re.sub(rb"[.\x80-\xff]+\Z", b"", start[:_UNCUT])
    return start, b"*." if start else b"*"
