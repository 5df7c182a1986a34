"""Converts a status to JSON and back: an object for each dataclass, with the names of its fields.

Unknown fields are ignored, since they may come from a later version.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Final, TypeGuard, get_args, get_origin, get_type_hints

from pylsyncd.model.bounded_json import MAX_DIGITS, parse_json
from pylsyncd.model.errors import StateError
from pylsyncd.model.status import DestinationStatus, SetAside, Status

_MAX_NUMBER: Final = 10**MAX_DIGITS
_NUMBER: Final = re.compile(r"-?[0-9]{1,300}")


def format_status(status: Status) -> str:
    """Return a status as one line of ASCII JSON, without a newline."""
    return json.dumps(encode_status(status), allow_nan=False)


def encode_status(value: object) -> object:
    """Return a status, or a part of one, as the objects that ``json`` can write."""
    if isinstance(value, DestinationStatus):
        return {**_encode_fields(value), "state": value.state_word}
    if is_dataclass(value):
        return _encode_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode_status(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [encode_status(each) for each in value]
    # JSON has no infinity.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encode_fields(value: Any) -> dict[str, object]:
    return {field.name: encode_status(getattr(value, field.name)) for field in fields(value)}


def decode_set_aside(value: object) -> Mapping[str, SetAside]:
    """Return what destinations lack, by their names; raises StateError if it is malformed."""
    if not isinstance(value, dict):
        raise StateError(f"it has {_excerpt(value)} instead of an object")
    found = {name: _decode(SetAside, each) for name, each in value.items()}
    return {name: each for name, each in found.items() if isinstance(each, SetAside)}


def decode_unverified(value: object) -> Mapping[str, str]:
    """Return why destinations are unverified, by their names; raises StateError if malformed."""
    if not isinstance(value, dict):
        raise StateError(f"it has {_excerpt(value)} instead of an object")
    return {name: str(_decode(str, each)) for name, each in value.items()}


def parse_status(text: str | bytes) -> Status:
    """Return the status in a JSON text; raises StateError if there is none."""
    try:
        value = parse_json(text)
    except ValueError:
        raise StateError("it is not JSON") from None
    return decode_status(value)


def decode_status(value: object) -> Status:
    """Return the status that ``encode_status`` has encoded; raises StateError if it is none."""
    found = _decode(Status, value)
    assert isinstance(found, Status)  # noqa: S101  # for mypy
    return found


def _decode(kind: object, value: object) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _decode(arguments[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], each) for each in value)
    if origin is Mapping and isinstance(value, dict):
        return {_decode_key(arguments[0], key): _decode(arguments[1], value[key]) for key in value}
    # In Python 3.10, tuple[int, ...] is a type as well.
    if origin is None and isinstance(kind, type):
        return _decode_as(kind, value)
    raise StateError(f"it has {_excerpt(value)} instead of a list or an object")


def _decode_as(kind: type, value: object) -> object:
    if is_dataclass(kind) and isinstance(value, dict):
        return _decode_object(kind, value)
    if issubclass(kind, Enum):
        return _decode_member(kind, value)
    if kind is float:
        if value is None:
            return math.inf
        if _is_bounded_number(value):
            return float(value)
    elif type(value) is kind and (kind is not int or _is_bounded_number(value)):
        return value
    raise StateError(f"it has {_excerpt(value)} instead of {kind.__name__}")


def _is_bounded_number(value: object) -> TypeGuard[int | float]:
    # True and False are integers in Python. NaN fails every comparison.
    if isinstance(value, float):
        return math.isfinite(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and -_MAX_NUMBER < value < _MAX_NUMBER


def _decode_object(kind: type, value: Mapping[str, object]) -> object:
    given = {}
    for name, (hint, is_required) in _fields(kind).items():
        if name in value:
            given[name] = _decode(hint, value[name])
        elif is_required:
            raise StateError(f"it lacks {name!r}")
    made: object = kind(**given)
    return made


@cache
def _fields(kind: type) -> Mapping[str, tuple[object, bool]]:
    """Return the type of each field of a dataclass, and whether the field is required."""
    hints = get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is field.default_factory is MISSING)
        for field in fields(kind)
    }


def _decode_member(kind: type[Enum], value: object) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise StateError(f"it has the unknown {kind.__name__.lower()} {_excerpt(value)}") from None


def _decode_key(kind: object, key: str) -> object:
    if kind is not int:
        return key
    if not _NUMBER.fullmatch(key):
        raise StateError(f"it has {_excerpt(key)} instead of a number")
    return int(key)


def _excerpt(value: object) -> str:
    try:
        return ascii(value)[:60]
    # Python shows neither huge numbers nor deeply nested lists.
    except (ValueError, RecursionError):
        return f"an invalid {type(value).__name__}"
