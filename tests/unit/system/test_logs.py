"""Log lines go to the configured handlers, and no message can forge a line."""

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.model.errors import UsageError
from pylsyncd.system import logs

log = logging.getLogger("pylsyncd.of.the.test")
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    logs.remove_terminal_handler()
    for handler in [*logs._handlers]:  # noqa: SLF001
        root.removeHandler(handler)
        handler.close()
    logs._handlers.clear()  # noqa: SLF001
    root.setLevel(level)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log/pylsyncd.log"


@pytest.fixture
def file(path: Path) -> Path:
    logs.configure(logging.INFO, file=str(path))
    return path


def log_directly(level: int, message: str, *values: object) -> None:
    """Log a message that pytest's own handlers cannot format."""
    record = logging.LogRecord("", level, "", 0, message, values, None)
    logs._handlers[0].handle(record)  # noqa: SLF001


def test_a_line_has_the_date_the_level_and_the_message(file: Path) -> None:
    log.log(logs.NOTICE, "[%s] synced", "first")
    log.debug("not this")
    assert re.fullmatch(rf"{STAMP} NOTICE  \[first\] synced\n", file.read_text())


def test_a_message_is_one_line_whatever_characters_are_in_it(file: Path) -> None:
    log_directly(logging.WARNING, "changed: %s", "a\nb\x1b[31m\udcff\u202e\u2028")
    text = file.read_text()
    assert text.endswith("changed: a\\nb\\x1b[31m\\udcff\\u202e\\u2028\n")
    assert text.count("\n") == 1


def test_each_line_of_a_traceback_is_a_line_with_a_date(file: Path) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("It failed.")
    lines = file.read_text().splitlines()
    assert all(re.match(rf"{STAMP} ERROR   ", line) for line in lines)
    assert lines[0].endswith("ERROR   It failed.")
    assert lines[1].endswith("ERROR   Traceback (most recent call last):")
    assert lines[-1].endswith("ERROR   ZeroDivisionError: division by zero")


def test_a_message_with_wrong_arguments_is_logged_as_it_is(file: Path) -> None:
    log_directly(logging.INFO, "%d", "no number")
    assert file.read_text().endswith("not str'): '%d' ('no number',)\n")


def test_the_level_can_be_changed(file: Path) -> None:
    logs.set_level(logging.DEBUG)
    log.debug("seen")
    logs.set_level(logging.WARNING)
    log.info("not seen")
    assert file.read_text().count("\n") == 1


def test_a_log_that_cannot_be_opened_is_refused_and_the_old_one_stays(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"none/log cannot be opened: No such file or directory"):
        logs.configure(logging.INFO, file=str(tmp_path / "none/log"))
    log.info("still here")
    assert "still here" in file.read_text()


def test_a_second_configuration_logs_to_the_new_file_alone(file: Path, tmp_path: Path) -> None:
    logs.configure(logging.INFO, file=str(tmp_path / "new"))
    log.info("news")
    assert "news" in (tmp_path / "new").read_text()
    assert file.read_text() == ""


def test_with_a_file_nothing_goes_to_the_terminal(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(logging.INFO, file=str(path), terminal=logging.StreamHandler(sys.stderr))
    log.info("word")
    assert capsys.readouterr().err == ""


def test_the_given_terminal_handler_is_used_until_it_is_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("-- %(message)s"))
    logs.configure(logging.INFO, terminal=terminal)
    log.info("word")
    logs.remove_terminal_handler()
    log.info("no word")
    assert capsys.readouterr().err == "-- word\n"


def test_without_a_handler_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO)
    log.info("w\no")
    assert re.fullmatch(rf"{STAMP} w\\no\n", capsys.readouterr().err)


# syslog


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "devlog"))
        listening.settimeout(45)
        monkeypatch.setattr(logs, "_SYSLOG_SOCKET", str(tmp_path / "devlog"))
        yield listening


def test_syslog_gets_the_same_messages_as_the_terminal(
    syslog: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(logging.INFO, syslog=True, facility="local3")
    log.log(logs.NOTICE, "w\no")
    assert "w\\no" in capsys.readouterr().err
    # local3 is 19, notice is 5 (RFC 3164, 4.1.1).
    assert syslog.recv(1000) == b"<157>pylsyncd: w\\no\0"
    logs.remove_terminal_handler()
    log.error("word")
    assert syslog.recv(1000) == b"<155>pylsyncd: word\0"
    assert capsys.readouterr().err == ""


def test_trouble_with_the_file_goes_to_syslog(syslog: socket.socket) -> None:
    logs.configure(logging.INFO, file="/dev/full")
    log.info("lost")
    assert b"cannot be written" in syslog.recv(1000)


def test_without_a_syslog_daemon_syslog_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(logs, "_SYSLOG_SOCKET", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="syslog cannot be reached"):
        logs.configure(logging.INFO, syslog=True)


def test_trouble_with_the_file_goes_to_standard_error(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path.symlink_to("/dev/full")
    logs.configure(logging.INFO, file=str(path))
    for number in range(3):
        log.info("lost %d", number)
    complaint = capfd.readouterr().err
    assert complaint.count("cannot be written: No space left on device") == 1


# The journal of systemd


def test_a_stream_is_the_journal_only_if_it_is_the_one_that_systemd_has_connected(
    path: Path,
) -> None:
    with path.open("w") as stream, path.with_name("other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs.is_journal(stream, environ)
        assert not logs.is_journal(other, environ)
        assert not logs.is_journal(stream, {})
    assert not logs.is_journal(stream, environ), "it is closed"


def test_each_line_for_the_journal_has_its_priority_and_no_date(path: Path) -> None:
    with path.open("w") as stream:
        logs.configure(logging.DEBUG, terminal=logs.journal_handler(stream))
        for level in (logging.DEBUG, logging.INFO, logs.NOTICE, logging.WARNING, logging.CRITICAL):
            log.log(level, "said\n<0>forged")
        try:
            int("cause")
        except ValueError:
            log.exception("failed")
    lines = path.read_text().splitlines()
    *said, failed, first, _where, _what, last = [each for each in lines if "^^" not in each]
    assert said == [rf"<{number}>said\n<0>forged" for number in (7, 6, 5, 4, 2)]
    assert (failed, first) == ("<3>failed", "<3>Traceback (most recent call last):")
    assert last == "<3>ValueError: invalid literal for int() with base 10: 'cause'"
