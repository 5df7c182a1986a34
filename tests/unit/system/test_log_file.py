"""A log file follows its name, and no trouble with it is silent or fatal."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd.system.log_file import LogFile

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log/pylsyncd.log"


@pytest.fixture
def trouble() -> list[str]:
    return []


@pytest.fixture
def open_log(path: Path, trouble: list[str]) -> Iterator[Callable[..., LogFile]]:
    """Return a function that opens the log file, with the arguments of its class."""
    opened: list[LogFile] = []

    def open_it(**options: tuple[int, int]) -> LogFile:
        opened.append(LogFile(str(path), trouble.append, **options))
        opened[-1].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


@pytest.fixture
def log(open_log: Callable[..., LogFile]) -> LogFile:
    return open_log()


def write(log: LogFile, text: str, *values: object) -> None:
    log.handle(logging.LogRecord("", logging.INFO, "", 0, text, values, None))


def test_a_log_is_appended_to_and_a_new_one_is_for_its_owner_and_group(
    path: Path, open_log: Callable[..., LogFile]
) -> None:
    path.write_text("earlier\n")
    log = open_log()
    write(log, "now")
    assert path.read_text() == "earlier\nINFO now\n"
    path.unlink()
    mask = os.umask(0)
    try:
        write(log, "a new one")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640


@only_root
def test_a_new_log_belongs_to_the_user_that_root_will_become(
    path: Path, open_log: Callable[..., LogFile]
) -> None:
    open_log(owner=(65534, 65533))
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
    # An old one keeps its owner: root may have given it to the users who read logs.
    os.chown(path, 0, 0)
    open_log(owner=(65534, 65533))
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)


def test_a_message_that_cannot_be_formatted_is_logged_as_it_is(path: Path, log: LogFile) -> None:
    write(log, "%d", "no number")
    assert path.read_text().endswith("not str'): '%d' ('no number',)\n")


def test_a_closed_log_ignores_messages(path: Path, log: LogFile) -> None:
    log.close()
    write(log, "lost")
    log.close()
    assert path.read_text() == ""


# Rotation


def test_a_renamed_log_is_followed_by_a_new_one(path: Path, log: LogFile) -> None:
    write(log, "one")
    path.rename(path.with_suffix(".1"))
    write(log, "two")
    assert path.with_suffix(".1").read_text() == "INFO one\n"
    assert path.read_text() == "INFO two\n"


def test_a_log_that_was_copied_and_truncated_continues_at_its_beginning(
    path: Path, log: LogFile
) -> None:
    write(log, "one")
    os.truncate(path, 0)
    write(log, "two")
    assert path.read_text() == "INFO two\n"


def test_where_a_renamed_log_cannot_be_opened_again_the_old_one_is_written_on(
    path: Path, log: LogFile, trouble: list[str]
) -> None:
    rotated = path.with_suffix(".1")
    path.rename(rotated)
    path.mkdir()
    write(log, "one")
    write(log, "two")
    lines = rotated.read_text().splitlines()
    assert "cannot be opened again: Is a directory" in lines[0]
    assert lines[1:] == ["INFO one", "INFO two"]
    assert len(trouble) == 1
    assert "cannot be opened again: Is a directory" in trouble[0]
    path.rmdir()
    write(log, "three")
    assert path.read_text() == "INFO three\n"


def test_a_symlink_that_has_replaced_the_log_is_not_followed(
    path: Path, log: LogFile, trouble: list[str], tmp_path: Path
) -> None:
    path.parent.chmod(0o777)
    path.rename(path.with_suffix(".1"))
    path.symlink_to(tmp_path / "precious")
    write(log, "one")
    assert not (tmp_path / "precious").exists()
    assert "symbolic link" in trouble[0]


# A full disk


def test_missing_lines_are_reported_at_once_and_counted_afterwards(
    path: Path, open_log: Callable[..., LogFile], trouble: list[str]
) -> None:
    path.symlink_to("/dev/full")
    log = open_log()
    for number in range(3):
        write(log, "lost %d", number)
    assert len(trouble) == 1
    assert "cannot be written: No space left on device" in trouble[0]
    path.unlink()
    write(log, "found")
    first, second = path.read_text().splitlines()
    assert first.endswith("WARNING 3 lines are missing here: No space left on device.")
    assert second.endswith("found")


def test_an_incomplete_line_does_not_spoil_the_next(path: Path) -> None:
    """A writer gets the same result from a limit of the file size as from a full disk."""
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
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO    x+", lines[0])
    assert len(lines[0]) == 50
    assert lines[1].endswith("2 lines are missing here: File too large.")
    assert lines[2].endswith("INFO    z")
