"""Which syncs of one process do not go together. Pure.

Between two processes it is the locks in the state directory that tell (`state.claims`).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.notation import Transport


def find_conflicts(
    syncs: Sequence[SyncSettings], real_sources: Sequence[bytes]
) -> Iterator[tuple[int, str]]:
    """Yield what is wrong between syncs, with the position of the sync that it is told of.

    ``real_sources`` are the paths of their sources without symbolic links.
    """
    for (_, one), (position, other) in combinations(enumerate(syncs), 2):
        for first, second in product(one.destinations, other.destinations):
            is_deleting = one.delete or other.delete
            if is_deleting and first.destination.location == second.destination.location:
                yield position, _same(second, one)
    for (_, one), (position, other) in permutations(enumerate(syncs), 2):
        for first, second in product(one.destinations, other.destinations):
            if sentence := _inside(one, first, second):
                yield position, sentence
    yield from _loops(syncs, [path.rstrip(b"/") for path in real_sources])


def _same(delivery: DestinationSettings, other: SyncSettings) -> str:
    return (
        f"The destination {delivery.destination.notation} is that of the sync {other.name}, too, "
        "and one would delete what the other one brings. Name another directory, or set "
        "delete = no in both."
    )


def _inside(one: SyncSettings, first: DestinationSettings, second: DestinationSettings) -> str:
    """Say how ``one`` would delete what another sync brings below, or nothing."""
    below = paths.relative_to(second.destination.location, first.destination.location)
    if not (one.delete and below):
        return ""
    if any(
        one.rules.protects(path, is_directory=True) for path in (below, *paths.ancestors(below))
    ):
        return ""
    return (
        f"The destination {second.destination.notation} lies in {first.destination.notation}, "
        "where "
        f"the sync {one.name} would delete it. Name a directory outside, or exclude "
        f"/{paths.printable(below)} in that sync."
    )


def _loops(syncs: Sequence[SyncSettings], sources: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the first sync of each ring in which each sync changes the source of the next."""
    follows = [
        [
            position
            for position, source in enumerate(sources)
            if position != own and any(_reaches(each, source) for each in sync.destinations)
        ]
        for own, sync in enumerate(syncs)
    ]
    for position, sync in enumerate(syncs):
        ring = _way_back(position, follows)
        if ring and position == min(ring):
            names = ", ".join(syncs[each].name for each in [*ring[1:], position])
            sentence = (
                f"What the sync {sync.name} copies comes back to its own source by {names}, and "
                "would be copied again. Replication goes one way: leave one of them out."
            )
            yield position, sentence


def _reaches(delivery: DestinationSettings, source: bytes) -> bool:
    """Tell whether what arrives at a destination changes what is in a source."""
    spot = delivery.destination.location
    return delivery.destination.transport is Transport.LOCAL and (
        paths.covers(spot, source) or paths.covers(source, spot)
    )


def _way_back(start: int, follows: Sequence[Sequence[int]]) -> list[int]:
    """Return a shortest way from a sync to itself, without the return; nothing if there is none."""
    ways = [[start]]
    seen: set[int] = set()
    while ways:
        way = ways.pop(0)
        for following in follows[way[-1]]:
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []
