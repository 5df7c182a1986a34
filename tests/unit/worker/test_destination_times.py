"""A destination that does not keep nanoseconds is found by its copies, and compared accordingly."""

import contextlib
import logging
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.disks import Disk, requires
from support.mounts import Mounts
from support.waiting import wait_until
from support.worker_setup import WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync import version
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.destination_times import window_of
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer

SECOND = 10**9


@pytest.mark.parametrize(
    ("times", "window"),
    [
        ([], None),
        ([(5 * SECOND + 7, 5 * SECOND + 7)], -1),
        ([(5 * SECOND + 7, 5 * SECOND)], 0),
        ([(5 * SECOND + 712, 5 * SECOND + 700)], 0),
        ([(5 * SECOND + 7, 4 * SECOND)], 1),
        ([(5 * SECOND + 7, 6 * SECOND), (8 * SECOND + 7, 8 * SECOND)], 1),
        ([(5 * SECOND + 7, 7 * SECOND)], 2),
        # One exact copy shows that the others differ for another reason.
        ([(5 * SECOND + 7, 5 * SECOND), (8 * SECOND + 7, 8 * SECOND + 7)], -1),
        ([(5 * SECOND + 7, 5 * SECOND + 8)], None),
        ([(5 * SECOND + 7, 4 * SECOND + 500)], None),
        ([(5 * SECOND + 7, 9 * SECOND)], None),
    ],
)
def test_the_smallest_window_that_explains_all_copies_counts(
    times: Sequence[tuple[int, int]], window: int | None
) -> None:
    assert window_of(times) == window


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path)) as place:
        write(place, "a", "d/b")
        yield place


def write(place: WorkerSetup, *names: str) -> None:
    place.write(*names)
    for number, name in enumerate(names, 1):
        # The ctime must be older than a run that is to tell something about the file.
        os.utime(place.source / name, ns=(number * SECOND + 1, number * SECOND + 123_456_789))


def wait_for_ticks(place: WorkerSetup) -> None:
    """Let the clock of the kernel run on, so that the files are older than the next run."""
    marker = place.source / "d/b"
    changed = marker.stat().st_ctime_ns
    probe = place.copy.parent / "probe"
    probe.touch()
    while probe.stat().st_ctime_ns < changed + 40_000_000:
        probe.touch()


def keep_seconds(place: WorkerSetup, runs: int) -> None:
    """Let the next runs end with copies that have times of whole seconds."""
    copy = shlex.quote(str(place.copy))
    touch = 'touch -d @$(stat -c %Y "$1") "$1"'
    for _ in range(runs):
        place.faulty.add_fault(
            f'{place.faulty.real_rsync} "$@"; code=$?\n'
            f"find {copy} -type f -exec sh -c '{touch}' _ {{}} \\;\n"
            "exit $code"
        )


