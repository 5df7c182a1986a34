"""An rsync that makes no progress is detected, and a slow one is not mistaken for it."""

import os
import signal
import threading
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import stall_detector
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import STALLED_IN_FIFO
from pylsyncd.rsync.runner import Runner
from pylsyncd.rsync.stall_detector import StallDetector


def test_checks_are_frequent_enough_for_a_short_timeout() -> None:
    assert StallDetector(os.getpid(), 0.4).check_interval == 0.1
    assert StallDetector(os.getpid(), 900.0).check_interval == 1.0


def test_a_run_without_progress_is_stopped() -> None:
    run = Runner().run([b"sleep", b"600"], b"", stall_timeout=1.0)
    assert run.stall_reason == "it made no progress for 1 s"
    assert run.exit_status == -signal.SIGTERM
    assert 1.0 <= run.seconds < 45


@pytest.mark.parametrize(
    "text",
    [
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.4; echo $i >&2; done",
        "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done",
    ],
    ids=["says something", "computes"],
)
def test_a_slow_run_is_not_stopped(text: str) -> None:
    run = Runner().run([b"bash", b"-c", text.encode()], b"", stall_timeout=2.5)
    assert (run.exit_status, run.stall_reason) == (0, "")
    assert run.seconds > 2.5


def test_an_rsync_that_hangs_in_a_fifo_is_stopped_long_before_the_stall_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_detector, "_MAX_OPEN_TIME", 1.0)
    source, replica = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    replica.mkdir()
    (source / "a").write_bytes(os.urandom(3_000_000))
    (source / "f").touch()

    def replace_file() -> None:
        wait_until(lambda: any(name.startswith(".a.") for name in os.listdir(replica)))
        (source / "f").unlink()
        os.mkfifo(source / "f")

    thread = threading.Thread(target=replace_file)
    thread.start()
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    slow = RsyncOptions("rsync", (3, 2, 7), extra_options=("--bwlimit=750",))
    command = slow.file_list_command(
        os.fsencode(source), to, RsyncCapabilities(), create_parents=False
    )
    run = Runner().run(command, b"./a\0./f\0")
    thread.join()
    assert run.stall_reason == STALLED_IN_FIFO
    assert run.exit_status == 20
    assert run.seconds < 45
