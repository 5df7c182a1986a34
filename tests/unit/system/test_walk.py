"""Directories are opened and walked by descriptor, without following symlinks."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trees import inode_id_of

from pylsyncd.system import walk


def walked(top: Path, devices: frozenset[int] = frozenset()) -> set[bytes]:
    found: set[bytes] = set()

    def enter(_directory: int, above: bytes, name: bytes) -> bytes:
        found.add(above + b"/" + name)
        return above + b"/" + name

    def fail(above: bytes, name: bytes, error: OSError) -> None:
        raise AssertionError(above + b"/" + name, error)

    directory = walk.open_root(os.fsencode(top))
    try:
        walk.descend(
            directory, b"", enter, fail, lambda below, _: walk.subdirectories(below, devices)
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


def test_every_directory_is_entered_and_no_symlink_is_followed(top: Path) -> None:
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


def test_the_id_of_a_directory_differs_from_that_of_a_deleted_one() -> None:
    # Not on a tmpfs, which does not use a number again for a long time.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
        seen = set()
        for number in range(1, 21):
            directory = Path(top, "d")
            directory.mkdir()
            seen.add(inode_id_of(directory))
            assert len(seen) == number, "the same number was used again"
            directory.rmdir()


def test_the_id_of_a_directory_does_not_change_with_its_content_and_mode(tmp_path: Path) -> None:
    before = inode_id_of(tmp_path)
    (tmp_path / "f").touch()
    (tmp_path / "d").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    assert inode_id_of(tmp_path) == before


def test_a_directory_that_cannot_be_opened_is_reported_and_the_others_are_entered(
    tmp_path: Path,
) -> None:
    for name in ("bad", "good"):
        (tmp_path / name / "below").mkdir(parents=True)
    entered, errors = [], []

    def enter(_directory: int, parent: bytes, name: bytes) -> bytes:
        if name == b"bad":
            raise PermissionError
        entered.append(parent + b"/" + name)
        return entered[-1]

    def report_error(parent: bytes, name: bytes, error: OSError) -> None:
        errors.append((parent, name, type(error)))

    with walk.opened_root(os.fsencode(tmp_path)) as root:
        walk.descend(root, b"", enter, report_error)
    assert entered == [b"/good", b"/good/below"]
    assert errors == [(b"", b"bad", PermissionError)]


def test_a_walk_goes_no_deeper_than_enter_wants(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    names: list[bytes] = []

    def enter(_directory: int, _parent: int, name: bytes) -> None:
        names.append(name)

    with walk.opened_root(os.fsencode(tmp_path)) as root:
        walk.descend(root, 0, enter, lambda *_: None)
    assert names == [b"a"]


def test_a_path_longer_than_path_max_is_opened_below_its_top(tmp_path: Path) -> None:
    name = b"d" * 250
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=directory)
        deeper = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = deeper
    path = b"/".join([name] * 20)
    opened = walk.open_long_path(os.fsencode(tmp_path), path)
    with walk.opened_root(os.fsencode(tmp_path)) as top:
        try:
            assert walk.inode_id(opened) == walk.inode_id(directory)
            assert os.path.samestat(walk.stat_below(top, path), os.fstat(directory))
        finally:
            os.close(opened)
            os.close(directory)
        assert walk.stat_below(top, name).st_ino == (tmp_path / os.fsdecode(name)).stat().st_ino
        for missing in (b"missing", path + b"/missing"):
            with pytest.raises(FileNotFoundError):
                walk.stat_below(top, missing)
    with pytest.raises(FileNotFoundError):
        walk.open_long_path(os.fsencode(tmp_path), path + b"/missing")


def test_a_directory_below_the_root_is_open_for_the_duration_of_its_context(
    tmp_path: Path,
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with walk.opened_root(os.fsencode(tmp_path)) as root:
        for path in (b"", b"a", b"a/b"):
            with walk.opened_below(root, path) as directory:
                expected = os.stat(os.path.join(os.fsencode(tmp_path), path))
                assert os.path.samestat(os.fstat(directory), expected)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(directory)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [(6, {b"e1", b"e5"}), (13, {b"e1", b"e5", b"gone"})],
    ids=["few entries", "many entries"],
)
def test_names_are_looked_up_in_a_listing_unless_it_is_long(
    tmp_path: Path, entries: int, expected: set[bytes]
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(entries):
        (tmp_path / "d" / f"e{number}").touch()
    with walk.opened_root(os.fsencode(tmp_path)) as root:
        assert set(walk.existing_names(root, b"d", {b"e1", b"e5", b"gone"})) == expected
        with pytest.raises(FileNotFoundError):
            walk.existing_names(root, b"other", {b"e1"})
