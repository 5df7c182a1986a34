r"""What one rsync prints: lines, messages within bounds, and its progress. Pure.

With ``--info=progress2``, rsync 3.5.0 (--no-h, LC_ALL=C) writes to its standard output::

    \r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)
    \r        5095424  99%  188.32MB/s    0:00:00..

The first form comes after each file and each part of the list (``ir-chk`` while more parts follow).
The second one, with two blanks at its end, comes at most once a second within a file. Neither ends
with a newline; rsync's next output begins with one. Each is flushed; a hanging rsync prints
nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from pylsyncd.rsync.command import CURRENT_DIRECTORY
from pylsyncd.rsync.message_lines import is_meaningless

MAX_FIRST_LINES: Final = 100
MAX_LAST_LINES: Final = 400

# Bytes: a path of 4096, each shown as `\#ooo`, and rsync's words around it.
_MAX_LINE = 22_000

# No name looks like it: rsync escapes control characters in names, \r included, as \#ooo.
_PROGRESS = re.compile(
    rb"\r *(\d{1,19}) +(\d{1,3})% +(\d{1,9}\.\d\d)([kMG])B/s +(?:\d{1,9}:\d\d:\d\d|\?\?:\?\?:\?\?)"
    rb"(?:  | \(xfr#(\d{1,19}), (to|ir)-chk=(\d{1,19})/(\d{1,19})\) *)"
)
_PROGRESS_BYTES: Final = b"\r 0123456789%.kMGB/s:()xfr#,toichk-=?"
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]|\\(?=#[0-7]{3})")
_MAX_PROGRESS_LINE: Final = 200
_WORKING_DIRECTORY: Final = b'"' + CURRENT_DIRECTORY.rstrip(b"/")
_UNITS: Final = {b"k": 1 << 10, b"M": 1 << 20, b"G": 1 << 30}


class MessageCallback(Protocol):
    """A function that is called with each line of rsync's messages."""

    def __call__(self, line: str, *, is_cut: bool) -> None:
        """Take a line; one that ``is_cut`` was too long."""


class RsyncMessages:
    """The messages of one rsync: the first and the last distinct lines.

    The first error is often the cause of all others. Of noise (see `message_lines`) only what is
    among the first lines is kept, so that no amount of it displaces a message.
    """

    def __init__(
        self,
        lines: Iterable[str] = (),
        on_message: "MessageCallback | None" = None,
        source: bytes = b"",
    ) -> None:
        """Create the collection; ``on_message`` is called with each line that is added, unchanged.

        In the lines that are kept, ``source`` is the path of the working directory of rsync.
        """
        self._source = _escape(source.rstrip(b"/")) if source else None
        # Dicts keep the order, and find duplicates without a search.
        self._first: dict[str, None] = {}
        self._last: dict[str, None] = {}
        self._on_message = on_message
        for line in lines:
            self.add(line.encode())

    def add(self, line: bytes) -> None:
        """Add a line."""
        is_cut, text = len(line) > _MAX_LINE, _decode(line)
        if self._source is not None:
            # The first one: what follows may be a name with a quote.
            line = line.replace(_WORKING_DIRECTORY, b'"' + self._source, 1)
        kept = _decode(line)
        if kept in self._first or kept in self._last or not kept.strip():
            return
        if self._on_message is not None:
            self._on_message(text, is_cut=is_cut)
        if len(self._first) < MAX_FIRST_LINES:
            self._first[kept] = None
            return
        if is_meaningless(kept):
            return
        self._last[kept] = None
        if len(self._last) > MAX_LAST_LINES:
            del self._last[next(iter(self._last))]

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        yield from self._last

    def __len__(self) -> int:
        return len(self._first) + len(self._last)


def _decode(line: bytes) -> str:
    return line[:_MAX_LINE].decode("utf-8", "backslashreplace")


def _escape(path: bytes) -> bytes:
    r"""Escape the control characters of a path as rsync does, as ``\#ooo``."""
    return _CONTROL.sub(lambda found: b"\\#%03o" % ord(found[0]), path)


class LineSplitter:
    """A stream cut into lines; ``on_line`` is called with each, without its newline.

    A line that is longer than any message of rsync is cut off.
    """

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._unfinished = b""

    def feed(self, chunk: bytes) -> None:
        """Split a chunk; a line that it repeats is reported once."""
        lines = (self._unfinished + chunk).split(b"\n")
        self._unfinished = lines.pop()[: _MAX_LINE + 1]
        for line in dict.fromkeys(lines):
            self._on_line(line)

    def finish(self) -> None:
        """Report the rest as a line."""
        if self._unfinished:
            self.feed(b"\n")


