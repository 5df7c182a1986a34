"""Directories and files are used only if no other user can write them."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pylsyncd.model.errors import StateError, UsageError
from pylsyncd.system import private_files
from pylsyncd.system.private_files import MAX_FILE_SIZE, DirectoryPurpose

NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def open_directory(path: Path | str) -> None:
    os.close(private_files.open_directory(os.fsencode(path)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


# Directories


def test_a_missing_directory_is_created_for_its_owner_alone_and_its_parents_as_usual(
    tmp_path: Path,
) -> None:
    before = os.umask(0)
    try:
        open_directory(tmp_path / "lib/more/state")
    finally:
        os.umask(before)
    assert mode(tmp_path / "lib/more/state") == 0o700
    assert mode(tmp_path / "lib/more") == mode(tmp_path / "lib") == 0o755


@pytest.mark.parametrize("written", ["link", "link/", "link/.", "link/./"])
def test_a_symlink_to_a_directory_is_refused(tmp_path: Path, written: str) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(UsageError, match=r"link is a symbolic link.*--state-dir"):
        open_directory(f"{tmp_path}/{written}")


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(bits)
    with pytest.raises(UsageError, match=r"chmod go-w .*/state"):
        open_directory(tmp_path / "state")


@only_root
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", NOBODY, NOBODY)
    with pytest.raises(UsageError, match=f"belongs to the user id {NOBODY}"):
        open_directory(tmp_path / "state")


@pytest.mark.parametrize("path", ["file", "file/below", ""])
def test_what_cannot_be_a_directory_is_refused(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be used: .*--state-dir"):
        open_directory(path)


def test_a_refusal_names_the_directory_its_risk_and_its_option(tmp_path: Path) -> None:
    purpose = DirectoryPurpose("spool", "--spool", "who could read mail")
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match=r"The spool .*, who could read mail: .*--spool"):
        private_files.open_directory(os.fsencode(tmp_path), purpose)


@only_root
def test_root_creates_a_directory_for_another_user_and_keeps_an_existing_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run/state"
    private_files.create_directory_for_user(os.fsencode(path), NOBODY, NOBODY)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (NOBODY, NOBODY, 0o700)
    private_files.create_directory_for_user(os.fsencode(path), 7, 7)
    assert path.stat().st_uid == NOBODY


def test_a_directory_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = os.fsencode(tmp_path / "file/state")
    with pytest.raises(UsageError, match=r"cannot be used: .*--state-dir"):
        private_files.create_directory_for_user(path, NOBODY, NOBODY)


# Files


def make_symlink(path: Path) -> None:
    path.symlink_to(path.parent / "other")


def make_hard_link(path: Path) -> None:
    (path.parent / "other").write_text("x")
    os.link(path.parent / "other", path)


def make_foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path.write_text("x")
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_symlink, make_hard_link, make_foreign])
def test_what_pylsyncd_cannot_have_created_is_not_opened(
    tmp_path: Path, directory: int, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "file")
    with pytest.raises(StateError, match=r"^SHOWN (is|has) .*: remove it\.$"):
        private_files.open_file(directory, "file", os.O_RDONLY, "SHOWN")


def test_a_new_file_is_for_its_owner_alone_whatever_the_umask(
    tmp_path: Path, directory: int
) -> None:
    before = os.umask(0o777)
    try:
        descriptor = private_files.open_file(directory, "file", os.O_RDWR | os.O_CREAT, "")
    finally:
        os.umask(before)
    private_files.write_all(descriptor, b"content")
    os.close(descriptor)
    assert mode(tmp_path / "file") == 0o600
    descriptor = private_files.open_file(directory, "file", os.O_RDONLY, "")
    assert private_files.read_all(descriptor, "") == b"content"
    os.close(descriptor)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", MAX_FILE_SIZE + 1)
    descriptor = private_files.open_file(directory, "file", os.O_RDONLY, "")
    with pytest.raises(StateError, match=r"^SHOWN is too large"):
        private_files.read_all(descriptor, "SHOWN")
    os.close(descriptor)


# Locks


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def test_a_lock_that_another_open_file_holds_is_not_acquired_in_time(tmp_path: Path) -> None:
    with held(tmp_path / "lock") as descriptor, (tmp_path / "lock").open("rb") as other:
        assert not private_files.try_acquire_lock(other.fileno())
        started = time.monotonic()
        assert not private_files.acquire_lock(other.fileno(), 0.1)
        assert time.monotonic() - started >= 0.1
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert private_files.acquire_lock(other.fileno(), 0.0)
        assert not private_files.try_acquire_lock(descriptor)
