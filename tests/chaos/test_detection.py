"""The chaos suite detects a daemon that loses one change in a thousand."""

import random
import re
from pathlib import Path

import pytest
from chaos.chaos import ChaosFailure, run_round

FORGETFUL_DAEMON = Path(__file__).with_name("forgetful_daemon.py")
SECONDS, PATIENCE = 4.0, 10.0


def test_chaos_finds_a_difference_if_one_change_in_a_thousand_is_lost(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    forgotten = tmp_path / "forgotten"
    try:
        count = run_round(tmp_path, "local", seed, SECONDS, PATIENCE, (FORGETFUL_DAEMON, forgotten))
    except ChaosFailure as failure:
        report = str(failure)
        assert "not equal" in report, report
        assert _is_explained(report, forgotten.read_text("ascii")), report
    else:
        pytest.fail(f"{count} with seed {seed}: equal without\n{forgotten.read_text('ascii')}")


def _is_explained(report: str, forgotten: str) -> bool:
    """Return True if a change of a path that differs was lost."""
    lost = {line[2:-1] for line in forgotten.splitlines()}
    different = re.findall(r"^b'((?:[^'\\]|\\.)*)': ", report, re.MULTILINE)
    return any(path in lost for path in different)
