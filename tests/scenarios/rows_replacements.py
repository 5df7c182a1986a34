"""Scenarios where an entry of one kind replaces one of another: each pair, in both directions."""

from collections.abc import Sequence
from typing import NamedTuple

from support.operations import (
    Operation,
    fifo,
    make_socket,
    mkdir,
    remove,
    remove_tree,
    symlink,
    write,
)
from support.scenario import Expected, Scenario


class Kind(NamedTuple):
    """A kind of entry: the operations that create and remove ``x``, and its expected value."""

    name: str
    create: Sequence[Operation]
    delete: Operation
    expected: Expected


KINDS = (
    Kind("file", [write("x", b"file")], remove("x"), {"x": b"file"}),
    Kind("directory", [mkdir("x/d"), write("x/d/f", b"1")], remove_tree("x"), {"x/d/f": b"1"}),
    Kind("empty-directory", [mkdir("x")], remove_tree("x"), {"x/": None}),
    Kind("symlink", [symlink("x", "other")], remove("x"), {"x": "-> other"}),
    Kind("fifo", [fifo("x")], remove("x"), {"x": "|"}),
    Kind("socket", [make_socket("x")], remove("x"), {"x": "="}),
)
OTHER = (mkdir("other/d"), write("other/d/g", b"2"))

EACH_BY_EACH = tuple(
    Scenario(
        f"{old.name}-replaced-by-{new.name}",
        [old.delete, *new.create],
        {**new.expected, "other/d/g": b"2"},
        [*OTHER, *old.create],
        runs_on_slow_transports="directory"
        in {old.name, new.name}
        <= {"file", "directory", "symlink"},
    )
    for old in KINDS
    for new in KINDS
    if old is not new and {old.name, new.name} != {"fifo", "socket"}
)

REPLACEMENTS = (
    *EACH_BY_EACH,
    Scenario(
        "file-becomes-a-directory-and-a-file-again",
        [remove("x"), mkdir("x"), write("x/f"), remove_tree("x"), write("x", b"2")],
        {"x": b"2"},
        [write("x", b"1")],
    ),
    Scenario(
        "directory-becomes-a-symlink-and-a-directory-again",
        [remove_tree("x"), symlink("x", "other"), remove("x"), mkdir("x"), write("x/f", b"2")],
        {"x/f": b"2", "other/d/g": b"2"},
        [*OTHER, mkdir("x/d"), write("x/d/f", b"1")],
    ),
    Scenario(
        "changed-directory-replaced-by-a-symlink",
        [write("x/d/f", b"2"), write("x/new"), remove_tree("x"), symlink("x", "other")],
        {"x": "-> other", "other/d/g": b"2"},
        [*OTHER, mkdir("x/d"), write("x/d/f", b"1")],
    ),
    Scenario(
        "file-below-what-becomes-a-file",
        [write("x/d/f", b"2"), remove_tree("x/d"), write("x/d", b"file"), write("x/e", b"3")],
        {"x/d": b"file", "x/e": b"3"},
        [mkdir("x/d"), write("x/d/f", b"1")],
    ),
)
