"""Scenarios that need a daemon of their own: starts, stops, signals, windows, destinations."""

import os
import shutil
import time
from pathlib import Path

import pytest
from support.destinations import Destination, local, on_rsync_daemon, over_ssh
from support.operations import (
    append,
    chmod,
    exchange,
    fill,
    mkdir,
    move_in,
    outside,
    remove,
    remove_tree,
    rename,
    truncate_by_path,
    utime,
    write,
)
from support.replication import LONG_WINDOW, Replication
from support.servers import RsyncDaemon, SshServer
from support.trees import snapshot

pytestmark = pytest.mark.usefixtures("watched_by")

EQUALITY_TIMEOUT = 45.0  # seconds
LONG_AGO = 946_684_800_123_456_789


@pytest.fixture
def replication(tmp_path: Path) -> Replication:
    return Replication(tmp_path)


@pytest.fixture
def copy(tmp_path: Path) -> Destination:
    return local(tmp_path / "copy")


def test_without_initial_sync_only_what_changes_is_copied(
    replication: Replication, copy: Destination
) -> None:
    write("old", b"old")(replication.area)
    with replication.start(copy, options=("-d", "-w", LONG_WINDOW)) as running:
        write("new", b"new")(running.area)
        mkdir("d/e")(running.area)
        write("d/e/f", b"f")(running.area)
        running.flush_and_wait()
    assert set(snapshot(copy.path)) == {b"", b"new", b"d", b"d/e", b"d/e/f"}


@pytest.mark.both_methods
def test_changes_right_after_the_start_message_are_synced_with_the_first_window(
    replication: Replication, copy: Destination
) -> None:
    before = [mkdir("d"), write("d/changed"), write("d/deleted"), mkdir("empty")]
    for operation in before:
        operation(replication.area)
    shutil.copytree(replication.source, copy.path.decode(), copy_function=shutil.copy2)
    with replication.start(copy, options=("-d", "-w", "0.2")) as running:
        for operation in (
            append("d/changed", b"more"),
            remove("d/deleted"),
            rename("d", "empty/d"),
            mkdir("new/e"),
            write("new/e/f"),
        ):
            operation(running.area)
        running.expect_equal(EQUALITY_TIMEOUT)


@pytest.mark.both_methods
def test_changes_during_the_initial_sync_are_not_lost(
    replication: Replication, copy: Destination
) -> None:
    for operation in (mkdir("a"), mkdir("b"), fill("a", 1500, b"1"), fill("b", 1500, b"1")):
        operation(replication.area)
    starting = replication.start(copy, options=("-d", "-i", "-w", "0.1"), wait=False)
    with starting as running:
        running.daemon.wait_for("watching")
        for operation in (
            fill("b", 300, b"2"),
            rename("a", "c"),
            fill("c", 300, b"22"),
            mkdir("a"),
            remove_tree("b"),
            write("b", b"file"),
        ):
            operation(running.area)
        running.expect_equal(EQUALITY_TIMEOUT)


def test_a_burst_within_a_window_is_one_rsync(replication: Replication, copy: Destination) -> None:
    with replication.start(copy, options=("-d", "-i", "-w", "0.2")) as running:
        before = running.run_count
        # The window of a daemon that does not run does not end while they are written.
        with running.daemon.paused():
            for number in range(50):
                write(f"f{number}", b"%d" % number)(running.area)
        running.expect_equal(EQUALITY_TIMEOUT)
        assert running.run_count - before == 1, running.daemon.log_tail


def test_a_window_closes_although_changes_never_pause(
    replication: Replication, copy: Destination
) -> None:
    with replication.start(copy, options=("-d", "-i", "-w", "0.5")) as running:
        deadline = time.monotonic() + EQUALITY_TIMEOUT
        arrived = os.path.join(copy.path, b"first")
        write("first")(running.area)
        while not os.path.exists(arrived) and time.monotonic() < deadline:
            append("log", b"x")(running.area)
            time.sleep(0.02)  # the pace of writing
        assert os.path.exists(arrived), running.daemon.log_tail
        running.expect_equal(EQUALITY_TIMEOUT)


def test_attributes_of_the_source_itself_are_copied(
    replication: Replication, copy: Destination
) -> None:
    with replication.start(copy) as running:
        for operation in (write("f"), chmod("", 0o2750), utime("", LONG_AGO)):
            operation(running.area)
        running.daemon.flush()
        running.expect_equal(EQUALITY_TIMEOUT)
    root = snapshot(copy.path)[b""]
    assert (root.mode, root.mtime_ns) == (0o2750, LONG_AGO)


def test_each_of_four_destinations_gets_one_rsync(
    replication: Replication, tmp_path: Path, ssh_server: SshServer, rsync_daemon: RsyncDaemon
) -> None:
    destinations = (
        local(tmp_path / "one"),
        local(tmp_path / "two"),
        over_ssh(ssh_server, tmp_path / "three"),
        on_rsync_daemon(rsync_daemon, "rsyncd", tmp_path.name),
    )
    with replication.start(*destinations) as running:
        running.expect_equal(EQUALITY_TIMEOUT)
        before = running.run_count
        for operation in (mkdir("d/e"), write("d/e/f"), write("g"), mkdir("h")):
            operation(running.area)
        running.flush_and_wait()
        running.expect_equal(EQUALITY_TIMEOUT)
        assert running.run_count - before == 4, running.daemon.log_tail


