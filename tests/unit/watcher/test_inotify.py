"""The events of real directories, and their number by type."""

import os
import sys
from collections import Counter
from pathlib import Path

import pyinotify
import pytest
from support import processes
from support.limits import no_more_descriptors

from pylsyncd.model.errors import WatchError
from pylsyncd.system.working_directory import own_working_directory
from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify import Inotify

MAKES_DIRECTORIES = """
import os, sys
for number in range(int(sys.argv[1])):
    os.mkdir(str(number))
"""
MANY = 15_000


def test_no_event_is_lost_while_a_directory_is_watched_again(tmp_path: Path) -> None:
    # At most the number of events that the queue can hold.
    count = min(MANY, inotify.read_limit("max_queued_events") - 1)
    directory = os.open(tmp_path, os.O_RDONLY)
    notify = Inotify()
    try:
        first = notify.add_watch(directory)
        command = [sys.executable, "-c", MAKES_DIRECTORIES, str(count)]
        with processes.running_process(command, cwd=tmp_path) as writer:
            while writer.poll() is None:
                assert {notify.add_watch(directory) for _ in range(1000)} == {first}
        chunks = b"".join(iter(notify.read, b""))
    finally:
        notify.close()
        os.close(directory)
    assert len({name for _, _, name in inotify.decode_events(chunks)}) == count


def test_a_directory_is_the_same_by_its_descriptor_and_by_going_there(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    file = os.open(tmp_path / "file", os.O_CREAT)
    notify = Inotify()
    try:
        wd = notify.add_watch(directory)
        with own_working_directory():
            assert notify.add_watch(directory) == notify.identify(directory) == wd
            with pytest.raises(NotADirectoryError):
                notify.add_watch(file)
    finally:
        notify.close()
        os.close(directory)
        os.close(file)


def test_a_subdirectory_is_watched_by_its_name_unless_it_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("below")
    directory, below = (os.open(each, os.O_RDONLY) for each in (tmp_path, tmp_path / "below"))
    notify = Inotify()

    def check() -> None:
        assert notify.add_watch_at(directory, b"below") == notify.identify(below)
        with pytest.raises(NotADirectoryError):
            notify.add_watch_at(directory, b"link")
        with pytest.raises(FileNotFoundError):
            notify.add_watch_at(directory, b"gone")

    try:
        check()
        with own_working_directory():
            check()
        (tmp_path / "below/file").touch()
        assert [name for _, _, name in inotify.decode_events(notify.read())] == [b"file"] * 2
    finally:
        notify.close()
        os.close(directory)
        os.close(below)


def counted(directory: Path, work: str) -> dict[str, int]:
    """Return the events by type that a shell command causes in a watched directory."""
    notify = Inotify()
    masks: Counter[int] = Counter()
    try:
        opened = os.open(directory, os.O_RDONLY)
        notify.add_watch(opened)
        os.close(opened)
        assert os.system(f"cd '{directory}' && {work}") == 0  # noqa: S605  # a constant command
        while chunk := notify.read():
            inotify.count_events(chunk, masks)
    finally:
        notify.close()
    return {name: number for name, number in inotify.events_by_type(masks).items() if number}


def test_events_are_counted_by_type(tmp_path: Path) -> None:
    work = "echo >a; echo >>a; chmod 600 a; mv a b; rm b"
    assert counted(tmp_path, work) == {
        "CREATE": 1, "MODIFY": 2, "CLOSE_WRITE": 2, "ATTRIB": 1, "MOVED_FROM": 1, "MOVED_TO": 1,
        "DELETE": 1,
    }  # fmt: skip


def test_events_of_directories_and_long_names_are_counted(tmp_path: Path) -> None:
    long = 255 * "x"
    assert counted(tmp_path, f"mkdir d {long}; rmdir d {long}") == {"CREATE": 2, "DELETE": 2}


def test_the_events_at_the_end_of_a_watch_are_counted(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    found = counted(tmp_path / "d", "rmdir ../d")
    assert found == {"DELETE_SELF": 1, "IGNORED": 1}


def test_the_counts_of_several_chunks_add_up() -> None:
    chunk = inotify.EVENT_HEADER.pack(1, inotify.CREATE, 0, 16) + b"name".ljust(16, b"\0")
    overflow = inotify.EVENT_HEADER.pack(-1, inotify.OVERFLOW, 0, 0)
    masks: Counter[int] = Counter()
    for each in (chunk + overflow + chunk, b"", chunk):
        inotify.count_events(each, masks)
    found = inotify.events_by_type(masks)
    assert (found["CREATE"], found["Q_OVERFLOW"]) == (3, 1)


def test_all_event_types_are_listed_with_zero() -> None:
    found = inotify.events_by_type({})
    assert set(found.values()) == {0}
    assert {"CREATE", "MODIFY", "CLOSE_WRITE", "UNMOUNT", "Q_OVERFLOW"} < found.keys()
    assert not [name for name in found if "|" in name]


def test_without_inotify_or_a_descriptor_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The kernel has the same error for the limit of instances.
    message = "instance: Too many open files"
    with no_more_descriptors(), pytest.raises(WatchError, match=message):
        Inotify()
    monkeypatch.setattr(pyinotify.INotifyWrapper, "create", lambda: None)
    with pytest.raises(WatchError, match="is not available"):
        Inotify()


def test_a_chunk_is_full_if_no_other_event_may_fit() -> None:
    assert not Inotify.is_full(b"\0" * (65536 - 16 - 256))
    assert Inotify.is_full(b"\0" * (65536 - 16 - 256 + 1))


def test_the_message_about_the_limit_names_how_many_are_needed_and_what_to_run() -> None:
    limit = inotify.read_limit("max_user_watches")
    message = inotify.watch_limit_message(99, limit)
    assert f" 99 directories are watched here, {limit} more need a watch" in message
    setting = f"fs.inotify.max_user_watches={4 * limit}"
    assert f"`sysctl -w {setting}`" in message
    assert f"`echo {setting} >> /etc/sysctl.d/60-pylsyncd.conf`" in message


def test_the_message_about_the_limit_names_a_larger_one() -> None:
    limit = inotify.read_limit("max_user_watches")
    assert f"max_user_watches={2 * limit}" in inotify.watch_limit_message(0)
    assert f"max_user_watches={4 * limit}" in inotify.watch_limit_message(2 * limit)
    assert f" {2 * limit} directories are watched here" in inotify.watch_limit_message(2 * limit)
