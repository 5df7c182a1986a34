"""Scenarios of odd names, which rsync, a shell or a file list could misinterpret."""

from support.operations import (
    Operation,
    append,
    chmod,
    mkdir,
    remove,
    remove_tree,
    rename,
    symlink,
    write,
)
from support.scenario import Expected, Scenario, with_attributes

ODD_NAMES: dict[str, bytes] = {
    "leading-dash": b"-",
    "option": b"-n",
    "long-option": b"--delete",
    "two-dashes": b"--",
    "comment": b"#x",
    "other-comment": b";x",
    "newline": b"a\nb",
    "leading-newline": b"\nb",
    "carriage-return": b"a\r",
    "tab": b"a\tb",
    "escape": b"\x1b[31m\x07",
    "delete-character": b"\x7f",
    "not-utf-8": b"\xff",
    "half-a-utf-8-character": b"a\xc3",
    "latin-1": "äöü".encode("latin-1"),
    "utf-8": "äöü€😀".encode(),
    "combining": "e\u0301".encode(),
    "right-to-left": "\u202eabc".encode(),
    "space": b" ",
    "leading-space": b" x",
    "trailing-space": b"x ",
    "inner-spaces": b"a  b c",
    "star": b"*",
    "stars": b"a**",
    "question-mark": b"?",
    "class": b"[x]",
    "open-class": b"[",
    "backslash": b"\\",
    "trailing-backslash": b"a\\",
    "escaped-octal": b"\\#012",
    "colon": b":",
    "host-and-path": b"h:p",
    "host-and-module": b"h::m",
    "quote": b"'",
    "double-quote": b'"x"',
    "command": b"$(touch pwned)",
    "backtick": b"`touch pwned`",
    "variable": b"$HOME",
    "semicolon-and-pipe": b"a; b | c & d > e",
    "three-dots": b"...",
    "hidden": b".hidden",
    "include-rule": b"+ x",
    "exclude-rule": b"- x",
    "clear-rule": b"!",
    "255-bytes": b"n" * 255,
    "format": b"%s %d %(x)s %",
    "log-format": b"%n%L|%b",
    "braces": b"{}",
    "tilde": b"~",
    "home": b"~root",
    "rsync-temporary": b".f.aBcD12",
    "equals": b"a=b",
    "at": b"user@host",
}
AS_DIRECTORIES = (
    "option", "long-option", "comment", "newline", "not-utf-8", "leading-space", "trailing-space",
    "star", "class", "backslash", "host-and-path", "command", "three-dots", "include-rule",
    "clear-rule", "255-bytes", "combining", "tilde",
)  # fmt: skip
TELLING = AS_DIRECTORIES
TELLING_DIRECTORIES = ("option", "newline", "not-utf-8", "command")


def _in(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name


def _files(title: str, name: bytes) -> Scenario:
    """Return the scenario of a file of this name: created, deleted, renamed, changed."""
    directories = (b"created", b"deleted", b"renamed", b"changed", b"links")
    before: list[Operation] = [mkdir(directory) for directory in directories]
    before += [
        write(_in(b"deleted", name)),
        write(_in(b"renamed", name), b"from"),
        write(b"renamed/plain", b"to"),
        write(_in(b"changed", name), b"1"),
    ]
    operations = [
        write(_in(b"created", name), b"new"),
        write(name, b"on top"),
        remove(_in(b"deleted", name)),
        rename(_in(b"renamed", name), b"renamed/was-odd"),
        rename(b"renamed/plain", _in(b"renamed", name)),
        append(_in(b"changed", name), b"2"),
        chmod(_in(b"changed", name), 0o640),
        symlink(_in(b"links", name), name),
    ]
    expected: Expected = {
        _in(b"created", name): b"new",
        name: b"on top",
        b"deleted/": None,
        b"renamed/was-odd": b"from",
        _in(b"renamed", name): b"to",
        _in(b"changed", name): with_attributes(b"12", mode=0o640),
        _in(b"links", name): "-> " + name.decode("utf-8", "surrogateescape"),
    }
    telling = title in TELLING
    return Scenario(f"name-{title}", operations, expected, before, runs_on_slow_transports=telling)


def _directories(title: str, name: bytes) -> Scenario:
    """Return the scenario of a directory of this name."""
    before = [
        mkdir(_in(_in(b"deleted", name), name)),
        write(_in(_in(b"deleted", name), b"f")),
        mkdir(_in(b"renamed", name)),
        write(_in(_in(b"renamed", name), name), b"from"),
        mkdir(b"renamed/plain/s"),
        mkdir(_in(b"changed", name)),
        write(_in(_in(b"changed", name), b"f"), b"1"),
        write(_in(_in(b"changed", name), b"g")),
    ]
    operations = [
        mkdir(_in(b"created", name)),
        write(_in(_in(b"created", name), name), b"new"),
        remove_tree(_in(b"deleted", name)),
        rename(_in(b"renamed", name), b"renamed/was-odd"),
        rename(b"renamed/plain", _in(b"renamed", name)),
        write(_in(_in(b"renamed", name), b"s/f"), b"to"),
        append(_in(_in(b"changed", name), b"f"), b"2"),
        remove(_in(_in(b"changed", name), b"g")),
    ]
    expected: Expected = {
        _in(_in(b"created", name), name): b"new",
        b"deleted/": None,
        _in(b"renamed/was-odd", name): b"from",
        _in(_in(b"renamed", name), b"s/f"): b"to",
        _in(_in(b"changed", name), b"f"): b"12",
    }
    telling = title in TELLING_DIRECTORIES
    return Scenario(
        f"directory-{title}", operations, expected, before, runs_on_slow_transports=telling
    )


NAMES = tuple(_files(title, name) for title, name in ODD_NAMES.items()) + tuple(
    _directories(title, ODD_NAMES[title]) for title in AS_DIRECTORIES
)
