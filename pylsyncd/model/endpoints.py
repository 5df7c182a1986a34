"""Sources and destinations: which directory is watched, and where its copies go.

Pure: the file system is consulted through arguments.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from pylsyncd.model import paths
from pylsyncd.model.destination_notation import (
    ParsedDestination,
    Transport,
    absolute_path,
    check_usable,
    parse_destination,
)
from pylsyncd.model.errors import UsageError

# Redundant parts within a path. A leading "./" stays, as it may keep a path from being an option.
_REDUNDANT = re.compile(rb"/(?:\.?/)+")

Resolve = Callable[[bytes], bytes]
"""Returns a path without symbolic links, as ``os.path.realpath`` does."""


@dataclass(frozen=True, slots=True)
class Source:
    """The watched directory.

    ``path`` is absolute, without a trailing slash, ``.`` or doubled slashes. ``..`` stays where it
    follows a name, since that name may be a symbolic link. ``relative_path`` is relative to the
    virtual root and is appended to a destination. With ``is_full_path`` there is no virtual root,
    and ``relative_path`` is the full path without its first slash.
    """

    path: bytes
    relative_path: bytes
    is_full_path: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """An rsync destination.

    ``name`` is unique in its sync and printable; ``notation`` is the destination as it is
    configured; ``host`` has neither user nor brackets, and is None for a local destination.
    ``target`` is rsync's argument for the source's root: it ends with a slash and cannot be
    mistaken for an option.
    """

    name: str
    notation: str
    transport: Transport
    host: str | None
    target: bytes
    location: bytes = b""
    """A real path, or a host and a path: the same for every notation of the same directory."""
    aliases: tuple[str, ...] = field(default=(), compare=False)
    """Longer names that stand for this destination of its sync alone."""


def parse_source(text: bytes, *, cwd: bytes) -> Source:
    """Return the source that a notation describes; a relative one is below ``cwd``.

    As with ``rsync -R``, the first ``/./`` marks the virtual root; a trailing ``/.`` counts.
    """
    check_usable(text, "source")
    _, mark, below = (text + b"/").partition(b"/./")
    parts = _parts(below if mark else text)
    if b".." in parts:
        raise UsageError(
            f"The source {paths.printable(text)} has '..' in the part that is appended to a "
            "destination, so the place of its copy is undefined: mark the virtual root with /./ "
            "after the last '..', as in ../directory/./ or /srv/../opt/./directory."
        )
    is_full_path = not mark and text.startswith(b"/")
    return Source(absolute_path(text, cwd), b"/".join(parts), is_full_path)


def parse_destinations(  # noqa: PLR0913  # all but two are passed by name
    texts: Sequence[bytes],
    source: Source,
    *,
    cwd: bytes,
    is_directory: Callable[[bytes], bool],
    resolve: Resolve,
    names: Sequence[str] = (),
) -> tuple[Destination, ...]:
    """Return the destinations of a source that the notations describe, in their order.

    ``is_directory`` and ``resolve`` take absolute paths that need not exist, as
    ``os.path.isdir`` and ``os.path.realpath`` do. ``names`` has the name that each was given, empty
    for one that is named after its host or directory.
    """
    parsed = [parse_destination(text, cwd, is_directory) for text in texts]
    targets = [_target(each, source, resolve) for each in parsed]
    locations = [
        _location(each, target, resolve) for each, target in zip(parsed, targets, strict=True)
    ]
    located = list(zip(parsed, locations, strict=True))
    for each, location in located:
        if each.transport is Transport.LOCAL:
            _refuse_overlap_with_source(each, location, resolve(source.path).rstrip(b"/"))
    _refuse_overlaps_among(located)
    return tuple(
        Destination(
            known[0],
            paths.printable(each.text),
            each.transport,
            each.host.decode("utf-8", "surrogateescape") or None,
            target,
            location,
            known[1:],
        )
        for (each, location), target, known in zip(
            located, targets, _unique_names(parsed, names or [""] * len(parsed)), strict=True
        )
    )


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in {b"", b"."}]


def _target(destination: ParsedDestination, source: Source, resolve: Resolve) -> bytes:
    """Return rsync's destination argument for the source's root."""
    if destination.transport is Transport.SHELL:
        return destination.prefix + _shell_path(destination.path, source)
    path = _join_normalized(destination.path, source.relative_path)
    if destination.transport is Transport.LOCAL and b"/../" in path:
        # "x/../y" is not created if x is missing (rsync 3.5.0, --mkpath).
        path = resolve(path).rstrip(b"/") + b"/"
    if destination.transport is Transport.DAEMON:
        module, _, rest = path.partition(b"/")
        # rsync 3.5.0's daemon removes the module and takes "-x/" as options (exit status 4).
        path = module + (b"/./" if rest.startswith(b"-") else b"/") + rest
    return destination.prefix + path


def _join_normalized(directory: bytes, below: bytes) -> bytes:
    # rsync 3.5.0 --mkpath also fails to create "x/./y" if x is missing.
    return _REDUNDANT.sub(b"/", directory + b"/" + (below + b"/" if below else b""))


def _shell_path(base: bytes, source: Source) -> bytes:
    """Return a path for the remote shell and its rsync, relative to the login's home directory."""
    below = source.relative_path
    if base:
        path = _join_normalized(base, below)
        return b"./" + path if path.startswith(b"-") else path
    if source.is_full_path:
        return _join_normalized(b"/", below)
    if not below:
        return b"./"
    # "host:" and ":x" would be a module, and the shell expands "~x". A tilde in the destination's
    # own notation is meant to be expanded.
    return (b"./" if below.startswith((b"-", b":", b"~")) else b"") + below + b"/"


