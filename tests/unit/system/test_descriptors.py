"""Standard streams are open, and inherited descriptors are closed except those of systemd."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd.system import descriptors


def run(program: str, *, script: str = 'exec "$@"', **variables: str) -> str:
    """Run Python below a shell that has set up descriptors; return what it prints."""
    text = f"import os, sys\nfrom pylsyncd.system import descriptors\n{program}"
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-c", text],
        env=environment() | variables,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


def test_a_closed_standard_stream_is_opened_on_dev_null() -> None:
    program = (
        "descriptors.open_standard_streams()\n"
        "print(os.readlink('/proc/self/fd/0'), os.readlink('/proc/self/fd/2'))\n"
        "print('lost', file=sys.stderr)\n"
        "print(repr(sys.stdin.read()), os.get_inheritable(0), os.get_inheritable(2))\n"
    )
    assert run(program, script='exec "$@" <&- 2>&-') == "/dev/null /dev/null\n'' True True\n"


def test_a_standard_stream_that_is_open_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("word")
    program = "descriptors.open_standard_streams(); print(sys.stdin.read())"
    assert run(program, script=f'exec "$@" <{tmp_path}/in') == "word\n"


PRINT_OPEN = (
    "own = os.open('/', os.O_RDONLY)\n"
    "descriptors.close_inherited()\n"
    "os.fstat(own)\n"
    "print([n for n in (7, 8, 9) if os.path.exists(f'/proc/self/fd/{n}')])\n"
)


def test_inherited_descriptors_are_closed_and_our_own_are_not() -> None:
    assert run(PRINT_OPEN, script='exec "$@" 7</dev/null 8</dev/null 9</dev/null') == "[]\n"


@pytest.mark.parametrize(
    ("count", "kept"), [("5", "[7]"), ("7", "[7, 8, 9]"), ("many", "[]")], ids=str
)
def test_the_sockets_that_systemd_passes_stay_open(count: str, kept: str) -> None:
    script = 'LISTEN_PID=$$ exec "$@" 7</dev/null 8</dev/null 9</dev/null'
    assert run(PRINT_OPEN, script=script, LISTEN_FDS=count) == f"{kept}\n"


def test_the_sockets_that_systemd_has_passed_to_another_process_are_closed() -> None:
    script = 'LISTEN_PID=1 exec "$@" 7</dev/null 8</dev/null'
    assert run(PRINT_OPEN, script=script, LISTEN_FDS="9") == "[]\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_unwritable_output_does_not_change_the_exit_status(stream: str) -> None:
    number = {"stdout": 1, "stderr": 2}[stream]
    program = (
        "import contextlib, os, sys\n"
        "descriptors.discard_unwritable_output()\n"
        "print('taken', flush=True)\n"
        "reader, writer = os.pipe()\n"
        f"os.dup2(writer, {number})\n"
        "os.close(reader)\n"
        "with contextlib.suppress(BrokenPipeError):\n"
        f"    print('lost', file=sys.{stream}, flush=True)\n"
        "descriptors.discard_unwritable_output()\n"
    )
    # A failure to flush at exit is the exit status 120.
    assert run(program) == "taken\n"


def test_the_standard_descriptors_are_not_among_the_nonstandard_ones(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        found = descriptors.nonstandard_descriptors()
    finally:
        os.close(descriptor)
    assert descriptor in found
    assert min(found) > 2


def test_the_limit_of_open_files_is_raised_as_far_as_needed_and_permitted() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))\n"
        "for count in (32, 100, 50, 300):\n"
        "    print(descriptors.raise_limit(count), resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    assert run(program).splitlines() == [
        "64 (64, 200)", "100 (100, 200)", "100 (100, 200)", "200 (200, 200)",
    ]  # fmt: skip
