"""Substitutes for rsync: one that notes what it is run for, and one that can be away."""

import os
import re
import shlex
import shutil
from typing import NamedTuple

# The list is copied on its way; each run has files of its own, named by its process.
_NOTING = """#!/bin/sh
case " $* " in *" --version "*|*" --dry-run "*) exec {rsync} "$@";; esac
printf '%s\\0' "$@" >{notes}/$$.arguments
case " $* " in *" --files-from=- "*) ;; *) exec {rsync} "$@";; esac
tee {notes}/$$.list | {rsync} "$@"
"""

# Of the letters that may stand before it, none takes a value.
_RECURSES = re.compile(rb"--recursive|--archive|-[a-zA-Z]*[ra][a-zA-Z]*")

_AWAY = """#!/bin/sh
case " $* " in *" --version "*) exec {rsync} "$@";; esac
[ -e {flag} ] && exit 30
exec {rsync} "$@"
"""


class Noted(NamedTuple):
    """One run of rsync that may change something."""

    arguments: tuple[bytes, ...]
    names: int | None
    """How many names were on its list; None when it had none."""

    @property
    def asks_for_the_tree(self) -> bool:
        """Whether it compares all that is there."""
        return self.names is None or any(map(_RECURSES.fullmatch, self.arguments))


class NotingRsync:
    """An executable for ``--rsync`` that notes each run which may change something."""

    def __init__(self, scratch: str) -> None:
        self.program = f"{scratch}/noting-rsync"
        self._notes = f"{scratch}/notes"
        os.mkdir(self._notes)
        _write(self.program, _NOTING, notes=self._notes)

    def runs(self) -> list[Noted]:
        """Return what was noted."""
        return [self._read(name) for name in sorted(os.listdir(self._notes)) if "arguments" in name]

    def _read(self, name: str) -> Noted:
        with open(f"{self._notes}/{name}", "rb") as file:
            arguments = tuple(file.read().split(b"\0")[:-1])
        try:
            with open(f"{self._notes}/{name.replace('arguments', 'list')}", "rb") as file:
                return Noted(arguments, file.read().count(b"\0"))
        except FileNotFoundError:
            return Noted(arguments, None)


class AbsentRsync:
    """An executable for ``--rsync`` that exits 30 (a timeout) as long as it is ``away``."""

    def __init__(self, scratch: str) -> None:
        self.program = f"{scratch}/absent-rsync"
        self._flag = f"{scratch}/away"
        _write(self.program, _AWAY, flag=self._flag)

    def leave(self) -> None:
        """Fail from now on."""
        with open(self._flag, "wb"):
            pass

    def come_back(self) -> None:
        """Work from now on."""
        os.unlink(self._flag)


def _write(program: str, script: str, **values: str) -> None:
    values["rsync"] = shutil.which("rsync") or "rsync"
    quoted = {name: shlex.quote(value) for name, value in values.items()}
    with open(program, "w", encoding="utf-8") as file:
        file.write(script.format(**quoted))
    os.chmod(program, 0o700)
