"""The process around the service, in the foreground: each case in a process of its own.

For the background see tests/daemon/test_background.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd import daemonize

PRELUDE = """
import json, logging, os, sys
from pylsyncd import daemonize
from pylsyncd.config.settings import LogSettings, ProcessSettings
from pylsyncd.model.errors import UsageError

def prepare(log=None, **settings):
    log = LogSettings(level=logging.INFO, file=log)
    return daemonize.prepare(ProcessSettings(log=log, **settings), ())

"""


def run(code: str, top: Path, **extra: str) -> object:
    """Run code in a process of its own, in a directory; return what it prints as JSON."""
    ended = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], cwd=top, capture_output=True, text=True,
        env=environment(extra), check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_pid_file_has_the_pid_while_the_process_runs(tmp_path: Path) -> None:
    code = """
with prepare(pidfile=os.path.abspath("pid")) as process:
    process.detach()
    process.report_ready()
    written = int(open("pid").read())
print(json.dumps([written == os.getpid(), os.path.exists("pid")]))
"""
    assert run(code, tmp_path) == [True, False]


def test_a_pid_file_is_released_if_the_rest_cannot_be_prepared(tmp_path: Path) -> None:
    code = """
try:
    prepare(pidfile=os.path.abspath("pid"), directory="none")
except UsageError as error:
    message = str(error)
with prepare(pidfile=os.path.abspath("pid")) as process:
    process.detach()
print(json.dumps(message))
"""
    assert run(code, tmp_path) == (
        "Cannot change to the directory none: No such file or directory. "
        "Choose another one with --chdir."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("user", "is_open"), [(None, True), ("root", False)])
def test_inherited_descriptors_are_closed_before_a_change_of_user(
    user: str | None, tmp_path: Path, *, is_open: bool
) -> None:
    code = f"""
inherited = os.dup(0)
os.set_inheritable(inherited, True)
prepare(user={user!r})
print(json.dumps(os.path.exists(f"/proc/self/fd/{{inherited}}")))
"""
    assert run(code, tmp_path) is is_open


@pytest.mark.parametrize(
    ("control", "expected"),
    [(None, None), ("", "{top}/run/"), ("{top}/s.sock", "{top}/s.sock")],
    ids=["no socket", "the default directory", "a named socket"],
)
def test_the_control_socket_is_the_configured_one_or_in_the_directory_for_sockets(
    control: str | None, expected: str | None, tmp_path: Path
) -> None:
    control = control and control.format(top=tmp_path)
    code = f"print(json.dumps(prepare(control={control!r}).control_path))"
    found = run(code, tmp_path, RUNTIME_DIRECTORY=str(tmp_path / "run"))
    assert found == (expected and expected.format(top=tmp_path))


def test_a_default_socket_that_is_unusable_is_a_warning_and_a_named_one_an_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    code = """
path = prepare(control="", log=os.path.abspath("log")).control_path
try:
    prepare(control=os.path.abspath("file/s.sock"))
except UsageError:
    print(json.dumps(path))
"""
    found = run(code, tmp_path, RUNTIME_DIRECTORY=str(tmp_path / "file"))
    assert found is None
    assert "No control socket" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("umask", "expected"), [("", 0o77), ("umask=0o27", 0o27)])
def test_a_process_in_the_foreground_keeps_its_umask_unless_one_is_set(
    umask: str, expected: int, tmp_path: Path
) -> None:
    code = f"""
os.umask(0o77)
prepare({umask})
print(json.dumps(os.umask(0)))
"""
    assert run(code, tmp_path) == expected


def test_a_start_in_the_background_waits_as_long_as_a_boot_allows() -> None:
    assert daemonize.READY_TIMEOUT == 30.0
