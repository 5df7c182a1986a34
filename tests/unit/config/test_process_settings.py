"""The settings of the process are built, and checked together."""

import logging
import os
from pathlib import Path

import pytest
from support.configuration import errors_of, load, settings_of, sync_section

from pylsyncd.config.converters import LOG_LEVELS
from pylsyncd.config.process_settings import (
    LOGGING_LEVELS,
    find_foreign_log,
    should_show_progress,
)
from pylsyncd.config.settings import LogSettings, ProcessSettings

pytestmark = pytest.mark.usefixtures("place")


def test_a_process_in_the_background_needs_a_log() -> None:
    (error,) = errors_of("[pylsyncd]\ndaemon = yes\n" + sync_section("one", "a/./", "srv:"))
    assert error.startswith("p.conf:2: [pylsyncd] daemon: A daemon in the background needs a log")
    assert settings_of(
        "[pylsyncd]\ndaemon = yes\nlogfile = log\n" + sync_section("one", "a/./", "srv:")
    )


def test_an_output_file_needs_an_existing_directory_and_must_not_be_one() -> None:
    content = sync_section("one", "a/./", "srv:")
    (error,) = errors_of("[pylsyncd]\npidfile = none/x\n" + content)
    assert error.endswith("/none does not exist: create it.")
    (error,) = errors_of("[pylsyncd]\nlogfile = b\n" + content)
    assert error.endswith("/b is a directory: name a file.")
    (error,) = errors_of("[pylsyncd]\nchdir = p.conf\n" + content)
    assert error.endswith("/p.conf is not a directory.")


def test_every_log_level_has_a_number_and_the_numbers_fall() -> None:
    numbers = [LOGGING_LEVELS[level] for level in LOG_LEVELS]
    assert numbers == sorted(numbers, reverse=True)
    assert len(LOGGING_LEVELS) == len(LOG_LEVELS)


@pytest.mark.parametrize(
    ("value", "expected"), [("no", None), ("my.sock", "{cwd}/my.sock"), ("", "")]
)
def test_the_control_socket_is_a_path_the_default_or_none(value: str, expected: str | None) -> None:
    content = f"[pylsyncd]\ncontrol = {value}\n" + sync_section("one", "a/./", "srv:")
    control = settings_of(content).process.control
    assert control == (expected and expected.replace("{cwd}", os.getcwd()))


def test_progress_is_shown_in_the_foreground_unless_the_log_is_a_file_or_quiet() -> None:
    assert should_show_progress(ProcessSettings(LogSettings(logging.INFO)))
    assert not should_show_progress(ProcessSettings(LogSettings(logging.WARNING)))
    assert not should_show_progress(ProcessSettings(LogSettings(logging.INFO, file="/log")))
    assert not should_show_progress(ProcessSettings(LogSettings(logging.INFO), background=True))


def test_only_once_comes_from_the_command_line_alone() -> None:
    assert load("--once", "a/./", "srv:").settings.process.once
    assert not load("a/./", "srv:").settings.process.once


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_log_of_root_is_reported_where_root_becomes_another_user(tmp_path: Path) -> None:
    path = tmp_path / "log"
    settings = ProcessSettings(
        log=LogSettings(logging.INFO, file=str(path)), user="54321", group="54321"
    )
    assert list(find_foreign_log(settings)) == []
    path.touch()
    (sentence,) = find_foreign_log(settings)
    assert sentence.endswith(f"after a rotation: run chown 54321 {path}.")
    os.chown(path, 54321, -1)
    assert list(find_foreign_log(settings)) == []
    assert (
        list(find_foreign_log(ProcessSettings(log=LogSettings(logging.INFO, file=str(path))))) == []
    )
