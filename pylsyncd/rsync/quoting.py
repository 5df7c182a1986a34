"""Quotes the path of a destination so that it reaches the rsync there unchanged. Pure."""

import re

from pylsyncd.model.destination_notation import Transport, path_offset
from pylsyncd.model.endpoints import Destination

Version = tuple[int, int, int]

# The first version that quotes blanks and quotes in arguments for the remote shell.
_QUOTES_ARGUMENTS: Version = (3, 2, 4)

# Earlier versions append as many bytes of their memory to an argument as it has quoted wildcards
# (NEWS on safe_arg; seen with 3.4.1). Some are patched, which their version does not show.
_QUOTES_WILDCARDS: Version = (3, 5, 0)

# The remote shell, or the remote rsync, expands them.
_WILDCARD = re.compile(rb"[*?\[\]]")

_OWN_HOME = re.compile(rb"\A~/+")
_OTHER_HOME = re.compile(rb"~[^/]")


def needs_secluded_args(destination: Destination, version: Version) -> bool:
    """Return True if the arguments must bypass the remote shell (``--secluded-args``)."""
    if destination.transport is not Transport.SHELL:
        return False
    if version < _QUOTES_ARGUMENTS or any(c in destination.target for c in b"\n`"):
        return True
    return version < _QUOTES_WILDCARDS and _has_wildcard(destination)


def target_argument(destination: Destination, version: Version) -> bytes:
    """Return rsync's argument for a destination, with a path that no remote shell expands."""
    argument = destination.target
    if destination.transport is not Transport.SHELL:
        return argument
    start = path_offset(argument)
    if needs_secluded_args(destination, version):
        # rsync does not expand a tilde, but a relative path begins in the home directory.
        return argument[:start] + _OWN_HOME.sub(b"./", argument[start:])
    return argument[:start] + _WILDCARD.sub(rb"\\\g<0>", argument[start:])


def expands_wildcards(destination: Destination, version: Version) -> bool:
    """Return True if the rsync there expands wildcards in the path, and no quoting prevents it.

    It then writes to a directory that matches, and to the one of that very name only if none does
    (rsync 3.5.0: as a daemon, and with secluded arguments).
    """
    if destination.transport is Transport.LOCAL:
        return False
    if destination.transport is Transport.SHELL and not needs_secluded_args(destination, version):
        return False
    return _has_wildcard(destination)


def _has_wildcard(destination: Destination) -> bool:
    return _WILDCARD.search(destination.target, path_offset(destination.target)) is not None


def has_unexpanded_tilde(destination: Destination, version: Version) -> bool:
    """Return True if the path begins in another user's home, and no shell expands ``~user``.

    The copy then goes to a directory with the literal name ``~user``.
    """
    start = path_offset(destination.target)
    is_other_home = _OTHER_HOME.match(destination.target, start) is not None
    return is_other_home and needs_secluded_args(destination, version)
