"""The configuration file of a round's daemons, which may be another at any time."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = "chaos"
WINDOW, LONGER_WINDOW = 0.3, 0.5  # seconds


class RoundConfiguration:
    """Writes it; what is set here holds once the daemon has read it."""

    def __init__(self, path: Path, source: Path, always: Mapping[str, object]) -> None:
        """Begin; ``always`` are the options that stay as they are, by key."""
        self.path = path
        self._source = source
        self._always = always
        self.initial_sync = False
        self.window = WINDOW
        """The source is still watched as before when this changes."""
        self.modify = False
        """The source is watched anew when this changes."""
        self.omitted_destinations: set[str] = set()
        """Destinations that are not served."""

    def write(self, destinations: Sequence[str]) -> None:
        """Write what holds now, for these destinations less what is left out."""
        options = {
            **self._always,
            "initial_sync": _word(self.initial_sync),
            "window": self.window,
            "modify": _word(self.modify),
        }
        served = [each for each in destinations if each not in self.omitted_destinations]
        lines = [
            "[pylsyncd]",
            *(f"{key} = {value}" for key, value in options.items()),
            f"[sync {NAME}]",
            f"source = {self._source}/./",
            "destinations =",
            *(f"    {destination}" for destination in served),
        ]
        self.replace("\n".join([*lines, ""]))

    def replace(self, text: str) -> None:
        """Put another text in its place, at once: the daemon may be reading."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"
