"""What a daemon says and does that may not use fanotify."""

import subprocess
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.setups import SyncSetup


def without(capability: str) -> tuple[str, ...]:
    """Return the command prefix that takes a capability from root, or skip."""
    command = ("setpriv", f"--bounding-set=-{capability}")
    try:
        answer = subprocess.run((*command, "true"), capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("setpriv is not installed")
    if answer.returncode:
        pytest.skip(f"capabilities cannot be dropped: {answer.stderr!r}")
    return command


@pytest.mark.parametrize(
    ("method", "capability"),
    [("fanotify", "sys_admin"), ("fanotify", "dac_read_search"), ("auto", "sys_admin")],
)
def test_without_a_capability_it_is_named_and_inotify_is_used(
    tmp_path: Path, method: str, capability: str
) -> None:
    skip_without_fanotify(tmp_path)
    setup = SyncSetup(tmp_path, "-v", "-i", "-w", "0.1", f"--watch={method}")
    setup.write("d/f")
    with setup.daemon(prefix=without(capability)) as daemon:
        daemon.wait_ready()
        line = daemon.wait_for("is watched by inotify: fanotify is not possible")
        assert f"it needs CAP_{capability.upper()}" in line
        setup.write("d/later")
        setup.expect_equal(daemon=daemon)
        assert "2 directories" in daemon.log
