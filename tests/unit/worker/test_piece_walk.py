"""The source becomes pieces: all of it that is not excluded, and no symlink is followed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline import tree_parts
from pylsyncd.pipeline.tree_parts import ENTRY_WEIGHT, Piece, TreePart
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.worker import piece_walk
from pylsyncd.worker.piece_walk import PieceWalk


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    source = tmp_path / "source"
    for path in ("a/b", "c", "empty"):
        (source / path).mkdir(parents=True)
    for path in ("f", "a/f", "a/b/f", "c/f"):
        (source / path).write_text(path)
    return source


def pieces_of(
    source: Path,
    rules: Rules | None = None,
    left_out: frozenset[bytes] = frozenset(),
    *,
    preserves_links: bool = False,
) -> list[Piece]:
    found: list[Piece] = []
    walk = PieceWalk(
        rules or Rules(), left_out, preserves_links=preserves_links, on_piece=found.append
    )
    root = os.open(source, os.O_RDONLY)
    try:
        walk.run(root)
    finally:
        os.close(root)
    return found


def changes_of(pieces: list[Piece]) -> set[Change]:
    return set(TreePart(tuple(pieces)).changes())


def listings(*some: bytes) -> set[Change]:
    return {Change(path, Scope.LISTING) for path in some}


def test_every_directory_is_a_piece_with_the_weight_of_its_files(source: Path) -> None:
    found = {piece.directory: piece for piece in pieces_of(source)}
    assert changes_of([*found.values()]) == listings(b"", b"a", b"a/b", b"c", b"empty")
    assert found[b"a/b"].weight == 2 * ENTRY_WEIGHT + len("a/b/f")


def test_what_is_excluded_or_left_out_is_not_entered(source: Path) -> None:
    rules = build_rules([parse_exclude(b"/c/")])
    found = changes_of(pieces_of(source, rules, frozenset([b"a/b"])))
    assert found == listings(b"", b"a", b"empty")


def test_a_symlink_is_an_entry_of_its_directory(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "c/link").symlink_to(outside)
    (source / "loop").symlink_to(".")
    assert changes_of(pieces_of(source)) == listings(b"", b"a", b"a/b", b"c", b"empty")


def test_a_large_directory_is_divided(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_parts, "MIN_PART_WEIGHT", 3 * ENTRY_WEIGHT)
    for number in range(3):
        (source / f"c/{number}").touch()
    (source / "c/dangling").symlink_to("nowhere")
    (source / "c/to a directory").symlink_to("../a")
    found = [piece for piece in pieces_of(source) if piece.directory == b"c"]
    assert [len(piece.names or ()) for piece in found] == [2, 2, 2]
    names = {name for piece in found for name in piece.names or ()}
    assert names == {b"f", b"0", b"1", b"2", b"dangling", b"to a directory"}


def test_a_file_that_is_deleted_during_the_walk_is_in_no_piece(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_parts, "MIN_PART_WEIGHT", 2 * ENTRY_WEIGHT)
    for number in range(5):
        (source / f"c/{number}").touch()
    found: list[Piece] = []

    def add(piece: Piece) -> None:
        found.append(piece)
        # The walk has the names of all others already.
        for path in (source / "c").iterdir():
            path.unlink()

    walk = PieceWalk(Rules(), frozenset(), preserves_links=False, on_piece=add)
    root = os.open(source / "c", os.O_RDONLY)
    walk.run(root)
    os.close(root)
    assert [len(piece.names or ()) for piece in found] == [1]


def test_one_name_of_a_file_is_in_a_piece_if_links_are_preserved(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(source / "f", source / "c/link")
    os.link(source / "f", source / "a/link")
    everything = listings(b"", b"a", b"a/b", b"c", b"empty")
    assert changes_of(pieces_of(source)) == everything
    found = changes_of(pieces_of(source, preserves_links=True))
    assert found == everything - listings(b"a", b"c") | {
        Change(b"a/f", Scope.ENTRY),
        Change(b"c/f", Scope.ENTRY),
    }
    monkeypatch.setattr(piece_walk, "MAX_LINKED_FILES", 0)
    found = changes_of(pieces_of(source, preserves_links=True))
    assert not found & (listings(b"") | {Change(b"f", Scope.ENTRY)})


def test_one_of_two_names_is_in_a_piece_if_links_are_preserved(source: Path) -> None:
    os.link(source / "a/b/f", source / "a/b/g")
    (piece,) = [
        piece for piece in pieces_of(source, preserves_links=True) if piece.directory == b"a/b"
    ]
    assert piece.names in ({b"f"}, {b"g"})


def test_the_longest_paths_of_a_list_are_in_a_piece(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piece_walk, "MAX_LISTED_PATH_BYTES", 6)
    for name in ("nnnn", "nnnnn"):
        (source / "c" / name).touch()
    for name in ("ddd", "dddd"):
        (source / "c" / name).mkdir()
    found = changes_of(pieces_of(source))
    assert found == listings(b"", b"a", b"a/b", b"empty", b"c/ddd") | {
        Change(b"c/f", Scope.ENTRY),
        Change(b"c/nnnn", Scope.ENTRY),
    }


def test_a_path_that_is_too_long_for_a_list_is_in_no_piece(source: Path) -> None:
    directory = os.open(source / "c", os.O_RDONLY)
    name = "n" * 250
    for _ in range(17):
        os.mkdir(name, dir_fd=directory)
        below = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    paths = [change.path for change in changes_of(pieces_of(source))]
    assert max(map(len, paths)) == len("c") + 16 * 251
