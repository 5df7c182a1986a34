"""Relative paths: ``bytes``, separated by ``/``, ``b""`` for the root.

This is the only module that compares prefixes of paths.
"""

from collections.abc import Collection, Iterator

ROOT = b""

MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux, without its NUL: no program can name a longer path."""

InodeId = tuple[int, int]
"""Device and inode number, or another pair that identifies a directory on this machine."""


class PathError(ValueError):
    """A text is not a path below the source."""


class RelativePath(bytes):
    """A path that text of another program named, checked: the root, or a path below it."""

    __slots__ = ()

    def __new__(cls, path: bytes) -> "RelativePath":  # noqa: PYI034  # typing.Self: Python 3.11
        """Check a path.

        Raises PathError for one that is too long, begins or ends with a slash, or has a NUL or a
        component that is empty, ``.`` or ``..``.
        """
        if len(path) > MAX_PATH_BYTES or not is_relative(path):
            raise PathError(f"{printable(path[:100])} is not a path below the source")
        return super().__new__(cls, path)


def is_relative(path: bytes) -> bool:
    """Return True if a path is the root, or stands below it whatever the disk holds."""
    if not path:
        return True
    wrapped = b"/%b/" % path
    if b"\0" in path or b"//" in wrapped:
        return False
    return b"/." not in wrapped or not (b"/./" in wrapped or b"/../" in wrapped)


def are_relative(some: Collection[bytes]) -> bool:
    """Return True if each path is below the root."""
    joined = b"/".join(some)
    return (bool(joined) or not some) and is_relative(joined)


def are_names(names: Collection[bytes]) -> bool:
    """Return True if each of ``names`` is the name of an entry of a directory."""
    joined = b"/".join(names)
    has_slash = joined.count(b"/") >= len(names) > 0
    return not has_slash and (bool(joined) or not names) and is_relative(joined)


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


def at_and_above(path: bytes) -> Iterator[bytes]:
    """Yield a path and the directories above it, to the root."""
    yield path
    yield from ancestors(path)


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
