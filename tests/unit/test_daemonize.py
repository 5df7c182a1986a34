"""The process around the service, in the foreground: each case in a process of its own.

For the background see tests/daemon/test_background.py.
"""

import json
import os
import stat
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


@pytest.mark.skipif(os.geteuid() != 0, reason="other users have directories of their own")
@pytest.mark.parametrize("below", ["", "pylsyncd.service"], ids=["by hand", "unit"])
def test_other_users_reach_their_sockets_in_the_directory_that_root_has_created(
    below: str, tmp_path: Path
) -> None:
    (tmp_path / "run" / below).mkdir(parents=True)
    (tmp_path / "run").chmod(0o700)
    code = """
from pylsyncd.system import directories
directories.SYSTEM_RUNTIME_DIRECTORY = os.path.abspath("run")
print(json.dumps(prepare(control="").control_path))
"""
    directory = str(tmp_path / "run" / below)
    assert run(code, tmp_path, RUNTIME_DIRECTORY=directory) == f"{directory}/"
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755


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
