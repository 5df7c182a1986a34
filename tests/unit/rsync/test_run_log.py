"""The runs to a destination are logged under its name; a dry run logs what it would do."""

import logging
from dataclasses import replace

import pytest

from pylsyncd.rsync.file_list import MAX_LISTED_PATH_BYTES, FileList
from pylsyncd.rsync.run_log import RunLog
from pylsyncd.rsync.runner import RunResult
from pylsyncd.system.logs import NOTICE

RESULT = RunResult(files=3, deleted=2, bytes_sent=12_345, seconds=0.5)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_result_is_logged_with_its_counts(logged: pytest.LogCaptureFixture) -> None:
    RunLog("srv2", dry_run=False).log_result(RESULT)
    said = "[srv2] synced 3 files, deleted 2, 12.3 kB sent, 0.50 s"
    assert lines(logged) == [(logging.INFO, said)]


def test_a_dry_run_is_logged_at_notice_level_as_what_it_would_do(
    logged: pytest.LogCaptureFixture,
) -> None:
    log = RunLog("srv2", dry_run=True)
    log.log_command([b"rsync", b"--dry-run", b"a b\n"], is_dry_run=False)
    log.log_item(">f+++++++++ a")
    log.log_result(RESULT)
    assert lines(logged) == [
        (NOTICE, r"[srv2] would run: rsync 'a b\n'"),
        (NOTICE, "[srv2] rsync: >f+++++++++ a"),
        (NOTICE, "[srv2] would have synced 3 files, deleted 2, 12.3 kB sent, 0.50 s"),
    ]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_probe_is_logged_only_at_debug_level(
    logged: pytest.LogCaptureFixture, *, dry_run: bool
) -> None:
    RunLog("srv2", dry_run=dry_run).log_command([b"rsync", b"--dry-run"], is_dry_run=True)
    assert lines(logged) == [(logging.DEBUG, "[srv2] trying: rsync --dry-run")]


def test_a_list_is_logged_up_to_a_limit(logged: pytest.LogCaptureFixture) -> None:
    log = RunLog("srv2", dry_run=False)
    log.log_file_list(FileList({b"a", b"d/", b"x\n"}))
    log.log_file_list(FileList({b"%d" % number for number in range(1000)}))
    short, long = (said for _, said in lines(logged))
    assert short == r"[srv2] list of 3: ./a ./d/ ./x\n"
    assert long.startswith("[srv2] list of 1000: ./0 ./1 ")
    assert long.endswith(" ...")
    assert long.count("./") == 200


def test_a_path_that_is_too_long_for_rsync_is_an_error(logged: pytest.LogCaptureFixture) -> None:
    path = b"x" * (MAX_LISTED_PATH_BYTES + 1)
    RunLog("srv2", dry_run=False).log_file_list(FileList({path}))
    level, said = lines(logged)[0]
    assert level == logging.ERROR
    assert said == (
        f"[srv2] Cannot copy {path.decode()}: its path is longer than the 4093 bytes that rsync "
        "takes. Shorten or exclude it."
    )


def test_exits_and_missing_capabilities_are_logged(logged: pytest.LogCaptureFixture) -> None:
    log = RunLog("srv2", dry_run=False)
    log.log_exit(0, "")
    log.log_exit(23, "some paths failed")
    log.log_missing_capability("the remote rsync does not support --mkpath")
    assert lines(logged) == [
        (logging.DEBUG, "[srv2] exit 0: done"),
        (logging.DEBUG, "[srv2] exit 23: some paths failed"),
        (logging.INFO, "[srv2] the remote rsync does not support --mkpath: continuing without it."),
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (1, "moved 1 file (999 B not sent), "), (2, "moved 2 files (999 B not sent), "),
        (1204, "moved 1,204 files (999 B not sent), "), (0, ""),
    ],
)  # fmt: skip
def test_what_was_moved_is_logged_with_the_result(
    logged: pytest.LogCaptureFixture, files: int, expected: str
) -> None:
    result = replace(RESULT, moved_files=files, moved_bytes=999)
    RunLog("srv2", dry_run=False).log_result(result)
    said = f"[srv2] synced 3 files, deleted 2, {expected}12.3 kB sent, 0.50 s"
    assert lines(logged) == [(logging.INFO, said)]
