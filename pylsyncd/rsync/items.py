"""The lines in which rsync says what it did to a path (``--out-format=%i %n%L``). Pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pylsyncd.model.paths import PathError, RelativePath

MAX_ITEMS = 1_000

# The action in 11 characters (`>f+++++++++`, `*deleting  `), and the name.
_ITEM = re.compile(r"(\*deleting  |[<>ch.*][fdLDS].{9}) (.+)")
_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")
_LINK_ARROW = b" -> "


@dataclass(frozen=True, slots=True)
class ItemizedPath:
    """A path, relative to the source, that rsync has changed at the destination."""

    path: RelativePath
    is_deleted: bool
    is_new_directory: bool


def parse_item(line: str) -> ItemizedPath | None:
    """Return what a line says; None if it is no such line, or names no path below the source."""
    found = _ITEM.fullmatch(line)
    if found is None:
        return None
    action, name = found[1], _unescape(found[2])
    if action[1] == "L":
        # The target follows; a name may contain an arrow, too, but a wrong one does no harm.
        name = name.partition(_LINK_ARROW)[0]
    try:
        path = RelativePath(b"" if name in {b"./", b"."} else name.rstrip(b"/"))
    except PathError:
        return None
    return ItemizedPath(
        path, is_deleted=action.startswith("*deleting"), is_new_directory=action == "cd+++++++++"
    )


def parse_items(lines: Iterable[str]) -> list[ItemizedPath]:
    """Return what the lines say, without those that say nothing."""
    return [item for line in lines if (item := parse_item(line)) is not None]


class ItemCollector:
    """The first lines about paths of one run, and the number of all of them."""

    def __init__(self, on_item: Callable[[str], None]) -> None:
        """Create one; ``on_item`` is called with each line."""
        self._on_item = on_item
        self.lines: list[str] = []
        self.count = 0

    def add(self, line: str) -> None:
        """Add a line."""
        self._on_item(line)
        self.count += 1
        if len(self.lines) < MAX_ITEMS:
            self.lines.append(line)


def _unescape(text: str) -> bytes:
    name = text.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)
