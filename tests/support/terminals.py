"""A pseudo terminal, and what somebody would see on its screen."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.terminal.colours import Palette
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress import ProgressDisplay

_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")


class PseudoTerminal:
    """A terminal whose other side is read all the time, from entering to leaving the context."""

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        self._size = columns, lines

    def __enter__(self) -> "PseudoTerminal":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        self.resize(*self._size)
        self.stream = open(slave, "w", encoding="utf-8")
        self._output = b""
        self._news = threading.Condition()
        self._enough, self._tell_enough = os.pipe()
        self._reader = threading.Thread(target=self._read, name="terminal reader")
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        # Without any process that has the slave open, reading ends with an error.
        self._reader.join(20)
        is_open = self._reader.is_alive()
        self.hang_up()
        os.close(self._enough)
        os.close(self._tell_enough)
        assert not is_open, "somebody still has the terminal open"

    @property
    def output(self) -> str:
        """All that was written so far."""
        with self._news:
            return self._output.decode("utf-8", "replace")

    @property
    def screen(self) -> list[str]:
        """The lines that somebody would see, without those that are empty at the end."""
        return screen(self.output)

    def wait_for(self, pattern: str, seconds: float = 20, *, after: int = 0) -> str:
        """Return what the pattern matches in the output after so many characters."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                output = self._output.decode("utf-8", "replace")[after:]
                if found := re.search(pattern, output):
                    return found[0]
                left = deadline - time.monotonic()
                assert left > 0, f"{pattern!r} was not written:\n{output}"
                self._news.wait(left)

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Make the window as large as that."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def hang_up(self) -> None:
        """Take the terminal away from whoever has it open."""
        if self.master >= 0:
            os.write(self._tell_enough, b".")
            self._reader.join()
            os.close(self.master)
            self.master = -1

    def _read(self) -> None:
        while self._enough not in select.select([self.master, self._enough], [], [])[0]:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:
                return
            with self._news:
                self._output += chunk
                self._news.notify_all()


def screen(output: str) -> list[str]:
    """Return what stands on an endless screen after an output; unknown sequences are an error."""
    paper = _Screen()
    position = 0
    while position < len(output):
        found = _SEQUENCE.match(output, position)
        if found:
            paper.obey(found)
            position = found.end()
        else:
            paper.put(output[position])
            position += 1
    lines = [line.rstrip() for line in paper.lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


class _Screen:
    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def put(self, character: str) -> None:
        assert character.isprintable() or character in "\r\n", f"a terminal was sent {character!r}"
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
            self.lines += [""] * (self._row + 1 - len(self.lines))
        else:
            line = self.lines[self._row].ljust(self._column)
            line = line[: self._column] + character + line[self._column + 1 :]
            self.lines[self._row] = line
            self._column += 1

    def obey(self, sequence: "re.Match[str]") -> None:
        assert sequence[2] in "AKJm", f"a terminal was sent {sequence[0]!r}"
        if sequence[2] == "A":
            self._row = max(0, self._row - int(sequence[1] or 1))
        elif sequence[2] in "KJ":
            self.lines[self._row] = self.lines[self._row][: self._column]
        if sequence[2] == "J":
            del self.lines[self._row + 1 :]


# An rsync that has done 45 %.
HALF = RsyncProgress(4_700_000_000, 45, 12_300_000.0, 1204, 5500, 10_000, is_list_complete=True)


@contextlib.contextmanager
def displayed(
    columns: int = 100, lines: int = 30, palette: Palette | None = None
) -> Iterator[tuple[PseudoTerminal, ProgressDisplay, TerminalHandler]]:
    """Yield a terminal, a progress display on it, and the display's log handler."""
    with PseudoTerminal(columns, lines) as terminal:
        handler = TerminalHandler(terminal.stream, palette or Palette())
        display = ProgressDisplay(handler)
        try:
            yield terminal, display, handler
        finally:
            display.stop()
