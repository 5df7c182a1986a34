"""The thread of a scan beside the events: what it finds, and how it is stopped."""

import errno
import os
import threading
import time

import pytest
from support.waiting import wait_until

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.watcher import scan_thread
from pylsyncd.watcher.scan_thread import ScanThread

SECONDS = 20.0


def run(scan: ScanThread[MutableChangeset]) -> None:
    scan.start()
    scan.join(SECONDS)
    assert scan.has_ended


def test_what_is_found_is_there_when_the_end_is_reported() -> None:
    changes = MutableChangeset()
    changes.add(b"f", Scope.ENTRY)
    found: list[MutableChangeset | None] = []
    failures: list[str] = []
    scan = ScanThread("scan", lambda: changes, lambda: found.append(scan.found), failures.append)
    run(scan)
    assert [set(each or ()) for each in found] == [{Change(b"f", Scope.ENTRY)}]
    assert not failures


def test_a_source_that_cannot_be_read_is_no_failure_of_the_thread() -> None:
    def fail() -> MutableChangeset:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    ended, failures = threading.Event(), list[str]()
    scan = ScanThread("scan", fail, ended.set, failures.append)
    run(scan)
    assert (scan.found, ended.is_set(), failures) == (None, True, [])


def test_a_scan_is_stopped_where_it_reports_progress() -> None:
    started = threading.Event()

    def walk() -> MutableChangeset:
        while True:
            scan.report_progress()
            started.set()

    scan = ScanThread("scan", walk, lambda: None, lambda _: None)
    scan.start()
    assert started.wait(SECONDS)
    scan.stop()
    wait_until(lambda: scan.has_ended)
    assert scan.found is None


def test_a_stop_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_thread, "_STOP_TIMEOUT", SECONDS)
    started = threading.Event()

    def walk() -> MutableChangeset:
        started.set()
        assert scan.should_stop.wait(SECONDS)
        return MutableChangeset()

    scan = ScanThread("scan", walk, lambda: None, lambda _: None)
    scan.start()
    assert started.wait(SECONDS)
    scan.stop()
    assert scan.has_ended


def test_a_scan_is_active_when_it_starts_and_at_each_report() -> None:
    inactive: list[tuple[float, float]] = []

    def walk() -> MutableChangeset:
        inactive.append((0.0, scan.activity.inactive_seconds))
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() > begin + 0.01)
        begin = time.monotonic()
        scan.report_progress()
        seconds = scan.activity.inactive_seconds
        inactive.append((time.monotonic() - begin, seconds))
        return MutableChangeset()

    scan = ScanThread("scan", walk, lambda: None, lambda _: None)
    run(scan)
    (_, at_start), (since_report, after_report) = inactive
    # Zero is that of a thread that waits.
    assert at_start > 0.0
    assert after_report <= since_report


def test_one_that_was_never_started_can_be_stopped() -> None:
    ScanThread("scan", MutableChangeset, lambda: None, lambda _: None).stop()
