"""The output of programs that print and take as much as they like."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.rsync.output_capture import CapturedOutput
from pylsyncd.rsync.runner import Runner


@pytest.fixture
def directory() -> Iterator[int]:
    directory = os.open("/", os.O_RDONLY)
    yield directory
    os.close(directory)


def capture(
    directory: int,
    script: str,
    *,
    standard_input: bytes = b"",
    timeout: float = 600.0,
    detaches: bool = False,
) -> CapturedOutput:
    command = (b"sh", b"-c", script.encode())
    return Runner().capture(
        command, standard_input, directory=directory, max_bytes=10, timeout=timeout,
        detaches=detaches,
    )  # fmt: skip


def test_output_and_messages_are_kept_apart(directory: int) -> None:
    found = capture(directory, "cat; echo message >&2; exit 3", standard_input=b"input")
    assert found == CapturedOutput(3, b"input", b"message\n")


def test_the_longest_permitted_output_is_no_reason_to_stop(directory: int) -> None:
    assert capture(directory, "printf 1234567890") == CapturedOutput(0, b"1234567890")


def test_an_endless_output_is_cut_and_its_program_stopped(directory: int) -> None:
    found = capture(directory, "exec cat /dev/zero")
    assert found == CapturedOutput(-signal.SIGTERM, bytes(11))


def test_endless_messages_are_cut(directory: int) -> None:
    found = capture(directory, "head -c 100000 /dev/zero >&2; echo end")
    assert (found.output, len(found.messages)) == (b"end\n", 16_000)


def test_a_program_that_takes_too_long_is_stopped_with_what_it_has_started(directory: int) -> None:
    found = capture(directory, "sleep 600 & exec sleep 600", timeout=0.1)
    assert found == CapturedOutput(-signal.SIGTERM, has_timed_out=True)


@pytest.mark.parametrize("detaches", [True, False])
def test_what_a_program_leaves_goes_unless_it_detaches(
    directory: int, tmp_path: Path, *, detaches: bool
) -> None:
    left = tmp_path / "left"
    # It ends before the other process is in a session of its own.
    script = f"(sleep 0.2; exec setsid touch {left}) & exit 0"
    assert capture(directory, script, detaches=detaches) == CapturedOutput(0)
    if detaches:
        wait_until(left.exists)
    else:
        # The process was killed while it slept, and is gone by now.
        assert not left.exists()


def test_a_missing_program_raises(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        Runner().capture([b"/no/such"], b"", directory=directory, max_bytes=1, timeout=1.0)
