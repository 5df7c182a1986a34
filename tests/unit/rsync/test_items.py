"""The lines in which rsync says what it did are claims about paths, and are checked."""

import pytest

from pylsyncd.rsync.items import MAX_ITEMS, ItemCollector, ItemizedPath, parse_item, parse_items


@pytest.mark.parametrize(
    ("line", "path", "is_deleted", "is_new_directory"),
    [
        (">f+++++++++ a/f", b"a/f", False, False),
        (">f.st...... f", b"f", False, False),
        (".f...p..... f", b"f", False, False),
        (".d..t...... ./", b"", False, False),
        ("cd+++++++++ a/new/", b"a/new", False, True),
        ("*deleting   a/gone", b"a/gone", True, False),
        ("*deleting   a/gone/", b"a/gone", True, False),
        ("cL+++++++++ link -> ../target", b"link", False, False),
        ("hf+++++++++ b => a", b"b => a", False, False),
        (">f+++++++++ a -> b", b"a -> b", False, False),
        (r">f+++++++++ \#303\#244\#012", b"\xc3\xa4\n", False, False),
    ],
)
def test_an_item_has_its_path(
    line: str, path: bytes, is_deleted: bool, is_new_directory: bool
) -> None:
    item = parse_item(line)
    assert item is not None
    assert (item.path, item.is_deleted, item.is_new_directory) == (
        path, is_deleted, is_new_directory,
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sent 69 bytes  received 12 bytes",
        ">f+++++++++ ",
        ">f+++++++++ /etc/passwd",
        ">f+++++++++ ../x",
        "*deleting   a/../../x",
        r">f+++++++++ a\#000b",
        ">f+++++++++ " + "x" * 5_000,
    ],
)
def test_what_is_no_path_below_the_source_is_no_item(line: str) -> None:
    assert parse_item(line) is None
    assert parse_items([line, ">f+++++++++ f"]) == [ItemizedPath(b"f", False, False)]  # type: ignore[arg-type]  # noqa: FBT003


def test_the_collected_lines_are_bounded_and_all_are_counted() -> None:
    seen: list[str] = []
    items = ItemCollector(seen.append)
    for number in range(MAX_ITEMS + 5):
        items.add(f">f+++++++++ {number}")
    assert len(items.lines) == MAX_ITEMS
    assert items.count == len(seen) == MAX_ITEMS + 5
