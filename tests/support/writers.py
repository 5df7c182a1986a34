"""Processes that do random operations in a source, and their logs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.daemon import REPOSITORY, environment
from support.operations import WorkArea

WRITER = "churn.writer"
MAX_TAIL_LINES, MAX_MATCHING_LINES = 40, 120
OPERATION_TIMEOUT = 60.0  # seconds


class Writers:
    """Writer processes, each with a seed and a log of its own; leaving the context kills them."""

    def __init__(
        self,
        area: WorkArea,
        logs: Sequence[Path],
        seed: int,
        seconds: float,
        options: Sequence[str] = (),
    ) -> None:
        self._commands = _commands(area, logs, seed, (f"--seconds={seconds}", *options))
        self._seconds = seconds
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Writers":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        for command in self._commands:
            self.processes.append(subprocess.Popen(command, env=_environment()))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    @property
    def are_writing(self) -> bool:
        """True until all of them have finished."""
        return any(process.poll() is None for process in self.processes)

    def wait(self) -> None:
        """Wait until all have finished."""
        for process in self.processes:
            status = process.wait(self._seconds + OPERATION_TIMEOUT)
            assert status == 0, f"a writer exited with status {status}; see standard error"


class BurstWriters:
    """Writer processes that write in bursts, and keep files open from one to the next."""

    def __init__(
        self, area: WorkArea, logs: Sequence[Path], seed: int, options: Sequence[str] = ()
    ) -> None:
        self._commands = _commands(area, logs, seed, options)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "BurstWriters":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        for command in self._commands:
            process = subprocess.Popen(
                command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            with process:
                pass  # closes its pipes, and waits

    def begin_burst(self, seconds: float) -> None:
        """Let all of them write for so many seconds."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"%f\n" % seconds)
            process.stdin.flush()

    def wait(self) -> None:
        """Wait until all have ended the burst; they keep their files open."""
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n", "a writer has failed"


def _commands(
    area: WorkArea, logs: Sequence[Path], seed: int, options: Sequence[str] = ()
) -> list[tuple[str | bytes, ...]]:
    return [
        (
            *(sys.executable, "-m", WRITER, f"--seed={seed + 1000 * number}", f"--log={log}"),
            *(*options, area.inside, area.outside),
        )
        for number, log in enumerate(logs)
    ]


def _environment() -> dict[str, str]:
    return environment({"PYTHONPATH": str(REPOSITORY / "tests")})


def operations_done(logs: Iterable[Path]) -> int:
    """Return the number of logged operations."""
    return sum(len(log.read_bytes().splitlines()) for log in logs)


def relevant_operations(differences: Iterable[str], logs: Iterable[Path]) -> list[str]:
    """Return the logged operations on the paths that differ, and the end of each log."""
    paths = {line.split(": ")[0][2:-1] for line in differences}
    lines: list[str] = []
    for log in logs:
        done = log.read_text("ascii").splitlines()
        matching = [line for line in done if _mentions(line, paths)]
        lines += [
            f"--- {log.name}, the matching ones of {len(done)} operations:",
            *matching[-MAX_MATCHING_LINES:],
        ]
        lines += [f"--- the end of {log.name}:", *done[-MAX_TAIL_LINES:]]
    return lines


def _mentions(line: str, paths: set[str]) -> bool:
    """Return True if an operation names one of the paths or a directory above it."""
    named = re.findall(r"b'((?:[^'\\]|\\.)+)'", line)
    return any(path == name or path.startswith(f"{name}/") for name in named for path in paths)


def numbered_logs(directory: Path, count: int) -> list[Path]:
    """Return the log paths of so many writers."""
    return [directory / f"operations-{number}" for number in range(count)]


def work_area(inside: Path, outside: Path) -> WorkArea:
    """Return the work area of two existing directories."""
    return WorkArea(os.fsencode(inside), os.fsencode(outside))
