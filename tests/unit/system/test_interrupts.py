"""Ctrl-C while a command is still being imported."""

import signal
import subprocess
import sys

import pytest
from support.daemon import environment

INTERRUPTED_WHILE_IMPORTED = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
from pylsyncd import {command}
raise SystemExit({command}.main())
"""


@pytest.mark.parametrize(
    ("command", "module"), [("cli", "pylsyncd.service"), ("ctl", "pylsyncd.control.client")]
)
def test_ctrl_c_during_the_imports_ends_a_command_silently(command: str, module: str) -> None:
    code = INTERRUPTED_WHILE_IMPORTED.format(command=command, module=module)
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"], env=environment(), capture_output=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, b"", b"")


def test_a_command_that_was_started_with_sigint_ignored_goes_on() -> None:
    code = INTERRUPTED_WHILE_IMPORTED.format(command="ctl", module="pylsyncd.control.client")
    ignoring = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    command = [sys.executable, "-c", ignoring, "--version"]
    run = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.startswith(b"pylsyncctl")
