"""What was said, ordered by what it is about: the same for a command line and a file."""

from collections.abc import Iterable
from dataclasses import dataclass

from pylsyncd.config.said import Layer


@dataclass(frozen=True, slots=True)
class Section:
    """A named section: one sync, or one destination."""

    name: str
    """Empty for the one sync of a command line."""
    options: Layer
    origin: str = ""
    """What a fault of the section as a whole begins with."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class RawConfiguration:
    """All that was said. ``overriding`` goes before, ``defaults`` behind all others."""

    defaults: Layer
    syncs: tuple[Section, ...]
    destinations: tuple[Section, ...] = ()
    overrides: Layer = ()

    @property
    def process_layers(self) -> tuple[Layer, ...]:
        """What counts for the process, the nearest first."""
        return self.overrides, self.defaults

    def sync_layers(self, sync: Section) -> tuple[Layer, ...]:
        """Return what counts for one sync, the nearest first."""
        return sync.options, self.defaults

    def destination_layers(self, sync: Section, name: str) -> tuple[Layer, ...]:
        """Return what counts for one destination, the nearest first."""
        sections = [
            part.options
            for wanted in (destination_label(sync.name, name), name)
            for part in self.destinations
            if part.name == wanted
        ]
        # Of a command line, whose sync has no name, both are the same.
        return *dict.fromkeys(sections), *self.sync_layers(sync)

    def unknown_destinations(self, known: Iterable[tuple[str, str]]) -> list[Section]:
        """Return the sections of destinations that none of these syncs and names is meant by."""
        names = {name for sync, plain in known for name in (destination_label(sync, plain), plain)}
        return [part for part in self.destinations if part.name not in names]


def destination_label(sync: str, name: str) -> str:
    """Return what a destination is called in the whole process."""
    return f"{sync}/{name}" if sync else name
