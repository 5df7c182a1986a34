"""A daemon with a configuration file that it reloads."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from support.counting import CountingRsync
from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd
from support.trees import equal_within

LONG_WINDOW = "3600"
"""Seconds; only SIGUSR1 closes such a window."""

RELOADED_MESSAGE = "Configuration reloaded"


class ReloadSetup(Pylsyncctl):
    """A configuration file, and its sources and destinations."""

    def __init__(self, top: Path) -> None:
        super().__init__(top / "run")
        self.directory_of_test = top
        self.file = top / "pylsyncd.conf"
        self.counting_rsync = CountingRsync(top)
        self.syncs: dict[str, list[str]] = {}

    def source_path(self, sync: str) -> Path:
        path = self.directory_of_test / f"source-{sync}"
        path.mkdir(exist_ok=True)
        return path

    def copy_path(self, name: str) -> Path:
        return self.directory_of_test / "copies" / name

    def set_sync(self, name: str, copies: Sequence[str], *lines: str) -> None:
        """Set a sync for the next ``write_file``."""
        self.syncs[name] = [
            f"source = {self.source_path(name)}/./",
            "destinations =",
            *(f"    {self.copy_path(copy)}" for copy in copies),
            *lines,
        ]

    def write_file(self, *process: str) -> None:
        lines = [
            "[pylsyncd]",
            f"rsync = {self.counting_rsync.program}",
            "initial_sync = yes",
            *process,
        ]
        if not any(line.startswith("window") for line in process):
            lines.append("window = 0.1")
        for name, section in self.syncs.items():
            lines += ["", f"[sync {name}]", *section]
        self.file.write_text("\n".join(lines) + "\n")

    def make_daemon(self, *options: str) -> Pylsyncd:
        return Pylsyncd(
            *("-v", *options, "-c", self.file),
            extra_environment={"RUNTIME_DIRECTORY": str(self.directory)},
        )

    def expect_equal(self, sync: str, *copies: str, seconds: float = 45) -> None:
        for copy in copies:
            found = equal_within(
                os.fsencode(self.source_path(sync)), os.fsencode(self.copy_path(copy)), seconds
            )
            assert found == [], copy

    def wait_until_confirmed(self) -> None:
        answer = self.run("wait", "--timeout", "45")
        assert answer.returncode == 0, answer


def reload(daemon: Pylsyncd, says: str = RELOADED_MESSAGE) -> str:
    """Have the file read again; return what was logged until that was done."""
    mark = daemon.log_length()
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for(says, after=mark)
    return "\n".join(daemon.log.splitlines()[mark:])
