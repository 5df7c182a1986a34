"""Runs a command in the process of the test, which takes milliseconds."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from pylsyncd import cli, ctl


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


def run_pylsyncctl(runtime_directory: Path, *words: str | Path) -> CommandResult:
    """Run the command ``pylsyncctl`` for the daemons whose sockets are in a directory."""
    with patch.dict(os.environ, RUNTIME_DIRECTORY=str(runtime_directory)):
        return run_main(ctl.main, *words)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
