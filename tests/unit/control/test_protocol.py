"""Requests and answers survive the way through their line; anything else is refused."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.control.protocol import (
    COMMANDS,
    MAX_ERROR_CHARACTERS,
    MAX_REQUEST_BYTES,
    MAX_WAIT_SECONDS,
    VERSION,
    ControlRequest,
    ProtocolError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from pylsyncd.model.errors import UsageError

NAMES = st.binary(max_size=20).map(os.fsdecode)


@given(
    st.sampled_from(COMMANDS),
    st.lists(NAMES).map(tuple),
    st.floats(0.0, MAX_WAIT_SECONDS),
    st.text(max_size=20),
)
def test_a_request_is_the_same_after_encoding_and_decoding(
    command: str, names: tuple[str, ...], timeout: float, level: str
) -> None:
    request = ControlRequest(command, names, timeout, level)
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_request(line) == request


def test_the_keys_of_a_request_are_those_of_the_protocol() -> None:
    line = encode_request(ControlRequest("wait", ("srv2",), 5.0))
    assert json.loads(line) == {
        "version": 1, "command": "wait", "names": ["srv2"], "timeout": 5.0, "level": "",
    }  # fmt: skip


def test_names_timeout_and_level_have_defaults() -> None:
    line = b'{"version": 1, "command": "status"}\n'
    assert decode_request(line) == ControlRequest("status", (), MAX_WAIT_SECONDS, "")


@pytest.mark.parametrize("timeout", [MAX_WAIT_SECONDS + 1, 10**400, float("inf")])
def test_a_longer_timeout_is_reduced_to_the_maximum(timeout: float) -> None:
    line = json.dumps({"version": VERSION, "command": "wait", "timeout": timeout}).encode()
    assert decode_request(line).timeout == MAX_WAIT_SECONDS


def test_a_request_with_too_many_names_is_not_sent() -> None:
    names = tuple(f"srv{number}" for number in range(MAX_REQUEST_BYTES // 8))
    with pytest.raises(UsageError, match="name fewer destinations at a time"):
        encode_request(ControlRequest("flush", names))


def test_an_answer_is_the_same_after_encoding_and_decoding() -> None:
    line = encode_answer({"late": ["srv2", "\udcff"]})
    assert line.count(b"\n") == 1
    assert decode_answer(line)["late"] == ["srv2", "\udcff"]


def test_an_answer_with_an_error_is_raised_whatever_its_version() -> None:
    with pytest.raises(ProtocolError, match=r"^There is no destination srv9\.$"):
        decode_answer(b'{"version": 2, "error": "There is no destination srv9."}\n')


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "The answer must be a line of JSON."),
        (b"[" * 100_000, "The answer must be a line of JSON."),
        (b"7\n", "The answer must be an object."),
        (b"{}\n", "The daemon speaks another version of the protocol: restart it."),
    ],
    ids=["empty", "nested too deep", "a number", "no version"],
)
def test_a_malformed_answer_is_refused(line: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_answer(line)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 2}, r"speaks version 2 of the protocol, and this pylsyncd version 1: restart"),
        ({"command": "shutdown"}, "does not know the command 'shutdown'"),
        ({"names": "srv2"}, "The names of a request must be strings"),
        ({"level": 10}, "The level of a request must be a string"),
        ({"timeout": True}, "The timeout of a request must be a number of seconds"),
    ],
    ids=["version", "command", "names", "level", "timeout"],
)
def test_a_refused_request_says_which_field_is_wrong(
    fields: dict[str, object], message: str
) -> None:
    line = json.dumps({"version": 1, "command": "status", **fields}).encode()
    with pytest.raises(ProtocolError, match=message):
        decode_request(line)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 301, "9" * 5000])
def test_no_answer_holds_a_number_that_cannot_be_shown(number: str) -> None:
    with pytest.raises(ProtocolError, match="The answer must be a line of JSON"):
        decode_answer(f'{{"version": 1, "late": [{number}]}}'.encode())


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "-1", "-" + "9" * 4000])
def test_no_request_waits_for_an_invalid_time(number: str) -> None:
    with pytest.raises(ProtocolError, match="The timeout of a request must be a number"):
        decode_request(f'{{"version": 1, "command": "wait", "timeout": {number}}}'.encode())


def test_a_long_error_is_cut() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_answer(json.dumps({"error": "x" * 1_000_000}).encode())
    assert str(caught.value) == "x" * MAX_ERROR_CHARACTERS
