"""A sync that starts waits for its source, and for the file system of its source."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount

from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.watcher.source_wait import SourceWait


class Waits:
    """A source that may be missing, the fstab of a machine, and what waits for the source."""

    def __init__(self, top: Path) -> None:
        self.point = top / "data"
        self.source = self.point / "source"
        self.fstab = top / "fstab"
        self.conflict = ""
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        self._stack.close()

    def wait(
        self,
        *,
        waits_if_missing: bool = True,
        saved: Collection[Path] = (),
        at_point: bool = False,
        find_conflict: Callable[[], str] | None = None,
    ) -> SourceWait:
        source = os.fsencode(self.point if at_point else self.source)
        guard = self._stack.enter_context(contextlib.closing(SourceGuard(source, Rules())))
        return SourceWait(
            guard,
            [os.fsencode(path) for path in saved],
            waits_if_missing=waits_if_missing,
            find_conflict=find_conflict or (lambda: self.conflict),
            fstab=str(self.fstab),
        )

    def in_fstab(self) -> None:
        self.fstab.write_text(f"# a comment\nLABEL=data {self.point}/ ext4 nofail 0 2\n")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Waits]:
    with contextlib.closing(Waits(tmp_path)) as made:
        yield made


def text(wait: SourceWait) -> str:
    reason = wait.find_reason()
    return "" if reason is None else reason.text


def test_a_source_that_is_there_is_not_waited_for(place: Waits) -> None:
    place.source.mkdir(parents=True)
    # Only a source that was missing can lead elsewhere than when the settings were checked.
    place.conflict = "it is the destination"
    wait = place.wait()
    assert wait.find_reason() is None
    assert wait.missing_since is None


def test_a_missing_source_is_waited_for_until_it_is_there(place: Waits) -> None:
    wait = place.wait()
    assert text(wait) == "it cannot be opened (No such file or directory)"
    place.point.mkdir()
    assert text(wait) == "it cannot be opened (No such file or directory)"
    place.source.write_text("a file")
    assert text(wait) == "it cannot be opened (Not a directory)"
    place.source.unlink()
    place.source.mkdir()
    assert text(wait) == ""
    assert wait.missing_since is not None


def test_a_source_that_was_never_there_is_not_waited_for_unless_asked_to(place: Waits) -> None:
    wait = place.wait(waits_if_missing=False)
    assert wait.find_reason() is None


def test_a_missing_source_cannot_be_released(place: Waits) -> None:
    wait = place.wait(at_point=True)
    assert text(wait)
    assert not wait.release()
    # Nor is what comes into its place.
    place.point.mkdir()
    place.in_fstab()
    assert text(wait)
    assert wait.release()
    assert text(wait) == ""


def test_a_source_that_comes_must_not_lead_where_it_cannot_be_synced(place: Waits) -> None:
    wait = place.wait()
    assert text(wait)
    place.source.mkdir(parents=True)
    place.conflict = "it is the destination"
    assert text(wait) == "it is the destination"
    assert not wait.release()
    place.conflict = ""
    assert text(wait) == ""


@pytest.mark.parametrize("is_saved", [False, True])
def test_the_reason_names_the_file_system_that_is_not_mounted(place: Waits, is_saved: bool) -> None:
    if not is_saved:
        place.in_fstab()
    wait = place.wait(saved=[place.point] if is_saved else [])
    assert text(wait).endswith(f", and no file system is mounted at {place.point}")


def test_an_empty_source_is_held_where_fstab_has_a_file_system(place: Waits) -> None:
    place.point.mkdir()
    place.in_fstab()
    wait = place.wait(at_point=True)
    assert f"nothing is mounted at {place.point}, unlike in {place.fstab}" in text(wait)
    (place.point / "f").touch()
    assert text(wait) == ""


def test_an_empty_source_below_a_mount_point_that_is_not_used_is_not_held(place: Waits) -> None:
    # A container may have the fstab of another machine.
    place.source.mkdir(parents=True)
    place.in_fstab()
    assert place.wait().find_reason() is None


def test_a_source_that_was_mounted_in_the_last_run_is_waited_for_until_released(
    place: Waits,
) -> None:
    place.source.mkdir(parents=True)
    wait = place.wait(waits_if_missing=False, saved=[place.point])
    assert text(wait) == f"no file system is mounted at {place.point}, unlike in the last run"
    # Once it was there, it is waited for.
    place.source.rmdir()
    assert "cannot be opened" in text(wait)
    place.source.mkdir()
    assert wait.find_reason() is not None
    assert wait.release()
    assert wait.find_reason() is None


def test_a_release_is_forgotten_when_the_source_is_gone(place: Waits) -> None:
    place.source.mkdir(parents=True)
    wait = place.wait(saved=[place.point])
    assert text(wait)
    assert wait.release()
    place.source.rmdir()
    assert "cannot be opened" in text(wait)
    place.source.mkdir()
    assert "unlike in the last run" in text(wait)


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
@pytest.mark.parametrize("at_point", [False, True], ids=["below it", "at it"])
def test_a_source_at_or_below_a_mount_point_is_used_once_that_is_mounted(
    place: Waits, at_point: bool
) -> None:
    place.point.mkdir()
    place.in_fstab()
    wait = place.wait(at_point=at_point)
    assert "is mounted at" in text(wait)
    with Mounts() as mounts:
        mounts.mount_tmpfs(place.point)
        place.source.mkdir()
        assert text(wait) == ""
