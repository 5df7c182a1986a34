"""A source and its copies, and daemons that sync between them."""

import os
from collections.abc import Sequence
from pathlib import Path

from support.daemon import Pylsyncd
from support.trees import equal_within


class SyncSetup:
    """A source, one or more copies, and the daemons between them.

    ``options`` are those of each daemon. With ``keeps_state``, each daemon continues from the state
    of the one before.
    """

    def __init__(
        self, top: Path, *options: str | os.PathLike[str], keeps_state: bool = False
    ) -> None:
        self.top = top
        self.source, self.copy, self.second_copy = top / "source", top / "copy", top / "second"
        self.state = top / "state"
        self._options = options
        self._keeps_state = keeps_state
        self.source.mkdir()

    def daemon(
        self,
        *options: str | os.PathLike[str],
        copies: Sequence[Path] = (),
        prefix: Sequence[str] = (),
    ) -> Pylsyncd:
        """Return a daemon for the copy, or for several."""
        copies = copies or (self.copy,)
        return Pylsyncd(
            *(*self._options, *options, f"{self.source}/./", *(f"{copy}/" for copy in copies)),
            names=[copy.name for copy in copies],
            state=self.state if self._keeps_state else None,
            prefix=prefix,
        )

    def write(self, name: str, text: str = "x") -> Path:
        """Write a file in the source, and return its path."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def copied_files(self) -> set[str]:
        """Return the paths of all that is in the copy, without directories."""
        found = [path for path in self.copy.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(self.copy)) for path in found}

    def expect_equal(
        self, *copies: Path, seconds: float = 45, daemon: Pylsyncd | None = None
    ) -> None:
        """Wait until the copy, or several, equal the source; fail with the daemon's log."""
        for copy in copies or (self.copy,):
            found = equal_within(os.fsencode(self.source), os.fsencode(copy), seconds)
            assert found == [], daemon.log_tail if daemon else ""
