"""Destinations of the daemon under test: their arguments, and their directories here."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from support.servers import LOOPBACK, RsyncDaemon, SshServer


class Destination(NamedTuple):
    """A destination of the daemon under test."""

    argument: str
    path: bytes
    """Its directory on this machine."""
    name: str
    """Its name in the log."""
    options: tuple[str, ...] = ()
    """The options that the daemon needs to reach it."""
    ignore: frozenset[str] = frozenset()
    """The attributes that its transport loses; see `support.trees.differences`."""


def local(directory: Path) -> Destination:
    """Return a local directory as a destination."""
    return Destination(f"{directory}/", os.fsencode(directory), directory.name)


def over_ssh(server: SshServer, directory: Path) -> Destination:
    """Return a directory as a destination over ssh."""
    return Destination(
        f"localhost:{directory}/", os.fsencode(directory), "localhost", ("-e", server.rsh)
    )


def on_rsync_daemon(server: RsyncDaemon, module: str, subdirectory: str) -> Destination:
    """Create a directory in a module and return it as a destination."""
    directory = server.modules[module] / subdirectory
    directory.mkdir()
    return Destination(
        server.url(module, f"{subdirectory}/"),
        os.fsencode(directory),
        LOOPBACK,
        ignore=server.ignore,
    )


def make_destination(kind: str, directory: Path, request: pytest.FixtureRequest) -> Destination:
    """Return a new destination: ``local``, ``ssh``, ``rsyncd``, or ``refusing``.

    The last is a module that refuses --delete-missing-args. A directory in a module has the name
    of ``directory``. The servers are fixtures in conftest.py.
    """
    if kind == "local":
        return local(directory)
    if kind == "ssh":
        return over_ssh(request.getfixturevalue("ssh_server"), directory)
    return on_rsync_daemon(request.getfixturevalue("rsync_daemon"), kind, directory.name)
