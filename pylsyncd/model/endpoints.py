"""The notation of sources and destinations: what is watched, and where its copies go.

Pure: what has to be asked of the disk comes in as arguments.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import (
    ParsedDestination,
    Transport,
    absolute_path,
    check_usable,
    parse_destination,
)

# What leads nowhere in a path. What stands at its beginning may keep it from being an option.
_IDLE = re.compile(rb"/(?:\.?/)+")


@dataclass(frozen=True, slots=True)
class Source:
    """The watched directory.

    ``path`` is absolute, without a trailing slash, ``.`` or doubled slashes. ``..`` stays where it
    follows a name, since that name may be a symbolic link. ``below`` is the path relative to the
    virtual root, which is what is appended to a destination. ``is_full_path`` tells that there is
    no virtual root and that ``below`` was written from ``/`` on.
    """

    path: bytes
    relative_path: bytes
    is_full_path: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """One rsync destination.

    ``name`` is unique and printable; ``written`` is for messages; ``host`` is without user and
    brackets, None where there is none. ``target`` is what rsync gets as its destination argument
    for the source's root: it ends with a slash and never looks like an option.
    """

    name: str
    notation: str
    transport: Transport
    host: str | None
    target: bytes
    location: bytes = b""
    """Where that is: a real path, or with the host before it, the same however it was written."""


def parse_source(text: bytes, *, cwd: bytes) -> Source:
    """Return what a source's notation means; a relative one is below ``cwd``, an absolute path.

    As with ``rsync -R``, the first ``/./`` marks the virtual root; a trailing ``/.`` counts.
    """
    check_usable(text, "source")
    _, mark, below = (text + b"/").partition(b"/./")
    parts = [part for part in (below if mark else text).split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise UsageError(
            f"The source {paths.printable(text)} holds '..' in the part that is appended to a "
            "destination, so that nobody can tell where its copy belongs: mark the virtual root "
            "with /./ behind the last '..', as in ../directory/./ or /srv/../opt/./directory."
        )
    is_full_path = not mark and text.startswith(b"/")
    return Source(absolute_path(text, cwd), b"/".join(parts), is_full_path)


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
    places = [parse_destination(text, cwd, is_directory) for text in texts]
    targets = [_target(place, source, resolve) for place in places]
    spots = [_spot(place, target, resolve) for place, target in zip(places, targets, strict=True)]
    for place, spot in zip(places, spots, strict=True):
        if place.transport is Transport.LOCAL:
            _refuse_overlap_with_source(place, spot, resolve(source.path).rstrip(b"/"))
    _refuse_overlaps_among(zip(places, spots, strict=True))
    return tuple(
        Destination(
            name,
            paths.printable(place.text),
            place.transport,
            place.host.decode("utf-8", "surrogateescape") or None,
            target,
            spot,
        )
        for place, target, spot, name in zip(
            places, targets, spots, _unique_names(places), strict=True
        )
    )


def _target(place: ParsedDestination, source: Source, resolve: Callable[[bytes], bytes]) -> bytes:
    """Return rsync's destination argument for the source's root."""
    if place.transport is Transport.SHELL:
        return place.prefix + _shell_path(place.path, source)
    path = _joined(place.path, source.relative_path)
    if place.transport is Transport.LOCAL and b"/../" in path:
        # "x/../y" is not created where x is missing (rsync 3.5.0, --mkpath).
        path = resolve(path).rstrip(b"/") + b"/"
    if place.transport is Transport.DAEMON:
        module, _, rest = path.partition(b"/")
        # rsync 3.5.0's daemon cuts the module off and takes "-x/" for options (exit status 4).
        path = module + (b"/./" if rest.startswith(b"-") else b"/") + rest
    return place.prefix + path


def _joined(directory: bytes, below: bytes) -> bytes:
    # "x/./y" is created with difficulty where x is missing, too (rsync 3.5.0, --mkpath).
    return _IDLE.sub(b"/", directory + b"/" + (below + b"/" if below else b""))


def _shell_path(base: bytes, source: Source) -> bytes:
    """Return a path as the remote shell and rsync there take it, from the login's home on."""
    if base:
        path = _joined(base, source.relative_path)
        return b"./" + path if path.startswith(b"-") else path
    if source.is_full_path:
        return _joined(b"/", source.relative_path)
    if not source.relative_path:
        return b"./"
    # "host:" and ":x" would make a module, and the shell knows "~x" as a home; a tilde that was
    # written at the destination is meant so.
    return (
        (b"./" if source.relative_path.startswith((b"-", b":", b"~")) else b"")
        + source.relative_path
        + b"/"
    )


def _spot(place: ParsedDestination, target: bytes, resolve: Callable[[bytes], bytes]) -> bytes:
    """Return where a target is, as a path: the same for the same spot, however it is written.

    At another machine ``..`` stays, since the name before it may be a symbolic link.
    """
    if place.transport is Transport.LOCAL:
        return resolve(target).rstrip(b"/")
    host = place.host.lower()
    written = target[len(place.prefix) :]
    path = b"/".join(part for part in written.split(b"/") if part not in {b"", b"."})
    if place.transport is Transport.DAEMON:
        return b"%s:%d/%s" % (host, place.port, path)
    if written.startswith(b"/"):
        path = b"/" + path if path else b""
    elif not written.startswith(b"~"):
        path = paths.join(b"~", path)
    login, at, _ = place.prefix.rpartition(b"@")
    return login + at + host + b":" + path


def _refuse_overlap_with_source(place: ParsedDestination, spot: bytes, source: bytes) -> None:
    name = f"The destination {paths.printable(place.text)} ({paths.printable(spot or b'/')})"
    if spot == source:
        raise UsageError(f"{name} is the source itself: name another directory.")
    if paths.covers(source, spot):
        raise UsageError(
            f"{name} lies inside the source {paths.printable(source or b'/')}, so that each "
            "copy would "
            "be copied again: name a directory outside the source."
        )
    if paths.covers(spot, source):
        raise UsageError(
            f"{name} contains the source {paths.printable(source)}, so that deleting what the "
            "source "
            "does not hold would delete the source: name a directory that does not contain it."
        )


def _refuse_overlaps_among(places: Iterable[tuple[ParsedDestination, bytes]]) -> None:
    """Refuse a destination that is, or lies inside, another one."""
    for (one, spot), (other, other_spot) in permutations(places, 2):
        if spot == other_spot:
            raise UsageError(
                f"The destinations {paths.printable(one.text)} and "
                f"{paths.printable(other.text)} are the "
                "same place: leave one of them out."
            )
        if paths.covers(spot, other_spot):
            raise UsageError(
                f"The destination {paths.printable(other.text)} lies inside the destination "
                f"{paths.printable(one.text)}, whose runs would delete it: name a directory "
                "outside."
            )


def _unique_names(places: Sequence[ParsedDestination]) -> list[str]:
    """Return a name for each place: all that collide become more telling, until none does."""
    levels = [0] * len(places)
    shown = [paths.printable(place.text) for place in places]
    while True:
        names = [place.candidate_names[level] for place, level in zip(places, levels, strict=True)]
        count = Counter(names)
        vague = [i for i, name in enumerate(names) if count[name] > 1 and names[i] != shown[i]]
        if not vague:
            return names
        for index in vague:
            levels[index] += 1
