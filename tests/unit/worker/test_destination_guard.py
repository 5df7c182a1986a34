"""A local destination directory that is replaced is noticed, and a remote one is not guarded."""

import os
from pathlib import Path

import pytest

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.worker.destination_guard import DestinationGuard, DestinationHeldError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    path.mkdir()
    return path


@pytest.fixture
def guard(copy: Path) -> DestinationGuard:
    """Return the guard of a destination after a first run."""
    target = os.fsencode(copy) + b"/"
    guard = DestinationGuard(Destination("copy", "", Transport.LOCAL, None, target, target[:-1]))
    guard.verify_unchanged()
    return guard


def replace(path: Path) -> None:
    # Renamed and not removed, so that the new directory gets another inode.
    path.rename(path.with_name("before"))
    path.mkdir()


def test_the_same_directory_is_unchanged(guard: DestinationGuard) -> None:
    assert guard.is_unchanged()
    assert not guard.accept_replaced(is_released=False)
    guard.verify_unchanged()


def test_a_replaced_directory_is_held_until_released(guard: DestinationGuard, copy: Path) -> None:
    replace(copy)
    assert not guard.is_unchanged()
    for _ in range(2):
        with pytest.raises(DestinationHeldError, match="another directory than before"):
            guard.accept_replaced(is_released=False)
    assert guard.accept_replaced(is_released=True)
    guard.verify_unchanged()
    assert guard.is_unchanged()
    assert not guard.accept_replaced(is_released=False)


def test_a_directory_replaced_during_a_run_is_an_error(guard: DestinationGuard, copy: Path) -> None:
    replace(copy)
    with pytest.raises(DestinationHeldError, match="replaced during the run"):
        guard.verify_unchanged()


def test_a_directory_that_disappeared_is_held(guard: DestinationGuard, copy: Path) -> None:
    copy.rmdir()
    with pytest.raises(DestinationHeldError):
        guard.accept_replaced(is_released=False)


@pytest.mark.parametrize("below", ["", "www/copy"], ids=["the mount point", "below it"])
def test_a_destination_that_a_boot_has_not_mounted_is_held_until_mounted_or_released(
    below: str, tmp_path: Path
) -> None:
    point, fstab = tmp_path / "disk", tmp_path / "fstab"
    point.mkdir()
    fstab.write_text(f"LABEL=backup {point} ext4 nofail 0 2\n")
    target = os.fsencode(point / below) + b"/"
    destination = Destination("copy", "", Transport.LOCAL, None, target, target[:-1])
    guard = DestinationGuard(destination, str(fstab))
    for _ in range(2):
        assert not guard.is_unchanged()
        with pytest.raises(DestinationHeldError, match=f"nothing is mounted at {point}, unlike"):
            guard.accept_replaced(is_released=False)
    assert guard.accept_replaced(is_released=True)
    fstab.write_text(f"LABEL=backup {point} ext4 noauto 0 2\n")
    assert not guard.accept_replaced(is_released=False)
    (point / below).mkdir(parents=True, exist_ok=True)
    guard.verify_unchanged()
    fstab.write_text(f"LABEL=backup {point} ext4 nofail 0 2\n")
    assert guard.is_unchanged(), "it was used before"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("is_known", [True, False])
def test_a_link_of_another_user_in_its_path_is_held_even_if_released(
    guard: DestinationGuard, copy: Path, *, is_known: bool
) -> None:
    if not is_known:
        guard = DestinationGuard(guard._destination)  # noqa: SLF001  # the same, not yet known
    copy.rename(copy.with_name("was"))
    (copy.parent / "secret").mkdir()
    copy.symlink_to("secret")
    os.chown(copy, 65534, 65534, follow_symlinks=False)
    assert not guard.is_unchanged()
    for is_released in (False, True):
        with pytest.raises(DestinationHeldError, match="other users may change") as caught:
            guard.accept_replaced(is_released=is_released)
        assert "remove the link" in caught.value.hint
    with pytest.raises(DestinationHeldError, match="other users may change"):
        guard.verify_unchanged()


def test_without_a_destination_nothing_is_guarded() -> None:
    guard = DestinationGuard(None)
    guard.verify_unchanged()
    assert guard.is_unchanged()
    assert not guard.accept_replaced(is_released=False)