def test_a_full_sync_repairs_changes_at_the_destination(
    replication: Replication, copy: Destination
) -> None:
    for operation in (mkdir("d"), write("d/f"), write("g")):
        operation(replication.area)
    with replication.start(copy) as running:
        running.expect_equal(EQUALITY_TIMEOUT)
        shutil.rmtree(os.path.join(copy.path, b"d"))
        Path(os.fsdecode(copy.path), "too much").write_text("x")
        running.daemon.full_sync()
        running.expect_equal(EQUALITY_TIMEOUT)


@pytest.mark.both_methods
def test_buffered_changes_are_synced_at_sigterm(
    replication: Replication, copy: Destination
) -> None:
    with replication.start(copy) as running:
        for operation in (mkdir("d/e"), fill("d/e", 500, b"x")):
            operation(running.area)
        running.daemon.stop()
    running.expect_equal(0)


def test_no_temporary_file_is_left_at_a_destination(
    replication: Replication, copy: Destination
) -> None:
    with replication.start(copy, options=("-d", "-i", "-w", "0.1")) as running:
        for size in range(20):
            write("f", b"x" * size * 100_000)(running.area)
        running.expect_equal(EQUALITY_TIMEOUT)
    assert os.listdir(copy.path) == [b"f"]


def test_the_directories_above_the_source_are_not_modified(tmp_path: Path) -> None:
    replication = Replication(tmp_path)
    mkdir("above/sub")(replication.area)
    write("above/sub/f", b"1")(replication.area)
    write("above/not-watched", b"1")(replication.area)
    copy = Destination(f"{tmp_path}/copy", os.fsencode(tmp_path / "copy"), "copy")
    source = f"{replication.source}/./above/sub"
    parent = tmp_path / "copy/above"
    parent.mkdir(parents=True, mode=0o700)
    os.utime(parent, ns=(LONG_AGO, LONG_AGO))
    with replication.start(copy, source=source) as running:
        os.utime(parent, ns=(LONG_AGO, LONG_AGO))
        write("above/sub/new", b"2")(running.area)
        append("above/sub/f", b"2")(running.area)
        running.flush_and_wait()
    assert set(snapshot(copy.path)) == {
        b"",
        b"above",
        b"above/sub",
        b"above/sub/f",
        b"above/sub/new",
    }
    status = parent.stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o700, LONG_AGO)


@pytest.mark.both_methods
def test_with_modify_a_file_that_is_never_closed_is_synced(
    replication: Replication, copy: Destination
) -> None:
    path = replication.source / "log"
    path.write_bytes(b"1")
    truncated = write("truncated", b"abcdef")
    truncated(replication.area)
    options = ("-d", "-i", "--modify", "-w", "0.2")
    with replication.start(copy, options=options) as running, path.open("ab", 0) as log:
        log.write(b"2")
        truncate_by_path("truncated", 3)(running.area)
        running.expect_equal(EQUALITY_TIMEOUT)


@pytest.mark.both_methods
def test_a_directory_that_was_moved_out_causes_no_runs(
    replication: Replication, copy: Destination
) -> None:
    for operation in (mkdir("d/e"), write("d/e/f")):
        operation(replication.area)
    with replication.start(copy) as running:
        os.rename(replication.source / "d", replication.outside / "d")
        running.flush_and_wait()
        running.expect_equal(0)
        before = running.run_count
        for operation in (write("d/e/f", b"2"), write("d/e/g"), mkdir("d/e/h")):
            outside(operation)(running.area)
        write("later")(running.area)
        running.flush_and_wait()
        running.expect_equal(0)
        assert running.run_count - before == 1, running.daemon.log_tail
        before = running.run_count
        move_in("d", "back")(running.area)
        running.flush_and_wait()
        running.expect_equal(0)
        assert running.run_count - before == 1, running.daemon.log_tail


def test_a_destination_that_does_not_answer_does_not_delay_another(
    replication: Replication, tmp_path: Path, copy: Destination
) -> None:
    unreachable = Destination(
        "rsync://127.0.0.1:9/none/", os.fsencode(tmp_path / "none"), "127.0.0.1"
    )
    with replication.start(copy, unreachable, wait=False) as running:
        running.daemon.wait_for(r"\[copy\] initial sync complete")
        write("f")(running.area)
        running.daemon.flush()
        running.destinations = (copy,)
        running.expect_equal(EQUALITY_TIMEOUT)


def test_after_an_exchange_directories_are_watched_under_their_new_names(
    replication: Replication, copy: Destination
) -> None:
    for operation in (mkdir("a/in-a"), mkdir("b/in-b")):
        operation(replication.area)
    with replication.start(copy) as running:
        exchange("a", "b/in-b")(running.area)
        running.flush_and_wait()
        for operation in (write("a/f"), write("b/in-b/f"), write("b/in-b/in-a/f")):
            operation(running.area)
        running.daemon.flush()
        running.expect_equal(EQUALITY_TIMEOUT)
