"""The table of results: one row for each figure and each program compared with."""

from dataclasses import dataclass, fields
from typing import Literal

Verdict = Literal["met", "missed", "-"]


@dataclass(frozen=True, slots=True)
class TableRow:
    """A comparison. All cells are text with units."""

    row: str
    measure: str
    pylsyncd: str
    peer: str
    theirs: str
    compared: str
    goal: str = "-"
    verdict: Verdict = "-"
    note: str = ""


def ratio(ours: float, theirs: float) -> str:
    """Return our figure divided by theirs."""
    return f"{ours / theirs:.2f} x" if theirs > 0 else "-"


def is_within(value: float, limit: float) -> Verdict:
    """Return the verdict on a goal; NaN never meets one."""
    return "met" if value <= limit else "missed"


def table(lines: list[TableRow]) -> str:
    """Return the rows in columns, with a heading."""
    names = [column.name for column in fields(TableRow)]
    cells = [names, *([getattr(line, name) for name in names] for line in lines)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(names))]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([texts[0], "-" * max(map(len, texts)), *texts[1:]])
