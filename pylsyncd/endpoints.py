"""The notation of sources and destinations: what is watched, and where its copies go.

Pure: what has to be asked of the disk comes in as arguments.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from itertools import permutations

from pylsyncd import paths
from pylsyncd.errors import UsageError

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
class Source:
    """The watched directory.

    ``path`` is absolute, without a trailing slash, ``.`` or doubled slashes. ``..`` stays where it
    follows a name, since that name may be a symbolic link. ``below`` is the path relative to the
    virtual root, which is what is appended to a destination. ``is_full_path`` tells that there is
    no virtual root and that ``below`` was written from ``/`` on.
    """

    path: bytes
    below: bytes
    is_full_path: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """One rsync destination.

    ``name`` is unique and printable; ``written`` is for messages; ``host`` is without user and
    brackets, None where there is none. ``target`` is what rsync gets as its destination argument
    for the source's root: it ends with a slash and never looks like an option.
    """

    name: str
    written: str
    transport: Transport
    host: str | None
    target: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """A destination as it was written, before the source's path is appended.

    ``head`` is all that stands before the path in rsync's argument, ``base`` the path: absolute
    for a local directory, and beginning with the module for a daemon.
    """

    text: bytes
    transport: Transport
    head: bytes
    host: bytes
    base: bytes
    port: int = _DAEMON_PORT

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called, the shortest first, the most telling last."""
        if self.transport is Transport.LOCAL:
            short, telling = self.base.rpartition(b"/")[2] or b"/", self.base
        else:
            host = b"[" + self.host + b"]" if b":" in self.host else self.host
            colons = b":" if self.transport is Transport.SHELL else b"::"
            short, telling = self.host, host + colons + self.base
        return paths.show(short), paths.show(telling), paths.show(self.text)


