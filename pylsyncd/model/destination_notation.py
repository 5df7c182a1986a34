"""Parses the notation of a single destination: host, port, module, path.

Pure: the file system is consulted through arguments.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

_DAEMON_PORT = 873
_LAST_PORT = 65535
_URL = b"rsync://"
_FOREIGN_URL = re.compile(rb"(?:ssh|sftp|scp|file|ftp|https?)://", re.IGNORECASE)
# [USER@]HOST[:REST], as rsync parses it: brackets enclose the whole host, or mean nothing.
_HOST = re.compile(
    rb"(?P<login>(?:[^:/\[\]]*@)?)(?P<host>\[[^/\[\]]*\]|[^:/@\[\]]*)(?P<rest>(?::.*)?)", re.DOTALL
)


class Transport(Enum):
    """How rsync reaches a destination."""

    LOCAL = auto()
    SHELL = auto()
    """Through a remote shell: ``host:path``."""
    DAEMON = auto()
    """An rsync daemon: ``host::module`` or ``rsync://host/module``."""


@dataclass(frozen=True, slots=True)
class ParsedDestination:
    """The parts of a destination's notation, before the source's path is appended.

    ``prefix`` is the part of rsync's argument before the path. ``path`` is absolute for a local
    directory, and begins with the module for an rsync daemon.
    """

    text: bytes
    transport: Transport
    prefix: bytes
    host: bytes
    path: bytes
    port: int = _DAEMON_PORT

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """The names it may have, from the shortest to the full notation."""
        if self.transport is Transport.LOCAL:
            short, long = self.path.rpartition(b"/")[2] or b"/", self.path
        else:
            host = b"[" + self.host + b"]" if b":" in self.host else self.host
            colons = b":" if self.transport is Transport.SHELL else b"::"
            short, long = self.host, host + colons + self.path
        return paths.printable(short), paths.printable(long), paths.printable(self.text)


def check_usable(text: bytes, what: str) -> None:
    """Raise UsageError if a source or destination (``what``) is empty or cannot be a path."""
    if not text:
        raise UsageError(f"A {what} is empty: write '.' for the current directory.")
    if b"\0" in text:
        raise UsageError(
            f"The {what} {paths.printable(text)} contains a NUL byte, which is not possible in a "
            "path: remove it."
        )


def absolute_path(path: bytes, cwd: bytes) -> bytes:
    """Return the absolute form of a path.

    A leading ``..`` is resolved, because ``cwd`` has no symbolic links (``os.getcwdb``). After a
    name it stays, because the name may be a symbolic link.
    """
    start = [] if path.startswith(b"/") else [part for part in cwd.split(b"/") if part]
    named: list[bytes] = []
    for part in path.split(b"/"):
        if part == b".." and not named:
            start = start[:-1]
        elif part not in {b"", b"."}:
            named.append(part)
    return b"/" + b"/".join(start + named)


def parse_destination(
    text: bytes, cwd: bytes, is_directory: Callable[[bytes], bool]
) -> ParsedDestination:
    """Return the parts of a destination; a relative directory is below ``cwd``."""
    check_usable(text, "destination")
    if text[: len(_URL)].lower() == _URL:
        return _parse_url(text)
    if foreign := _FOREIGN_URL.match(text):
        raise UsageError(
            f"rsync has no {foreign[0].decode()} URLs: write HOST:/path for a remote shell, "
            "rsync://HOST/MODULE for an rsync daemon, or /path for a local directory."
        )
    before_slash, slash, _ = text.partition(b"/")
    if text in {b".", b".."} or (slash and b":" not in before_slash):
        return ParsedDestination(text, Transport.LOCAL, b"", b"", absolute_path(text, cwd))
    user_and_host, host, rest = _parse_host(text, text)
    if not rest and is_directory(absolute_path(text, cwd)):
        name = paths.printable(text)
        raise UsageError(
            f"The destination {name} may be a host, and the current directory has a directory of "
            f"that name: write ./{name} for the directory or {name}: for the host."
        )
    if rest.startswith(b"::"):
        module = _checked_module(rest[2:], text)
        return ParsedDestination(text, Transport.DAEMON, user_and_host + b"::", host, module)
    return ParsedDestination(text, Transport.SHELL, user_and_host + b":", host, rest[1:])


