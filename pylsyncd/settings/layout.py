"""What was said, ordered by what it is about: the same for a command line and a file."""

from collections.abc import Iterable
from dataclasses import dataclass

from pylsyncd.settings.said import Layer


@dataclass(frozen=True, slots=True)
class Part:
    """A named section: one sync, or one destination."""

    name: str
    """Empty for the one sync of a command line."""
    layer: Layer
    origin: str = ""
    """What a fault of the section as a whole begins with."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """All that was said. ``overriding`` goes before, ``defaults`` behind all others."""

    defaults: Layer
    syncs: tuple[Part, ...]
    destinations: tuple[Part, ...] = ()
    overriding: Layer = ()

    @property
    def process(self) -> tuple[Layer, ...]:
        """What counts for the process, the nearest first."""
        return self.overriding, self.defaults

    def sync(self, sync: Part) -> tuple[Layer, ...]:
        """Return what counts for one sync, the nearest first."""
        return sync.layer, self.defaults

    def destination(self, sync: Part, name: str) -> tuple[Layer, ...]:
        """Return what counts for one destination, the nearest first."""
        sections = [
            part.layer
            for wanted in (label(sync.name, name), name)
            for part in self.destinations
            if part.name == wanted
        ]
        # Of a command line, whose sync has no name, both are the same.
        return *dict.fromkeys(sections), *self.sync(sync)

    def unknown(self, known: Iterable[tuple[str, str]]) -> list[Part]:
        """Return the sections of destinations that none of these syncs and names is meant by."""
        names = {name for sync, plain in known for name in (label(sync, plain), plain)}
        return [part for part in self.destinations if part.name not in names]


def label(sync: str, name: str) -> str:
    """Return what a destination is called in the whole process."""
    return f"{sync}/{name}" if sync else name
