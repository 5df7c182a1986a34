"""A snapshot has exact copies of files, and tells which of them are not the wanted ones."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from pylsyncd.system import snapshot, walk
from pylsyncd.system.snapshot import SnapshotError, empty_tree, opened_snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source/a/b").mkdir(parents=True)
    return tmp_path / "source"


@pytest.fixture
def root(source: Path) -> Iterator[int]:
    with walk.opened_root(os.fsencode(source)) as opened:
        yield opened


def changed(
    root: int, *some: bytes, present: Collection[bytes] = (), newest: int = 1 << 62
) -> set[bytes]:
    with opened_snapshot(
        root, some, frozenset(present), lambda status: status.st_ctime_ns <= newest
    ) as copies:
        return set(copies.changed)


def test_a_copy_has_the_content_and_all_attributes_with_those_of_the_directories_above(
    source: Path, root: int
) -> None:
    file, link = source / "a/b/index", source / "current"
    file.write_text("one")
    file.chmod(0o640)
    link.symlink_to("releases/1")
    for path, second in ((file, 1), (link, 2), (source / "a/b", 3), (source / "a", 4), (source, 5)):
        os.utime(path, ns=(second * 10**9 + 1, second * 10**9 + 7), follow_symlinks=False)
    (source / "a/b").chmod(0o750)
    with opened_snapshot(root, [b"a/b/index", b"current"], frozenset(), lambda _: True) as copies:
        assert not copies.changed
        file.write_text("another one")
        top = Path(f"/proc/self/fd/{copies.directory}")
        assert (top / "a/b/index").read_text() == "one"
        assert os.readlink(top / "current") == "releases/1"
        mode, time = (top / "a/b/index").stat().st_mode & 0o777, 10**9 + 7
        assert (mode, (top / "a/b/index").stat().st_mtime_ns) == (0o640, time)
        assert (top / "current").lstat().st_mtime_ns == 2 * 10**9 + 7
        assert (top / "a/b").stat().st_mode & 0o777 == 0o750
        for name in ("a/b", "a", "."):
            assert (top / name).stat().st_mtime_ns == (source / name).stat().st_mtime_ns
        private = top.resolve().parent
        assert private.stat().st_mode & 0o777 == 0o700
    assert not private.exists()


def test_a_file_that_is_not_the_wanted_one_has_changed(source: Path, root: int) -> None:
    (source / "old").touch()
    (source / "new").touch()
    newest = max((source / "old").stat().st_ctime_ns, (source / "new").stat().st_ctime_ns)
    while (source / "new").stat().st_ctime_ns <= newest:
        (source / "new").chmod(0o600)
    assert changed(root, b"old", b"new", newest=newest) == {b"new"}


def test_a_missing_file_has_changed_only_if_it_was_there(root: int) -> None:
    assert changed(root, b"gone", b"a/gone", b"b/gone", present=[b"a/gone"]) == {b"a/gone"}


@pytest.mark.parametrize("limit", ["MAX_SNAPSHOT_FILES", "MAX_SNAPSHOT_BYTES"])
def test_too_much_is_refused(
    source: Path, root: int, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, limit, 1)
    for name in ("one", "two"):
        (source / name).write_text(name)
    with pytest.raises(SnapshotError):
        changed(root, b"one", b"two")


def test_what_is_neither_a_file_nor_a_link_is_refused(source: Path, root: int) -> None:
    os.mkfifo(source / "fifo")
    for name in (b"fifo", b"a"):
        with pytest.raises(SnapshotError):
            changed(root, name)


def test_nothing_is_copied_through_a_link(source: Path, root: int, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    (source / "link").symlink_to(tmp_path)
    assert changed(root, b"link/outside", present=[b"link/outside"]) == {b"link/outside"}


def test_an_empty_tree_has_nothing_but_the_directory() -> None:
    with empty_tree(b"a/b") as directory:
        found = [(top, names, files) for top, names, files, _ in os.fwalk(".", dir_fd=directory)]
    assert found == [(".", ["a"], []), ("./a", ["b"], []), ("./a/b", [], [])]
