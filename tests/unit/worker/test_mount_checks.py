"""What is at the copy of a directory over which a file system was mounted is asked once."""

from pathlib import Path

import pytest
from support.faults import exit_with
from support.mounts import Mounts, can_mount
from support.worker_setup import WorkerSetup

from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.worker.mount_checks import MountChecks


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
@pytest.mark.parametrize("is_empty", [True, False])
def test_the_copy_of_each_new_mount_is_looked_at_until_that_succeeds(
    place: WorkerSetup, is_empty: bool
) -> None:
    nested = place.source / "nested"
    nested.mkdir()
    place.guard.accept()
    (place.copy / "nested").mkdir()
    if not is_empty:
        (place.copy / "nested/f").touch()
    with Mounts() as mounts:
        checks = MountChecks(place.transfer(place.session()))
        assert checks.update().verdict is Verdict.DONE
        assert not checks.has_unchecked
        mounts.mount_tmpfs(Path(nested))
        place.guard.update_held_subtrees()
        assert checks.has_unchecked
        place.faulty.add_fault(exit_with(30))
        assert checks.update().verdict is Verdict.RETRY_LATER
        assert checks.has_unchecked
        for _ in range(2):
            assert checks.update().verdict is Verdict.DONE
            (check,) = checks.by_path.values()
            assert check.is_copy_empty is is_empty
            # No run is needed any more.
            place.faulty.add_fault(exit_with(30))
    place.guard.update_held_subtrees()
    assert checks.update().verdict is Verdict.DONE
    assert checks.by_path == {}
