"""Runs a command in the process of the test, which takes milliseconds."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pylsyncd import cli


class CommandResult(NamedTuple):
    """The exit status and the output of one run."""

    returncode: int
    stdout: str
    stderr: str


def run_main(main: Callable[[Sequence[str]], int], *words: str | Path) -> CommandResult:
    """Run the main function of a command, which must end by itself."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = main([str(word) for word in words])
        except SystemExit as end:
            status = int(end.code or 0)
    return CommandResult(status, *(_text(stream) for stream in (stdout, stderr)))


def run_pylsyncd(*words: str | Path, directory: Path | None = None) -> CommandResult:
    """Run the command ``pylsyncd`` in a current directory."""
    before = os.getcwd()
    os.chdir(directory or before)
    try:
        return run_main(cli.main, *words)
    finally:
        os.chdir(before)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
