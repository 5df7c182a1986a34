"""pylsyncctl as people run it: a process, its two outputs and its exit status."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from support.daemon import environment

CTL_TIMEOUT = 60.0


class CtlResult(NamedTuple):
    """How a run of it ended."""

    returncode: int
    stdout: str
    stderr: str


class Pylsyncctl:
    """Runs it for the daemons whose sockets are in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def command(self, *words: str | Path) -> list[str]:
        """Return what to run."""
        return [sys.executable, "-m", "pylsyncd.ctl", *map(str, words)]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment in which it finds them, and they make their sockets."""
        return environment({"RUNTIME_DIRECTORY": str(self.directory), **(more or {})})

    def run(self, *words: str | Path, more: Mapping[str, str] | None = None) -> CtlResult:
        """Run it to its end; it must not be a traceback."""
        ended = subprocess.run(
            self.command(*words), env=self.environment(more), timeout=CTL_TIMEOUT, check=False,
            capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said, complained = (text.decode("utf-8") for text in (ended.stdout, ended.stderr))
        assert "Traceback" not in complained, complained
        return CtlResult(ended.returncode, said, complained)
