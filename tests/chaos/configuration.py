"""The configuration file of a round's daemons, which changes during the round."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = "chaos"
WINDOW, LONGER_WINDOW = 0.3, 0.5  # seconds
_NO_SCANS: Mapping[str, object] = {"scan_interval": 0, "scan_budget": 0}


class RoundConfiguration:
    """The configuration that ``write`` puts into the file."""

    def __init__(self, path: Path, source: Path, always: Mapping[str, object]) -> None:
        """Create a configuration; ``always`` has the options that never change."""
        self.path = path
        self._source = source
        self._always = always
        self.initial_sync = False
        self.window = WINDOW
        """A change of this keeps the watcher running."""
        self.modify = False
        """A change of this restarts the watcher."""
        self.is_calm = False
        """Whether no scan disturbs the windows."""
        self.omitted_destinations: set[str] = set()
        """Destinations that are not in the file."""

    def write(self, destinations: Sequence[str]) -> None:
        """Write the file for these destinations without the omitted ones."""
        options = {
            **self._always,
            **(_NO_SCANS if self.is_calm else {}),
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
        """Replace the file by another text atomically, because the daemon may be reading it."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)


def _word(is_so: bool) -> str:
    return "yes" if is_so else "no"
