"""A daemon with bugs: its threads raise what a test asks for, where a test asks for it."""

import sys
from pathlib import Path

from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd

CRASHING = "bad"
"""The destination whose threads raise."""

# The bugs are files in the directory of the first argument: where, and the type that is raised.
_PROGRAM = '''
import os, sys, threading
from pylsyncd import cli
from pylsyncd.report import hooks
from pylsyncd.worker import attempts, large_file_worker, pending, session

DIRECTORY = sys.argv.pop(1)

class Interrupted(BaseException):
    """Like KeyboardInterrupt, no Exception."""

def recurse(text):
    return recurse(text) + recurse(text)

def fail_if_asked(place):
    path = os.path.join(DIRECTORY, place)
    if "bad" not in threading.current_thread().name or not os.path.exists(path):
        return
    with open(path) as file:
        kind = file.read().strip()
    with open(path + ".count", "a") as file:
        file.write("x")
    if kind == "RecursionError":
        recurse("x")
    if kind == "UnicodeDecodeError":
        b"\\xff".decode("utf-8")
    raise {**vars(__builtins__), **globals()}[kind]("evil\\n\\x1b[31m" + "x" * 10_000)

def patch(owner, name, place, is_after=False):
    original = getattr(owner, name)
    def patched(*arguments, **options):
        if not is_after:
            fail_if_asked(place)
        result = original(*arguments, **options)
        if is_after:
            fail_if_asked(place)
        return result
    setattr(owner, name, patched)

patch(session.RsyncSession, "run", "interpret", is_after=True)
patch(attempts.Attempts, "finish", "confirm")
patch(pending.PendingWork, "add_changes", "add", is_after=True)
patch(large_file_worker.LargeFileWorker, "_carry", "large")
patch(hooks.HookRunner, "_run_hook", "hook")
sys.exit(cli.main())
'''


class CrashSetup(Pylsyncctl):
    """A source, a good and a bad copy, and the daemon between them."""

    def __init__(self, top: Path, *options: str) -> None:
        super().__init__(top / "run")
        self.top = top
        self.source, self.good, self.bad = top / "source", top / "good", top / CRASHING
        for path in (self.source, self.good, self.bad):
            path.mkdir()
        self.state = top / "state"
        self._options = options
        self._bugs = top / "bugs"
        self._bugs.mkdir()
        self._program = top / "crashing.py"
        self._program.write_text(_PROGRAM)

    @property
    def arguments(self) -> list[str]:
        """The arguments of a daemon, with ``-w`` and what the setup has."""
        return [
            *("-v", "-w", "0.1", *self._options, f"{self.source}/./"),
            *(f"{self.good}/", f"{self.bad}/"),
        ]

    @property
    def program(self) -> list[str]:
        """Python's arguments for the daemon with bugs."""
        return [str(self._program), str(self._bugs)]

    def daemon(self, *options: str) -> "CrashingDaemon":
        return CrashingDaemon(
            *(*options, *self.arguments),
            names=["good", CRASHING],
            state=self.state,
            program=self.program,
            extra_environment={"RUNTIME_DIRECTORY": str(self.directory)},
        )

    def command_line(self, *options: str) -> list[str]:
        """Return the command of a daemon that is no context."""
        state = f"--state-dir={self.state}"
        return [sys.executable, *self.program, state, *options, *self.arguments]

    def add_bug(self, place: str, kind: str = "ValueError") -> None:
        """Raise from now on at a place."""
        hidden = self._bugs / f".{place}"
        hidden.write_text(kind)
        hidden.rename(self._bugs / place)

    def fix_bug(self, place: str) -> None:
        (self._bugs / place).unlink()

    def crash_count(self, place: str) -> int:
        """Return how often it was raised."""
        path = self._bugs / f"{place}.count"
        return path.stat().st_size if path.exists() else 0

    def write(self, name: str, text: str = "x") -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class CrashingDaemon(Pylsyncd):
    """A daemon whose log may contain tracebacks, also such as are logged just now."""

    _may_crash = True
