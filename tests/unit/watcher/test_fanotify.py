"""The format of fanotify's events, as linux/fanotify.h has it, and real ones."""

import ctypes
import errno
import os
import re
import struct
from collections import Counter
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify, skip_without_ignore_marks

from pylsyncd.watcher import fanotify
from pylsyncd.watcher.fanotify import Event, Fanotify

KEY = b"fsid-123" + struct.pack("=Ii", 4, 1) + b"hndl"
KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
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


def test_what_was_renamed_is_told() -> None:
    child = struct.pack("=BBH", 1, 0, 4 + len(KEY)) + KEY
    chunk = event(fanotify.RENAME, info(10, KEY, b"old"), info(12, OTHER, b"new"), child)
    assert list(fanotify.decode_events(chunk)) == [
        Event(fanotify.RENAME, KEY, b"old", OTHER, b"new", KEY)
    ]


def test_an_overflow_and_records_of_other_kinds_have_no_name() -> None:
    unknown = struct.pack("=BBH", 99, 0, 8) + b"1234"
    chunk = event(fanotify.OVERFLOW) + event(fanotify.CREATE, unknown)
    masks = [fanotify.OVERFLOW, fanotify.CREATE]
    assert list(fanotify.decode_events(chunk)) == [Event(mask, b"", b"") for mask in masks]


def test_events_are_counted_by_the_bits_of_their_masks_as_inotify_has_them() -> None:
    counts: Counter[int] = Counter()
    rename = event(fanotify.RENAME | fanotify.IS_DIRECTORY, info(10, KEY, b"a"), info(12, KEY, b""))
    fanotify.count_events(event(4) + event(4) + event(10, info(2, KEY, b"x")) + rename, counts)
    moved = {bit | fanotify.IS_DIRECTORY: 1 for bit in (fanotify.MOVED_FROM, fanotify.MOVED_TO)}
    assert counts == {4: 2, 8: 1, 2: 1, **moved}


def test_the_events_of_a_chunk_are_counted() -> None:
    events = [event(4), event(4, info(2, KEY, b"a")), event(8, info(2, OTHER, b"a long name"))]
    for count in range(4):
        assert fanotify.number_of_events(b"".join(events[:count])) == count


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
        assert len(group.marked_devices()) == 1
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


@pytest.mark.skipif(KERNEL < (5, 17), reason="the kernel does not tell what was renamed")
def test_the_event_of_a_rename_tells_both_names_and_what_was_renamed(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    (tmp_path / "d/old").mkdir(parents=True)
    group, directory = Fanotify(), os.open(tmp_path, os.O_RDONLY)
    moved = os.open(tmp_path / "d/old", os.O_RDONLY)
    try:
        fsid = group.add_mark(directory)
        (tmp_path / "d/old").rename(tmp_path / "new")
        key, child = (fsid + fanotify.handle_of(each) for each in (directory, moved))
        events = [
            event
            for chunk in iter(group.read, b"")
            for event in fanotify.decode_events(chunk)
            if event.mask & fanotify.RENAME and event.new_directory == key
        ]
        assert group.tells_children
    finally:
        os.close(moved)
        os.close(directory)
        group.close()
    (event,) = events
    assert event.mask & fanotify.IS_DIRECTORY
    assert (event.name, event.new_name, event.child) == (b"old", b"new", child)


def test_the_events_that_wait_are_counted(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    group, directory = Fanotify(), os.open(tmp_path, os.O_RDONLY)
    try:
        group.add_mark(directory)
        for number in range(3):
            (tmp_path / f"{number}").touch()
        least = group.pending_events()
        read = sum(fanotify.number_of_events(chunk) for chunk in iter(group.read, b""))
    finally:
        os.close(directory)
        group.close()
    # Others may use the same file system.
    assert 3 <= least <= read


def test_a_bad_handle_is_an_error_that_says_why(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    directory = os.open(tmp_path, os.O_RDONLY)
    handle = bytearray(fanotify.handle_of(directory))
    handle[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(OSError, match="Stale"):
        fanotify.open_handle(directory, bytes(handle))
    os.close(directory)


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_a_handle_is_opened_again_while_its_inode_number_is_being_given_to_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    skip_without_fanotify(tmp_path)
    directory = os.open(tmp_path, os.O_RDONLY)
    handle = fanotify.handle_of(directory)
    open_by_handle_at = ctypes.CDLL(None, use_errno=True).open_by_handle_at
    attempts: list[int] = []

    def fail_first(*arguments: object) -> int:
        attempts.append(0)
        if len(attempts) > failures:
            return int(open_by_handle_at(*arguments))
        ctypes.set_errno(errno.ENOMEM)
        return -1

    monkeypatch.setattr(fanotify, "_find", lambda *_: fail_first)
    opened = fanotify.open_handle(directory, handle)
    assert os.path.samestat(os.fstat(opened), os.fstat(directory))
    os.close(opened)
    attempts, failures = [], 1000
    with pytest.raises(OSError, match="Cannot allocate memory"):
        fanotify.open_handle(directory, handle)
    os.close(directory)


def test_a_handle_opens_a_directory_as_a_path_and_nothing_else(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    # To open it for reading would wait for a writer.
    os.mkfifo(tmp_path / "fifo")
    directory, fifo = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "fifo", os.O_PATH)
    with pytest.raises(NotADirectoryError):
        fanotify.open_handle(directory, fanotify.handle_of(fifo))
    opened = fanotify.open_handle(directory, fanotify.handle_of(directory))
    assert os.path.samestat(os.fstat(opened), tmp_path.stat())
    with pytest.raises(OSError, match="Bad file"):
        os.listdir(opened)
    for each in (directory, fifo, opened):
        os.close(each)


def test_what_has_no_handle_is_an_error() -> None:
    directory = os.open("/proc/self", os.O_RDONLY)
    with pytest.raises(OSError, match="not supported"):
        fanotify.handle_of(directory)
    os.close(directory)


def test_files_in_an_ignored_directory_have_no_events_but_moves(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    (tmp_path / "loud").mkdir()
    group = Fanotify()
    top, loud = (os.open(path, os.O_RDONLY) for path in (tmp_path, tmp_path / "loud"))
    try:
        group.add_mark(top)
        skip_without_ignore_marks(group, loud)
        handle = fanotify.handle_of(loud)
        (tmp_path / "loud/file").write_text("x")
        (tmp_path / "loud/directory").mkdir()
        (tmp_path / "loud/file").rename(tmp_path / "moved")
        found = {(event.name, event.new_name) for event in _events(group, handle)}
        assert found == {(b"directory", b""), (b"file", b"moved")}
        group.ignore_nothing()
        (tmp_path / "loud/file").write_text("x")
        assert {event.name for event in _events(group, handle)} == {b"file"}
    finally:
        for descriptor in (top, loud):
            os.close(descriptor)
        group.close()


def _events(group: Fanotify, handle: bytes) -> list[Event]:
    """Return the events of one directory: others may use the same file system."""
    return [
        event
        for chunk in iter(group.read, b"")
        for event in fanotify.decode_events(chunk)
        if event.directory[fanotify.FSID_SIZE :] == handle
    ]
