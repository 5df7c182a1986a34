"""After random operations on sources that share watches, the copies equal the sources."""

import os
import random
import time
from pathlib import Path

from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd
from support.overlapping import OverlappingWriter
from support.trees import equal_within

SECONDS = 60.0 if os.environ.get("PYLSYNCD_LONG_TESTS") else 3.0
ROUNDS = 4
PROGRAM = (Path(__file__).with_name("sharing_daemon.py"),)


def test_copies_of_overlapping_sources_are_equal_after_churn(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    writer = OverlappingWriter(seed, tmp_path / "top")
    copies = [tmp_path / f"copy{number}" for number in range(len(writer.sources))]
    text = "[pylsyncd]\nwindow = 0.2\ninitial_sync = yes\n"
    for number, (source, copy) in enumerate(zip(writer.sources, copies, strict=True)):
        copy.mkdir()
        text += f"[sync s{number}]\nsource = {source}/./\ndestinations = {copy}/\n"
    file = tmp_path / "pylsyncd.conf"
    file.write_text(text)
    ctl = Pylsyncctl(tmp_path / "run")
    with Pylsyncd(
        *("-v", "-c", file), program=PROGRAM,
        extra_environment={"RUNTIME_DIRECTORY": str(ctl.directory)},
    ) as daemon:  # fmt: skip
        for copy in copies:
            daemon.wait_for(rf"{copy.name}\] initial sync complete")
        for _ in range(ROUNDS):
            deadline = time.monotonic() + SECONDS / ROUNDS
            while time.monotonic() < deadline:
                writer.work()
            answer = ctl.run("wait", "--timeout", "60")
            assert answer.returncode == 0, (seed, answer, daemon.log_tail)
            for source, copy in zip(writer.sources, copies, strict=True):
                found = equal_within(os.fsencode(source), os.fsencode(copy), 0.0)
                assert found == [], (seed, copy, daemon.log_tail)