def _parse_url(text: bytes) -> ParsedDestination:
    """Return the parts of ``rsync://[USER@]HOST[:PORT]/MODULE[/PATH]``."""
    authority, _, path = text[len(_URL) :].partition(b"/")
    if _contains_password(authority, path):
        # The message does not quote the URL: a password does not belong into the log either.
        raise UsageError(
            "An rsync URL contains a password, which every user can see there: put it into a file "
            "and use --password-file FILE."
        )
    user_and_host, host, rest = _parse_host(authority, text)
    port = _checked_port(rest[1:], text) if rest else _DAEMON_PORT
    prefix = _URL + user_and_host + rest + b"/"
    return ParsedDestination(
        text, Transport.DAEMON, prefix, host, _checked_module(path, text), port
    )


def _contains_password(authority: bytes, path: bytes) -> bool:
    """Return True if a URL begins with ``USER:PASSWORD@``; the password may contain a slash."""
    login, _, host = authority.rpartition(b"@")
    port = b"" if host.startswith(b"[") else host.partition(b":")[2]
    return b":" in login or (b"@" in path and bool(port) and not port.isdigit())


def _parse_host(beginning: bytes, text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return ``USER@HOST`` as rsync takes it, the bare host, and the rest from the colon on.

    Raises UsageError for a notation that rsync would misunderstand.
    """
    _refuse_unbracketed_ipv6(beginning, text)
    parts = _HOST.fullmatch(beginning)
    if parts is None:
        raise _bad_host(text, "has brackets that do not enclose a host, as they do in [::1]:/path")
    login, written, rest = parts["login"], parts["host"], parts["rest"]
    host = written.removeprefix(b"[").removesuffix(b"]")
    if not host:
        raise _bad_host(text, "has no host")
    if login == b"@":
        raise _bad_host(text, "has no user before the @")
    if login.startswith(b"-") or host.startswith(b"-"):
        raise _bad_host(text, "begins with a dash, which the remote shell would take as an option")
    if b"\n" in login or re.search(rb"[\s\x00-\x1f]", host):
        raise _bad_host(text, "has a blank or a line break in its host")
    return login + written, host, rest


def path_offset(argument: bytes) -> int:
    """Return the offset of the path or module in rsync's argument for a remote destination."""
    if argument.startswith(_URL):
        return argument.index(b"/", len(_URL)) + 1
    parts = _HOST.fullmatch(argument)
    return parts.end("host") + 1 if parts else 0


def _bad_host(text: bytes, problem: str) -> UsageError:
    return UsageError(
        f"The destination {paths.printable(text)} {problem}: correct it, or put ./ before the "
        "name of a local directory."
    )


def _refuse_unbracketed_ipv6(beginning: bytes, text: bytes) -> None:
    """Refuse an IPv6 address that rsync would split at its first colon."""
    authority = beginning.partition(b"/")[0].rpartition(b"@")[2]
    for address in (authority, authority.rpartition(b"::")[0], authority.rpartition(b":")[0]):
        if _is_ipv6(address):
            raise UsageError(
                f"The IPv6 address in the destination {paths.printable(text)} needs brackets, "
                "because rsync takes the text after the first colon as a path: write "
                f"[{paths.printable(address)}]. (If a module's name looks like part of an "
                "address, write rsync://HOST/MODULE.)"
            )


def _is_ipv6(text: bytes) -> bool:
    try:
        IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return b":" not in text.partition(b"%")[2]


def _checked_port(digits: bytes, text: bytes) -> int:
    # The length is checked first: int() refuses thousands of digits with its own message.
    if digits.isdigit() and len(digits) <= len(str(_LAST_PORT)) and 0 < int(digits) <= _LAST_PORT:
        return int(digits)
    raise UsageError(
        f"The port in the destination {paths.printable(text)} is not a number from 1 to "
        f"{_LAST_PORT}: correct it, as in rsync://HOST:8730/MODULE, or remove it."
    )


def _checked_module(path: bytes, text: bytes) -> bytes:
    """Return the path on an rsync daemon, which begins with the module, after a check."""
    module = path.partition(b"/")[0]
    if not module or b"\n" in module:
        raise UsageError(
            f"The destination {paths.printable(text)} names no module of the rsync daemon: write "
            "HOST::MODULE or rsync://HOST/MODULE, with a path after it if needed. "
            "A path through a remote shell has one colon: HOST:/path."
        )
    return path