def _location(destination: ParsedDestination, target: bytes, resolve: Resolve) -> bytes:
    """Return the location of a target, the same for every notation of it.

    On another machine ``..`` stays, since the name before it may be a symbolic link.
    """
    if destination.transport is Transport.LOCAL:
        return resolve(target).rstrip(b"/")
    host = destination.host.lower()
    remote_path = target[len(destination.prefix) :]
    path = b"/".join(_parts(remote_path))
    if destination.transport is Transport.DAEMON:
        return b"%s:%d/%s" % (host, destination.port, path)
    if remote_path.startswith(b"/"):
        path = b"/" + path if path else b""
    elif not remote_path.startswith(b"~"):
        path = paths.join(b"~", path)
    login, at, _ = destination.prefix.rpartition(b"@")
    return login + at + host + b":" + path


def _refuse_overlap_with_source(
    destination: ParsedDestination, location: bytes, source: bytes
) -> None:
    shown_location = paths.printable(location or b"/")
    name = f"The destination {paths.printable(destination.text)} ({shown_location})"
    if location == source:
        raise UsageError(f"{name} is the source itself: name another directory.")
    if paths.covers(source, location):
        raise UsageError(
            f"{name} lies inside the source {paths.printable(source or b'/')}, so every copy "
            "would be copied again: name a directory outside the source."
        )
    if paths.covers(location, source):
        raise UsageError(
            f"{name} contains the source {paths.printable(source)}, so deleting extraneous files "
            "would delete the source: name a directory that does not contain it."
        )


def _refuse_overlaps_among(located: Iterable[tuple[ParsedDestination, bytes]]) -> None:
    """Refuse a destination that is the same directory as another one, or inside it."""
    for (one, location), (other, other_location) in permutations(located, 2):
        first, second = paths.printable(one.text), paths.printable(other.text)
        if location == other_location:
            raise UsageError(
                f"The destinations {first} and {second} are the same directory: remove one of them."
            )
        if paths.covers(location, other_location):
            raise UsageError(
                f"The destination {second} lies inside the destination {first}, whose syncs would "
                "delete it: name a directory outside of it."
            )


def _unique_names(
    destinations: Sequence[ParsedDestination], given: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the name of each destination, and longer ones that stand for it alone.

    Without a given name, that is the shortest name that no earlier destination could have: one that
    is added at the end changes no other's name.
    """
    possible = [
        (name, *each.candidate_names[1:]) if name else each.candidate_names
        for each, name in zip(destinations, given, strict=True)
    ]
    count = Counter(name for each in possible for name in dict.fromkeys(each))
    taken: set[str] = set()
    found = []
    for candidates, given_name in zip(possible, given, strict=True):
        free = [each for each in candidates if each not in taken]
        if given_name and given_name not in free:
            raise UsageError(
                f"Another destination already has the name {given_name}: choose another name."
            )
        name = free[0] if free else candidates[-1]
        taken |= set(candidates)
        unshared = (each for each in candidates if count[each] == 1 and each != name)
        found.append((name, *dict.fromkeys(unshared)))
    return found
