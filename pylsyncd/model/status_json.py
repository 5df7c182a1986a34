"""A status as JSON and back: an object for each dataclass, under the names of its fields.

Moments stay seconds since the epoch, conditions are their words. Who reads takes fields that he
does not know for those of a later version, and leaves them out.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import get_args, get_origin, get_type_hints

from pylsyncd.model.errors import StateError
from pylsyncd.model.status import Status


def format_status(status: Status) -> str:
    """Return a status as one line of JSON in ASCII, without its end."""
    return json.dumps(encode_status(status), allow_nan=False)


def encode_status(value: object) -> object:
    """Return what of a status as JSON has it: objects, arrays, numbers and texts."""
    if is_dataclass(value):
        return {field.name: encode_status(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode_status(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [encode_status(each) for each in value]
    # JSON has no infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse_status(text: str | bytes) -> Status:
    """Return the status that a text holds; raises StateError if it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise StateError("it is no JSON") from None
    return decode_status(value)


def decode_status(value: object) -> Status:
    """Return the status that was made such objects of; raises StateError if it was none."""
    found = _decoded(Status, value)
    assert isinstance(found, Status)  # noqa: S101  # what was asked for
    return found


def _decoded(kind: object, value: object) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _decoded(arguments[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(arguments[0], each) for each in value)
    if origin is Mapping and isinstance(value, dict):
        return {_key(arguments[0], key): _decoded(arguments[1], value[key]) for key in value}
    # To Python 3.10, tuple[int, ...] is a type, too.
    if origin is None and isinstance(kind, type):
        return _of_type(kind, value)
    raise StateError(f"it has {_shown(value)} where there should be several")


def _of_type(kind: type, value: object) -> object:
    if is_dataclass(kind) and isinstance(value, dict):
        return _made(kind, value)
    if issubclass(kind, Enum):
        return _member(kind, value)
    if kind is float:
        if value is None:
            return math.inf
        # Not True, which Python takes for a number.
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is kind:
        return value
    raise StateError(f"it has {_shown(value)} where there should be a {kind.__name__}")


def _made(kind: type, value: Mapping[str, object]) -> object:
    given = {}
    for name, (hint, is_needed) in _hints(kind).items():
        if name in value:
            given[name] = _decoded(hint, value[name])
        elif is_needed:
            raise StateError(f"it lacks {name!r}")
    made: object = kind(**given)
    return made


@cache
def _hints(kind: type) -> Mapping[str, tuple[object, bool]]:
    """Return the type of each field of a dataclass, and whether there is no default for it."""
    hints = get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is field.default_factory is MISSING)
        for field in fields(kind)
    }


def _member(kind: type[Enum], value: object) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise StateError(f"it has {_shown(value)} for a {kind.__name__.lower()}") from None


def _key(kind: object, key: str) -> object:
    try:
        return int(key) if kind is int else key
    except ValueError:
        raise StateError(f"it has {_shown(key)} where there should be a number") from None


def _shown(value: object) -> str:
    return ascii(value)[:60]
