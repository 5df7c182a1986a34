"""Scenarios of regular files: content, attributes, location."""

from support.operations import (
    append,
    chmod,
    chown,
    fifo,
    make_socket,
    mkdir,
    move_in,
    move_out,
    outside,
    overwrite,
    remove,
    rename,
    replace,
    truncate,
    utime,
    write,
)
from support.scenario import Scenario, with_attributes

LONG_AGO = 946_684_800_123_456_789  # 2000-01-01, with nanoseconds
FAR_FUTURE = 4_102_444_800_000_000_001  # 2100-01-01
BEFORE_1970 = -86_400_000_000_000
LARGE = bytes(range(256)) * 20_000
MEBIBYTE = 1 << 20
OWNER = "only root can change the owner of a file"
UNREADABLE = "only root can read and copy a file without permissions"

FILES = (
    Scenario("file-created", [write("f", b"content")], {"f": b"content"}),
    Scenario("empty-file-created", [write("f", b"")], {"f": b""}, runs_on_slow_transports=False),
    Scenario("large-file-created", [write("f", LARGE)], {"f": LARGE}),
    Scenario("file-appended", [append("f", b" tail")], {"f": b"head tail"}, [write("f", b"head")]),
    Scenario(
        "file-truncated",
        [truncate("f", 3)],
        {"f": b"abc"},
        [write("f", b"abcdef")],
        runs_on_slow_transports=False,
    ),
    Scenario("file-emptied", [truncate("f", 0)], {"f": b""}, [write("f", b"abcdef")]),
    Scenario(
        "file-lengthened-by-truncate",
        [truncate("f", 5)],
        {"f": b"ab\0\0\0"},
        [write("f", b"ab")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "file-overwritten-in-place",
        [overwrite("f", 2, b"XX")],
        {"f": b"abXXef"},
        [write("f", b"abcdef")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "file-replaced-by-rename", [replace("f", b"new")], {"f": b"new"}, [write("f", b"old")]
    ),
    Scenario(
        "same-size-in-the-same-second",
        [overwrite("f", 0, b"BBBB"), utime("f", LONG_AGO + 1)],
        {"f": with_attributes(b"BBBB", mtime_ns=LONG_AGO + 1)},
        [write("f", b"AAAA"), utime("f", LONG_AGO)],
    ),
    Scenario(
        "same-size-twice-in-one-window",
        [write("f", b"BBBB"), write("f", b"CCCC"), replace("f", b"DDDD")],
        {"f": b"DDDD"},
        [write("f", b"AAAA")],
    ),
    Scenario(
        "sparse-file",
        [write("f", b"a"), truncate("f", 8 * MEBIBYTE), overwrite("f", 4 * MEBIBYTE, b"b")],
        {"f": b"a".ljust(4 * MEBIBYTE, b"\0") + b"b".ljust(4 * MEBIBYTE, b"\0")},
        runs_on_slow_transports=False,
    ),
    Scenario("file-deleted", [remove("f")], {"g": b"x"}, [write("f"), write("g")]),
    Scenario(
        "last-file-deleted",
        [remove("d/f")],
        {"d/": None},
        [mkdir("d"), write("d/f")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "file-created-and-deleted", [write("f"), remove("f")], {}, runs_on_slow_transports=False
    ),
    Scenario(
        "file-deleted-and-created", [remove("f"), write("f", b"2")], {"f": b"2"}, [write("f", b"1")]
    ),
    Scenario("file-renamed", [rename("f", "g")], {"g": b"1"}, [write("f", b"1")]),
    Scenario(
        "file-renamed-to-another-directory",
        [rename("a/f", "b/g")],
        {"a/": None, "b/g": b"1"},
        [mkdir("a"), mkdir("b"), write("a/f", b"1")],
    ),
    Scenario(
        "file-renamed-over-a-file",
        [rename("f", "g")],
        {"g": b"from f"},
        [write("f", b"from f"), write("g", b"was g")],
    ),
    Scenario(
        "chain-of-renames",
        [rename("c", "d"), rename("b", "c"), rename("a", "b"), write("a", b"new")],
        {"a": b"new", "b": b"a", "c": b"b", "d": b"c"},
        [write("a", b"a"), write("b", b"b"), write("c", b"c"), write("d", b"d")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "two-files-swapped",
        [rename("a", "t"), rename("b", "a"), rename("t", "b")],
        {"a": b"was b", "b": b"was a"},
        [write("a", b"was a"), write("b", b"was b")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "file-renamed-there-and-back",
        [rename("a", "b"), append("b", b"2"), rename("b", "a")],
        {"a": b"12"},
        [write("a", b"1")],
        runs_on_slow_transports=False,
    ),
    Scenario("file-moved-in", [move_in("f", "g")], {"g": b"o"}, [outside(write("f", b"o"))]),
    Scenario(
        "file-moved-out", [move_out("f", "f")], {}, [write("f")], runs_on_slow_transports=False
    ),
    Scenario(
        "file-moved-out-changed-and-moved-in",
        [move_out("f", "o"), outside(write("o", b"changed")), move_in("o", "f")],
        {"f": b"changed"},
        [write("f")],
    ),
    Scenario(
        "mode-changed", [chmod("f", 0o604)], {"f": with_attributes(b"x", mode=0o604)}, [write("f")]
    ),
    Scenario(
        "mode-000",
        [chmod("f", 0), write("g"), chmod("g", 0)],
        {"f": with_attributes(b"x", mode=0), "g": with_attributes(b"x", mode=0)},
        [write("f")],
        needs_root=UNREADABLE,
    ),
    Scenario(
        "setuid-and-setgid",
        [chmod("f", 0o4755), write("g"), chmod("g", 0o2711)],
        {"f": with_attributes(b"x", mode=0o4755), "g": with_attributes(b"x", mode=0o2711)},
        [write("f")],
    ),
    Scenario(
        "read-only-file-replaced",
        [replace("f", b"new"), chmod("f", 0o444)],
        {"f": with_attributes(b"new", mode=0o444)},
        [write("f", b"old"), chmod("f", 0o400)],
    ),
    Scenario(
        "owner-changed",
        [chown("f", 12345, 23456), write("g"), chown("g", 34567, -1)],
        {"f": with_attributes(b"x", uid=12345, gid=23456), "g": with_attributes(b"x", uid=34567)},
        [write("f")],
        needs_root=OWNER,
    ),
    Scenario(
        "time-set-back",
        [utime("f", LONG_AGO)],
        {"f": with_attributes(b"x", mtime_ns=LONG_AGO)},
        [write("f")],
    ),
    Scenario(
        "time-in-the-future",
        [utime("f", FAR_FUTURE)],
        {"f": with_attributes(b"x", mtime_ns=FAR_FUTURE)},
        [write("f")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "time-before-1970",
        [utime("f", BEFORE_1970)],
        {"f": with_attributes(b"x", mtime_ns=BEFORE_1970)},
        [write("f")],
        runs_on_slow_transports=False,
    ),
    Scenario(
        "everything-at-once",
        [
            write("new", b"1"),
            append("new", b"2"),
            chmod("new", 0o640),
            rename("new", "newer"),
            write("f", b"3"),
            rename("f", "new"),
            utime("new", LONG_AGO),
            remove("g"),
        ],
        {
            "newer": with_attributes(b"12", mode=0o640),
            "new": with_attributes(b"3", mtime_ns=LONG_AGO),
        },
        [write("f"), write("g")],
    ),
    Scenario("fifo-created", [fifo("p")], {"p": with_attributes("|", mode=0o640)}),
    Scenario(
        "fifo-changed", [chmod("p", 0o606)], {"p": with_attributes("|", mode=0o606)}, [fifo("p")]
    ),
    Scenario(
        "fifo-renamed", [rename("p", "q")], {"q": "|"}, [fifo("p")], runs_on_slow_transports=False
    ),
    Scenario("fifo-deleted", [remove("p")], {}, [fifo("p")], runs_on_slow_transports=False),
    Scenario("socket-created", [make_socket("s")], {"s": "="}),
    Scenario(
        "socket-deleted", [remove("s")], {}, [make_socket("s")], runs_on_slow_transports=False
    ),
)