def windows(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the windows of all commands that were run."""
    commands = [record.message for record in caplog.records if "running: " in record.message]
    return [
        word.partition("=")[2]
        for command in commands
        for word in command.split()
        if "--modify-window=" in word
    ]


def test_a_local_destination_with_seconds_is_told_once_and_receives_no_file_twice(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wait_for_ticks(place)
    keep_seconds(place, 1)
    transfer = place.transfer(place.session())
    transfer.carry(EVERYTHING)
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "Set modify_window = 0 for it" in told[0]
    result = transfer.carry(EVERYTHING)
    assert result.run is not None
    assert result.run.result.files == 0
    assert windows(caplog) == ["-1", "0"]


def test_a_destination_with_exact_times_is_compared_exactly(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wait_for_ticks(place)
    transfer = place.transfer(place.session())
    transfer.carry(entries(b"a"))
    # Whatever others do to the copies afterwards.
    keep_seconds(place, 1)
    transfer.carry(EVERYTHING)
    transfer.carry(EVERYTHING)
    assert windows(caplog) == ["-1", "-1", "-1"]


def test_a_file_that_changed_since_the_run_tells_nothing(place: WorkerSetup) -> None:
    wait_for_ticks(place)
    transfer = place.transfer(place.session())
    source, copy = (shlex.quote(str(top / "a")) for top in (place.source, place.copy))
    place.faulty.add_fault(
        f'{place.faulty.real_rsync} "$@"; touch -d @9.5 {source}; touch -d @9 {copy}; exit 0'
    )
    transfer.carry(entries(b"a"))
    assert transfer.options.modify_window is None


@requires("ext4")
def test_a_file_system_with_inodes_of_128_bytes_keeps_seconds(
    place: WorkerSetup, tmp_path: Path
) -> None:
    wait_for_ticks(place)
    with Disk(tmp_path / "image", "ext4", "-I", "128") as disk, Mounts() as mounts:
        mounts.mount_device(disk.attach(), place.copy)
        transfer = place.transfer(place.session())
        transfer.carry(EVERYTHING)
        assert transfer.options.modify_window == 0
        result = transfer.carry(EVERYTHING)
        assert result.run is not None
        assert result.run.result.files == 0


def remote_transfer(place: WorkerSetup, *, keeps_seconds: bool) -> Transfer:
    """Return a transfer by a remote shell to the copy."""
    shell = place.copy.parent / "shell"
    copy = shlex.quote(str(place.copy))
    touch = 'touch -d @$(stat -c %Y "$1") "$1"'
    floor = f"find {copy} -type f -exec sh -c '{touch}' _ {{}} \\;" if keeps_seconds else ""
    shell.write_text(f'#!/bin/sh\nshift\nsh -c "$*"; code=$?\n{floor}\nexit $code\n')
    shell.chmod(0o755)
    target = b"host:" + os.fsencode(place.copy) + b"/"
    destination = Destination("copy", "host:", Transport.SHELL, "host", target)
    options = RsyncOptions("rsync", version.rsync_version("rsync"), rsh=str(shell), share_ssh=False)
    return Transfer(RsyncSession(destination, options), place.guard, DestinationGuard(None))


@pytest.mark.parametrize(("keeps_seconds", "window"), [(True, 0), (False, None)])
def test_a_remote_destination_is_asked_once_equal_files_were_sent_again(
    place: WorkerSetup, window: int | None, *, keeps_seconds: bool
) -> None:
    for name in ("a", "d/b"):
        (place.source / name).write_bytes(b"x" * 5000)
    write_times = [(place.source / name, number) for number, name in enumerate(("a", "d/b"), 1)]
    for path, number in write_times:
        os.utime(path, ns=(1, number * SECOND + 123_456_789))
    wait_for_ticks(place)
    transfer = remote_transfer(place, keeps_seconds=keeps_seconds)
    transfer.carry(EVERYTHING)
    assert transfer.options.modify_window is None
    if not keeps_seconds:
        # Another program has touched a copy.
        os.utime(place.copy / "a", (1, 1))
    result = transfer.carry(EVERYTHING)
    assert result.run is not None
    assert result.run.result.files == (2 if keeps_seconds else 1)
    assert transfer.options.modify_window == window
    result = transfer.carry(EVERYTHING)
    assert result.run is not None
    assert result.run.result.files == 0


def test_a_window_that_was_set_is_kept(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wait_for_ticks(place)
    keep_seconds(place, 1)
    session = place.session()
    session.options = replace(session.options, modify_window=1)
    place.transfer(session).carry(EVERYTHING)
    assert windows(caplog) == ["1"]
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_a_content_that_changes_within_the_window_is_compared(place: WorkerSetup) -> None:
    session = place.session()
    session.options = replace(session.options, modify_window=0)
    transfer = place.transfer(session)
    (place.source / "a").write_text("one")
    transfer.carry(entries(b"a"))
    written = session.statistics.latest_carried_ns + SECOND // 10
    (place.source / "a").write_text("two")
    os.utime(place.source / "a", ns=(written, written))
    seconds = written // SECOND
    os.utime(place.copy / "a", (seconds, seconds))
    wait_until(lambda: time.time_ns() > written)
    changes = MutableChangeset()
    changes.add_new_content(b"a", Scope.ENTRY)
    transfer.carry(changes)
    assert (place.copy / "a").read_text() == "two"
