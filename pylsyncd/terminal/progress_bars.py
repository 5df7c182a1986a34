"""Draws the tasks in progress, one line each with a bar, as the footer of the log."""

from collections.abc import Iterator, Sequence

from pylsyncd.model.formatting import display_width, fit, printable, truncate
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress_tasks import (
    Task,
    format_details,
    format_elapsed,
    format_estimate,
)

# Seconds. A task that ends earlier is never shown.
_MIN_SHOWN_DURATION = 0.5

# In columns. A line is never wider than this, even in a wide window; in a window below
# _NARROW_WINDOW, names and bars are shorter.
_MAX_WIDTH = 100
_MAX_NAME_WIDTH = 24
_NARROW_WINDOW = 90
_MAX_NAME_WIDTH_IF_NARROW = 14
_BAR_WIDTH = 20
_MIN_BAR_WIDTH = 6
# The rest of a line: percentage, details, elapsed time and the blanks between them.
_OTHER_COLUMNS_WIDTH = 55
_OTHER_COLUMNS_WIDTH_WITH_TOTALS = 78

# A bar's whole cell and its left and right half; ASCII has no halves.
_UNICODE_CELLS = "━", "╺", "╸"
_ASCII_CELLS = "-", " ", " "

# A text and the escape sequence of its colour.
_Segment = tuple[str, str]


class ProgressBars:
    """The footer of a terminal with one line for each task."""

    def __init__(self, handler: TerminalHandler) -> None:
        self._handler = handler
        self._palette = handler.palette
        is_unicode = (handler.stream.encoding or "").lower().startswith("utf")
        self._cells = _UNICODE_CELLS if is_unicode else _ASCII_CELLS
        self._cut_mark = "…" if is_unicode else "~"
        self._name_width = 0

    def show(self, tasks: Sequence[Task], now: float) -> None:
        """Draw the tasks that have lasted a moment; without any, remove the footer."""
        tasks = [task for task in tasks if now - task.since >= _MIN_SHOWN_DURATION]
        columns, lines = self._handler.terminal_size()
        # The last column stays free: some terminals move to the next line when it is filled.
        width = max(1, min(columns - 1, _MAX_WIDTH))
        # At least half of the window is left to the log.
        max_lines = max(1, lines // 2)
        shown = tasks if len(tasks) <= max_lines else tasks[: max_lines - 1]
        footer = self._render(shown, now, width) if shown else []
        if len(shown) < len(tasks):
            footer.append(f"and {len(tasks) - len(shown)} more"[:width])
        self._handler.draw_footer(footer, width)

    def _render(self, tasks: Sequence[Task], now: float, width: int) -> list[str]:
        # The column never shrinks, so that the other lines do not move when a task ends.
        self._name_width = max(self._name_width, *(display_width(_label(task)) for task in tasks))
        max_width = _MAX_NAME_WIDTH if width >= _NARROW_WINDOW else _MAX_NAME_WIDTH_IF_NARROW
        name_width = min(self._name_width, max_width)
        has_bars = any(task.fraction is not None for task in tasks)
        room = width - name_width
        bar_width = min(_BAR_WIDTH, room - _OTHER_COLUMNS_WIDTH)
        has_totals = any(task.size is not None for task in tasks)
        if has_totals and room >= _MIN_BAR_WIDTH + _OTHER_COLUMNS_WIDTH_WITH_TOTALS:
            bar_width = min(bar_width, room - _OTHER_COLUMNS_WIDTH_WITH_TOTALS)
        lines = []
        for task in tasks:
            segments = [
                (fit(_label(task), name_width, self._cut_mark), self._palette.for_name(task.name))
            ]
            segments += self._bar(task, bar_width) if has_bars else ()
            used = sum(display_width(text) for text, _ in segments)
            segments += _numbers(task, now, width - used, self._palette.faint)
            lines.append(self._join(segments, width))
        return lines

    def _bar(self, task: Task, width: int) -> Iterator[_Segment]:
        """Yield the bar, if there is room for it, and the percentage; or as many blanks."""
        if width >= _MIN_BAR_WIDTH:
            yield "  ", ""
            if task.fraction is None:
                yield " " * width, ""
            else:
                yield from self._bar_cells(task.fraction, width, self._palette.for_name(task.name))
        yield "      " if task.fraction is None else f"  {task.fraction:4.0%}", ""

    def _bar_cells(self, fraction: float, width: int, sequence: str) -> Iterator[_Segment]:
        """Yield the done part and the rest of a bar; the rest is blank without colours."""
        whole, left_half, right_half = self._cells
        cells, half = divmod(int(width * 2 * fraction), 2)
        yield whole * cells + right_half * half, sequence
        rest = width - cells - half
        if not self._palette.name_sequences:
            yield " " * rest, ""
        elif rest:
            gap = left_half if cells and not half else whole
            yield gap + whole * (rest - 1), self._palette.faint

    def _join(self, segments: Sequence[_Segment], width: int) -> str:
        """Return the segments as one line that is cut to ``width`` columns."""
        line = ""
        for text, sequence in segments:
            part = truncate(text, width)
            width -= display_width(part)
            line += self._palette.apply(sequence, part)
        return line


def _numbers(task: Task, now: float, width: int, faint: str) -> list[_Segment]:
    """Return what follows the bar: with a total what is left, else what has passed."""
    if task.size is not None:
        return [("  ", ""), (format_estimate(task, now, width - 2), "")]
    return [(f"  {format_details(task, now)}  ", ""), (format_elapsed(now - task.since), faint)]


def _label(task: Task) -> str:
    return printable(task.name) or "source"
