"""Walking by descriptor."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trees import identity_at

from pylsyncd.system import walk


def walked(top: Path, counting: frozenset[int] = frozenset()) -> set[bytes]:
    found: set[bytes] = set()

    def enter(_directory: int, above: bytes, name: bytes) -> bytes:
        found.add(above + b"/" + name)
        return above + b"/" + name

    def refused(above: bytes, name: bytes, error: OSError) -> None:
        raise AssertionError(above + b"/" + name, error)

    directory = walk.open_root(os.fsencode(top))
    try:
        walk.descend(
            directory, b"", enter, refused, lambda below, _: walk.subdirectories(below, counting)
        )
    finally:
        os.close(directory)
    return found


@pytest.fixture(params=["/dev/shm", "/var/tmp"])  # noqa: S108  # a tmpfs, and a disk
def top(request: pytest.FixtureRequest) -> Iterator[Path]:
    if not os.access(request.param, os.W_OK):
        pytest.skip(f"{request.param} is not there, or not to be written")
    directory = tempfile.mkdtemp(prefix="pylsyncd-walk-", dir=request.param)
    yield Path(directory)
    subprocess.run(["/bin/rm", "-rf", "--", directory], check=True)


def test_every_directory_is_entered_and_no_symlink(top: Path) -> None:
    for path in ("a/b/c", "a/d", "e"):
        (top / path).mkdir(parents=True)
    (top / "a/file").touch()
    (top / "a/link").symlink_to(top / "e")
    expected = {b"/a", b"/a/b", b"/a/b/c", b"/a/d", b"/e"}
    assert walked(top) == expected
    assert walked(top, walk.devices_with_link_counts()) == expected


def test_a_symlink_on_the_way_is_refused(top: Path) -> None:
    (top / "real/inner").mkdir(parents=True)
    (top / "link").symlink_to("real")
    directory = walk.open_root(os.fsencode(top))
    try:
        with pytest.raises(OSError, match=r"(?i)not a directory|too many levels"):
            walk.open_below(directory, b"link/inner")
    finally:
        os.close(directory)


def test_a_tree_deeper_than_there_are_descriptors_is_walked(top: Path) -> None:
    directory = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=directory)
        deeper = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = deeper
    os.close(directory)
    assert len(walked(top)) == 1500


def test_a_directory_is_not_taken_for_one_that_was_deleted_before() -> None:
    # Not on a tmpfs, which does not use a number again for a long time.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        seen = set()
        for number in range(1, 21):
            directory = Path(top, "d")
            directory.mkdir()
            seen.add(identity_at(directory))
            assert len(seen) == number, "the same number was used again"
            directory.rmdir()


def test_a_directory_stays_who_it_is_whatever_happens_in_it(tmp_path: Path) -> None:
    before = identity_at(tmp_path)
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    assert identity_at(tmp_path) == before
