"""Random operations on sources that overlap, so that they share watches."""

import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

from support.operations import exchange_paths


class OverlappingWriter:
    """Random operations in three sources, one of which is inside another, and outside of them."""

    def __init__(self, seed: int, top: Path) -> None:
        self.random = random.Random(seed)
        self.top = top
        self.sources = [top / "one", top / "one/inner", top / "other"]
        for place in (*self.sources, top / "outside"):
            place.mkdir(parents=True)
        self.count = 0

    def work(self) -> None:
        """Run one operation, ignoring errors."""
        directories = sorted(Path(path) for path, _, _ in os.walk(self.top))[1:]
        place, other = (
            self.random.choice(directories) / self.random.choice("abcd") for _ in range(2)
        )
        self.count += 1
        with suppress(OSError):
            self.random.choice((
                lambda: (place / "a").mkdir(parents=True),
                place.mkdir,
                lambda: place.write_text(str(self.count)),
                lambda: place.write_text(str(self.count)),
                lambda: place.rename(other),
                lambda: place.rename(other),
                lambda: exchange_paths(os.fsencode(place), os.fsencode(other)),
                lambda: shutil.rmtree(place),
                place.unlink,
            ))()  # fmt: skip
