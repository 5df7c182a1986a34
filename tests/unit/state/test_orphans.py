"""Only processes with the key of a lock that this process holds are stopped."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.daemon import environment

from pylsyncd.state import orphans

# Another run of the tests on this machine has other keys.
KEY, OTHER_KEY = secrets.token_hex(8), secrets.token_hex(8)

IGNORE_TERM = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "signal.pause()\n"
)


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(
    started: list["subprocess.Popen[bytes]"], key: str, command: tuple[str, ...] = ("sleep", "600")
) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        command, env=os.environ | {orphans.RUN_KEY_VARIABLE: key}, stdout=subprocess.PIPE
    )
    started.append(process)
    return process


def test_processes_with_one_of_the_keys_are_stopped_and_no_other(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    ours = [start(started, KEY), start(started, KEY)]
    other = start(started, OTHER_KEY)
    assert orphans.terminate_orphans([KEY, "unused"]) == 2
    assert [process.wait(45) for process in ours] == [-signal.SIGTERM] * 2
    assert other.poll() is None


def test_without_an_orphan_nothing_is_done() -> None:
    assert orphans.terminate_orphans([KEY]) == 0
    assert orphans.terminate_orphans([]) == 0


def test_the_process_itself_is_no_orphan() -> None:
    program = f"from pylsyncd.state import orphans\nprint(orphans.terminate_orphans(['{KEY}']))\n"
    run = subprocess.run(
        (sys.executable, "-c", program),
        env=environment() | {orphans.RUN_KEY_VARIABLE: KEY},
        check=True,
        capture_output=True,
    )
    assert run.stdout == b"0\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize(
    ("real", "effective"), [(65534, 65534), (65534, 0)], ids=["of a user", "set-user-id"]
)
def test_a_process_of_another_user_is_no_orphan(
    started: list["subprocess.Popen[bytes]"], real: int, effective: int
) -> None:
    program = (
        f"import os, signal\nos.setresuid({real}, {effective}, {effective})\n"
        "print('ready', flush=True)\nsignal.pause()\n"
    )
    process = start(started, KEY, (sys.executable, "-c", program))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert orphans.terminate_orphans([KEY]) == 0
    assert process.poll() is None


def test_one_that_ignores_sigterm_is_killed(
    started: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_KILL_AFTER", 0.2)
    process = start(started, KEY, (sys.executable, "-c", IGNORE_TERM))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert orphans.terminate_orphans([KEY]) == 1
    assert process.wait(45) == -signal.SIGKILL