@dataclass(frozen=True, slots=True)
class RsyncProgress:
    """How far a run is; without arguments, one that has just begun."""

    bytes_done: int = 0
    """The sizes of the files that were sent, however little of them went over the line."""
    percent: int = 0
    """Of the sizes of all files listed so far, whether they need sending or not."""
    bytes_per_second: float = 0.0
    """The current rate."""
    files_sent: int = 0
    """Without the one that is being sent."""
    entries_left: int = 0
    """Listed entries that were not looked at yet."""
    entries_total: int = 0
    """Entries listed so far."""
    is_list_complete: bool = False
    """False while rsync still extends its list."""

    @property
    def fraction_done(self) -> float | None:
        """How much is done, from 0.0 to 1.0; None as long as the total is unknown.

        rsync's percentage shows it if all files are new. If most are there already, the fraction of
        entries that were looked at does, and is larger.
        """
        if not self.is_list_complete or not self.entries_total:
            return None
        looked_at = 1.0 - self.entries_left / self.entries_total
        return min(1.0, max(0.0, looked_at, self.percent / 100))


def summed_progress(runs: Iterable[RsyncProgress]) -> RsyncProgress:
    """Return the progress of runs that carry parts of one tree."""
    some = list(runs)
    return RsyncProgress(
        bytes_done=sum(each.bytes_done for each in some),
        bytes_per_second=sum(each.bytes_per_second for each in some),
        files_sent=sum(each.files_sent for each in some),
        entries_left=sum(each.entries_left for each in some),
        entries_total=sum(each.entries_total for each in some),
    )


def continued_progress(before: RsyncProgress, progress: RsyncProgress) -> RsyncProgress:
    """Return the progress of a run that looks again at a tree whose parts were carried."""
    looked_at = max(
        each.entries_total - each.entries_left for each in (before, progress)
    )  # fmt: skip
    total = max(before.entries_total, progress.entries_total)
    return replace(
        progress,
        bytes_done=before.bytes_done + progress.bytes_done,
        files_sent=before.files_sent + progress.files_sent,
        entries_left=total - looked_at,
        entries_total=total,
    )


class ProgressSplitter(LineSplitter):
    """A stream cut into lines; rsync's progress is reported separately."""

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_progress: Callable[[RsyncProgress], None],
    ) -> None:
        """Create one; each :meth:`feed` calls ``on_progress`` at most once, with the latest."""
        super().__init__(on_line)
        self._on_progress = on_progress
        self._progress = RsyncProgress()
        self._unfinished_progress = b""

    def feed(self, chunk: bytes) -> None:
        """Split a chunk."""
        text = self._unfinished_progress + chunk
        self._unfinished_progress = b""
        if b"\r" not in text:
            super().feed(text)
            return
        # The next chunk may continue a complete line that ends in a blank, but only with blanks.
        last = text[text.rfind(b"\r") :]
        if len(last) < _MAX_PROGRESS_LINE and b"\n" not in last and not _PROGRESS.match(last):
            text, self._unfinished_progress = text[: -len(last)], last
        self._parse_progress(text)
        if not text.translate(None, _PROGRESS_BYTES):
            # As nearly always: to look for the end of each progress takes much longer.
            super().feed(b"\n")
            return
        # Text right after the progress, such as an error message, is a line of its own.
        super().feed(_PROGRESS.sub(b"\n", text))

    def finish(self) -> None:
        """Report the rest as a line."""
        unfinished, self._unfinished_progress = self._unfinished_progress, b""
        super().feed(unfinished)
        super().finish()

    def _parse_progress(self, text: bytes) -> None:
        before = self._progress
        # Each form has what the other lacks; the last one of each counts.
        for form in (b"(xfr#", b"\r"):
            found = _PROGRESS.match(text, max(0, text.rfind(b"\r", 0, text.rfind(form) + 1)))
            if found:
                self._progress = _updated(self._progress, found)
        if self._progress != before:
            self._on_progress(self._progress)


def _updated(before: RsyncProgress, found: "re.Match[bytes]") -> RsyncProgress:
    progress = replace(
        before,
        bytes_done=int(found[1]), percent=int(found[2]),
        bytes_per_second=float(found[3]) * _UNITS[found[4]],
    )  # fmt: skip
    if found[5] is None:
        return progress
    return replace(
        progress,
        files_sent=int(found[5]), is_list_complete=found[6] == b"to",
        entries_left=int(found[7]), entries_total=int(found[8]),
    )  # fmt: skip
