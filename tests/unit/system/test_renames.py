"""Renames below descriptors: what they take, what they leave alone, and who may interfere."""

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.operations import LIBC, RENAME_EXCHANGE, exchange_paths

from pylsyncd.system import renames, walk
from pylsyncd.system.renames import RenameUnsupportedError, rename_below

# Renames that an exchange makes fail, and those that succeed beside exchanges.
MIN_SWAPS = 50


class Place:
    """A directory with a file ``f``, and a directory ``d`` with a file; and one outside of it."""

    def __init__(self, top: Path) -> None:
        self.top, self.outside = top / "copy", top / "outside"
        (self.top / "d").mkdir(parents=True)
        (self.top / "f").write_text("f")
        (self.top / "d" / "g").write_text("g")
        (self.outside / "d").mkdir(parents=True)
        (self.outside / "f").write_text("outside")
        self.root = walk.open_root(os.fsencode(self.top))

    def rename(self, old: str, new: str, *, is_directory: bool = False) -> bool:
        return rename_below(
            self.root, os.fsencode(old), os.fsencode(new), is_directory=is_directory
        )

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.top)) for path in self.top.rglob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    os.close(place.root)


def test_a_file_and_a_directory_are_renamed(place: Place) -> None:
    place.rename("f", "d/h")
    place.rename("d", "e", is_directory=True)
    assert place.listing() == ["e", "e/g", "e/h"]


@pytest.mark.parametrize("name", [b"-n", b"a\nb", b"'\"$(id)`id`", b"\xff\x81", b" "])
def test_a_name_is_taken_as_it_is(place: Place, name: bytes) -> None:
    rename_below(place.root, b"f", b"x/" + name, is_directory=False)
    rename_below(place.root, b"x/" + name, name, is_directory=False)
    assert os.fsdecode(name) in os.listdir(place.root)


def test_missing_directories_above_the_new_name_are_created_for_the_owner_alone(
    place: Place,
) -> None:
    place.rename("f", "x/y/f")
    assert place.listing() == ["d", "d/g", "x", "x/y", "x/y/f"]
    assert (place.top / "x").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        ("f", "d", errno.EEXIST),
        ("f", "link", errno.EEXIST),
        ("f", "fifo", errno.EEXIST),
        ("f", "hard-link", errno.EEXIST),
        ("missing", "new", errno.ENOENT),
        ("missing/f", "new/f", errno.ENOENT),
        ("link", "new", errno.EEXIST),
        ("d", "new", errno.EEXIST),
        ("link-to-d/g", "new", errno.ENOTDIR),
        ("f", "link-to-d/f", errno.ENOTDIR),
        ("f", "link-to-outside/x/f", errno.ENOTDIR),
        ("f", "d/g/h", errno.ENOTDIR),
        ("f", "f/f", errno.ELOOP),
    ],
)
def test_nothing_is_renamed(place: Place, old: str, new: str, number: int) -> None:
    (place.top / "link").symlink_to("f")
    (place.top / "link-to-d").symlink_to("d")
    (place.top / "hard-link").hardlink_to(place.top / "f")
    os.mkfifo(place.top / "fifo")
    (place.top / "link-to-outside").symlink_to(place.outside)
    before = place.listing()
    with pytest.raises(OSError, match=r"^.Errno") as caught:
        place.rename(old, new)
    assert caught.value.errno == number
    assert not isinstance(caught.value, RenameUnsupportedError)
    assert place.listing() == before
    assert sorted(os.listdir(place.outside)) == ["d", "f"]


def test_a_file_replaces_a_file_and_a_directory_an_empty_one(place: Place) -> None:
    content = (place.top / "f").read_text()
    (place.top / "e").mkdir()
    place.rename("f", "d/g")
    place.rename("d", "e", is_directory=True)
    assert place.listing() == ["e", "e/g"]
    assert (place.top / "e/g").read_text() == content


def test_a_directory_with_something_in_it_gets_the_name_that_is_left(place: Place) -> None:
    (place.top / "e").mkdir()
    (place.top / "e/x").touch()
    assert place.rename("d", "e", is_directory=True)
    assert place.listing() == ["d", "d/x", "e", "e/g", "f"]
    assert not place.rename("d", "h", is_directory=True)


