"""An installation of pylsyncd that every user can read; the one under test may be root's."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from support.servers import Unavailable

UNPRIVILEGED_USER = "nobody"
# The packages that it needs, and those that are optional or part of older Pythons.
_REQUIRED = ("pylsyncd", "pyinotify", "daemon", "lockfile")
_OPTIONAL = ("asyncore", "prometheus_client")
_PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


class Installation(NamedTuple):
    """A Python interpreter and the ``PYTHONPATH`` with which it finds pylsyncd."""

    python: str
    path: str


def install_for_all_users(directory: Path) -> Installation:
    """Copy pylsyncd into a directory that every user can search, and return the installation.

    Raises Unavailable if other users cannot run any Python of this machine.
    """
    for name in (*_REQUIRED, *_OPTIONAL):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            _copy(Path(spec.origin), directory)
    reason = ""
    for python in _PYTHONS:
        made = Installation(python, str(directory))
        reason = _problem(made)
        if not reason:
            return made
    raise Unavailable(f"{UNPRIVILEGED_USER} can run no Python here: {reason}")


def _copy(origin: Path, directory: Path) -> None:
    if origin.name == "__init__.py":
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin.parent, directory / origin.parent.name, ignore=ignored)
    else:
        shutil.copy(origin, directory)


def _problem(made: Installation) -> str:
    """Return why another user cannot run it; empty if one can."""
    try:
        run = subprocess.run(
            (made.python, "-c", "import encodings.ascii, pylsyncd.cli"),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": made.path},
            user=UNPRIVILEGED_USER, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return (run.stderr.splitlines() or ["it fails"])[-1] if run.returncode else ""
