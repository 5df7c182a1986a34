"""The path of a destination arrives unchanged, with any characters in it."""

import os
import subprocess
from pathlib import Path

import pytest
from support.rsync_features import can_quote_wildcards

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import quoting

VERSION = (3, 5, 0)
OLDER = (3, 2, 3)


def reached(path: bytes, transport: Transport = Transport.SHELL) -> Destination:
    return Destination("h", "", transport, "h", path)


@pytest.mark.parametrize(
    ("target", "argument"),
    [
        (b"me@h:/a b/", b"me@h:/a b/"),
        (b"h:/x[1]*?/", rb"h:/x\[1\]\*\?/"),
        (rb"h:/x\*\y/", rb"h:/x\\*\y/"),
        (b"u@[::1]:/x*/", rb"u@[::1]:/x\*/"),
        (b"h:/x*\n/", b"h:/x*\n/"),
    ],
)
def test_wildcards_in_the_path_are_quoted_for_a_remote_shell(
    target: bytes, argument: bytes
) -> None:
    assert quoting.target_argument(reached(target), VERSION) == argument


@pytest.mark.parametrize(
    ("target", "version", "argument"),
    [
        (b"h:~/x/", VERSION, b"h:~/x/"),
        (b"h:~/x/", OLDER, b"h:./x/"),
        (b"u@[::1]:~/", OLDER, b"u@[::1]:./"),
        (b"h:~//-x/", OLDER, b"h:./-x/"),
        (b"h:~/new\nline/", VERSION, b"h:./new\nline/"),
        (b"h:./~/x/", OLDER, b"h:./~/x/"),
        (b"h:~u/x/", OLDER, b"h:~u/x/"),
    ],
)
def test_a_path_in_the_home_directory_becomes_relative_if_no_shell_expands_it(
    target: bytes, version: tuple[int, int, int], argument: bytes
) -> None:
    assert quoting.target_argument(reached(target), version) == argument


@pytest.mark.parametrize(
    ("target", "version", "misses"),
    [
        (b"h:~u/x/", VERSION, False),
        (b"h:~u/x/", OLDER, True),
        (b"h:~u/`/", VERSION, True),
        (b"h:~/x/", OLDER, False),
        (b"h:./~u/", OLDER, False),
    ],
)
def test_an_unexpanded_home_of_another_user_is_detected(
    target: bytes, version: tuple[int, int, int], misses: bool
) -> None:
    assert quoting.has_unexpanded_tilde(reached(target), version) is misses


@pytest.mark.parametrize(
    ("target", "transport", "version", "expands"),
    [
        (b"h:/x[1]/", Transport.SHELL, VERSION, False),
        (b"h:/x[1]/", Transport.SHELL, (3, 4, 4), True),
        (b"h:/x/", Transport.SHELL, (3, 4, 4), False),
        (b"h:/x[1]/", Transport.SHELL, OLDER, True),
        (b"h:/x[1]\n/", Transport.SHELL, VERSION, True),
        (b"h::m/x?/", Transport.DAEMON, VERSION, True),
        (b"u@[::1]::m/x/", Transport.DAEMON, VERSION, False),
        (b"rsync://[::1]:8730/m/x/", Transport.DAEMON, VERSION, False),
        (b"rsync://[::1]/m/x*/", Transport.DAEMON, VERSION, True),
        (b"/x*/", Transport.LOCAL, VERSION, False),
    ],
)
def test_a_path_that_is_expanded_despite_quoting_is_detected(
    target: bytes, transport: Transport, version: tuple[int, int, int], expands: bool
) -> None:
    assert quoting.expands_wildcards(reached(target, transport), version) is expands


@pytest.mark.parametrize("name", [b"www[1]", b"w*", b"www?", rb"w\*", b"w[w]w $(x)"])
def test_rsync_does_not_copy_to_another_matching_directory(tmp_path: Path, name: bytes) -> None:
    if not can_quote_wildcards():
        pytest.skip("the rsync here cannot quote it for a remote shell: the one there expands it")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").touch()
    for other in ("www1", "www2", "www $(x)"):
        (tmp_path / "there" / other).mkdir(parents=True)
    shell = tmp_path / "rsh"
    shell.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    shell.chmod(0o755)
    path = os.path.join(os.fsencode(tmp_path), b"there", name)
    destination = reached(b"h:" + path + b"/")
    subprocess.run(
        [b"rsync", b"-r", b"--rsh=%b" % os.fsencode(shell), os.fsencode(tmp_path) + b"/source/",
         quoting.target_argument(destination, VERSION)],
        check=True, timeout=60,
    )  # fmt: skip
    found = [os.fsencode(file.parent) for file in (tmp_path / "there").rglob("file")]
    assert found == [path]
