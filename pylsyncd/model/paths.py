"""Relative paths: ``bytes``, separated by ``/``, ``b""`` for the root.

This is the only module that compares prefixes of paths.
"""

from collections.abc import Iterator

ROOT = b""

InodeId = tuple[int, int]
"""Device and inode number, or another pair that identifies a directory on this machine."""


def covers(directory: bytes, path: bytes) -> bool:
    """Return True if ``path`` is ``directory`` or below it."""
    return not directory or path == directory or path.startswith(directory + b"/")


def relative_to(path: bytes, directory: bytes) -> bytes | None:
    """Return a path relative to a directory; None if it is not below it.

    The paths may be absolute; then the directory has no trailing slash, and ``/`` is empty.
    """
    return path[len(directory) :].lstrip(b"/") if covers(directory, path) else None


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of ``name`` in ``directory``; either of them may be empty."""
    if directory and name:
        return directory + b"/" + name
    return directory or name


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return the directory of a path and its name there."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def ancestors(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path, from its parent to the root; none for the root."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def tree_sort_key(path: bytes) -> bytes:
    """Return a sort key that puts a directory directly before everything below it.

    The order of bytes does not: it has ``a-b`` between ``a`` and ``a/b``. Names contain no NUL.
    """
    return path.replace(b"/", b"\0")


def printable(path: bytes) -> str:
    """Return a path as one line of text that a terminal cannot interpret.

    Bytes that are not UTF-8 or not printable are escaped as Python does, a backslash is doubled,
    and the root is a dot.
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
