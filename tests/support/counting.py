"""A substitute for rsync that notes each invocation and then becomes the real one."""

import shlex
import shutil
from pathlib import Path

# One write for each invocation: O_APPEND keeps those of parallel workers apart.
SCRIPT = """#!/bin/sh
printf '%s\\0' "$#" "$@" >>{log}
exec {rsync} "$@"
"""
OPTIONS_WITH_VALUES = b"eMfBT@"


class CountingRsync:
    """An executable for ``--rsync``; ``runs`` are its invocations that may change something."""

    def __init__(self, directory: Path, rsync: str | None = None) -> None:
        self.program = directory / "counting-rsync"
        self._log = directory / "counting-rsync.log"
        self._log.touch()
        real = rsync or shutil.which("rsync") or "rsync"
        script = SCRIPT.format(log=shlex.quote(str(self._log)), rsync=shlex.quote(real))
        self.program.write_text(script)
        self.program.chmod(0o755)

    def invocations(self) -> list[list[bytes]]:
        """Return the arguments of every invocation so far, in their order."""
        words = iter(self._log.read_bytes().split(b"\0")[:-1])
        return [[next(words) for _ in range(int(count))] for count in words]

    def changing_runs(self) -> list[list[bytes]]:
        """Return the arguments of each invocation that was not for ``--version`` or a dry run."""
        return [arguments for arguments in self.invocations() if not _only_asks(arguments)]


def _only_asks(arguments: list[bytes]) -> bool:
    if {b"--version", b"--dry-run", b"--help"} & set(arguments):
        return True
    return any(_short_options(argument) & set(b"nV") for argument in arguments)


def _short_options(argument: bytes) -> set[int]:
    """Return the letters of a cluster such as ``-nlptg``, up to one that takes a value."""
    if not argument.startswith(b"-") or argument.startswith(b"--"):
        return set()
    letters: set[int] = set()
    for letter in argument[1:]:
        if letter in OPTIONS_WITH_VALUES:
            break
        letters.add(letter)
    return letters
