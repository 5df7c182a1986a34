"""Which capabilities the kernel says a process has."""

import os
import subprocess
import sys

import pytest
from support.daemon import environment

from pylsyncd.system.capabilities import DAC_READ_SEARCH, SYS_ADMIN, find_missing

BOTH = (SYS_ADMIN, DAC_READ_SEARCH)

PROGRAM = f"from pylsyncd.system.capabilities import find_missing; print(*find_missing({BOTH!r}))"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has them, and can give them up")
@pytest.mark.parametrize("missing", [(SYS_ADMIN,), (DAC_READ_SEARCH,), BOTH, ()], ids=str)
def test_those_that_are_missing_are_named(missing: tuple[str, ...]) -> None:
    if set(find_missing(BOTH)) - set(missing):
        pytest.skip("root lacks them here")
    bounds = ",".join(f"-{name.lower().removeprefix('cap_')}" for name in missing)
    prefix = ("setpriv", f"--bounding-set={bounds}") if missing else ()
    try:
        run = subprocess.run(
            (*prefix, sys.executable, "-c", PROGRAM),
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("setpriv is not installed")
    assert run.stdout.split() == list(missing), run.stderr
