"""A wrapper around rsync that records each invocation."""

import shlex
import shutil
from pathlib import Path

# One write for each invocation: O_APPEND keeps the records of parallel workers separate.
SCRIPT = """#!/bin/sh
printf '%s\\0' "$#" "$@" >>{log}
exec {rsync} "$@"
"""
OPTIONS_WITH_VALUES = b"eMfBT@"


class CountingRsync:
    """A program for ``--rsync`` that records its invocations and runs the real rsync."""

    def __init__(self, directory: Path, rsync: str | None = None) -> None:
        self.program = directory / "counting-rsync"
        self._log = directory / "counting-rsync.log"
        self._log.touch()
        real = rsync or shutil.which("rsync") or "rsync"
        script = SCRIPT.format(log=shlex.quote(str(self._log)), rsync=shlex.quote(real))
        self.program.write_text(script)
        self.program.chmod(0o755)

    def invocations(self) -> list[list[bytes]]:
        """Return the arguments of all invocations, in their order."""
        words = iter(self._log.read_bytes().split(b"\0")[:-1])
        return [[next(words) for _ in range(int(count))] for count in words]

    def changing_runs(self) -> list[list[bytes]]:
        """Return the arguments of all invocations that may change something."""
        return [arguments for arguments in self.invocations() if not _changes_nothing(arguments)]


def _changes_nothing(arguments: list[bytes]) -> bool:
    if {b"--version", b"--dry-run", b"--help", b"--list-only"} & set(arguments):
        return True
    return any(_short_options(argument) & set(b"nV") for argument in arguments)


def _short_options(argument: bytes) -> set[int]:
    """Return the letters of bundled options such as ``-nlptg``, up to one that takes a value."""
    if not argument.startswith(b"-") or argument.startswith(b"--"):
        return set()
    letters: set[int] = set()
    for letter in argument[1:]:
        if letter in OPTIONS_WITH_VALUES:
            break
        letters.add(letter)
    return letters
