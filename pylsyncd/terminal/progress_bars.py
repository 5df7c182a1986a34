"""Draws what takes long below the log, with rich: imported only where that is shown."""

import functools
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.text import Text

from pylsyncd.model.formatting import printable
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress_tasks import Task, format_details, format_elapsed

# In characters. A wider line would only be harder to read, and break when a window gets smaller;
# in a narrower one names and bars must do with less.
_WIDTH = 100
_WIDEST_NAME = 24
_NARROW = 90
_NARROW_NAME = 14
_BAR = 20
_SHORTEST_BAR = 6
# What else stands in a line: percentage, details, elapsed time, and blanks between them.
_REST = 55


class ProgressBars:
    """A line for each task."""

    def __init__(self, handler: TerminalHandler) -> None:
        self._handler = handler
        self._name_width = 0

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw them; for none, wipe out what is there."""
        columns, lines = self._handler.terminal_size()
        # The last column stays free: some terminals go to the next line when it is filled.
        width = max(1, min(columns - 1, _WIDTH))
        # The log is to be seen, too.
        most = max(1, lines // 2)
        shown = tasks if len(tasks) <= most else tasks[: most - 1]
        drawn = self._rendered(shown, now, width) if shown else []
        if len(shown) < len(tasks):
            drawn.append(f"and {len(tasks) - len(shown)} more"[:width])
        self._handler.draw_footer(drawn, width)

    def _rendered(self, tasks: Sequence[Task], now: float, width: int) -> list[str]:
        has_colours = bool(self._handler.palette.name_sequences)
        console = Console(
            file=self._handler.stream,
            force_terminal=True,
            color_system="256" if has_colours else None,
            no_color=not has_colours,
            legacy_windows=False,
            width=width,
        )
        # When the longest is done, the others stay where they are.
        self._name_width = max(self._name_width, *(cell_len(_label(task)) for task in tasks))
        name_width = min(self._name_width, _WIDEST_NAME if width >= _NARROW else _NARROW_NAME)
        has_bars = any(task.fraction is not None for task in tasks)
        bar_width = min(_BAR, width - name_width - _REST) if has_bars else 0
        with console.capture() as capture:
            for task in tasks:
                name = Text(set_cell_size(_label(task), name_width), self._style_of(task))
                bar = self._bar(console, task, bar_width) if has_bars else Text()
                rest = Text(f"  {format_details(task, now)}")
                rest.append(
                    f"  {format_elapsed(now - task.since)}", _style(self._handler.palette.faint)
                )
                line = Text.assemble(name, bar, rest)
                console.print(line, no_wrap=True, overflow="crop", highlight=False)
        return capture.get().splitlines()

    def _bar(self, console: Console, task: Task, width: int) -> Text:
        """Return the bar and the percentage, or as many blanks."""
        is_long = width >= _SHORTEST_BAR
        bar, percentage = Text(), " " * 4
        if task.fraction is not None:
            percentage = f"{task.fraction:4.0%}"
            back, style = _style(self._handler.palette.faint), self._style_of(task)
            drawn = ProgressBar(
                1.0, task.fraction, width, style=back, complete_style=style, finished_style=style
            )
            for segment in console.render(drawn) if is_long else ():
                bar.append(segment.text, segment.style)
        bar.pad_right(width - bar.cell_len if is_long else 0)
        return Text.assemble("  " if is_long else "", bar, "  ", percentage)

    def _style_of(self, task: Task) -> Style:
        return _style(self._handler.palette.for_name(task.name))


def _label(task: Task) -> str:
    return printable(task.name) or "source"


@functools.cache
def _style(sequence: str) -> Style:
    """Return what a terminal would make of an escape sequence."""
    spans = Text.from_ansi(f"{sequence}x").spans
    return Style.parse(str(spans[0].style)) if spans else Style.null()
