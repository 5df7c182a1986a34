"""Reads JSON that another process wrote: its numbers are finite, its nesting is shallow. Pure."""

import json
import math
from typing import Any, Final, NoReturn

MAX_DIGITS: Final = 300
"""Of a whole number. A larger one has no float, and Python refuses to show one of 4,301 digits."""

MAX_DEPTH: Final = 50
"""Of nested lists and objects."""


def parse_json(text: str | bytes, *, has_bounded_numbers: bool = True) -> object:
    """Return the value of a JSON text.

    Raises ValueError if the text is no JSON, has too deeply nested values or, unless the caller
    checks that itself, NaN, an infinity or too large a number.
    """
    try:
        value: object = json.loads(text, **(_BOUNDED if has_bounded_numbers else {}))
    # json recurses: deeply nested brackets exceed Python's recursion limit.
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _is_deeper_than(MAX_DEPTH, value):
        raise ValueError("it is nested too deeply")
    return value


def _parse_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        _refuse(text)
    return int(text)


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"it has {text[:40]} instead of a number")


_BOUNDED: Final[dict[str, Any]] = {
    "parse_int": _parse_int,
    "parse_float": _parse_float,
    "parse_constant": _refuse,
}


def _is_deeper_than(depth: int, value: object) -> bool:
    """Return True if lists and objects are nested more than ``depth`` times."""
    level = [value]
    for _ in range(depth):
        level = [member for each in level for member in _members(each)]
        if not level:
            return False
    return any(isinstance(each, list | dict) for each in level)


def _members(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []
