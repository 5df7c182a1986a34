"""The command of a remote shell, compared with the one that rsync runs."""

import os
import subprocess
from pathlib import Path

import pytest

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.remote_shell import remote_path, remote_shell_command, split_words


def over_shell(target: bytes) -> Destination:
    return Destination("copy", "copy", Transport.SHELL, "host", target)


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("a  b", b"host:x/"),
        (" 'b c' \"d''e\" 'f''g' 'x'y\"z\" q\\ r '' '''t'  ", b"me@host:/x/"),
        ('\'a\tb\' c\td \'it\'"\'"\'s\' "say ""it"""', b"a@b@[::1]:/x/"),
        ("sh -c 'cd / && exec \"$@\"' sh", b"-@[::1]:/x:y/"),
    ],
)
def test_the_words_are_those_of_rsync(tmp_path: Path, words: str, target: bytes) -> None:
    shell, output = tmp_path / "shell", tmp_path / "output"
    shell.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >{output}\nexit 1\n')
    shell.chmod(0o755)
    rsh = f"{shell} {words}"
    command = (b"rsync", os.fsencode(f"--rsh={rsh}"), b"--", b"/dev/null", target)
    subprocess.run(command, capture_output=True, check=False)
    expected = output.read_bytes().split(b"\0")
    found = remote_shell_command(rsh, over_shell(target), b"rsync")
    assert found == [os.fsencode(shell), *expected[: expected.index(b"--server")]]


@pytest.mark.parametrize("rsh", ["ssh 'a", 'ssh "a', "ssh '''", "'"])
def test_a_quote_without_an_end_is_refused(rsh: str) -> None:
    with pytest.raises(ValueError, match="no end"):
        split_words(rsh)


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"host:/a:b/", b"/a:b/"), (b"me@[::1]:x/", b"x/"), (b"host:~/x/", b"~/x/")],
)
def test_the_path_begins_after_the_host(target: bytes, path: bytes) -> None:
    assert remote_path(over_shell(target)) == path
