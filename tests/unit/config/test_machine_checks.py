"""Files, directories and programs that options name must be usable on this machine."""

import os
from pathlib import Path

import pytest

from pylsyncd.config import machine_checks
from pylsyncd.model.errors import UsageError
from pylsyncd.system.unix_sockets import MAX_ADDRESS_LENGTH


def test_a_source_is_relative_to_the_directory_of_its_option(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    source = machine_checks.parse_source(str(tmp_path), "src/./")
    assert source.path == os.fsencode(tmp_path / "src")
    machine_checks.check_source(source)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The source .*/none does not exist\.$"):
        machine_checks.check_source(machine_checks.parse_source(str(tmp_path), "none"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search every directory")
def test_a_source_below_a_closed_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed/src").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(UsageError, match="denies search permission"):
            machine_checks.check_source(machine_checks.parse_source(str(tmp_path), "closed/src"))
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_an_exclude_file_is_read_relative_to_the_directory_of_its_option(tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text("*.tmp\n# comment\n*.o\n")
    rules = machine_checks.read_exclude_file(str(tmp_path), "patterns")
    assert [getattr(rule, "origin", None) for rule in rules] == [
        "patterns, line 1",
        "patterns, line 3",
    ]


def test_an_output_file_needs_a_directory_and_must_not_be_one(tmp_path: Path) -> None:
    assert machine_checks.check_output_file(str(tmp_path), "a.log") == f"{tmp_path}/a.log"
    with pytest.raises(UsageError, match=r"The directory .*/none does not exist: create it\.$"):
        machine_checks.check_output_file(str(tmp_path), "none/a.log")
    with pytest.raises(UsageError, match="is a directory: name a file"):
        machine_checks.check_output_file("/", str(tmp_path))


def test_a_directory_must_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert machine_checks.check_directory(str(tmp_path), ".") == str(tmp_path)
    for name in ("none", "file", "file/below"):
        with pytest.raises(UsageError, match="is not a directory"):
            machine_checks.check_directory(str(tmp_path), name)


def test_the_path_of_a_socket_must_not_be_longer_than_its_address_may_be(tmp_path: Path) -> None:
    longest = "x" * (MAX_ADDRESS_LENGTH - len(f"{tmp_path}/"))
    assert machine_checks.check_socket(str(tmp_path), longest) == f"{tmp_path}/{longest}"
    with pytest.raises(UsageError, match=f"is longer than {MAX_ADDRESS_LENGTH} bytes"):
        machine_checks.check_socket(str(tmp_path), f"{longest}x")


def test_the_program_of_a_command_must_be_executable(tmp_path: Path) -> None:
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(UsageError, match=r"The program \./hook does not exist or is not exec"):
        machine_checks.check_command(str(tmp_path), ("./hook", "x"))
    program.chmod(0o755)
    assert machine_checks.check_command(str(tmp_path), ("./hook", "x")) == (str(program), "x")
    assert machine_checks.check_command(str(tmp_path), ("true",)) == ("true",)


def test_a_program_with_a_slash_becomes_absolute_and_another_stays_a_name() -> None:
    assert machine_checks.resolve_program("/opt", "./rsync") == "/opt/rsync"
    assert machine_checks.resolve_program("/opt", "rsync") == "rsync"


def test_a_remote_shell_must_be_installed_and_found_from_any_directory() -> None:
    machine_checks.check_remote_shell("sh -x")
    machine_checks.check_remote_shell("/bin/sh")
    with pytest.raises(UsageError, match=r"needs an absolute path"):
        machine_checks.check_remote_shell("./sh -x")
    with pytest.raises(UsageError, match="no-such-shell is not installed"):
        machine_checks.check_remote_shell("no-such-shell -x")


def test_a_syslog_facility_must_exist() -> None:
    assert machine_checks.check_syslog_facility("/", "local3") == "local3"
    with pytest.raises(UsageError, match=r"Expected one of .*daemon.*, not 'nonsense'"):
        machine_checks.check_syslog_facility("/", "nonsense")
