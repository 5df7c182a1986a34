"""A scenario: a source, operations on it, and the expected tree at the destination."""

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
    """An expected value, and expected fields of its `Entry`."""

    value: Value
    fields: Mapping[str, Any]


def with_attributes(value: Value, **fields: Any) -> ExpectedEntry:
    """Return an expected value with attributes: ``with_attributes(b"x", mode=0o600)``."""
    return ExpectedEntry(value, fields)


Expected = Mapping[Name, Value | ExpectedEntry]
"""``{"d/": None, "d/f": b"content", "l": "-> target", "p": FIFO}``, complete.

A name that ends with a slash is a directory; parent directories may be left out.
"""


@dataclass(frozen=True)
class Scenario:
    """One row of the table. All operations are in one window, so one rsync must be enough."""

    name: str
    operations: Sequence[Operation]
    expected: Expected
    before: Sequence[Operation] = ()
    """Operations before the daemon starts."""
    during_sync: Sequence[Operation] = ()
    """Operations after the flush; then one rsync need not be enough."""
    needs_root: str = ""
    """Why the scenario needs root; empty if it does not."""
    runs_on_slow_transports: bool = field(default=True)
    """False if another scenario shows the same on slow transports."""

    def __str__(self) -> str:
        return self.name

    def prepare(self, area: WorkArea) -> None:
        """Create the directories, and do the operations before the start."""
        os.mkdir(area.inside)
        os.mkdir(area.outside)
        for operation in self.before:
            operation(area)


def unexpected_entries(expected: Expected, found: Snapshot) -> list[str]:
    """Return a line for each unexpected entry; the root is not compared."""
    wanted = dict(_with_parents(expected))
    lines = [f"{path!r} is unexpected" for path in sorted(found.keys() - wanted.keys()) if path]
    for path, value in sorted(wanted.items()):
        entry = found.get(path)
        problem = _problem(value, entry) if entry else "missing"
        if problem:
            lines.append(f"{path!r}: {problem}")
    return lines


def _with_parents(expected: Expected) -> Iterator[tuple[bytes, ExpectedEntry]]:
    """Yield every path with its value, including parent directories."""
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
    """Return True if this process may create device nodes; root in a container may not."""
    path = os.path.join(directory, b"device-probe")
    try:
        os.mknod(path, 0o20600, os.makedev(1, 3))
    except PermissionError:
        return False
    os.unlink(path)
    return True
