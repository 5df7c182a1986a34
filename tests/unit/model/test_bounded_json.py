"""JSON of other processes holds nothing that Python cannot compute with or show."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model.bounded_json import MAX_DEPTH, MAX_DIGITS, parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(values)
def test_ordinary_json_is_read_as_json_reads_it(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * (MAX_DIGITS + 1)),
        *("1" + "0" * 4000, "-" + "9" * 5000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)),
        *("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "", "\xff", "[1", '{"a": [NaN]}'),
    ],
    ids=range(15),
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_the_largest_number_and_the_deepest_list_are_read() -> None:
    number = 10**MAX_DIGITS - 1
    assert parse_json(f"-{number}") == -number
    assert float(number) > 0.0
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_numbers_may_be_left_to_the_caller() -> None:
    assert parse_json("[1e999]", has_bounded_numbers=False) == [float("inf")]
