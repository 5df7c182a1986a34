"""The names of rsync's temporary files are the ones that the pattern protects."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.runner import Runner
from pylsyncd.rsync.temporary_names import temporary_pattern, temporary_regex

SECONDS = 45.0

NAMES = [
    "big", ".hidden", "..two", "dot.", "dots..", "a*b?[c]", "back\\slash", "new\nline", "blank ",
    "- x", "é", "x" * 201, "x" * 255, "é" * 120, "é" * 127, "x" * 150 + "é" * 52,
    "x" * 239 + "é" * 8, "x" * 210 + ".é" + "é" * 20, "." + "é" * 127, "." * 255,
]  # fmt: skip


@pytest.fixture(params=NAMES, ids=lambda name: ascii(name)[:20] + str(len(os.fsencode(name))))
def sending(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[bytes, Path, Path]]:
    """Yield a path while rsync slowly sends it, and both trees."""
    source, replica = tmp_path / "source", tmp_path / "replica"
    path = b"d*/" + os.fsencode(request.param)
    (source / "d*").mkdir(parents=True)
    with open(os.path.join(os.fsencode(source), path), "wb") as file:
        file.write(os.urandom(3_000_000))
    (replica / "d*").mkdir(parents=True)
    command = ["rsync", "-lptgoD", "--dirs", "--from0", "--files-from=-", "--bwlimit=30"]
    with processes.running_process(
        [*command, f"{source}/", f"{replica}/"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"./" + path + b"\0")
        process.stdin.close()
        deadline = time.monotonic() + SECONDS
        while not os.listdir(replica / "d*"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield path, source, replica
        os.killpg(process.pid, 9)


def test_another_run_keeps_temporary_files_and_deletes_everything_else(
    sending: tuple[bytes, Path, Path],
) -> None:
    path, source, replica = sending
    directory = os.fsencode(replica / "d*")
    (temporary,) = os.listdir(directory)
    assert temporary_regex(path).fullmatch(temporary)
    for other in (b"other", b".other.123456", b".big.12345", b".big.1234567"):
        with open(os.path.join(directory, other), "wb"):
            pass
    to = Destination("d", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    rsync = RsyncOptions("rsync", (3, 2, 7), in_flight=frozenset([path]))
    assert (
        Runner()
        .run(rsync.full_sync_command(os.fsencode(source), to, RsyncCapabilities()), b"")
        .exit_status
        == 0
    )
    kept = [temporary]
    if b"." + path.rpartition(b"/")[2].strip(b".\xc3\xa9") == b".":
        # Nothing of a long non-ASCII name is left.
        kept = sorted([temporary, b".other.123456", b".big.12345", b".big.1234567"])
        kept = [name for name in kept if temporary_regex(path).fullmatch(name)]
    assert sorted(os.listdir(directory)) == sorted(kept)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"big", b"/.big.??????"),
        (b"d/big", b"/d/.big.??????"),
        (b"d*/.big.", b"/d\\*/.big.??????"),
        (b"x" * 255, b"/." + b"x" * 200 + b"*.??????"),
    ],
)
def test_a_pattern_is_as_narrow_as_possible(path: bytes, expected: bytes) -> None:
    assert temporary_pattern(path) == expected


def test_whole_names_are_matched() -> None:
    pattern = temporary_regex(b"d/a.b")
    assert pattern.fullmatch(b".a.b.\nxXyYz")
    for name in (b".a.b.12345", b".a.b.1234567", b".aXb.123456", b"a.b.123456", b".a.b"):
        assert not pattern.fullmatch(name)
