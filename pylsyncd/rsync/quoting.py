"""How the path of a destination reaches the rsync there as it was written. Pure."""

import re

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport, path_offset

Version = tuple[int, int, int]

# Arguments with blanks or quotes reach a remote shell as they are from this version on.
_QUOTES_ARGUMENTS: Version = (3, 2, 4)

# Before this one, rsync appends bytes of its memory to an argument with a quoted wildcard, as many
# as there are wildcards (its NEWS on safe_arg; seen of 3.4.1). Some older ones are patched, which
# their version does not tell.
_QUOTES_WILDCARDS: Version = (3, 5, 0)

# What rsync leaves to the remote shell, or to the rsync there, to make names of.
_WILD = re.compile(rb"[*?\[\]]")

_HOME = re.compile(rb"\A~/+")
_ANOTHERS_HOME = re.compile(rb"~[^/]")


def needs_secluded_args(destination: Destination, version: Version) -> bool:
    """Tell whether the arguments have to be sent past the remote shell."""
    if destination.transport is not Transport.SHELL:
        return False
    if version < _QUOTES_ARGUMENTS or any(c in destination.target for c in b"\n`"):
        return True
    return version < _QUOTES_WILDCARDS and _is_wild(destination)


def target_argument(destination: Destination, version: Version) -> bytes:
    """Return rsync's argument for a destination: no shell takes its path for a pattern."""
    argument = destination.target
    if destination.transport is not Transport.SHELL:
        return argument
    start = path_offset(argument)
    if needs_secluded_args(destination, version):
        # To rsync a tilde is a name like others. But a relative path begins in the home.
        return argument[:start] + _HOME.sub(b"./", argument[start:])
    return argument[:start] + _WILD.sub(rb"\\\g<0>", argument[start:])


def expands_wildcards(destination: Destination, version: Version) -> bool:
    """Tell whether the rsync there takes the path for a pattern, whatever is done here.

    It then goes to what matches, and to the directory of that very name only where nothing does
    (rsync 3.5.0: as a daemon, and with arguments that were sent past the remote shell).
    """
    if destination.transport is Transport.LOCAL:
        return False
    if destination.transport is Transport.SHELL and not needs_secluded_args(destination, version):
        return False
    return _is_wild(destination)


def _is_wild(destination: Destination) -> bool:
    return _WILD.search(destination.target, path_offset(destination.target)) is not None


def has_unexpanded_tilde(destination: Destination, version: Version) -> bool:
    """Tell whether the path begins in another user's home, and no shell is asked where that is.

    It then goes to a directory of the name that is written, ``~user``.
    """
    start = path_offset(destination.target)
    is_anothers = _ANOTHERS_HOME.match(destination.target, start) is not None
    return is_anothers and needs_secluded_args(destination, version)
