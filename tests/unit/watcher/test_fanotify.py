"""The format of fanotify's events, as linux/fanotify.h has it, and real ones."""

import os
import struct
from collections import Counter
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify

from pylsyncd.watcher import fanotify
from pylsyncd.watcher.fanotify import Event, Fanotify

KEY = b"fsid-123" + struct.pack("=Ii", 4, 1) + b"hndl"
OTHER = b"fsid-123" + struct.pack("=Ii", 6, 1) + b"handle"


def info(kind: int, key: bytes, name: bytes) -> bytes:
    content = key + name + b"\0"
    content = content.ljust(-(-len(content) // 4) * 4, b"\0")
    return struct.pack("=BBH", kind, 0, 4 + len(content)) + content


def event(mask: int, *infos: bytes) -> bytes:
    length = 24 + sum(map(len, infos))
    return struct.pack("=IBBHQii", length, 3, 0, 24, mask, -1, 7) + b"".join(infos)


def test_each_event_has_the_key_of_its_directory_and_its_name() -> None:
    chunk = event(fanotify.CREATE, info(2, KEY, b"a name")) + event(
        fanotify.MODIFY | fanotify.CLOSE_WRITE, info(2, OTHER, b"\xff\n")
    )
    assert list(fanotify.decode_events(chunk)) == [
        Event(fanotify.CREATE, KEY, b"a name"),
        Event(fanotify.MODIFY | fanotify.CLOSE_WRITE, OTHER, b"\xff\n"),
    ]


def test_a_rename_has_both_names() -> None:
    chunk = event(fanotify.RENAME, info(10, KEY, b"old"), info(12, OTHER, b"new"))
    assert list(fanotify.decode_events(chunk)) == [
        Event(fanotify.RENAME, KEY, b"old", OTHER, b"new")
    ]


def test_an_overflow_and_records_of_other_kinds_have_no_name() -> None:
    unknown = struct.pack("=BBH", 99, 0, 8) + b"1234"
    chunk = event(fanotify.OVERFLOW) + event(fanotify.CREATE, unknown)
    masks = [fanotify.OVERFLOW, fanotify.CREATE]
    assert list(fanotify.decode_events(chunk)) == [Event(mask, b"", b"") for mask in masks]


def test_events_are_counted_by_their_masks() -> None:
    counts: Counter[int] = Counter()
    fanotify.count_events(event(4) + event(4) + event(8, info(2, KEY, b"x")), counts)
    assert counts == {4: 2, 8: 1}


def test_a_mask_has_names() -> None:
    assert fanotify.mask_names(fanotify.CREATE | fanotify.IS_DIRECTORY) == "CREATE|ISDIR"


def test_one_mark_reports_what_happens_anywhere_on_the_file_system(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    group = Fanotify()
    try:
        directory = os.open(tmp_path, os.O_RDONLY)
        group.add_mark(directory)
        assert group.count_marks() == 1
        (deep / "file").write_text("x")
        found = {
            name: key
            for chunk in iter(group.read, b"")
            for mask, key, name, *_ in fanotify.decode_events(chunk) if mask & fanotify.CREATE
        }  # fmt: skip
        opened = fanotify.open_handle(directory, found[b"file"][fanotify.FSID_SIZE :])
        assert os.readlink(f"/proc/self/fd/{opened}") == str(deep)
        assert fanotify.handle_of(opened) == found[b"file"][fanotify.FSID_SIZE :]
        os.close(opened)
        os.close(directory)
    finally:
        group.close()


def test_a_bad_handle_is_an_error_that_says_why(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    directory = os.open(tmp_path, os.O_RDONLY)
    handle = bytearray(fanotify.handle_of(directory))
    handle[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(OSError, match="Stale"):
        fanotify.open_handle(directory, bytes(handle))
    os.close(directory)
