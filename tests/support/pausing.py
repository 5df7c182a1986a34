"""A point at which programs wait until a test lets them go on."""

import shlex
import shutil
from pathlib import Path

MAX_COUNT = 3
# Nothing is written, because it may run where no file can be.
_SCRIPT = """#!/bin/sh
cd {directory} || exit 0
if {mv} "$1-1" reached 2>/dev/null; then
    tries=0
    while [ -e reached ] && [ $tries -lt 1000 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
else
    {mv} "$1-2" "$1-1" 2>/dev/null || {mv} "$1-3" "$1-2" 2>/dev/null
fi
exit 0
"""


class PausePoint:
    """A point in several programs, each of which runs ``program`` with the name of its step."""

    def __init__(self, directory: Path) -> None:
        """Create one in an existing directory."""
        self._directory = directory
        self.program = directory / "pause"
        self._reached = directory / "reached"
        # One of the programs that wait may be called mv.
        names = {"directory": str(directory), "mv": shutil.which("mv") or "mv"}
        text = _SCRIPT.format(**{key: shlex.quote(value) for key, value in names.items()})
        _write_program(self.program, text)

    def wrap(self, name: str, step: str, pattern: str, *, program: str | None = None) -> Path:
        """Create a program that pauses if its arguments match, and then runs the real one.

        The pattern is one of the shell's ``case``. The program is in a directory of its own.
        """
        real = program or shutil.which(name)
        assert real is not None, f"there is no {name}"
        wrapper = self._directory / step / name
        wrapper.parent.mkdir()
        pause = f"{shlex.quote(str(self.program))} {step}"
        text = f'case " $* " in {pattern}) {pause};; esac\nexec {shlex.quote(real)} "$@"'
        _write_program(wrapper, f"#!/bin/sh\n{text}\n")
        return wrapper

    def pause_at(self, step: str, number: int) -> None:
        """Let the next process wait that comes to a step, or the second or third one."""
        assert 1 <= number <= MAX_COUNT
        (self._directory / f"{step}-{number}").touch()

    @property
    def is_reached(self) -> bool:
        """True while a process waits, or after it has waited for too long."""
        return self._reached.exists()

    def release(self) -> None:
        """Let the process go on; none waits after that."""
        for path in (self._reached, *self._directory.glob("*-[1-3]")):
            path.unlink(missing_ok=True)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
