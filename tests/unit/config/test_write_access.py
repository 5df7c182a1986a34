"""Files that other users can write are refused, or lead to a warning."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment
from support.in_process import run_pylsyncd

from pylsyncd.config.command_line_parser import parse_command_line
from pylsyncd.config.loader import StartEnvironment, load_configuration
from pylsyncd.model.errors import UsageError
from pylsyncd.system.path_resolution import is_protected
from pylsyncd.system.users import is_private_group

USER = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def configuration(place: Path) -> Path:
    path = place / "etc/pylsyncd.conf"
    path.parent.mkdir()
    path.write_text("[sync one]\nsource = ../src/./\ndestinations = ../copy/\n")
    path.chmod(0o644)
    return path


def configure(configuration: Path, text: str) -> None:
    with configuration.open("a") as file:
        file.write(text)


def check(configuration: Path, *options: str) -> tuple[int, str]:
    """Check a configuration by the command; return the exit status and the output."""
    done = run_pylsyncd("--check-config", "-c", configuration, *options)
    return done.returncode, done.stdout + done.stderr


def assert_accepted(configuration: Path, *options: str) -> str:
    status, output = check(configuration, *options)
    assert status == 0, output
    return output


def assert_refused(configuration: Path, *texts: str) -> None:
    status, output = check(configuration)
    assert status == 2, output
    for text in texts:
        assert text in output
    assert "Traceback" not in output


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
def test_a_file_that_only_its_owner_can_write_is_accepted(configuration: Path, mode: int) -> None:
    configuration.chmod(mode)
    assert "warning" not in assert_accepted(configuration)


@pytest.mark.parametrize("mode", [0o646, 0o666, 0o622])
def test_a_file_that_all_can_write_is_refused(configuration: Path, mode: int) -> None:
    configuration.chmod(mode)
    assert_refused(configuration, "is writable by other users", f"run chmod go-w {configuration}.")


@only_root
def test_a_file_that_a_group_can_write_is_refused_by_root(configuration: Path) -> None:
    configuration.chmod(0o664)
    assert_refused(configuration, f"run chmod go-w {configuration}.")


@only_root
def test_a_file_of_another_user_is_refused(configuration: Path) -> None:
    os.chown(configuration, USER, USER)
    assert_refused(configuration, f"belongs to the user id {USER}", f"run chown 0 {configuration}.")


def test_a_file_may_be_writable_by_the_private_group_of_its_owner() -> None:
    of_users = [user for user in pwd.getpwall() if is_private_group(user.pw_gid, user.pw_uid)]
    assert of_users, "there is no user with a group of the same name"
    user = of_users[0]
    status = os.stat_result((0o100664, 1, 1, 1, user.pw_uid, user.pw_gid, 0, 0, 0, 0))
    assert is_protected(status, user.pw_uid)
    status = os.stat_result((0o100666, 1, 1, 1, user.pw_uid, user.pw_gid, 0, 0, 0, 0))
    assert not is_protected(status, user.pw_uid)
    status = os.stat_result((0o100664, 1, 1, 1, user.pw_uid, 0, 0, 0, 0, 0))
    assert not is_protected(status, user.pw_uid)


@only_root
@pytest.mark.parametrize("is_linked", [True, False])
def test_a_directory_in_which_all_can_replace_the_file_is_refused_by_root(
    configuration: Path, *, is_linked: bool
) -> None:
    configuration.parent.chmod(0o777)
    path = configuration
    if is_linked:
        path = configuration.parent.parent / "elsewhere/link"
        path.parent.mkdir()
        path.symlink_to(configuration)
    assert_refused(path, f"run chmod o-w {configuration.parent},")
    configuration.parent.chmod(0o1777)
    assert_accepted(path)


def test_a_running_daemon_refuses_such_a_file_at_a_reload(configuration: Path) -> None:
    """The reload reads the file by the same function."""
    command_line = parse_command_line(["-c", str(configuration)])
    load_configuration(command_line, StartEnvironment.current())
    configuration.chmod(0o666)
    with pytest.raises(UsageError, match="chmod go-w"):
        load_configuration(command_line, StartEnvironment.current())


def test_a_configuration_on_standard_input_is_accepted(configuration: Path) -> None:
    text = configuration.read_text().replace("..", str(configuration.parent.parent))
    done = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--check-config", "-c", "/dev/stdin"],
        env=environment(), input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# -- the files that it names ----------------------------------------------------------------------


@pytest.fixture
def excludes(configuration: Path) -> Path:
    path = configuration.with_name("excludes")
    path.write_text("*.tmp\n")
    path.chmod(0o644)
    configure(configuration, "exclude_from = excludes\n")
    return path


def test_an_exclude_file_that_others_can_write_is_a_warning(
    configuration: Path, excludes: Path
) -> None:
    assert "warning" not in assert_accepted(configuration)
    excludes.chmod(0o666)
    assert f"warning: The exclude file {excludes} is writable" in assert_accepted(configuration)


@only_root
def test_an_exclude_file_may_belong_to_the_user_of_the_daemon(
    configuration: Path, excludes: Path
) -> None:
    os.chown(excludes, USER, USER)
    assert f"run chown 0 {excludes}" in assert_accepted(configuration)
    assert "exclude file" not in assert_accepted(configuration, "--user", str(USER), "--group", "0")


@pytest.mark.parametrize("kind", ["before", "batch", "repair"])
def test_a_hook_that_others_can_write_is_a_warning(configuration: Path, kind: str) -> None:
    hook = configuration.with_name("hook")
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    configure(configuration, f"hook_{kind} = ./hook\n")
    assert "warning" not in assert_accepted(configuration)
    hook.chmod(0o757)
    assert f"warning: The program {hook} is writable" in assert_accepted(configuration)


@only_root
def test_a_password_file_of_another_user_is_refused_as_by_rsync(configuration: Path) -> None:
    secret = configuration.with_name("secret")
    secret.write_text("x\n")
    secret.chmod(0o600)
    configure(configuration, "password_file = secret\n")
    assert_accepted(configuration)
    os.chown(secret, USER, USER)
    assert_refused(configuration, f"run chown root {secret}")
    assert_accepted(configuration, "--user", str(USER), "--group", "0")


# -- an rsync that loses the race -----------------------------------------------------------------


@only_root
@pytest.mark.parametrize("owned", ["src", "src/home", "src/home/below", ""])
@pytest.mark.parametrize("version", ["3.4.3", "3.5.0", "3.10.1"])
def test_an_old_rsync_over_directories_of_other_users_is_a_warning(
    configuration: Path, owned: str, version: str
) -> None:
    place = configuration.parent.parent
    (place / "src/home/below").mkdir(parents=True)
    (place / "src/file").touch()
    os.chown(place / "src/file", USER, USER)
    if owned:
        os.chown(place / owned, USER, USER)
    program = place / "rsync"
    program.write_text(f"#!/bin/sh\necho 'rsync  version {version}  protocol version 31'\n")
    program.chmod(0o755)
    configure(configuration, f"rsync = {program}\n")
    output = assert_accepted(configuration)
    expected = version == "3.4.3" and owned in {"src", "src/home"}
    assert ("older than 3.5.0" in output) is expected
    assert "older than" not in assert_accepted(configuration, "--user", str(USER), "--group", "0")
