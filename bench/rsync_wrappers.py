"""Wrappers around rsync: one that records its runs, and one that can fail."""

import os
import re
import shlex
import shutil
from typing import NamedTuple

# The file list is copied; each run has files of its own, named by its process id.
_RECORDING = """#!/bin/sh
case " $* " in *" --version "*|*" --dry-run "*) exec {rsync} "$@";; esac
printf '%s\\0' "$@" >{notes}/$$.arguments
case " $* " in *" --files-from=- "*) ;; *) exec {rsync} "$@";; esac
tee {notes}/$$.list | {rsync} "$@"
"""

# None of the letters before it takes a value.
_RECURSES = re.compile(rb"--recursive|--archive|-[a-zA-Z]*[ra][a-zA-Z]*")

_FAILING = """#!/bin/sh
case " $* " in *" --version "*) exec {rsync} "$@";; esac
[ -e {flag} ] && exit 30
exec {rsync} "$@"
"""


class RecordedRun(NamedTuple):
    """A run of rsync that may change the destination."""

    arguments: tuple[bytes, ...]
    listed_names: int | None
    """The number of names in its file list; None without a list."""

    @property
    def compares_whole_tree(self) -> bool:
        """True if it compares the whole tree."""
        return any(map(_RECURSES.fullmatch, self.arguments))


class RecordingRsync:
    """A program for ``--rsync`` that records each run that may change the destination."""

    def __init__(self, scratch: str) -> None:
        self.program = f"{scratch}/recording-rsync"
        self._notes = f"{scratch}/notes"
        os.mkdir(self._notes)
        _write(self.program, _RECORDING, notes=self._notes)

    def runs(self) -> list[RecordedRun]:
        """Return the recorded runs, without those that ask a daemon for its modules."""
        names = sorted(name for name in os.listdir(self._notes) if "arguments" in name)
        runs = map(self._read, names)
        return [run for run in runs if run.compares_whole_tree or run.listed_names is not None]

    def _read(self, name: str) -> RecordedRun:
        with open(f"{self._notes}/{name}", "rb") as file:
            arguments = tuple(file.read().split(b"\0")[:-1])
        try:
            with open(f"{self._notes}/{name.replace('arguments', 'list')}", "rb") as file:
                return RecordedRun(arguments, file.read().count(b"\0"))
        except FileNotFoundError:
            return RecordedRun(arguments, None)


class FailingRsync:
    """A program for ``--rsync`` that exits 30 (a timeout) while it is told to fail."""

    def __init__(self, scratch: str) -> None:
        self.program = f"{scratch}/failing-rsync"
        self._flag = f"{scratch}/away"
        _write(self.program, _FAILING, flag=self._flag)

    def start_failing(self) -> None:
        """Fail from now on."""
        with open(self._flag, "wb"):
            pass

    def stop_failing(self) -> None:
        """Work from now on."""
        os.unlink(self._flag)


def _write(program: str, script: str, **values: str) -> None:
    values["rsync"] = shutil.which("rsync") or "rsync"
    quoted = {name: shlex.quote(value) for name, value in values.items()}
    with open(program, "w", encoding="utf-8") as file:
        file.write(script.format(**quoted))
    os.chmod(program, 0o700)
