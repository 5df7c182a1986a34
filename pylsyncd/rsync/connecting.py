"""Connects to a remote destination without rsync's work, to find out whether it answers.

A run that waits for a connection keeps the source busy: its file system could not be unmounted. So
the connection comes first, with a program that works in another directory.

Measured with OpenSSH 9.2 and rsync 3.5.0:

* ``ssh -N`` asks for no session, so that a forced command does not run. With ControlPersist it goes
  to the background after the login, and is the shared connection of the runs that follow. Without,
  it would wait for ever: it runs a LocalCommand after the login, and is stopped by the output.
* rsync without a module asks a daemon for the list of modules. It needs no password, and
  ``--contimeout`` does not end before the greeting of the daemon, ``--timeout`` does.
"""

import math
from typing import Final

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.arguments import CONNECT_TIMEOUT, encode
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, interpret
from pylsyncd.rsync.output_capture import CapturedOutput
from pylsyncd.rsync.remote_shell import ssh_login_command

MAX_CONNECT_SECONDS: Final = 2.0 * CONNECT_TIMEOUT
"""After which it is left to rsync to find out whether a destination answers."""

# Seconds for an rsync daemon to answer; rsync notices up to twice as late that they are over.
_GREETING_TIMEOUT = 15

_KEEPING_OPEN = (b"-N",)
_ENDING = (
    b"-N", b"-o", b"ControlMaster=no", b"-o", b"ControlPath=none",
    b"-o", b"PermitLocalCommand=yes", b"-o", b"LocalCommand=echo connected",
)  # fmt: skip

# The exit statuses that tell that no connection was made, or no login.
_SSH_FAILED = frozenset([255])
_DAEMON_FAILED = frozenset([10, 30, 35])

# The options for rsync that concern the connection to a daemon.
_DAEMON_OPTIONS = ("-4", "-6", "--ipv4", "--ipv6", "--address=", "--sockopts=", "--contimeout=")


def ssh_command(rsh: str, destination: Destination, *, is_shared: bool) -> list[bytes]:
    """Return the command that logs in; it prints something, or ends, when that is done.

    With ``is_shared``, ``rsh`` is a remote shell that shares its connection, which stays open.
    Raises ValueError if ``rsh`` has a quote without an end.
    """
    limit = [] if "connecttimeout" in rsh.lower() else [f"ConnectTimeout={CONNECT_TIMEOUT}"]
    options = [each for option in limit for each in (b"-o", encode(option))]
    return ssh_login_command(
        rsh, destination, [*(_KEEPING_OPEN if is_shared else _ENDING), *options]
    )


def daemon_command(options: RsyncOptions, destination: Destination) -> list[bytes]:
    """Return the command that asks an rsync daemon for its modules."""
    timeout = min(_GREETING_TIMEOUT, math.ceil(options.timeout))
    return [
        encode(options.program), b"--list-only",
        b"--contimeout=%d" % CONNECT_TIMEOUT, b"--timeout=%d" % timeout,
        *(encode(each) for each in options.extra_options if each.startswith(_DAEMON_OPTIONS)),
        b"--", _without_module(destination.target),
    ]  # fmt: skip


def _without_module(target: bytes) -> bytes:
    if target.startswith(b"rsync://"):
        return b"/".join(target.split(b"/")[:3]) + b"/"
    # Colons in brackets belong to an IPv6 address.
    host = target.find(b"]") + 1 if b"[" in target.partition(b"::")[0] else 0
    return target[: target.index(b"::", host) + 2]


def connection_failure(transport: Transport, ended: CapturedOutput) -> Outcome | None:
    """Return why no connection was made; None if one was, or if that is not known."""
    failed = _SSH_FAILED if transport is Transport.SHELL else _DAEMON_FAILED
    if ended.output or ended.has_timed_out or ended.exit_status not in failed:
        return None
    return interpret(
        ended.exit_status, ended.messages.decode("utf-8", "backslashreplace").splitlines()
    )