def parse_source(text: bytes, *, cwd: bytes) -> Source:
    """Return what a source's notation means; a relative one is below ``cwd``, an absolute path.

    As with ``rsync -R``, the first ``/./`` marks the virtual root; a trailing ``/.`` counts.
    """
    _refuse_unusable(text, "source")
    _, mark, below = (text + b"/").partition(b"/./")
    parts = [part for part in (below if mark else text).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise UsageError(
            f"The source {paths.show(text)} holds '..' in the part that is appended to a "
            "destination, so that nobody can tell where its copy belongs: mark the virtual root "
            "with /./ behind the last '..', as in ../directory/./ or /srv/../opt/./directory."
        )
    is_full_path = not mark and text.startswith(b"/")
    return Source(_absolute(text, cwd), b"/".join(parts), is_full_path)


def parse_destinations(
    texts: Sequence[bytes],
    source: Source,
    *,
    cwd: bytes,
    is_directory: Callable[[bytes], bool],
    resolve: Callable[[bytes], bytes],
) -> tuple[Destination, ...]:
    """Return what the notations of all destinations of a source mean, in their order.

    ``is_directory`` and ``resolve`` are asked about absolute paths, of which some do not exist:
    ``os.path.isdir`` and ``os.path.realpath`` do.
    """
    places = [_parse_place(text, cwd, is_directory) for text in texts]
    targets = [_target(place, source) for place in places]
    spots = [_spot(place, target, resolve) for place, target in zip(places, targets, strict=True)]
    for place, spot in zip(places, spots, strict=True):
        if place.transport is Transport.LOCAL:
            _refuse_overlap_with_source(place, spot, resolve(source.path).rstrip(b"/"))
    _refuse_overlaps_among(zip(places, spots, strict=True))
    return tuple(
        Destination(
            name,
            paths.show(place.text),
            place.transport,
            place.host.decode("utf-8", "surrogateescape") or None,
            target,
        )
        for place, target, name in zip(places, targets, _unique_names(places), strict=True)
    )


def _refuse_unusable(text: bytes, what: str) -> None:
    if not text:
        raise UsageError(f"A {what} is empty: write '.' for the current directory.")
    if b"\0" in text:
        raise UsageError(
            f"The {what} {paths.show(text)} holds a NUL, which no path can: remove it."
        )


def _absolute(path: bytes, cwd: bytes) -> bytes:
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


def _parse_place(text: bytes, cwd: bytes, is_directory: Callable[[bytes], bool]) -> _Place:
    _refuse_unusable(text, "destination")
    if text[: len(_URL)].lower() == _URL:
        return _parse_url(text)
    if foreign := _FOREIGN_URL.match(text):
        raise UsageError(
            f"rsync has no {foreign[0].decode()} URLs: write HOST:/path for a remote shell, "
            "rsync://HOST/MODULE for an rsync daemon, or /path for a local directory."
        )
    before_slash, slash, _ = text.partition(b"/")
    if text in {b".", b".."} or (slash and b":" not in before_slash):
        return _Place(text, Transport.LOCAL, b"", b"", _absolute(text, cwd))
    user_and_host, host, rest = _parse_host(text, text)
    if not rest and is_directory(_absolute(text, cwd)):
        name = paths.show(text)
        raise UsageError(
            f"The destination {name} could be a host or the directory of that name here: write "
            f"./{name} for the directory or {name}: for the host."
        )
    if rest.startswith(b"::"):
        module = _checked_module(rest[2:], text)
        return _Place(text, Transport.DAEMON, user_and_host + b"::", host, module)
    return _Place(text, Transport.SHELL, user_and_host + b":", host, rest[1:])


def _parse_url(text: bytes) -> _Place:
    """Return the place that ``rsync://[USER@]HOST[:PORT]/MODULE[/PATH]`` names."""
    authority, _, path = text[len(_URL) :].partition(b"/")
    if _holds_password(authority, path):
        # Nothing of the text is shown, since the log is no place for it either.
        raise UsageError(
            "An rsync URL holds a password, where everybody can read it: put it into a file and "
            "say --rsync-option=--password-file=FILE."
        )
    user_and_host, host, rest = _parse_host(authority, text)
    port = _checked_port(rest[1:], text) if rest else _DAEMON_PORT
    head = _URL + user_and_host + rest + b"/"
    return _Place(text, Transport.DAEMON, head, host, _checked_module(path, text), port)


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
    if b"\n" in login + host:
        raise _bad_host(text, "has a line break in its host")
    return login + written, host, rest


def _bad_host(text: bytes, complaint: str) -> UsageError:
    return UsageError(
        f"The destination {paths.show(text)} {complaint}: correct it, or write ./ in front of the "
        "name of a local directory."
    )


def _refuse_unbracketed_ipv6(beginning: bytes, text: bytes) -> None:
    """Refuse what rsync would split at the first colon of an IPv6 address."""
    written = beginning.partition(b"/")[0].rpartition(b"@")[2]
    for address in (written, written.rpartition(b"::")[0], written.rpartition(b":")[0]):
        if _is_ipv6(address):
            raise UsageError(
                f"The IPv6 address in the destination {paths.show(text)} needs brackets, since "
                f"rsync takes what follows the first colon for a path: write "
                f"[{paths.show(address)}]. (A module whose name looks like part of an address is "
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
        f"The port in the destination {paths.show(text)} is not a number from 1 to {_LAST_PORT}: "
        "correct it, as in rsync://HOST:8730/MODULE, or leave it out."
    )


def _checked_module(path: bytes, text: bytes) -> bytes:
    """Return the path at a daemon, which begins with the module."""
    module = path.partition(b"/")[0]
    if not module or b"\n" in module:
        raise UsageError(
            f"The destination {paths.show(text)} names no module of the rsync daemon: write "
            "HOST::MODULE or rsync://HOST/MODULE, with a path behind it if you like. "
            "A path through a remote shell has one colon: HOST:/path."
        )
    return path


def _target(place: _Place, source: Source) -> bytes:
    """Return rsync's destination argument for the source's root."""
    if place.transport is Transport.SHELL:
        return place.head + _shell_path(place.base, source)
    path = _joined(place.base, source.below)
    if place.transport is Transport.DAEMON:
        module, _, rest = path.partition(b"/")
        # rsync 3.5.0's daemon cuts the module off and takes "-x/" for options (exit status 4).
        path = module + (b"/./" if rest.startswith(b"-") else b"/") + rest
    return place.head + path


def _joined(directory: bytes, below: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + (below + b"/" if below else b"")


def _shell_path(base: bytes, source: Source) -> bytes:
    """Return a path as the remote shell and rsync there take it, from the login's home on."""
    if base:
        path = _joined(base, source.below)
        return b"./" + path if path.startswith(b"-") else path
    if source.is_full_path:
        return _joined(b"/", source.below)
    if not source.below:
        return b"./"
    # "host:" and ":x" would make a module, and the shell knows "~x" as a home; a tilde that was
    # written at the destination is meant so.
    return (b"./" if source.below.startswith((b"-", b":", b"~")) else b"") + source.below + b"/"


def _spot(place: _Place, target: bytes, resolve: Callable[[bytes], bytes]) -> bytes:
    """Return where a target is, as a path: the same for the same spot, however it is written."""
    if place.transport is Transport.LOCAL:
        return resolve(target).rstrip(b"/")
    path = target[len(place.head) :].rstrip(b"/")
    if place.transport is Transport.DAEMON:
        return b"%s:%d/%s" % (place.host, place.port, path)
    if target.startswith((b"/", b"~"), len(place.head)):
        return place.head + path
    return place.head + paths.join(b"~", b"" if path == b"." else path.removeprefix(b"./"))


def _refuse_overlap_with_source(place: _Place, spot: bytes, source: bytes) -> None:
    name = f"The destination {paths.show(place.text)} ({paths.show(spot or b'/')})"
    if spot == source:
        raise UsageError(f"{name} is the source itself: name another directory.")
    if paths.covers(source, spot):
        raise UsageError(
            f"{name} lies inside the source {paths.show(source or b'/')}, so that each copy would "
            "be copied again: name a directory outside the source."
        )
    if paths.covers(spot, source):
        raise UsageError(
            f"{name} contains the source {paths.show(source)}, so that deleting what the source "
            "does not hold would delete the source: name a directory that does not contain it."
        )


def _refuse_overlaps_among(places: Iterable[tuple[_Place, bytes]]) -> None:
    """Refuse a destination that is, or lies inside, another one."""
    for (one, spot), (other, other_spot) in permutations(places, 2):
        if spot == other_spot:
            raise UsageError(
                f"The destinations {paths.show(one.text)} and {paths.show(other.text)} are the "
                "same place: leave one of them out."
            )
        if paths.covers(spot, other_spot):
            raise UsageError(
                f"The destination {paths.show(other.text)} lies inside the destination "
                f"{paths.show(one.text)}, whose runs would delete it: name a directory outside."
            )


def _unique_names(places: Sequence[_Place]) -> list[str]:
    """Return a name for each place: all that collide become more telling, until none does."""
    levels = [0] * len(places)
    shown = [paths.show(place.text) for place in places]
    while True:
        names = [place.names[level] for place, level in zip(places, levels, strict=True)]
        count = Counter(names)
        vague = [i for i, name in enumerate(names) if count[name] > 1 and names[i] != shown[i]]
        if not vague:
            return names
        for index in vague:
            levels[index] += 1
