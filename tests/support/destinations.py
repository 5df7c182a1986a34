"""Destinations as the command line names them, and the directories where their trees are."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from support.servers import LOOPBACK, RsyncDaemon, SshServer


class Destination(NamedTuple):
    """A destination of the daemon under test."""

    argument: str
    path: bytes
    """Where its tree is found on this machine."""
    name: str
    """What the log calls it."""
    options: tuple[str, ...] = ()
    """What the daemon needs to reach it."""
    ignore: frozenset[str] = frozenset()
    """What its transport cannot keep; see `support.trees.differences`."""


def local(directory: Path) -> Destination:
    """Return a directory as a destination."""
    return Destination(f"{directory}/", os.fsencode(directory), directory.name)


def over_ssh(server: SshServer, directory: Path) -> Destination:
    """Return a directory as a destination that is reached by ssh."""
    return Destination(
        f"localhost:{directory}/", os.fsencode(directory), "localhost", ("-e", server.rsh)
    )


def on_rsync_daemon(server: RsyncDaemon, module: str, subdirectory: str) -> Destination:
    """Return a directory in a module as a destination; it is made, and must not exist yet."""
    directory = server.modules[module] / subdirectory
    directory.mkdir()
    return Destination(
        server.url(module, f"{subdirectory}/"),
        os.fsencode(directory),
        LOOPBACK,
        ignore=server.ignore,
    )


def make_destination(kind: str, directory: Path, request: pytest.FixtureRequest) -> Destination:
    """Return a fresh destination: ``local``, ``ssh``, ``rsyncd``, or ``refusing``.

    The last is a module that refuses --delete-missing-args. Directories in modules are called like
    ``directory``, which is not used then. The servers are fixtures: see conftest.py.
    """
    if kind == "local":
        return local(directory)
    if kind == "ssh":
        return over_ssh(request.getfixturevalue("ssh_server"), directory)
    return on_rsync_daemon(request.getfixturevalue("rsync_daemon"), kind, directory.name)
