"""Files are opened by path as root may: no other user can choose which file that is."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pylsyncd.system import secure_open
from pylsyncd.system.secure_open import OpenedFile

NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def open_file(path: Path, owners: tuple[int, ...] = ()) -> OpenedFile:
    return secure_open.open_file(str(path), os.O_RDWR, 0o640, owners)


def refused(path: Path) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the caller compares its text
        open_file(path).close()
    return str(caught.value.strerror)


def test_a_missing_file_is_created_with_its_mode_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o777)
    try:
        file = open_file(path)
    finally:
        os.umask(before)
    assert file.is_new
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_existing_file_keeps_its_content_and_mode(path: Path) -> None:
    path.write_text("old")
    path.chmod(0o600)
    file = open_file(path)
    assert not file.is_new
    assert os.read(file.descriptor, 10) == b"old"
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_is_no_longer_at_its_path_when_it_was_renamed_or_replaced(path: Path) -> None:
    file = open_file(path)
    assert file.is_at_path
    path.rename(path.with_suffix(".old"))
    assert not file.is_at_path
    path.touch()
    assert not file.is_at_path
    file.close()


def test_a_device_may_be_opened() -> None:
    open_file(Path("/dev/null")).close()


def test_a_symlink_in_a_directory_that_only_we_can_write_to_is_followed(path: Path) -> None:
    real = path.parent / "real"
    real.mkdir()
    (path.parent / "link").symlink_to("real")
    path.symlink_to(path.parent / "link" / "pid")
    file = open_file(path)
    os.write(file.descriptor, b"text")
    file.close()
    assert (real / "pid").read_text() == "text"
    assert path.is_symlink()


@pytest.mark.parametrize("name", ["link", "link/pid"])
def test_a_symlink_in_a_directory_that_others_can_write_to_is_not(name: str, path: Path) -> None:
    shared = path.parent / "shared"
    shared.mkdir()
    (path.parent / "real").mkdir()
    (shared / "link").symlink_to(path.parent / "real")
    shared.chmod(0o777)
    assert "symbolic link" in refused(shared / name)
    assert list((path.parent / "real").iterdir()) == []


@only_root
def test_in_a_sticky_directory_our_symlinks_are_followed_and_another_user_s_are_not(
    path: Path,
) -> None:
    shared, real = path.parent / "shared", path.parent / "real"
    shared.mkdir()
    real.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(real)
    open_file(shared / "link/pid").close()
    os.chown(shared / "link", NOBODY, NOBODY, follow_symlinks=False)
    assert "symbolic link" in refused(shared / "link/pid")


def test_symlinks_that_form_a_loop_are_refused(path: Path) -> None:
    path.symlink_to(path)
    assert refused(path) == os.strerror(errno.ELOOP)


def test_as_many_symlinks_are_followed_as_the_kernel_follows(path: Path) -> None:
    for number in range(41):
        (path.parent / f"{number}").symlink_to(path.parent / f"{number - 1}" if number else path)
    open_file(path.parent / "39").close()
    (path.parent / "39").read_bytes()
    assert refused(path.parent / "40") == os.strerror(errno.ELOOP)
    with pytest.raises(OSError, match="Too many levels"):
        (path.parent / "40").read_bytes()


@only_root
def test_another_user_s_file_in_a_shared_directory_is_refused(path: Path) -> None:
    path.parent.chmod(0o1777)
    path.touch()
    os.chown(path, NOBODY, NOBODY)
    assert "belongs to another user" in refused(path)
    open_file(path, owners=(NOBODY,)).close()


def test_a_second_hard_link_in_a_shared_directory_is_refused(path: Path) -> None:
    path.touch()
    os.link(path, path.with_suffix(".link"))
    open_file(path).close()
    path.parent.chmod(0o1777)
    assert "several hard links" in refused(path)


def test_what_is_not_a_file_is_refused(path: Path) -> None:
    os.mkfifo(path)
    assert "not a regular file" in refused(path)
    path.unlink()
    path.mkdir()
    assert "Is a directory" in refused(path)


def test_a_missing_directory_is_refused(path: Path) -> None:
    assert refused(path / "below") == os.strerror(errno.ENOENT)


def test_a_refused_file_leaves_no_descriptor_open(path: Path) -> None:
    os.mkfifo(path)
    before = os.listdir("/proc/self/fd")
    refused(path)
    assert os.listdir("/proc/self/fd") == before
