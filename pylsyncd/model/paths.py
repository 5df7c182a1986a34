"""Relations between relative paths: ``bytes``, ``/``-separated, ``b""`` for the root.

Nobody else in the program compares prefixes.
"""

from collections.abc import Iterator

ROOT = b""

InodeId = tuple[int, int]
"""Tells a directory from all others of the machine, also from those that there were before."""


def covers(directory: bytes, path: bytes) -> bool:
    """Tell whether ``path`` is ``directory`` or lies below it."""
    return not directory or path == directory or path.startswith(directory + b"/")


def relative_to(path: bytes, directory: bytes) -> bytes | None:
    """Return a path as seen from a directory that covers it; None where that does not.

    Of absolute paths, too: the directory then has no slash at its end, and ``/`` is empty.
    """
    return path[len(directory) :].lstrip(b"/") if covers(directory, path) else None


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of ``name`` in ``directory``; an empty part on either side adds nothing."""
    if directory and name:
        return directory + b"/" + name
    return directory or name


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return the directory that a path stands in, and its name there."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def ancestors(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path, the nearest first, the root last; none for the root."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def tree_sort_key(path: bytes) -> bytes:
    """Return a sort key that puts a directory directly before all that lies below it.

    Plain order does not: ``a-b`` would stand between ``a`` and ``a/b``. No name holds a NUL.
    """
    return path.replace(b"/", b"\0")


def printable(path: bytes) -> str:
    """Return a path as it can be shown: one line, nothing that a terminal would obey.

    What is not UTF-8 or not printable is escaped as Python would, a backslash is doubled, and the
    root is a dot.
    """
    text = path.decode("utf-8", "surrogateescape")
    return "".join(_escaped(character) for character in text) or "."


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
