"""What is written for one source or destination, taken apart: hosts, ports, modules, paths.

Pure: what has to be asked of the disk comes in as arguments.
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
# [USER@]HOST[:REST], as rsync reads it: brackets enclose the whole host or are no brackets.
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
    """A destination as it was written, before the source's path is appended.

    ``head`` is all that stands before the path in rsync's argument, ``base`` the path: absolute
    for a local directory, and beginning with the module for a daemon.
    """

    text: bytes
    transport: Transport
    prefix: bytes
    host: bytes
    path: bytes
    port: int = _DAEMON_PORT

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """What it may be called, the shortest first, the most telling last."""
        if self.transport is Transport.LOCAL:
            short, telling = self.path.rpartition(b"/")[2] or b"/", self.path
        else:
            host = b"[" + self.host + b"]" if b":" in self.host else self.host
            colons = b":" if self.transport is Transport.SHELL else b"::"
            short, telling = self.host, host + colons + self.path
        return paths.printable(short), paths.printable(telling), paths.printable(self.text)


def check_usable(text: bytes, what: str) -> None:
    """Refuse an empty text, and one that no path can be; ``what`` is a source or a destination."""
    if not text:
        raise UsageError(f"A {what} is empty: write '.' for the current directory.")
    if b"\0" in text:
        raise UsageError(
            f"The {what} {paths.printable(text)} holds a NUL, which no path can: remove it."
        )


def absolute_path(path: bytes, cwd: bytes) -> bytes:
    """Return a path as an absolute one.

    ``..`` is resolved only as far as it climbs from ``cwd``, which holds no symbolic links (the
    kernel's word, ``os.getcwdb``); behind a name only the kernel knows where it leads.
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
    """Return what a destination was written as; a relative directory is below ``cwd``."""
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
            f"The destination {name} could be a host or the directory of that name here: write "
            f"./{name} for the directory or {name}: for the host."
        )
    if rest.startswith(b"::"):
        module = _checked_module(rest[2:], text)
        return ParsedDestination(text, Transport.DAEMON, user_and_host + b"::", host, module)
    return ParsedDestination(text, Transport.SHELL, user_and_host + b":", host, rest[1:])


def _parse_url(text: bytes) -> ParsedDestination:
    """Return the place that ``rsync://[USER@]HOST[:PORT]/MODULE[/PATH]`` names."""
    authority, _, path = text[len(_URL) :].partition(b"/")
    if _holds_password(authority, path):
        # Nothing of the text is shown, since the log is no place for it either.
        raise UsageError(
            "An rsync URL holds a password, where everybody can read it: put it into a file and "
            "say --password-file FILE."
        )
    user_and_host, host, rest = _parse_host(authority, text)
    port = _checked_port(rest[1:], text) if rest else _DAEMON_PORT
    head = _URL + user_and_host + rest + b"/"
    return ParsedDestination(text, Transport.DAEMON, head, host, _checked_module(path, text), port)


def _holds_password(authority: bytes, path: bytes) -> bool:
    """Tell whether ``USER:PASSWORD@`` begins a URL; a password with a slash reaches the path."""
    login, _, host = authority.rpartition(b"@")
    port = b"" if host.startswith(b"[") else host.partition(b":")[2]
    return b":" in login or (b"@" in path and bool(port) and not port.isdigit())


def _parse_host(beginning: bytes, text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return user and host as rsync takes them, the host alone, and what follows from a colon on.

    Raises UsageError for what rsync would read as something else than was meant.
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
        raise _bad_host(text, "has no user in front of the @")
    if login.startswith(b"-") or host.startswith(b"-"):
        raise _bad_host(text, "begins with a dash, which the remote shell would take for an option")
    if b"\n" in login or re.search(rb"[\s\x00-\x1f]", host):
        raise _bad_host(text, "has a blank or a line break in its host")
    return login + written, host, rest


def path_offset(argument: bytes) -> int:
    """Return where the path, or the module, begins in rsync's argument for another machine."""
    if argument.startswith(_URL):
        return argument.index(b"/", len(_URL)) + 1
    parts = _HOST.fullmatch(argument)
    return parts.end("host") + 1 if parts else 0


def _bad_host(text: bytes, complaint: str) -> UsageError:
    return UsageError(
        f"The destination {paths.printable(text)} {complaint}: correct it, or write ./ in "
        "front of the "
        "name of a local directory."
    )


def _refuse_unbracketed_ipv6(beginning: bytes, text: bytes) -> None:
    """Refuse what rsync would split at the first colon of an IPv6 address."""
    written = beginning.partition(b"/")[0].rpartition(b"@")[2]
    for address in (written, written.rpartition(b"::")[0], written.rpartition(b":")[0]):
        if _is_ipv6(address):
            raise UsageError(
                f"The IPv6 address in the destination {paths.printable(text)} needs brackets, "
                "since "
                f"rsync takes what follows the first colon for a path: write "
                f"[{paths.printable(address)}]. (A module whose name looks like part of an "
                "address is "
                "written rsync://HOST/MODULE.)"
            )


def _is_ipv6(text: bytes) -> bool:
    try:
        IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return b":" not in text.partition(b"%")[2]


def _checked_port(digits: bytes, text: bytes) -> int:
    # The length first: int() refuses thousands of digits in its own words.
    if digits.isdigit() and len(digits) <= len(str(_LAST_PORT)) and 0 < int(digits) <= _LAST_PORT:
        return int(digits)
    raise UsageError(
        f"The port in the destination {paths.printable(text)} is not a number from 1 to "
        f"{_LAST_PORT}: "
        "correct it, as in rsync://HOST:8730/MODULE, or leave it out."
    )


def _checked_module(path: bytes, text: bytes) -> bytes:
    """Return the path at a daemon, which begins with the module."""
    module = path.partition(b"/")[0]
    if not module or b"\n" in module:
        raise UsageError(
            f"The destination {paths.printable(text)} names no module of the rsync daemon: write "
            "HOST::MODULE or rsync://HOST/MODULE, with a path behind it if you like. "
            "A path through a remote shell has one colon: HOST:/path."
        )
    return path
