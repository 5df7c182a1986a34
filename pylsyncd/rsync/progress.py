r"""What ``--info=progress2`` tells of a run while it is on. Pure.

rsync 3.5.0, with --no-h and LC_ALL=C, writes to its standard output, and flushes at once::

    \r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)
    \r        5095424  99%  188.32MB/s    0:00:00..

The first form comes after each file and each part of the list (``ir-chk`` as long as there are more
parts), the second one, with two blanks at its end, at most once a second within a file. Neither has
a line end of its own: whatever rsync says next begins with one. An rsync that hangs says nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pylsyncd.rsync.output import LineSplitter

# No name looks like it: control characters in names, \r too, are written as \#ooo.
_LINE = re.compile(
    rb"\r *(\d{1,30}) +(\d{1,3})% +(\d{1,9}\.\d\d)([kMG])B/s +(?:\d+:\d\d:\d\d|\?\?:\?\?:\?\?)"
    rb"(?:  | \(xfr#(\d{1,20}), (to|ir)-chk=(\d{1,20})/(\d{1,20})\) *)"
)
_LONGEST: Final = 200
_UNITS: Final = {b"k": 1 << 10, b"M": 1 << 20, b"G": 1 << 30}


@dataclass(frozen=True, slots=True)
class RsyncProgress:
    """How far a run is; without arguments, one that has only begun."""

    bytes_done: int = 0
    """The sizes of the files that were sent, whatever of them went over the line."""
    percent: int = 0
    """Of the sizes of all files that are listed so far, whether they need sending or not."""
    bytes_per_second: float = 0.0
    """Bytes per second at the end."""
    files_sent: int = 0
    """How many were sent, the one on its way not counted."""
    entries_left: int = 0
    """Of what is listed, what was not looked at."""
    entries_total: int = 0
    """Entries that are listed."""
    is_list_complete: bool = False
    """Whether the list is complete; rsync makes it as it goes."""

    @property
    def fraction_done(self) -> float | None:
        """How much is done, from 0.0 to 1.0; None as long as nobody knows how much there is.

        That is rsync's percentage where all is new, and tells nothing where most is there already:
        then it is the share that was looked at.
        """
        if not self.is_list_complete or not self.entries_total:
            return None
        looked_at = 1.0 - self.entries_left / self.entries_total
        return min(1.0, max(0.0, looked_at, self.percent / 100))


class ProgressSplitter(LineSplitter):
    """Cuts a stream into lines, too, but keeps what is progress out of them."""

    def __init__(
        self, take: Callable[[bytes], None], progress: Callable[[RsyncProgress], None]
    ) -> None:
        """Make one; ``progress`` is called at most once for each :meth:`feed`, with the last."""
        super().__init__(take)
        self._progress = progress
        self._transferred = RsyncProgress()
        self._unfinished = b""

    def feed(self, chunk: bytes) -> None:
        """Take what was read."""
        text = self._unfinished + chunk
        self._unfinished = b""
        if b"\r" not in text:
            super().feed(text)
            return
        # A line that ends in a blank may go on in the next chunk: what is left of it is blanks.
        last = text[text.rfind(b"\r") :]
        if len(last) < _LONGEST and b"\n" not in last and not _LINE.match(last):
            text, self._unfinished = text[: -len(last)], last
        self._read(text)
        # What follows directly, on an error for example, is a line of its own.
        super().feed(_LINE.sub(b"\n", text))

    def finish(self) -> None:
        """Take what was read last for a line."""
        unfinished, self._unfinished = self._unfinished, b""
        super().feed(unfinished)
        super().finish()

    def _read(self, text: bytes) -> None:
        before = self._transferred
        # Each form has what the other lacks; only the last of each is news.
        for form in (b"(xfr#", b"\r"):
            found = _LINE.match(text, max(0, text.rfind(b"\r", 0, text.rfind(form) + 1)))
            if found:
                self._transferred = _parsed(found, self._transferred)
        if self._transferred != before:
            self._progress(self._transferred)


def _parsed(found: "re.Match[bytes]", before: RsyncProgress) -> RsyncProgress:
    transferred = replace(
        before,
        bytes_done=int(found[1]), percent=int(found[2]),
        bytes_per_second=float(found[3]) * _UNITS[found[4]],
    )  # fmt: skip
    if found[5] is None:
        return transferred
    return replace(
        transferred,
        files_sent=int(found[5]), is_list_complete=found[6] == b"to", entries_left=int(found[7]),
        entries_total=int(found[8]),
    )  # fmt: skip
