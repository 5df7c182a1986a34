"""pylsyncd as every user can read it; the one under test may be for root alone."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from support.servers import Unavailable

UNPRIVILEGED_USER = "nobody"
# What it is made of, and what it can go without or is a part of older Pythons.
_NEEDED = ("pylsyncd", "pyinotify", "daemon", "lockfile")
_WELCOME = ("asyncore", "prometheus_client")
_PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


class Installation(NamedTuple):
    """A Python, and what ``PYTHONPATH`` has to be for it to find pylsyncd."""

    python: str
    path: str


def install_for_all_users(directory: Path) -> Installation:
    """Return one that is copied into a directory that everybody can search.

    Raises Unavailable where no Python of this machine can be used by another user.
    """
    for name in (*_NEEDED, *_WELCOME):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            _copy(Path(spec.origin), directory)
    reason = ""
    for python in _PYTHONS:
        made = Installation(python, str(directory))
        reason = _why_not(made)
        if not reason:
            return made
    raise Unavailable(f"no Python can be used by {UNPRIVILEGED_USER} here: {reason}")


def _copy(origin: Path, directory: Path) -> None:
    if origin.name == "__init__.py":
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin.parent, directory / origin.parent.name, ignore=ignored)
    else:
        shutil.copy(origin, directory)


def _why_not(made: Installation) -> str:
    """Return why another user cannot use it; empty when one can."""
    try:
        run = subprocess.run(
            (made.python, "-c", "import encodings.ascii, pylsyncd.cli"),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": made.path},
            user=UNPRIVILEGED_USER, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    except OSError as error:
        return str(error)
    return (run.stderr.splitlines() or ["it fails"])[-1] if run.returncode else ""
