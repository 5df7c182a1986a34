"""Scenarios of directories: created, moved, exchanged, moved out and back."""

from support.operations import (
    append,
    chmod,
    chown,
    exchange,
    mkdir,
    move_in,
    move_out,
    outside,
    remove,
    remove_tree,
    remove_tree_while_written,
    rename,
    rmdir,
    symlink,
    utime,
    write,
)
from support.scenario import Scenario, with_attributes

LONG_AGO = 946_684_800_123_456_789
OWNER = "only root can change the owner of a directory"
READ_ONLY = "only root can write into a directory without permissions"
DEEP = "/".join(f"{level}" for level in range(60))
# Together with the scenario's name, close to rsync's limit of 4,093 bytes for a path.
LONG_PATH = "/".join("d" * 205 for _ in range(19))
TREE = (mkdir("d/e/f"), write("d/1", b"1"), write("d/e/2", b"2"), write("d/e/f/3", b"3"))
TREE_OUTSIDE = tuple(map(outside, TREE))

DIRECTORIES = (
    Scenario("directory-created", [mkdir("d")], {"d/": None}),
    Scenario(
        "directories-created-empty",
        [mkdir("a/b/c"), mkdir("a/d")],
        {"a/b/c/": None, "a/d/": None},
        runs_on_slow_transports=False,
    ),
    Scenario(
        "deep-directories-and-files-closed-at-once",
        [mkdir(DEEP), write(f"{DEEP}/f", b"deep"), write("0/f", b"flat"), write("0/1/2/3/f", b"3")],
        {f"{DEEP}/f": b"deep", "0/f": b"flat", "0/1/2/3/f": b"3"},
    ),
    Scenario(
        "path-of-4000-bytes",
        [mkdir(LONG_PATH), write(f"{LONG_PATH}/new", b"1"), remove(f"{LONG_PATH}/old")],
        {f"{LONG_PATH}/new": b"1"},
        [mkdir(LONG_PATH), write(f"{LONG_PATH}/old")],
    ),
    Scenario(
        "path-of-4000-bytes-created",
        [mkdir(LONG_PATH), write(f"{LONG_PATH}/f", b"1")],
        {f"{LONG_PATH}/f": b"1"},
    ),
    Scenario(
        "directory-removed-empty", [rmdir("d")], {}, [mkdir("d")], runs_on_slow_transports=False
    ),
    Scenario("tree-removed", [remove_tree("d")], {}, TREE),
    Scenario(
        "subtree-removed", [remove_tree("d/e")], {"d/1": b"1"}, TREE, runs_on_slow_transports=False
    ),
    Scenario(
        "tree-removed-and-some-siblings-too",
        [remove_tree("a"), remove("a.b"), write("a-b/f", b"2")],
        {"a-b/f": b"2", "ab/f": b"x"},
        [mkdir(name) for name in ("a/s", "a-b", "ab")]
        + [write(name) for name in ("a/s/f", "a-b/f", "ab/f", "a.b")],
    ),
    Scenario("tree-removed-while-written", [remove_tree_while_written("d")], {}, TREE),
    Scenario(
        "tree-written-and-removed-while-written",
        [mkdir("d"), remove_tree_while_written("d"), mkdir("d"), write("d/f", b"in the end")],
        {"d/f": b"in the end"},
        runs_on_slow_transports=False,
    ),
    Scenario(
        "attributes-of-a-directory",
        [chmod("d", 0o750), utime("d", LONG_AGO)],
        {"d/": with_attributes(None, mode=0o750, mtime_ns=LONG_AGO), "d/f": b"x"},
        [mkdir("d"), write("d/f")],
    ),
    Scenario(
        "time-of-a-directory-whose-files-changed",
        [write("d/g", b"2"), remove("d/f"), utime("d", LONG_AGO), utime("d/e", LONG_AGO + 7)],
        {
            "d/": with_attributes(None, mtime_ns=LONG_AGO),
            "d/g": b"2",
            "d/e/": with_attributes(None, mtime_ns=LONG_AGO + 7),
        },
        [mkdir("d/e"), write("d/f")],
    ),
    Scenario(
        "sticky-and-setgid-directories",
        [chmod("d", 0o1777), mkdir("e"), chmod("e", 0o2755)],
        {"d/": with_attributes(None, mode=0o1777), "e/": with_attributes(None, mode=0o2755)},
        [mkdir("d")],
    ),
    Scenario(
        "read-only-directories",
        [write("d/g", b"2"), remove("d/f"), mkdir("e"), write("e/f"), chmod("e", 0o500)],
        {
            "d/": with_attributes(None, mode=0o555),
            "d/g": b"2",
            "e/": with_attributes(None, mode=0o500),
            "e/f": b"x",
        },
        [mkdir("d"), write("d/f"), chmod("d", 0o555)],
        needs_root=READ_ONLY,
    ),
    Scenario(
        "directory-of-mode-000",
        [chmod("d", 0), write("d/g", b"2")],
        {"d/": with_attributes(None, mode=0), "d/f": b"x", "d/g": b"2"},
        [mkdir("d"), write("d/f")],
        needs_root=READ_ONLY,
    ),
    Scenario(
        "owner-of-a-directory-changed",
        [chown("d", 12345, 23456)],
        {"d/": with_attributes(None, uid=12345, gid=23456), "d/f": b"x"},
        [mkdir("d"), write("d/f")],
        needs_root=OWNER,
    ),
    Scenario(
        "directory-renamed",
        [rename("d", "n")],
        {"n/1": b"1", "n/e/2": b"2", "n/e/f/3": b"3"},
        TREE,
    ),
    Scenario(
        "directory-renamed-twice-and-changed-in-between",
        [
            rename("d", "n"),
            write("n/e/new", b"n"),
            append("n/e/f/3", b"3"),
            rename("n", "m"),
            remove("m/e/2"),
        ],
        {"m/1": b"1", "m/e/new": b"n", "m/e/f/3": b"33"},
        TREE,
    ),
    Scenario(
        "directory-renamed-and-back-and-changed-in-between",
        [rename("d", "n"), write("n/e/f/3", b"new"), rename("n", "d"), write("d/e/2", b"new")],
        {"d/1": b"1", "d/e/2": b"new", "d/e/f/3": b"new"},
        TREE,
        runs_on_slow_transports=False,
    ),
    Scenario(
        "directory-renamed-and-its-old-name-used-again",
        [rename("d", "n"), mkdir("d/e"), write("d/e/other", b"o"), write("n/e/2", b"new")],
        {"n/1": b"1", "n/e/2": b"new", "n/e/f/3": b"3", "d/e/other": b"o"},
        TREE,
    ),
    Scenario(
        "directories-renamed-into-each-other",
        [rename("d/e", "e"), rename("d", "e/f/d"), write("e/f/d/new", b"n")],
        {"e/2": b"2", "e/f/3": b"3", "e/f/d/1": b"1", "e/f/d/new": b"n"},
        TREE,
    ),
    Scenario(
        "subdirectory-renamed-up-and-its-parent-removed",
        [rename("d/e/f", "f"), remove_tree("d"), write("f/new", b"n")],
        {"f/3": b"3", "f/new": b"n"},
        TREE,
    ),
    Scenario(
        "parent-and-child-renamed",
        [rename("d", "n"), rename("n/e", "n/g"), write("n/g/f/3", b"new"), mkdir("n/e")],
        {"n/1": b"1", "n/e/": None, "n/g/2": b"2", "n/g/f/3": b"new"},
        TREE,
        runs_on_slow_transports=False,
    ),
    Scenario(
        "directory-renamed-over-an-empty-one",
        [rename("d", "empty"), write("empty/e/2", b"new")],
        {"empty/1": b"1", "empty/e/2": b"new", "empty/e/f/3": b"3"},
        [*TREE, mkdir("empty")],
    ),
    Scenario(
        "new-directory-filled-and-renamed-at-once",
        [mkdir("t/s"), write("t/s/f", b"1"), rename("t", "d"), write("d/s/g", b"2")],
        {"d/s/f": b"1", "d/s/g": b"2"},
    ),
    Scenario(
        "two-directories-swapped-by-three-renames",
        [
            rename("d", "t"),
            rename("o", "d"),
            rename("t", "o"),
            write("d/new", b"n"),
            write("o/e/2", b"n"),
        ],
        {"d/1": b"other", "d/new": b"n", "o/1": b"1", "o/e/2": b"n", "o/e/f/3": b"3"},
        [*TREE, mkdir("o"), write("o/1", b"other")],
    ),
    Scenario(
        "two-directories-exchanged",
        [exchange("d", "o"), write("d/new", b"n"), write("o/e/2", b"n")],
        {"d/1": b"other", "d/new": b"n", "o/1": b"1", "o/e/2": b"n", "o/e/f/3": b"3"},
        [*TREE, mkdir("o"), write("o/1", b"other")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "directory-exchanged-with-one-inside-another",
        [exchange("d/e", "o"), write("o/f/3", b"n"), write("d/e/new", b"n")],
        {"d/1": b"1", "d/e/1": b"other", "d/e/new": b"n", "o/2": b"2", "o/f/3": b"n"},
        [*TREE, mkdir("o"), write("o/1", b"other")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "file-and-directory-exchanged",
        [exchange("d", "file"), write("file/new", b"n")],
        {"d": b"f", "file/1": b"1", "file/e/2": b"2", "file/e/f/3": b"3", "file/new": b"n"},
        [*TREE, write("file", b"f")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "directory-deleted-and-created-again",
        [remove_tree("d"), mkdir("d/e"), write("d/e/new", b"n")],
        {"d/e/new": b"n"},
        TREE,
    ),
    Scenario(
        "directory-deleted-and-created-again-the-same",
        [remove_tree("d"), *TREE],
        {"d/1": b"1", "d/e/2": b"2", "d/e/f/3": b"3"},
        TREE,
    ),
    Scenario(
        "directory-becomes-a-file-and-a-directory-again",
        [remove_tree("d"), write("d"), remove("d"), mkdir("d"), write("d/f", b"n")],
        {"d/f": b"n"},
        TREE,
    ),
    Scenario(
        "directory-replaced-by-a-symlink-to-where-it-went",
        [rename("d", "n"), symlink("d", "n"), write("d/e/2", b"through the link")],
        {"d": "-> n", "n/1": b"1", "n/e/2": b"through the link", "n/e/f/3": b"3"},
        TREE,
    ),
    Scenario(
        "tree-moved-in",
        [move_in("d", "d")],
        {"d/1": b"1", "d/e/2": b"2", "d/e/f/3": b"3"},
        TREE_OUTSIDE,
        runs_on_slow_transports=False,
    ),
    Scenario(
        "tree-moved-in-and-changed",
        [move_in("d", "n"), write("n/e/f/3", b"new"), remove("n/1"), mkdir("n/e/g")],
        {"n/e/2": b"2", "n/e/f/3": b"new", "n/e/g/": None},
        TREE_OUTSIDE,
    ),
    Scenario(
        "tree-moved-in-over-an-empty-directory",
        [move_in("d", "d"), write("d/e/g", b"n")],
        {"d/1": b"1", "d/e/2": b"2", "d/e/f/3": b"3", "d/e/g": b"n"},
        [*TREE_OUTSIDE, mkdir("d")],
    ),
    Scenario("tree-moved-out", [move_out("d", "d")], {}, TREE, runs_on_slow_transports=False),
    Scenario(
        "tree-moved-out-and-changed-there",
        [
            move_out("d", "d"),
            outside(write("d/e/2", b"no")),
            outside(write("d/e/f/no")),
            write("f"),
        ],
        {"f": b"x"},
        TREE,
    ),
    Scenario(
        "tree-moved-out-changed-and-moved-in",
        [
            move_out("d", "d"),
            outside(write("d/e/2", b"new")),
            outside(write("d/e/f/4", b"4")),
            outside(remove("d/1")),
            move_in("d", "d"),
        ],
        {"d/e/2": b"new", "d/e/f/3": b"3", "d/e/f/4": b"4"},
        TREE,
    ),
    Scenario(
        "tree-moved-out-and-another-moved-in",
        [move_out("d", "old"), move_in("d", "d"), outside(write("old/no")), write("d/e/new", b"n")],
        {"d/1": b"1", "d/e/2": b"2", "d/e/f/3": b"3", "d/e/new": b"n"},
        [mkdir("d/was"), write("d/was/here"), *TREE_OUTSIDE],
    ),
    Scenario(
        "subtree-moved-out-of-a-renamed-tree",
        [
            rename("d", "n"),
            move_out("n/e", "e"),
            outside(write("e/2", b"no")),
            write("n/1", b"new"),
        ],
        {"n/1": b"new"},
        TREE,
        runs_on_slow_transports=False,
    ),
)