def test_no_directory_is_exchanged_for_one_below_it(place: Place) -> None:
    (place.top / "d/e/f").mkdir(parents=True)
    before = place.listing()
    for old, new in (("d/e", "d"), ("d", "d/e")):
        with pytest.raises(OSError, match=r"^.Errno") as caught:
            place.rename(old, new, is_directory=True)
        assert not isinstance(caught.value, RenameUnsupportedError)
    assert place.listing() == before


def test_where_nothing_can_be_exchanged_other_renames_work(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(old_parent: int, old: bytes, new_parent: int, new: bytes, flag: int) -> int:
        if flag != RENAME_EXCHANGE:
            return int(LIBC.renameat2(old_parent, old, new_parent, new, flag))
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(renames, "_find_renameat2", lambda: refuse)
    (place.top / "e").mkdir()
    (place.top / "e/x").touch()
    with pytest.raises(OSError, match="Invalid") as caught:
        place.rename("d", "e", is_directory=True)
    assert not isinstance(caught.value, RenameUnsupportedError)
    assert not place.rename("f", "e/f")
    assert place.listing() == ["d", "d/g", "e", "e/f", "e/x"]


@pytest.mark.parametrize("new", ["file", "link-to-e"])
def test_a_directory_replaces_nothing_else(place: Place, new: str) -> None:
    (place.top / "file").touch()
    (place.top / "e").mkdir()
    (place.top / "link-to-e").symlink_to("e")
    before = place.listing()
    with pytest.raises(OSError, match=r"^.Errno"):
        place.rename("d", new, is_directory=True)
    assert place.listing() == before


def test_a_file_is_no_directory(place: Place) -> None:
    with pytest.raises(OSError, match="another type"):
        place.rename("f", "new", is_directory=True)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_file_system_without_the_flag_is_told_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(renames, "_find_renameat2", lambda: refuse)
    with pytest.raises(RenameUnsupportedError):
        place.rename("f", "new")


def test_a_c_library_without_the_function_is_told_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renames, "_find_renameat2", lambda: None)
    with pytest.raises(RenameUnsupportedError):
        place.rename("f", "new")


def test_a_file_that_may_not_be_renamed_says_nothing_of_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one in a sticky directory, or an immutable one."""
    real = renames._find_renameat2()  # noqa: SLF001  # there is no such file without root
    assert real is not None

    def refuse(directory: int, old: bytes, *others: object) -> int:
        if old:
            ctypes.set_errno(errno.EPERM)
            return -1
        return real(directory, old, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(renames, "_find_renameat2", lambda: refuse)
    with pytest.raises(PermissionError) as caught:
        place.rename("f", "new")
    assert not isinstance(caught.value, RenameUnsupportedError)


def test_directories_exchanged_for_links_lead_no_rename_out(place: Place) -> None:
    """Both parents are exchanged for links to a directory outside, again and again."""
    stopped = threading.Event()
    for name in ("old", "new"):
        (place.top / name / "d").mkdir(parents=True)
        (place.top / f"{name}-link").symlink_to(place.outside)

    def exchange() -> None:
        while not stopped.is_set():
            for name in (b"old", b"new"):
                path = os.path.join(os.fsencode(place.top), name)
                exchange_paths(path, path + b"-link")

    with walk.opened_below(place.root, b"old") as old:
        swapper = threading.Thread(target=exchange)
        swapper.start()
        failed = renamed = 0
        try:
            while failed < MIN_SWAPS or renamed < MIN_SWAPS:
                name = f"{failed + renamed}"
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=old))
                try:
                    place.rename(f"old/{name}", f"new/d/{name}")
                except OSError:
                    failed += 1
                else:
                    renamed += 1
        finally:
            stopped.set()
            swapper.join()
    assert (place.outside / "f").read_text() == "outside"
    assert sorted(os.listdir(place.outside)) == ["d", "f"]
    assert os.listdir(place.outside / "d") == []
