"""After random faults are healed, no change is lost.

A failure prints the seed; ``python -m chaos.chaos --kind KIND --round 14`` runs more rounds.
"""

import random
from pathlib import Path

import pytest
from chaos.chaos import RoundCounts, run_round
from support.servers import Unavailable
from support.watch_method import watch_method

pytestmark = pytest.mark.usefixtures("watched_by")

SECONDS = {"local": 11.0, "ssh": 9.0, "rsyncd": 9.0, "four": 14.0, "few watches": 10.0}
LEAST = RoundCounts(operations=500, faults=2)
MOVE_WINDOWS = {"local": 3, "ssh": 3, "rsyncd": 3, "four": 0, "few watches": 0}
MARKS = {
    "local": pytest.mark.both_methods,
    "few watches": pytest.mark.needs_inotify(reason="there is no fanotify in a user namespace"),
}
PARAMETERS = [pytest.param(kind, marks=MARKS.get(kind, ())) for kind in SECONDS]


@pytest.mark.parametrize("kind", PARAMETERS)
def test_when_all_faults_are_healed_all_copies_are_equal(tmp_path: Path, kind: str) -> None:
    seed, windows = random.SystemRandom().randrange(10**9), MOVE_WINDOWS[kind]
    try:
        count = run_round(tmp_path, kind, seed, SECONDS[kind], least=LEAST, move_windows=windows)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert count.operations >= LEAST.operations
    assert count.faults >= LEAST.faults
    assert all(count.moves) or not (windows and watch_method.reports_moves), count
