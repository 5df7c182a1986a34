"""The status file is complete at any time, and its age shows whether the daemon lives."""

import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, NOW, destination, status
from support.waiting import wait_until

from pylsyncd.control.protocol import NoDaemonError, NotPermittedError
from pylsyncd.control.status_file import StatusFileWriter, read_status_file
from pylsyncd.model.errors import StateError
from pylsyncd.model.status import Status
from pylsyncd.system.atomic_file import AtomicFile

MODE = 0o640


class ChangingStatus:
    """The status that the file shows, with the present time."""

    def __init__(self) -> None:
        self.status = IN_SYNC_STATUS

    def __call__(self) -> Status:
        return replace(self.status, time=time.time())


@pytest.fixture
def changing() -> ChangingStatus:
    return ChangingStatus()


def status_file(path: Path) -> AtomicFile:
    return AtomicFile(os.fsencode(path), "status file", MODE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


@pytest.fixture
def writer(path: Path, changing: ChangingStatus) -> Iterator[StatusFileWriter]:
    failed: list[str] = []
    made = StatusFileWriter(
        status_file(path), changing, failed.append, max_age=0.5, check_interval=0.01
    )
    yield made
    made.stop()
    assert failed == []


def test_the_file_holds_the_status_and_has_its_mode_whatever_the_umask(
    path: Path, writer: StatusFileWriter
) -> None:
    before = os.umask(0o077)
    try:
        writer.start()
        wait_until(path.exists)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == MODE
    assert replace(read_status_file(str(path)), time=NOW) == IN_SYNC_STATUS
    assert path.read_text().endswith("}\n")


def test_an_unchanged_status_is_written_again_when_the_file_is_too_old(
    path: Path, writer: StatusFileWriter
) -> None:
    writer.start()
    wait_until(path.exists)
    first = read_status_file(str(path)).time
    wait_until(lambda: read_status_file(str(path)).time > first)
    assert read_status_file(str(path)).time >= first + 0.4


def test_a_relevant_change_is_written_at_once_and_counters_only_at_the_end(
    path: Path, changing: ChangingStatus, tmp_path: Path
) -> None:
    writer = StatusFileWriter(
        status_file(path), changing, lambda _: None, max_age=3600.0, check_interval=0.01
    )
    writer.start()
    try:
        wait_until(path.exists)
        changing.status = MIXED_STATUS
        wait_until(lambda: len(read_status_file(str(path)).syncs[0].destinations) == 5)
        before = path.stat().st_ino
        changing.status = replace(MIXED_STATUS, watch_limit=7)
        changing.status = status(
            *(replace(each, behind=9.0) for each in MIXED_STATUS.syncs[0].destinations)
        )
    finally:
        writer.stop()
    # Ages and limits were written by the stop only.
    assert path.stat().st_ino != before
    assert {each.behind for each in read_status_file(str(path)).syncs[0].destinations} == {9.0}
    assert os.listdir(tmp_path) == ["status.json"]


def test_the_end_of_the_daemon_is_written(path: Path, writer: StatusFileWriter) -> None:
    writer.start()
    wait_until(path.exists)
    assert read_status_file(str(path)).stopped is None
    writer.stop()
    assert read_status_file(str(path)).stopped is None
    before = time.time()
    writer.report_stopped()
    found = read_status_file(str(path))
    assert found.stopped == found.time >= before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_user_who_may_not_read_the_file_is_told_what_to_do() -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.seteuid(65534)
        try:
            with pytest.raises(
                NotPermittedError, match=r"65534 may not read .* sudo, .*--status-file-mode=0644"
            ):
                read_status_file(file.name)
        finally:
            os.seteuid(0)


def test_a_reader_sees_a_complete_status_at_any_time(path: Path, changing: ChangingStatus) -> None:
    changing.status = status(*(destination(f"srv{number}") for number in range(300)))
    writer = StatusFileWriter(
        status_file(path), changing, lambda _: None, max_age=0.0, check_interval=0.0
    )
    writer.start()
    try:
        wait_until(path.exists)
        seen = set()
        while len(seen) < 20:
            seen.add(read_status_file(str(path)).time)
    finally:
        writer.stop()


def test_a_symbolic_link_is_replaced_and_not_followed(
    path: Path, tmp_path: Path, writer: StatusFileWriter
) -> None:
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    writer.start()
    wait_until(lambda: not path.is_symlink())
    assert (tmp_path / "precious").read_text() == "precious"
    assert read_status_file(str(path)).pid == IN_SYNC_STATUS.pid


def test_a_failure_to_write_is_logged_once_and_so_is_its_end(
    tmp_path: Path, changing: ChangingStatus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "later/status.json"
    asked = threading.Semaphore(0)

    def counted() -> Status:
        asked.release()
        return changing()

    writer = StatusFileWriter(
        status_file(path), counted, lambda _: None, max_age=0.0, check_interval=0.0
    )
    writer.start()
    try:
        for _ in range(10):
            assert asked.acquire(timeout=60)
        path.parent.mkdir()
        wait_until(path.exists)
        wait_until(lambda: "is written again" in caplog.text)
    finally:
        writer.stop()
    assert [record.getMessage() for record in caplog.records] == [
        f"The status file {path} cannot be written: No such file or directory. Retrying.",
        f"The status file {path} is written again.",
    ]


def test_old_temporary_files_are_removed_and_nothing_else(
    path: Path, tmp_path: Path, writer: StatusFileWriter
) -> None:
    left = tmp_path / f".status.json.{'0' * 16}.tmp"
    others = [
        tmp_path / f".status.json.{'1' * 16}.tmp",
        tmp_path / f".statusXjson.{'0' * 16}.tmp",
        tmp_path / ".status.json.tmp",
    ]
    for each in (left, *others):
        each.touch()
        if each != others[0]:  # The first one is of a writer that is running.
            os.utime(each, (1.0, 1.0))
    writer.start()
    wait_until(path.exists)
    assert set(tmp_path.iterdir()) >= set(others)
    assert not left.exists()


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        (lambda _: None, NoDaemonError, "There is no status file .*--status-file="),
        (lambda path: path.mkdir(), StateError, "is not a regular file"),
        (os.mkfifo, StateError, "is not a regular file"),
        (lambda path: path.write_text("{}"), StateError, "not a status file of pylsyncd: it lacks"),
        (lambda path: path.write_text("\0"), StateError, "not a status file of pylsyncd: it is no"),
    ],
)
def test_an_unreadable_status_file_is_an_error_with_the_reason(
    path: Path, make: Callable[[Path], object], kind: type[Exception], reason: str
) -> None:
    make(path)
    with pytest.raises(kind, match=reason):
        read_status_file(str(path))
