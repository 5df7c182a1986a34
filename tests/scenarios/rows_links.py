"""Scenarios of symlinks, hard links and device nodes."""

from support.operations import (
    append,
    chown,
    device,
    exchange,
    link,
    link_in,
    mkdir,
    move_out,
    outside,
    remove,
    remove_tree,
    rename,
    replace,
    symlink,
    utime,
    write,
)
from support.scenario import Scenario, with_attributes

LONG_AGO = 946_684_800_123_456_789
LONG_TARGET = "t/" * 500 + "t"  # XFS takes 1,023 bytes
OWNER = "only root can change the owner of a symlink"
NODES = "only root may make device nodes"

LINKS = (
    Scenario(
        "symlink-dangling",
        [symlink("l", "nowhere")],
        {"l": "-> nowhere"},
        runs_on_slow_transports=False,
    ),
    Scenario("symlink-absolute", [symlink("l", "/etc/hostname")], {"l": "-> /etc/hostname"}),
    Scenario("symlink-upwards", [symlink("l", "../../..")], {"l": "-> ../../.."}),
    Scenario(
        "symlink-to-itself", [symlink("l", "l")], {"l": "-> l"}, runs_on_slow_transports=False
    ),
    Scenario("symlink-to-a-file", [symlink("l", "f")], {"l": "-> f", "f": b"x"}, [write("f")]),
    Scenario(
        "symlink-to-a-directory",
        [symlink("l", "d"), write("l/f", b"through the link")],
        {"l": "-> d", "d/f": b"through the link"},
        [mkdir("d")],
    ),
    Scenario("symlink-with-a-long-target", [symlink("l", LONG_TARGET)], {"l": f"-> {LONG_TARGET}"}),
    Scenario("symlink-with-an-odd-target", [symlink("l", b"a\n\xff $x")], {"l": "-> a\n\udcff $x"}),
    Scenario(
        "symlink-retargeted",
        [symlink("new", "b"), rename("new", "l"), remove("m"), symlink("m", "bb")],
        {"l": "-> b", "m": "-> bb"},
        [symlink("l", "a"), symlink("m", "aa")],
    ),
    Scenario(
        "symlink-retargeted-from-one-directory-to-another",
        [remove("l"), symlink("l", "b"), write("l/f", b"2")],
        {"a/f": b"1", "b/f": b"2", "l": "-> b"},
        [mkdir("a"), mkdir("b"), write("a/f", b"1"), symlink("l", "a")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "symlink-deleted",
        [remove("l")],
        {"d/f": b"x"},
        [mkdir("d"), write("d/f"), symlink("l", "d")],
    ),
    Scenario(
        "symlink-renamed-and-its-directory-too",
        [rename("d", "e"), rename("l", "m")],
        {"e/f": b"x", "m": "-> d"},
        [mkdir("d"), write("d/f"), symlink("l", "d")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "symlink-and-directory-exchanged",
        [exchange("l", "d")],
        {"l/f": b"x", "d": "-> d"},
        [mkdir("d"), write("d/f"), symlink("l", "d")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "symlink-time-set",
        [utime("l", LONG_AGO)],
        {"l": with_attributes("-> f", mtime_ns=LONG_AGO)},
        [symlink("l", "f")],
    ),
    Scenario(
        "symlink-owner-changed",
        [chown("l", 12345, 23456)],
        {"l": with_attributes("-> f", uid=12345, gid=23456)},
        [symlink("l", "f")],
        needs_root=OWNER,
    ),
    Scenario(
        "hard-links-created",
        [write("a", b"1"), link("b", "a"), link("c", "old")],
        {"a": b"1", "b": b"1", "c": b"0", "old": b"0"},
        [write("old", b"0")],
    ),
    Scenario(
        "hard-link-changed-by-each-of-its-names",
        [append("a", b"2"), append("b", b"3")],
        {"a": b"123", "b": b"123"},
        [write("a", b"1"), link("b", "a")],
    ),
    Scenario(
        "hard-link-changed-by-one-of-its-names",
        [append("a", b"2")],
        {"a": b"12", "d/e/b": b"12"},
        [mkdir("d"), mkdir("d/e"), write("a", b"1"), link("d/e/b", "a")],
    ),
    Scenario(
        "hard-link-changed-by-a-name-that-goes",
        [append("a", b"2"), remove("a")],
        {"d/b": b"12"},
        [mkdir("d"), write("a", b"1"), link("d/b", "a")],
    ),
    Scenario(
        "hard-link-changed-by-a-name-that-is-moved-out",
        [append("a", b"2"), move_out("a", "a")],
        {"d/b": b"12"},
        [mkdir("d"), write("a", b"1"), link("d/b", "a")],
    ),
    Scenario(
        "hard-link-changed-by-a-name-that-is-another-files-then",
        [append("a", b"2"), replace("a", b"other")],
        {"a": b"other", "d/b": b"12"},
        [mkdir("d"), write("a", b"1"), link("d/b", "a")],
    ),
    Scenario(
        "hard-link-changed-by-a-name-whose-directory-goes",
        [append("c/d/a", b"2"), remove_tree("c")],
        {"b": b"12"},
        [mkdir("c"), mkdir("c/d"), write("c/d/a", b"1"), link("b", "c/d/a")],
    ),
    Scenario(
        "hard-link-removed-and-renamed",
        [remove("a"), rename("b", "d"), remove("c"), write("c", b"other")],
        {"c": b"other", "d": b"1"},
        [write("a", b"1"), link("b", "a"), link("c", "a")],
    ),
    Scenario(
        "hard-link-from-outside",
        [link_in("b", "a")],
        {"b": b"1"},
        [outside(write("a", b"1"))],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "hard-link-to-a-symlink",
        [link("m", "l")],
        {"l": "-> f", "m": "-> f"},
        [symlink("l", "f")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "device-nodes-created",
        [device("null", "c", 1, 3), device("loop", "b", 7, 0)],
        {
            "null": with_attributes("c 1:3", mode=0o640),
            "loop": with_attributes("b 7:0", mode=0o640),
        },
        needs_root=NODES,
    ),
    Scenario(
        "device-node-replaced-by-another",
        [remove("n"), device("n", "c", 1, 5), remove("gone")],
        {"n": "c 1:5"},
        [device("n", "c", 1, 3), device("gone", "b", 7, 1)],
        needs_root=NODES,
    ),
)
