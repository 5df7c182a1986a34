"""The command of a remote shell, as rsync builds it. Pure."""

import re
from collections.abc import Iterable

from pylsyncd.model.destination_notation import path_offset
from pylsyncd.model.endpoints import Destination

# Within quotes, a doubled quote stands for itself.
_QUOTED = r"""'(?:[^']|'')*'(?!')|"(?:[^"]|"")*"(?!")"""
_WORD = rf"""(?:{_QUOTED}|[^ '"])+"""
_WORDS = re.compile(rf" *(?:{_WORD}(?: +|$))*")


def remote_shell_command(rsh: str, destination: Destination, remote: bytes) -> list[bytes]:
    """Return the command that runs the text ``remote`` in the login shell of a destination.

    Raises ValueError if the option --rsh has a quote without an end.
    """
    return [*ssh_login_command(rsh, destination, ()), remote]


def ssh_login_command(rsh: str, destination: Destination, options: Iterable[bytes]) -> list[bytes]:
    """Return the remote shell with further options, and without a command.

    Raises ValueError if the option --rsh has a quote without an end.
    """
    words = [word.encode(errors="surrogateescape") for word in split_words(rsh)]
    authority = destination.target[: path_offset(destination.target) - 1]
    login, _, host = authority.rpartition(b"@")
    user = [b"-l", login] if login else []
    return [*words, *options, *user, host.removeprefix(b"[").removesuffix(b"]")]


def remote_path(destination: Destination) -> bytes:
    """Return the path of a destination, which may be relative to the login's home directory."""
    return destination.target[path_offset(destination.target) :]


def split_words(rsh: str) -> list[str]:
    """Return the words of the option --rsh: blanks separate them, unless they are quoted.

    A backslash has no meaning (do_cmd in rsync's main.c). Raises ValueError if a quote has no end.
    """
    if not _WORDS.fullmatch(rsh):
        raise ValueError("a quote has no end")
    return [re.sub(_QUOTED, _unquoted, word) for word in re.findall(_WORD, rsh)]


def _unquoted(found: re.Match[str]) -> str:
    quote, text = found[0][0], found[0][1:-1]
    return text.replace(2 * quote, quote)
