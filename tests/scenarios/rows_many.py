"""Scenarios of many changes, and of changes while rsync runs."""

from support.operations import (
    append,
    chmod,
    create_tar,
    extract_tar,
    fill,
    mkdir,
    outside,
    remove,
    remove_tree,
    rename,
    write,
)
from support.scenario import Expected, Scenario

DIRECTORIES = [f"t/{number}" for number in range(30)]


def _filled(directory: str, count: int, content: bytes) -> Expected:
    """Return the entries that `fill` creates."""
    return {f"{directory}/{number}": content for number in range(count)}


PACKED: Expected = {
    name: content
    for directory in DIRECTORIES
    for name, content in _filled(directory, 100, b"packed").items()
}
TAR = [
    operation
    for directory in DIRECTORIES
    for operation in (
        outside(mkdir(f"pack/{directory}")),
        outside(fill(f"pack/{directory}", 100, b"packed")),
    )
] + [create_tar("a.tar", "pack")]

MANY = (
    Scenario("tar-of-3000-files-extracted", [extract_tar("a.tar", "")], PACKED, TAR),
    Scenario(
        "tar-extracted-over-the-same-files",
        [extract_tar("a.tar", "")],
        PACKED,
        [*TAR, extract_tar("a.tar", ""), write("t/3/5", b"other"), chmod("t/4", 0o700)],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "tar-extracted-and-removed",
        [extract_tar("a.tar", ""), remove_tree("t"), write("f", b"1")],
        {"f": b"1"},
        TAR,
        runs_on_slow_transports=False,
    ),
    Scenario(
        # More than 1,000 entries, so rsync sends its file list in several parts.
        "2000-files-changed-in-one-directory",
        [fill("d", 2000, b"2")],
        _filled("d", 2000, b"2"),
        [mkdir("d"), fill("d", 2000, b"1")],
    ),
    Scenario(
        "1500-of-3000-files-changed",
        [fill("d", 1500, b"2")],
        {**_filled("d", 3000, b"1"), **_filled("d", 1500, b"2")},
        [mkdir("d"), fill("d", 3000, b"1")],
    ),
    Scenario(
        "2000-files-deleted-of-one-directory",
        [remove(f"d/{number}") for number in range(2000)],
        {"d/stays": b"x"},
        [mkdir("d"), fill("d", 2000, b"1"), write("d/stays")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "one-file-changed-in-each-of-1200-directories",
        [append(f"{number}/f", b"2") for number in range(1200)],
        {f"{number}/f": b"12" for number in range(1200)},
        [
            operation
            for number in range(1200)
            for operation in (mkdir(f"{number}"), write(f"{number}/f", b"1"))
        ],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "1200-trees-renamed",
        [rename(f"{number}", f"n{number}") for number in range(1200)],
        {f"n{number}/d/f": b"1" for number in range(1200)},
        [
            operation
            for number in range(1200)
            for operation in (mkdir(f"{number}/d"), write(f"{number}/d/f", b"1"))
        ],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "200000-bytes-of-long-names",
        [write(f"{number:0200}", b"1") for number in range(1000)],
        {f"{number:0200}": b"1" for number in range(1000)},
        runs_on_slow_transports=False,
    ),
    Scenario(
        "changes-while-rsync-runs",
        [fill("d", 1500, b"2"), mkdir("e"), fill("e", 500, b"2")],
        {**_filled("d", 1500, b"3"), **_filled("n", 500, b"2"), "new/f": b"1"},
        [mkdir("d"), fill("d", 1500, b"1")],
        during_sync=[
            fill("d", 1500, b"3"),
            mkdir("new"),
            rename("e", "n"),
            write("new/f", b"1"),
        ],
    ),
    Scenario(
        "tree-removed-while-rsync-runs",
        [fill("d", 1500, b"2"), write("d/s/f", b"2")],
        {"f": b"1"},
        [mkdir("d/s"), fill("d", 1500, b"1")],
        during_sync=[remove_tree("d"), write("f", b"1")],
    ),
    Scenario(
        "directory-becomes-a-file-while-rsync-runs",
        [fill("d", 1500, b"2")],
        {"d": b"file"},
        [mkdir("d"), fill("d", 1500, b"1")],
        during_sync=[remove_tree("d"), write("d", b"file")],
    ),
    Scenario(
        "directory-renamed-while-rsync-runs",
        [fill("d", 1500, b"2")],
        {**_filled("n", 1500, b"2"), "d/f": b"1"},
        [mkdir("d"), fill("d", 1500, b"1")],
        during_sync=[rename("d", "n"), mkdir("d"), write("d/f", b"1")],
    ),
)
