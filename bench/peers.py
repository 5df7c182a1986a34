"""The programs that are compared: how each is started, known to be ready, and stopped.

lsyncd and inotifywait run as their users would run them. Bare rsync gets the perfect list on its
standard input, which no daemon can beat.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from measure import POLL_SECONDS, QUIET_SECONDS, MeasurementFailed, wait_idle, wait_until

START_SECONDS = 60.0
STOP_SECONDS = 15.0
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The events that pylsyncd asks the kernel for.
EVENTS = "create,modify,close_write,attrib,delete,moved_from,moved_to,delete_self,move_self"

# One rsync for a list: no recursion, nanoseconds compared, what is missing deleted.
BARE_RSYNC = (
    *("rsync", "-lptgoD", "--dirs", "--modify-window=-1", "--delete", "--delete-missing-args"),
    *("--from0", "--files-from=-", "--out-format=%o|%i|%l|%b|%n%L", "--info=stats2", "--no-h"),
    *("--timeout=300", "--"),
)


class Program:
    """A measured program, in a session of its own, with its output in a log."""

    def __init__(
        self, command: Sequence[str], log: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = os.path.basename(command[0])
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if self.name == "inotifywait" else output,
                stderr=output,
                env=environment,
                start_new_session=True,  # so that Ctrl-C reaches only the bench, which stops it
            )
        self.pid = self.process.pid

    def logged(self) -> str:
        """Return the output so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def check(self) -> None:
        """Raise ``MeasurementFailed`` if the program has exited."""
        status = self.process.poll()
        if status is not None:
            said = self.logged().strip().splitlines()
            last = f": {said[-1][-200:]}" if said else ""
            raise MeasurementFailed(f"died ({status}){last}")

    def wait_logged(self, text: str, times: int = 1, poll: float = POLL_SECONDS) -> None:
        """Wait until the output contains ``text`` so many times."""

        def said() -> bool:
            self.check()
            return self.logged().count(text) >= times

        if not wait_until(said, START_SECONDS, poll):
            raise MeasurementFailed(f"did not log '{text}' in {START_SECONDS:.0f} s")

    def wait_idle(self, deadline_seconds: float = 120, quiet: float = QUIET_SECONDS) -> None:
        """Wait until the program has been idle for ``quiet`` seconds."""
        self.check()
        wait_idle(self.pid, deadline_seconds, quiet)

    def stop(self, *, kill: bool = False) -> None:
        """Stop the program, and kill the rest of its session after a grace period."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class Run(NamedTuple):
    """The usage of a bare rsync, in seconds."""

    cpu: float
    wall: float


@dataclass
class Peers:
    """The programs to compare; ``None`` for one that is not installed."""

    scratch: str
    bytecode: str
    """A directory for byte code, which all rows share."""
    pylsyncd: tuple[str, ...] | None
    inotifywait: str | None = field(default_factory=lambda: shutil.which("inotifywait"))
    lsyncd: str | None = field(default_factory=lambda: shutil.which("lsyncd"))

    @contextlib.contextmanager
    def watching(self, program: Program, ready: str, *, kill: bool = False) -> Iterator[Program]:
        """Yield a program once it has logged that it is ready and is idle; stop it at the end."""
        try:
            program.wait_logged(ready)
            program.wait_idle()
            yield program
        finally:
            program.stop(kill=kill)

    def start_pylsyncd(
        self, source: str, destinations: Sequence[str], *options: str, kill: bool = False
    ) -> contextlib.AbstractContextManager[Program]:
        """Start pylsyncd without an initial sync; ``kill`` discards its buffer at the end."""
        program = self.pylsyncd_program(source, destinations, *options)
        return self.watching(program, "watching", kill=kill)

    def pylsyncd_program(
        self, source: str, destinations: Sequence[str], *options: str, state: str | None = None
    ) -> Program:
        """Start pylsyncd without waiting; the default ``state`` directory is empty."""
        if self.pylsyncd is None:
            raise MeasurementFailed("-")
        if state is None:
            state = f"{self.scratch}/state"
            remove(state)
        command = [*self.pylsyncd, "--state-dir", state, *options, f"{source}/./"]
        command += [f"{path}/" for path in destinations]
        return Program(command, f"{self.scratch}/pylsyncd.log", self._environment())

    def pylsyncd_with_file(self, file: str) -> Program:
        """Start pylsyncd with a configuration file, and an empty state directory."""
        if self.pylsyncd is None:
            raise MeasurementFailed("-")
        state = f"{self.scratch}/state"
        remove(state)
        command = [*self.pylsyncd, "--state-dir", state, "-c", file]
        return Program(command, f"{self.scratch}/pylsyncd.log", self._environment())

    def _environment(self) -> dict[str, str]:
        """Return the environment for this repository's pylsyncd, with its byte code cached."""
        environment = {**os.environ, "PYTHONPATH": REPOSITORY}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = self.bytecode
        # Not where the system's daemons have their sockets.
        environment["RUNTIME_DIRECTORY"] = f"{self.scratch}/run"
        return environment

    def start_inotifywait(
        self, source: str, events: str = EVENTS
    ) -> contextlib.AbstractContextManager[Program]:
        """Start inotifywait, by default for the same events, with its output to /dev/null."""
        if self.inotifywait is None:
            raise MeasurementFailed("-")
        command = [self.inotifywait, "-m", "-r", "-e", events, source]
        program = Program(command, f"{self.scratch}/inotifywait.log")
        return self.watching(program, "Watches established")

    def start_lsyncd(
        self, source: str, destinations: Sequence[str], window_seconds: float
    ) -> contextlib.AbstractContextManager[Program]:
        """Start lsyncd with ``archive`` and a delay, one sync for each destination.

        It is idle once its first recursive rsync has ended.
        """
        program = self.lsyncd_program(source, destinations, window_seconds)
        return self.watching(program, "Startup of")

    def lsyncd_program(
        self, source: str, destinations: Sequence[str], window_seconds: float, *options: str
    ) -> Program:
        """Start lsyncd without waiting; the options are for its rsyncs."""
        syncs = [f'default.rsync, target = "{path}/"' for path in destinations]
        return self._lsyncd(source, syncs, window_seconds, options)

    def lsyncd_program_of_many(
        self, sources: Sequence[str], destinations: Sequence[str], window_seconds: float
    ) -> Program:
        """Start lsyncd with a sync for each source, without waiting."""
        syncs = [
            f'default.rsync, target = "{destination}/", source = "{source}/"'
            for source, destination in zip(sources, destinations, strict=True)
        ]
        return self._lsyncd("", syncs, window_seconds, ())

    def lsyncd_over_ssh_program(
        self, source: str, directory: str, ssh: str, window_seconds: float, *options: str
    ) -> Program:
        """Start lsyncd with ``rsyncssh``, which moves by ssh what was moved.

        ``ssh`` is the path of a program that reaches the directory at any host name.
        """
        sync = f'default.rsyncssh, host = "localhost", targetdir = "{directory}/"'
        sync += f', ssh = {{ binary = "{ssh}" }}'
        return self._lsyncd(source, [sync], window_seconds, options, f', rsh = "{ssh}"')

    def _lsyncd(
        self,
        source: str,
        syncs: Sequence[str],
        window_seconds: float,
        options: Sequence[str],
        more: str = "",
    ) -> Program:
        if self.lsyncd is None:
            raise MeasurementFailed("-")
        configuration = f"{self.scratch}/lsyncd.conf"
        settings = "settings { nodaemon = true, insist = true }"
        extra = ", ".join(f'"{option}"' for option in options)
        common = f"delay = {window_seconds:g}"
        if source:
            common += f', source = "{source}/"'
        common += f", rsync = {{ archive = true, _extra = {{ {extra} }}{more} }}"
        with open(configuration, "w", encoding="utf-8") as file:
            print(
                settings, *(f"sync {{ {each}, {common} }}" for each in syncs), sep="\n", file=file
            )
        return Program([self.lsyncd, "-nodaemon", configuration], f"{self.scratch}/lsyncd.log")

    def bare_rsync(self, source: str, destination: str, names: Sequence[bytes]) -> Run:
        """Run one rsync for a list, and return its usage with that of its children.

        wait4 counts what a process has waited for: the sender waits for the generator, and that
        for the receiver, so nothing is missing (compared with /proc of all three).
        """
        with open(f"{self.scratch}/list", "w+b") as file:
            file.writelines(name + b"\0" for name in names)
            file.seek(0)
            command = [*BARE_RSYNC, f"{source}/", f"{destination}/"]
            begun = time.monotonic()
            process = subprocess.Popen(command, stdin=file, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise MeasurementFailed(f"bare rsync exited {process.returncode}")
        return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - begun)


def copy(source: str, destination: str) -> None:
    """Sync a destination before a measurement."""
    command = ["rsync", "-a", "--delete", "--modify-window=-1", f"{source}/", f"{destination}/"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def clone(source: str, new: str) -> None:
    """Create a destination that is in sync, faster than ``copy``."""
    subprocess.run(("cp", "-a", "--", source, new), check=True)  # noqa: S607 - of any system


def remove(path: str) -> None:
    """Remove a tree if it exists."""
    subprocess.run(("rm", "-rf", "--", path), check=True)  # noqa: S607 - many times shutil


def pylsyncd_command(given: str | None) -> tuple[str, ...] | None:
    """Return the command of pylsyncd, or ``None`` if it does not report its version."""
    command = tuple(shlex.split(given)) if given else (sys.executable, "-m", "pylsyncd")
    environment = {**os.environ, "PYTHONPATH": REPOSITORY}
    try:
        done = subprocess.run(
            [*command, "--version"], env=environment, capture_output=True, check=False, timeout=30
        )
    except OSError:
        return None
    return command if done.returncode == 0 else None
