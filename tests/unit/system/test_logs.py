"""Where the log goes, that a line is a line, and that no trouble with it is silent or fatal."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import format_count
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


def tell(level: int, message: str, *values: object) -> None:
    """Log what pytest's own handlers cannot take."""
    record = logging.LogRecord("", level, "", 0, message, values, None)
    logs._handlers[0].handle(record)  # noqa: SLF001


def test_a_line_has_the_date_the_level_and_the_message(file: Path) -> None:
    log.log(logs.NOTICE, "[%s] synced", "first")
    log.debug("not this")
    assert re.fullmatch(rf"{STAMP} NOTICE  \[first\] synced\n", file.read_text())


def test_a_message_is_one_line_whatever_names_are_in_it(file: Path) -> None:
    tell(logging.WARNING, "changed: %s", "a\nb\x1b[31m\udcff\u202e\u2028")
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


def test_a_message_that_cannot_be_made_is_told_as_it_is(file: Path) -> None:
    tell(logging.INFO, "%d", "no number")
    assert file.read_text().endswith("not str'): '%d' ('no number',)\n")


def test_the_level_can_be_changed(file: Path) -> None:
    logs.set_level(logging.DEBUG)
    log.debug("seen")
    logs.set_level(logging.WARNING)
    log.info("not seen")
    assert file.read_text().count("\n") == 1


def test_a_log_is_for_its_owner_and_group_and_is_appended_to(path: Path) -> None:
    path.write_text("earlier\n")
    logs.configure(logging.INFO, file=str(path))
    log.info("now")
    assert path.read_text().startswith("earlier\n2")
    path.unlink()
    mask = os.umask(0)
    try:
        log.info("a new one")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_log_that_cannot_be_opened_is_refused_and_the_old_one_stays(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"none/log cannot be opened: No such file or directory"):
        logs.configure(logging.INFO, file=str(tmp_path / "none/log"))
    log.info("still here")
    assert "still here" in file.read_text()


def test_set_up_once_more_logs_to_the_new_file_alone(file: Path, tmp_path: Path) -> None:
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


def test_the_handler_for_the_terminal_is_the_one_that_was_given(
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


# -- rotation -------------------------------------------------------------------------------------


def test_a_renamed_log_is_followed_by_a_new_one(file: Path) -> None:
    log.info("one")
    file.rename(file.with_suffix(".1"))
    log.info("two")
    assert file.with_suffix(".1").read_text().endswith("one\n")
    assert file.read_text().endswith("two\n")


def test_a_log_that_was_copied_and_truncated_goes_on_from_its_beginning(file: Path) -> None:
    log.info("one")
    os.truncate(file, 0)
    log.info("two")
    assert re.fullmatch(rf"{STAMP} INFO    two\n", file.read_text())


def test_where_a_renamed_log_cannot_be_opened_again_the_old_one_is_written_on(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rotated = file.with_suffix(".1")
    file.rename(rotated)
    file.mkdir()
    log.info("one")
    log.info("two")
    lines = rotated.read_text().splitlines()
    assert "cannot be opened again: Is a directory" in lines[0]
    assert [line[-3:] for line in lines[1:]] == ["one", "two"]
    assert capfd.readouterr().err.count("cannot be opened again") == 1
    file.rmdir()
    log.info("three")
    assert re.fullmatch(rf"{STAMP} INFO    three\n", file.read_text())


def test_a_symlink_that_somebody_has_put_in_its_place_is_not_followed(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file.parent.chmod(0o777)
    file.rename(file.with_suffix(".1"))
    file.symlink_to(tmp_path / "precious")
    log.info("one")
    assert not (tmp_path / "precious").exists()
    assert "symbolic link" in capfd.readouterr().err


@only_root
def test_a_new_log_belongs_to_the_user_that_root_will_become(path: Path) -> None:
    logs.configure(logging.INFO, file=str(path), owner=(65534, 65533))
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
    # An old one stays whose it is: root may have given it to those who read logs.
    os.chown(path, 0, 0)
    logs.configure(logging.INFO, file=str(path), owner=(65534, 65533))
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)


# -- a full disk ----------------------------------------------------------------------------------


def test_lines_that_are_lost_are_told_once_at_once_and_counted_afterwards(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path.symlink_to("/dev/full")
    logs.configure(logging.INFO, file=str(path))
    for number in range(3):
        log.info("lost %d", number)
    complaint = capfd.readouterr().err
    assert complaint.count("cannot be written: No space left on device") == 1
    path.unlink()
    log.info("found")
    first, second = path.read_text().splitlines()
    assert first.endswith("WARNING 3 lines are missing here: No space left on device.")
    assert second.endswith("found")


def test_a_line_that_was_torn_does_not_spoil_the_next(path: Path) -> None:
    """A limit of the size of files is the same to a writer as a full disk."""
    program = (
        "import logging, resource, signal, sys; from pylsyncd.system import logs\n"
        "logs.configure(logging.INFO, file=sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))\n"
        "logging.info('x' * 100); logging.info('y')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.RLIM_INFINITY))\n"
        "logging.info('z')\n"
    )
    subprocess.run((sys.executable, "-c", program, path), env=environment(), check=True)
    lines = path.read_text().splitlines()
    assert re.fullmatch(rf"{STAMP} INFO    x+", lines[0])
    assert len(lines[0]) == 50
    assert lines[1].endswith("2 lines are missing here: File too large.")
    assert lines[2].endswith("INFO    z")


# -- syslog ---------------------------------------------------------------------------------------


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "devlog"))
        listening.settimeout(10)
        monkeypatch.setattr(logs, "_SYSLOG_SOCKET", str(tmp_path / "devlog"))
        yield listening


def test_syslog_gets_what_is_logged_beside_the_terminal(
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


def test_syslog_is_told_when_the_file_fails(syslog: socket.socket) -> None:
    logs.configure(logging.INFO, file="/dev/full")
    log.info("lost")
    assert b"cannot be written" in syslog.recv(1000)


def test_without_a_syslog_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(logs, "_SYSLOG_SOCKET", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="syslog cannot be reached"):
        logs.configure(logging.INFO, syslog=True)


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "change", "1 change"), (2, "entry", "2 entries"), (0, "process", "0 processes")],
)
def test_things_are_counted_in_words(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text
