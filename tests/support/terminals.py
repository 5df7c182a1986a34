"""A pseudo terminal, and the text on its screen."""

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
    """A terminal whose output a thread reads while the context lasts."""

    def __init__(self, columns: int = 100, lines: int = 30) -> None:
        self._size = columns, lines

    def __enter__(self) -> "PseudoTerminal":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self.master, slave = pty.openpty()
        self.path = os.ttyname(slave)
        self.resize(*self._size)
        self.stream = open(slave, "w", encoding="utf-8")
        self._output = b""
        self._changed = threading.Condition()
        self._stop_reader, self._stop_writer = os.pipe()
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
        # Reading fails once no process has the terminal open.
        self._reader.join(45)
        is_open = self._reader.is_alive()
        self.hang_up()
        os.close(self._stop_reader)
        os.close(self._stop_writer)
        assert not is_open, "a process still has the terminal open"

    @property
    def output(self) -> str:
        """The output so far."""
        with self._changed:
            return self._output.decode("utf-8", "replace")

    @property
    def screen(self) -> list[str]:
        """The visible lines, without empty ones at the end."""
        return screen(self.output)

    def wait_for(self, pattern: str, seconds: float = 45, *, after: int = 0) -> str:
        """Wait for a pattern in the output after so many characters, and return the match."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                output = self._output.decode("utf-8", "replace")[after:]
                if found := re.search(pattern, output):
                    return found[0]
                left = deadline - time.monotonic()
                assert left > 0, f"{pattern!r} was not written:\n{output}"
                self._changed.wait(left)

    def press(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self.master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Resize the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the master side, as a terminal window that is closed does."""
        if self.master >= 0:
            os.write(self._stop_writer, b".")
            self._reader.join()
            os.close(self.master)
            self.master = -1

    def _read(self) -> None:
        while self._stop_reader not in select.select([self.master, self._stop_reader], [], [])[0]:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:
                return
            with self._changed:
                self._output += chunk
                self._changed.notify_all()


def screen(output: str) -> list[str]:
    """Return the text on a screen of unlimited height; unknown escape sequences are an error."""
    state = _Screen()
    position = 0
    while position < len(output):
        found = _SEQUENCE.match(output, position)
        if found:
            state.apply_sequence(found)
            position = found.end()
        else:
            state.write(output[position])
            position += 1
    lines = [line.rstrip() for line in state.lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


class _Screen:
    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def write(self, character: str) -> None:
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

    def apply_sequence(self, sequence: "re.Match[str]") -> None:
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
