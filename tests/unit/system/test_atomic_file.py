"""A reader of an atomic file gets the old content or the new, and trouble is logged once."""

import logging
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from pylsyncd.system.atomic_file import AtomicFile

MODE = 0o644


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


def atomic_file(path: Path) -> AtomicFile:
    return AtomicFile(os.fsencode(path), "status file", MODE)


def test_a_file_has_its_mode_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic_file(path).write(b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == MODE
    assert os.listdir(path.parent) == [path.name]


def test_the_time_of_the_last_write_is_kept_beside_a_later_failure(path: Path) -> None:
    file = atomic_file(path)
    assert file.written_at is None
    before = time.time()
    file.write(b"new")
    written_at = file.written_at
    assert written_at is not None
    assert before <= written_at <= time.time()
    path.unlink()
    path.mkdir()
    file.write(b"newer")
    assert file.written_at == written_at


def test_a_reader_never_gets_a_part(path: Path) -> None:
    file = atomic_file(path)
    contents = {bytes([letter]) * 100_000 for letter in b"ab"}
    file.write(min(contents))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert path.read_bytes() in contents
    finally:
        stop.set()
        writer.join()


def test_a_symbolic_link_is_replaced_and_its_target_is_not_written(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("x")
    path.symlink_to(tmp_path / "precious")
    atomic_file(path).write(b"new")
    assert (tmp_path / "precious").read_text() == "x"
    assert not path.is_symlink()


def test_a_failure_is_logged_once_and_so_is_its_end(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = atomic_file(path / "below")
    file.write(b"lost")
    file.write(b"lost, too")
    path.mkdir()
    file.write(b"written")
    file.write(b"written, too")
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "status.json/below cannot be written: No such file or directory" in caplog.text
    assert "status.json/below is written again" in caplog.text


def test_only_old_temporary_files_of_this_file_are_removed(path: Path) -> None:
    old = f".{path.name}.0123456789abcdef.tmp"
    kept = {
        f".{path.name}.fedcba9876543210.tmp",
        f".{path.name}.short.tmp",
        ".other.0123456789abcdef.tmp",
    }
    for name in (old, *kept):
        (path.parent / name).touch()
    hour_ago = time.time() - 3600
    for name in kept | {old}:
        if "fedc" not in name:
            os.utime(path.parent / name, (hour_ago, hour_ago))
    atomic_file(path).remove_temporary_files()
    assert set(os.listdir(path.parent)) == kept


def test_in_a_missing_directory_there_is_nothing_to_remove(path: Path) -> None:
    atomic_file(path / "below").remove_temporary_files()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_no_link_of_another_user_leads_the_file_to_another_directory(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path.parent / "elsewhere").mkdir()
    link = path.parent / "link"
    link.symlink_to("elsewhere")
    file = atomic_file(link / path.name)
    file.write(b"followed")
    assert os.listdir(path.parent / "elsewhere") == [path.name]
    os.chown(link, 65534, 65534, follow_symlinks=False)
    file.write(b"not followed")
    assert (path.parent / "elsewhere" / path.name).read_bytes() == b"followed"
    assert "symbolic link that other users may change" in caplog.text
