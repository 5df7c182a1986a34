"""A short soak test of the daemon's memory, threads and descriptors."""

import random
from pathlib import Path

from soak.soak import LEAST_OPERATIONS, soak, table

SECONDS = 12.0


def test_in_a_short_soak_no_resource_grows_and_the_trees_are_equal(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    result = soak(tmp_path, SECONDS, seed)
    lines = [f"seed {seed}", table(result.samples), *result.problems]
    assert result.operations >= LEAST_OPERATIONS, "\n".join(lines)
    assert not result.problems, "\n".join(lines)
