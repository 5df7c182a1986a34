"""What one rsync says: cut into lines, and kept as far as that is bounded. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

MAX_FIRST_LINES: Final = 100
MAX_LAST_LINES: Final = 400

# In bytes: a path of 4096, each shown as `\#ooo`, and what is said of it.
_LONGEST = 22_000


class LineSplitter:
    """Cuts a stream into lines; ``take`` is called with each, without its end.

    The rest of one that is too long for any message of rsync is left out.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._begun = b""

    def feed(self, chunk: bytes) -> None:
        """Take what was read; a line that is in it more than once counts once."""
        lines = (self._begun + chunk).split(b"\n")
        self._begun = lines.pop()[: _LONGEST + 1]
        for line in dict.fromkeys(lines):
            self._take(line)

    def finish(self) -> None:
        """Take what was read last for a line."""
        if self._begun:
            self.feed(b"\n")


class RsyncMessages:
    """What one rsync said: the first and the last lines, each only once.

    The first complaint is often the cause of all others.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        # Dicts keep the order and know at once what is in them.
        self._first: dict[str, None] = {}
        self._last: dict[str, None] = {}
        self.is_complete = True
        """Whether every line was kept, and kept whole."""
        for line in lines:
            self.add(line.encode())

    def add(self, line: bytes) -> None:
        """Take a line."""
        if len(line) > _LONGEST:
            self.is_complete = False
        text = line[:_LONGEST].decode("utf-8", "backslashreplace")
        if text in self._first or text in self._last or not text.strip():
            return
        if len(self._first) < MAX_FIRST_LINES:
            self._first[text] = None
            return
        self._last[text] = None
        if len(self._last) > MAX_LAST_LINES:
            del self._last[next(iter(self._last))]
            self.is_complete = False

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        yield from self._last

    def __len__(self) -> int:
        return len(self._first) + len(self._last)
