"""A status as JSON, and back."""

import json
import math
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, NOW, destination, status

from pylsyncd.control.nagios import Thresholds, evaluate
from pylsyncd.control.table import format_table
from pylsyncd.model.errors import StateError
from pylsyncd.model.status import Status
from pylsyncd.model.status_json import (
    decode_status,
    decode_unverified,
    encode_status,
    format_status,
    parse_status,
)

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@given(st.from_type(Status))
def test_a_status_survives_encoding_and_parsing(each: Status) -> None:
    line = format_status(each)
    assert line.isascii()
    assert "\n" not in line
    assert parse_status(line) == each


def test_the_json_has_the_documented_names_and_values() -> None:
    found = json.loads(format_status(IN_SYNC_STATUS))
    assert (found["pid"], found["time"]) == (4242, NOW)
    first = found["syncs"][0]["destinations"][0]
    assert (first["name"], first["condition"], first["waiting"]) == ("srv2", "in sync", 0)
    assert first["last_run"]["outcome"] == "done"
    assert first["next_attempt"] is None
    assert first["state"] == "in sync"


def test_the_state_of_a_destination_that_was_never_compared_is_unverified() -> None:
    each: Any = encode_status(destination("srv2", unverified="why"))
    assert (each["condition"], each["state"]) == ("in sync", "unverified")


def test_infinity_is_encoded_as_null() -> None:
    each = status(destination("srv2", behind=math.inf))
    assert json.loads(format_status(each))["syncs"][0]["destinations"][0]["behind"] is None
    assert parse_status(format_status(each)) == each


def test_unknown_fields_are_ignored_and_missing_ones_get_their_default() -> None:
    told: Any = encode_status(IN_SYNC_STATUS)
    told["colour"] = {"of": ["the", "sky"]}
    told["syncs"][0]["destinations"][0]["mood"] = "good"
    del told["syncs"][0]["overflows"], told["syncs"][0]["destinations"][0]["counts"]
    assert decode_status(told) == IN_SYNC_STATUS


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (["pid"], "4242", "it has '4242' instead of int"),
        (["pid"], True, "it has True instead of int"),
        (["time"], True, "it has True instead of float"),
        (["version"], 7, "it has 7 instead of str"),
        (["syncs"], 7, "it has 7 instead of a list or an object"),
        (["syncs", 0], None, "it has None instead of SyncStatus"),
        (
            ["syncs", 0, "destinations", 0, "condition"],
            "asleep",
            "it has the unknown condition 'asleep'",
        ),
        (
            ["syncs", 0, "destinations", 0, "last_run"],
            [],
            r"it has \[\] instead of Ru",
        ),
        (
            ["syncs", 0, "destinations", 0, "counts", "codes"],
            {"x": 1},
            "it has 'x' instead of a number",
        ),
        (["syncs", 0, "events"], {"x": "1"}, "it has '1' instead of int"),
        (["syncs", 0, "events"], {"x": 10**4000}, "it has 10000.* instead of int"),
        pytest.param(["pid"], 10**5000, "instead of int", id="a number that Python does not show"),
        (["time"], 10**400, "it has 1000.* instead of float"),
        (["time"], math.nan, "it has nan instead of float"),
        (["started"], -math.inf, "it has -inf instead of float"),
        (
            ["syncs", 0, "destinations", 0, "counts", "codes"],
            {"9" * 5000: 1},
            "it has '9999.* instead of a number",
        ),
    ],
)
def test_an_invalid_status_is_refused_with_the_reason(
    path: list[Any], value: object, reason: str
) -> None:
    told: Any = encode_status(IN_SYNC_STATUS)
    *way, last = path
    place = told
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(StateError, match=reason):
        decode_status(told)


@pytest.mark.parametrize("text", ["", "{", "\0", "[" * 100000, "{}", "[]", "null", '{"pid": 1}'])
def test_text_that_is_not_a_status_is_refused(text: str) -> None:
    with pytest.raises(StateError):
        parse_status(text)


numbers = st.sampled_from(
    ["null", "0", "-1", "1e308", "-1e308", "9" * 300, "-" + "9" * 300, "1e-320", "0.5", "NaN",
     "Infinity", "1e999", "9" * 301, "9" * 5000, "true", '"1"', "[]", "{}"]
)  # fmt: skip
_ANY_NUMBER = re.compile(r"(?<=[ :\[])-?\d+(?:\.\d+)?(?=[,\]}])")


@given(st.lists(numbers, min_size=1), st.randoms())
def test_a_status_with_any_numbers_is_refused_or_shown(texts: list[str], random: Random) -> None:
    def changed(found: "re.Match[str]") -> str:
        return random.choice([found[0]] * 8 + texts)

    line = _ANY_NUMBER.sub(changed, format_status(MIXED_STATUS))
    try:
        each = parse_status(line)
    except StateError:
        return
    assert "Traceback" not in "\n".join(format_table(each))
    evaluate([each], Thresholds(60.0, 30.0))
    assert parse_status(format_status(each)) == each


@pytest.mark.parametrize("value", [None, [], {"srv2": 1}, {"srv2": None}])
def test_an_answer_without_texts_does_not_say_what_is_unverified(value: object) -> None:
    with pytest.raises(StateError, match="instead of"):
        decode_unverified(value)
    assert decode_unverified({"srv2": "why"}) == {"srv2": "why"}
