"""Runs the command pylsyncctl as a process."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from support.daemon import environment

CTL_TIMEOUT = 90.0


class CtlResult(NamedTuple):
    """The exit status and the output of one run."""

    returncode: int
    stdout: str
    stderr: str


class Pylsyncctl:
    """The command, for daemons whose sockets are in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def command(self, *words: str | Path) -> list[str]:
        """Return the command with arguments."""
        return [sys.executable, "-m", "pylsyncd.ctl", *map(str, words)]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment in which commands and daemons use the directory."""
        return environment({"RUNTIME_DIRECTORY": str(self.directory), **(more or {})})

    def run(self, *words: str | Path, more: Mapping[str, str] | None = None) -> CtlResult:
        """Run the command; fail if it prints a traceback."""
        completed = subprocess.run(
            self.command(*words), env=self.environment(more), timeout=CTL_TIMEOUT, check=False,
            capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        stdout, stderr = (text.decode("utf-8") for text in (completed.stdout, completed.stderr))
        assert "Traceback" not in stderr, stderr
        return CtlResult(completed.returncode, stdout, stderr)
