"""rsync itself is asked whether it knows options."""

import os
from pathlib import Path

import pytest

from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.option_trial import why_refused
from pylsyncd.rsync.version import rsync_version


def asked(*options: str, program: str = "rsync") -> str:
    return why_refused(RsyncOptions(program, rsync_version("rsync"), extra_options=options))


def test_options_that_rsync_knows_are_not_refused() -> None:
    assert asked() == ""
    assert asked("--compress", "--checksum", "-H") == ""


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--no-such-option", "--no-such-option: unknown option"),
        ("--chmod=zz", "Invalid argument passed to --chmod (zz)"),
        ("--checksum-choice=none-such", "unknown checksum name: none-such"),
    ],
)
def test_an_option_that_rsync_does_not_know_is_refused_with_its_message(
    option: str, reason: str
) -> None:
    assert asked("--compress", option) == reason


@pytest.mark.parametrize(
    "option", ["--temp-dir=/none", "-T/none", "-zT/none", "--copy-as=nobody-here"]
)
def test_what_the_destination_decides_is_not_asked(option: str) -> None:
    assert asked(option) == ""


def test_a_log_file_is_not_written(tmp_path: Path) -> None:
    assert asked(f"--log-file={tmp_path}/log") == ""
    assert os.listdir(tmp_path) == []


def test_an_rsync_that_cannot_be_run_refuses_nothing(tmp_path: Path) -> None:
    assert asked("--compress", program=f"{tmp_path}/none") == ""
