"""Symbolic links in a path are followed only where no other user can make them lead elsewhere."""

import errno
import os
from pathlib import Path

import pytest

from pylsyncd.system import path_resolution
from pylsyncd.system.path_resolution import UnsafeLinkError

USER, OTHER = 65534, 65533

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory that belongs to a user, beside one that only root may read."""
    (tmp_path / "secret/public").mkdir(parents=True)
    (tmp_path / "secret").chmod(0o700)
    home = tmp_path / "home"
    (home / "releases/1/public").mkdir(parents=True)
    (home / "releases/2").mkdir()
    if os.geteuid() == 0:
        for directory, _, _ in os.walk(home):
            os.chown(directory, USER, USER)
    return home


def make_link(path: Path, target: Path | str, owner: int = USER) -> Path:
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def opened(path: Path | str) -> os.stat_result:
    directory = path_resolution.open_directory(str(path))
    try:
        os.listdir(directory)
        return os.fstat(directory)
    finally:
        os.close(directory)


def assert_is(path: Path, expected: Path) -> None:
    assert os.path.samestat(opened(path), expected.stat())


def refused(path: Path) -> str:
    with pytest.raises(UnsafeLinkError) as caught:
        opened(path)
    return str(caught.value.strerror)


def test_a_path_without_links_is_opened_whoever_owns_it(home: Path) -> None:
    assert_is(home / "releases/1", home / "releases/1")
    assert_is(home / "releases/./1/../2/", home / "releases/2")
    assert_is(Path("/"), Path("/"))


def test_a_relative_path_starts_at_the_working_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert_is(Path("releases/1"), home / "releases/1")
    assert_is(Path(), home)


def test_our_own_links_are_followed_in_a_directory_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "d")
    (tmp_path / "relative").symlink_to("absolute/../d/")
    assert_is(tmp_path / "relative/e", tmp_path / "d/e")


@only_root
def test_a_link_is_followed_if_its_owner_owns_the_target(home: Path) -> None:
    make_link(home / "current", "releases/1")
    make_link(home / "site", home / "current/public")
    assert_is(home / "site", home / "releases/1/public")


@only_root
@pytest.mark.parametrize("below", ["", "/public"])
@pytest.mark.parametrize("prefix", ["", "./", "releases/../"])
def test_a_link_of_a_user_to_a_directory_of_root_is_refused(
    home: Path, prefix: str, below: str
) -> None:
    make_link(home / "site", f"{prefix}../secret{below}")
    message = refused(home / "site")
    assert message.startswith("site in its path is a symbolic link that other users may change")
    assert f"user id {USER}" in message
    assert message.endswith(" its target belongs to the user id 0")


@only_root
def test_a_link_above_the_directory_is_refused_as_well(home: Path) -> None:
    make_link(home / "site", "../secret")
    refused(home / "site/public")


@only_root
def test_a_link_is_refused_although_a_later_part_of_the_path_belongs_to_its_owner(
    home: Path,
) -> None:
    (home.parent / "secret/of-user").mkdir()
    os.chown(home.parent / "secret/of-user", USER, USER)
    make_link(home / "site", "../secret")
    refused(home / "site/of-user")


@only_root
def test_a_link_of_a_user_through_a_link_of_root_is_refused(home: Path) -> None:
    make_link(home.parent / "shortcut", "secret", 0)
    make_link(home / "site", "../shortcut")
    refused(home / "site")


@only_root
def test_a_link_of_a_user_to_a_directory_of_another_user_is_refused(home: Path) -> None:
    os.chown(home / "releases/2", OTHER, OTHER)
    make_link(home / "site", "releases/2")
    assert f"to the user id {OTHER}" in refused(home / "site")


@only_root
def test_a_link_of_root_is_refused_where_a_user_may_have_moved_it(home: Path) -> None:
    make_link(home / "site", "releases/1", 0)
    refused(home / "site")


@only_root
def test_in_a_sticky_directory_a_link_of_root_is_followed_and_one_of_a_user_is_not(
    home: Path,
) -> None:
    shared = home.parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert_is(make_link(shared / "ours", home / "releases/1", 0), home / "releases/1")
    refused(make_link(shared / "theirs", home.parent / "secret"))


def test_links_that_form_a_loop_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        opened(tmp_path / "a")


def test_what_is_missing_or_no_directory_is_an_error_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("missing")
    for name, number in (("missing", errno.ENOENT), ("file", errno.ENOTDIR),
                         ("dangling", errno.ENOENT), ("file/below", errno.ENOTDIR)):  # fmt: skip
        with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is compared
            opened(tmp_path / name)
        assert caught.value.errno == number


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    before = len(os.listdir("/proc/self/fd"))
    opened(tmp_path / "link/.")
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "link/missing")
    directory, name = path_resolution.open_parent(str(tmp_path / "link/file"))
    os.close(directory)
    assert name == "file"
    assert len(os.listdir("/proc/self/fd")) == before
