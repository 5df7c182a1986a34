"""The program that renames at the other end of a remote shell: text, input, answer."""

import pytest

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.remote_rename import (
    PROGRAM,
    encode_steps,
    is_possible,
    max_answer_bytes,
    parse_answer,
    remote_program,
)
from pylsyncd.rsync.rename_order import RenameStep

HEADER = b"pylsyncd-renames\n"


def test_the_program_survives_a_login_shell_of_another_kind() -> None:
    """The C shell expands exclamation marks in quotes, fish backslashes."""
    assert not set("'!\\\n") & set(PROGRAM)
    assert remote_program() == b"exec sh -c '%b'" % PROGRAM.encode()


def test_a_name_is_a_field_of_a_line() -> None:
    steps = [
        RenameStep(b"a/b", b"c/d/e", is_directory=True),
        RenameStep(b"-n", b"x\n y", is_directory=False, after=12),
    ]
    assert encode_steps(b"/srv/copy/", steps) == (
        b"=/srv/copy/\n"
        b"d - =a =b =c/d =e\n"
        b"f 12 = =-n = %\\0170\\0012\\0040\\0171\n"
    )  # fmt: skip


@pytest.mark.parametrize("directory", [b"", b"-", b"srv/copy/"])
def test_a_relative_directory_has_no_name_that_means_something_else(directory: bytes) -> None:
    assert encode_steps(directory, []) == b"=./%b\n" % directory


def test_no_name_adds_a_field_or_a_line() -> None:
    name = bytes(range(1, 256)).replace(b"/", b"")
    lines = encode_steps(name, [RenameStep(name, name, is_directory=False)]).split(b"\n")
    assert [len(line.split(b" ")) for line in lines] == [1, 6, 1]
    assert max(map(max, filter(None, lines))) < 127


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HEADER + b".1.0.1\n", {0, 2}),
        (HEADER + b".0.1", {1}),
        (HEADER + b".0.1.", {1}),
        (HEADER, set()),
        (HEADER[:-1], None),
        (b"", None),
        (HEADER + b".1.0.1.1\n", None),
        (HEADER + b".1.2\n", None),
        (HEADER + b".1\n.1\n", None),
        (HEADER + b".1.\n", None),
        (HEADER + b"11", None),
        (HEADER + b"..", None),
        (HEADER + b".1 .1", None),
        (b"\n" + HEADER + b".1\n", None),
        (b"x" + HEADER + b".1\n", None),
    ],
)
def test_only_an_answer_of_the_program_is_believed(
    answer: bytes, expected: set[int] | None
) -> None:
    assert parse_answer(answer, 3) == expected


def test_the_longest_answer_is_as_long_as_is_said() -> None:
    assert max_answer_bytes(3) == len(HEADER + b".1.0.1\n")


@pytest.mark.parametrize(
    ("target", "extra_options", "version", "expected"),
    [
        (b"host:/srv/", (), (3, 5, 0), True),
        (b"host:srv/", ("--compress",), (3, 5, 0), True),
        (b"host:/srv/*/", (), (3, 5, 0), True),
        (b"host:/srv/*/", (), (3, 2, 7), False),
        (b"host:~/srv/", (), (3, 5, 0), False),
        (b"host:~user/", (), (3, 5, 0), False),
        (b"host:/srv/", ("--rsync-path=sudo rsync",), (3, 5, 0), False),
    ],
)
def test_the_program_is_used_where_it_finds_what_rsync_finds(
    target: bytes, extra_options: tuple[str, ...], version: tuple[int, int, int], *, expected: bool
) -> None:
    destination = Destination("copy", "copy", Transport.SHELL, "host", target)
    options = RsyncOptions("rsync", version, extra_options=extra_options)
    assert is_possible(destination, options) == expected


def test_an_rsync_daemon_runs_no_program() -> None:
    destination = Destination("copy", "copy", Transport.DAEMON, "host", b"host::module/")
    assert not is_possible(destination, RsyncOptions("rsync", (3, 5, 0)))
