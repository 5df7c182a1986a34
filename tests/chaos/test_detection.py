"""The chaos suite detects a daemon that loses changes, or believes wrong moves."""

import ast
import random
import re
from pathlib import Path

import pytest
from chaos.chaos import ChaosFailure, RoundCounts, move, run_round
from chaos.moving import MAX_WINDOWS
from chaos.round_setup import RoundSetup

from pylsyncd.model.paths import ancestors

pytestmark = pytest.mark.usefixtures("watched_by")

FORGETFUL_DAEMON = Path(__file__).with_name("forgetful_daemon.py")
LYING_DAEMON = Path(__file__).with_name("lying_daemon.py")
SECONDS, PATIENCE = 4.0, 10.0
# On a busy machine few changes are made in that time, and a later one may make up for a lost one.
LEAST, MAX_ROUNDS = RoundCounts(operations=3000, faults=0), 4


def test_chaos_finds_a_difference_if_one_change_in_a_thousand_is_lost(
    tmp_path: Path,
) -> None:
    equal: list[str] = []
    while len(equal) < MAX_ROUNDS:
        directory = tmp_path / str(len(equal))
        directory.mkdir()
        forgotten, seed = directory / "forgotten", random.SystemRandom().randrange(10**9)
        program = (FORGETFUL_DAEMON, forgotten)
        try:
            count = run_round(directory, "local", seed, SECONDS, PATIENCE, program, least=LEAST)
        except ChaosFailure as failure:
            report = str(failure)
            assert "not equal" in report, report
            assert _is_explained(report, forgotten.read_text("ascii")), report
            return
        equal.append(f"{count} with seed {seed}")
    pytest.fail(f"equal: {equal}")


@pytest.mark.needs_inotify(reason="by fanotify no moves are reported")
def test_chaos_finds_a_difference_if_wrong_moves_are_believed(tmp_path: Path) -> None:
    wrong, seed = tmp_path / "wrong", random.SystemRandom().randrange(10**9)
    with RoundSetup(tmp_path, "local", (LYING_DAEMON, wrong)) as setup:
        setup.start(initial_sync=True)
        with pytest.raises(ChaosFailure, match="not equal") as failure:
            move(setup, tmp_path / "moves", seed, MAX_WINDOWS)
    assert _is_explained(str(failure.value), wrong.read_text("ascii")), str(failure.value)


def _is_explained(report: str, forgotten: str) -> bool:
    """Return True if a path that differs, or a directory above it, was lost, or wrongly moved."""
    lost = {ast.literal_eval(line) for line in forgotten.splitlines()}
    different = re.findall(r"""^(b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*"): """, report, re.MULTILINE)
    return any(
        path in lost or not lost.isdisjoint(ancestors(path))
        for path in map(ast.literal_eval, different)
    )
