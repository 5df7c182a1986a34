"""After random faults are healed, no change is lost.

A failure prints the seed; ``python -m chaos.chaos --kind KIND --round 14`` runs more rounds.
"""

import random
from pathlib import Path

import pytest
from chaos.chaos import RoundCounts, run_round
from support.servers import Unavailable

SECONDS = {"local": 14.0, "ssh": 12.0, "rsyncd": 12.0, "four": 14.0, "few watches": 10.0}
LEAST = RoundCounts(operations=500, faults=2)


@pytest.mark.parametrize("kind", SECONDS)
def test_when_all_faults_are_healed_all_copies_are_equal(tmp_path: Path, kind: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    try:
        count = run_round(tmp_path, kind, seed, SECONDS[kind], least=LEAST)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert count.operations >= LEAST.operations
    assert count.faults >= LEAST.faults
