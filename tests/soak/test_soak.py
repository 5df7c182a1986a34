"""The soak works, and what the daemon holds stays flat for as long as a test may take."""

import random
from pathlib import Path

from soak.soak import soak, table

SECONDS = 12.0


def test_a_short_soak_is_flat_and_ends_with_equal_trees(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    soaked = soak(tmp_path, SECONDS, seed)
    lines = [f"seed {seed}", table(soaked.samples), *soaked.problems]
    assert soaked.operations > 100, "\n".join(lines)
    assert not soaked.problems, "\n".join(lines)
