"""Finds syncs of one process that interfere with each other. Pure.

Between processes, the locks in the state directory prevent that (`state.lock_file`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport


def find_conflicts(
    syncs: Sequence[SyncSettings], real_sources: Sequence[bytes]
) -> Iterator[tuple[int, str]]:
    """Yield an error message for each conflict, with the position of the sync that it is about.

    ``real_sources`` are the paths of the sources without symbolic links.
    """
    for (_, one), (position, other) in combinations(enumerate(syncs), 2):
        for first, second in product(one.destinations, other.destinations):
            is_deleting = one.delete or other.delete
            if is_deleting and first.destination.location == second.destination.location:
                yield position, _same_destination_message(second, one)
    for (_, one), (position, other) in permutations(enumerate(syncs), 2):
        for first, second in product(one.destinations, other.destinations):
            if message := _nested_destination_message(one, first, second):
                yield position, message
    yield from _find_loops(syncs, [path.rstrip(b"/") for path in real_sources])


def find_source_conflict(
    own: SyncSettings, syncs: Sequence[SyncSettings], real_sources: Sequence[bytes]
) -> str:
    """Return why one of the syncs must not read the directory that its source leads to now.

    Without a full stop; empty if it may.
    """
    sources = [path.rstrip(b"/") for path in real_sources]
    for sync, source in zip(syncs, sources, strict=True):
        overlapping = (each for each in own.destinations if _changes_source(each, source))
        if sync is own and (found := next(overlapping, None)) is not None:
            return f"it leads into its own destination {found.destination.notation}, or above it"
    for position, message in _find_loops(syncs, sources):
        if syncs[position] is own:
            return message.rstrip(".")
    return ""


def _same_destination_message(settings: DestinationSettings, other: SyncSettings) -> str:
    return (
        f"The destination {settings.destination.notation} is also a destination of the sync "
        f"{other.name}, and each sync would delete the files of the other. Use another directory, "
        "or set delete = no in both."
    )


def _nested_destination_message(
    outer: SyncSettings, first: DestinationSettings, second: DestinationSettings
) -> str:
    """Return an error message if ``outer`` would delete what another sync copies, or nothing."""
    below = paths.relative_to(second.destination.location, first.destination.location)
    if not (outer.delete and below):
        return ""
    if any(
        outer.rules.protects(path, is_directory=True) for path in (below, *paths.ancestors(below))
    ):
        return ""
    return (
        f"The destination {second.destination.notation} is in {first.destination.notation}, where "
        f"the sync {outer.name} would delete it. Use a directory outside, or exclude "
        f"/{paths.printable(below)} in that sync."
    )


def _find_loops(
    syncs: Sequence[SyncSettings], sources: Sequence[bytes]
) -> Iterator[tuple[int, str]]:
    """Yield the first sync of each loop in which each sync changes the source of the next."""
    successors = [
        [
            position
            for position, source in enumerate(sources)
            if position != own and any(_changes_source(each, source) for each in sync.destinations)
        ]
        for own, sync in enumerate(syncs)
    ]
    for position, sync in enumerate(syncs):
        loop = _shortest_loop(position, successors)
        if loop and position == min(loop):
            names = ", ".join(syncs[each].name for each in [*loop[1:], position])
            message = (
                f"Files that the sync {sync.name} copies come back to its source by {names}, and "
                "would be copied again. Remove one of these syncs: replication is one-way."
            )
            yield position, message


def _changes_source(settings: DestinationSettings, source: bytes) -> bool:
    """Return True if a sync to a destination changes files in a source."""
    location = settings.destination.location
    return settings.destination.transport is Transport.LOCAL and (
        paths.covers(location, source) or paths.covers(source, location)
    )


def _shortest_loop(start: int, successors: Sequence[Sequence[int]]) -> list[int]:
    """Return the positions on a shortest loop from a sync to itself; empty if there is none."""
    routes = [[start]]
    seen: set[int] = set()
    while routes:
        route = routes.pop(0)
        for successor in successors[route[-1]]:
            if successor == start:
                return route
            if successor not in seen:
                seen.add(successor)
                routes.append([*route, successor])
    return []
