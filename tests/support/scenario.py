"""A scenario: what stands in the source, what is done to it, and the tree that must come of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from support.operations import Name, Operation, WorkArea
from support.trees import Entry, Snapshot, digest_of

FIFO, SOCKET = "|", "="
CHARACTER_DEVICE, BLOCK_DEVICE = "c", "b"
SPECIAL = {
    FIFO: "fifo",
    SOCKET: "socket",
    CHARACTER_DEVICE: "character device",
    BLOCK_DEVICE: "block device",
}
Value = bytes | str | None


class ExpectedEntry(NamedTuple):
    """A value, and fields of its `Entry` that must be so."""

    value: Value
    fields: Mapping[str, Any]


def with_attributes(value: Value, **fields: Any) -> ExpectedEntry:
    """Return an expected value with attributes: ``having(b"x", mode=0o600)``."""
    return ExpectedEntry(value, fields)


Expected = Mapping[Name, Value | ExpectedEntry]
"""``{"d/": None, "d/f": b"content", "l": "-> target", "p": FIFO}``, complete.

A name that ends with a slash is a directory; those above a name need not be spelled out.
"""


@dataclass(frozen=True)
class Scenario:
    """One row. All operations happen within one window, so one rsync has to suffice."""

    name: str
    operations: Sequence[Operation]
    expected: Expected
    before: Sequence[Operation] = ()
    """What is done before the daemon starts."""
    during_sync: Sequence[Operation] = ()
    """What is done once rsync has been asked for; then one rsync need not suffice."""
    needs_root: str = ""
    """Why only root can do this, or may be asked for it."""
    runs_on_slow_transports: bool = field(default=True)
    """Whether it is run on slow transports, too: not when a sibling tells the same there."""

    def __str__(self) -> str:
        return self.name

    def prepare(self, area: WorkArea) -> None:
        """Make the area, and do what comes before the start."""
        os.mkdir(area.inside)
        os.mkdir(area.outside)
        for operation in self.before:
            operation(area)


def unexpected_entries(expected: Expected, found: Snapshot) -> list[str]:
    """Return a line for each entry that is not as expected; the area itself is left out."""
    wanted = dict(_with_parents(expected))
    lines = [f"{path!r} is too much" for path in sorted(found.keys() - wanted.keys()) if path]
    for path, value in sorted(wanted.items()):
        entry = found.get(path)
        problem = _problem(value, entry) if entry else "missing"
        if problem:
            lines.append(f"{path!r}: {problem}")
    return lines


def _with_parents(expected: Expected) -> Iterator[tuple[bytes, ExpectedEntry]]:
    """Yield every path with its value, the directories above them included."""
    values = {
        os.fsencode(name).rstrip(b"/"): value
        if isinstance(value, ExpectedEntry)
        else ExpectedEntry(value, {})
        for name, value in expected.items()
    }
    for path in values:
        parent = os.path.dirname(path)
        while parent:
            if parent not in values:
                yield parent, ExpectedEntry(None, {})
            parent = os.path.dirname(parent)
    yield from values.items()


def _problem(wanted: ExpectedEntry, entry: Entry) -> str:
    fields = {**_fields(wanted.value), **wanted.fields}
    wrong = [
        f"{name} is {getattr(entry, name)!r}, not {value!r}"
        for name, value in fields.items()
        if getattr(entry, name) != value
    ]
    return ", ".join(wrong)


def _fields(value: Value) -> dict[str, object]:
    if value is None:
        return {"kind": "directory"}
    if isinstance(value, bytes):
        return {"kind": "file", "size": len(value), "digest": digest_of(value)}
    if value.startswith("-> "):
        return {"kind": "symlink", "target": os.fsencode(value[3:])}
    kind, _, numbers = value.partition(" ")
    if numbers:
        major, minor = map(int, numbers.split(":"))
        return {"kind": SPECIAL[kind], "device": os.makedev(major, minor)}
    return {"kind": SPECIAL[kind]}


def can_make_devices(directory: bytes) -> bool:
    """Tell whether we may make device nodes in a directory: not even every root may."""
    path = os.path.join(directory, b"device-probe")
    try:
        os.mknod(path, 0o20600, os.makedev(1, 3))
    except PermissionError:
        return False
    os.unlink(path)
    return True
