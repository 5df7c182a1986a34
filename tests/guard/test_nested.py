"""A file system below the source is mounted or unmounted: only that subtree is held."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard.guarded import SOON, Guarded
from support.daemon import Pylsyncd
from support.mounts import Mounts, can_mount
from support.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here"),
    pytest.mark.usefixtures("watched_by"),
]


class Nested(Guarded):
    """A source whose directory ``nested`` can be another file system."""

    def __init__(self, directory: Path, mounts: Mounts) -> None:
        super().__init__(directory, mounts)
        self.nested = self.source / "nested"
        self.nested.mkdir()
        self.backing.mkdir()
        mounts.mount_tmpfs(self.backing)

    def mount(self) -> None:
        """Bind-mount the other file system there."""
        self.mounts.mount_bind(self.backing, self.nested)

    def expect_rest_is_synced(self, daemon: Pylsyncd, name: str) -> None:
        """Fail if changes and deletions outside the subtree are not synced."""
        outside = self.source / "d" / name
        outside.write_text("x")
        wait_until((self.copy / "d" / name).exists, message=lambda: daemon.log_tail)
        outside.unlink()
        wait_until(lambda: not (self.copy / "d" / name).exists(), message=lambda: daemon.log_tail)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Nested]:
    with Mounts() as mounts:
        yield Nested(tmp_path, mounts)


def test_while_a_nested_mount_is_gone_only_its_copy_stays_unchanged(place: Nested) -> None:
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        place.remember()
        mark = daemon.log_length()
        place.unmount(place.nested)
        daemon.wait_for("nested", after=mark)
        place.expect_rest_is_synced(daemon, "one")
        daemon.full_sync()
        daemon.wait_for("full sync complete", after=mark)
        place.expect_rest_is_synced(daemon, "two")
        place.expect_no_loss(daemon, below="nested")


@pytest.mark.both_methods
def test_when_a_nested_mount_is_back_its_changes_are_synced(place: Nested) -> None:
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        mark = daemon.log_length()
        place.unmount(place.nested)
        daemon.wait_for("nested", after=mark)
        (place.backing / "f").unlink()
        (place.backing / "while away").write_text("x")
        place.mount()
        place.expect_equal(daemon)
        (place.nested / "g/later").write_text("watched again")
        place.expect_equal(daemon)


@pytest.mark.both_methods
def test_a_nested_mount_that_is_remounted_is_watched_again(place: Nested) -> None:
    # A tmpfs of its own: its unmount removes the watches, which a bind mount keeps.
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        place.expect_equal(daemon)
        place.unmount(place.nested)
        (place.backing / "while away").write_text("x")
        place.mount()
        place.expect_equal(daemon)
        (place.nested / "g/later").write_text("watched again")
        place.expect_equal(daemon)


@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "over a restart"])
def test_another_empty_file_system_in_place_of_a_nested_one_deletes_nothing(
    place: Nested, *, restarted: bool
) -> None:
    place.mount()
    place.fill()
    if restarted:
        place.synced()
    with contextlib.ExitStack() as stack:
        if not restarted:
            daemon = stack.enter_context(place.daemon("-i"))
        place.remember()
        place.unmount(place.nested)
        # It may get the same device number.
        place.mounts.mount_tmpfs(place.nested)
        if restarted:
            daemon = stack.enter_context(place.daemon(wait=False))
        daemon.wait_for("nested in the source is held")
        daemon.full_sync()
        daemon.wait_for("full sync complete")
        place.expect_no_loss(daemon, below="nested")
        place.unmount(place.nested)
        place.mount()
        daemon.wait_for("nested in the source is synced again")
        place.expect_equal(daemon)


def test_a_replaced_source_without_its_nested_mount_deletes_nothing_of_its_copy(
    place: Nested,
) -> None:
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        place.remember()
        place.unmount(place.nested)
        away = place.move_away()
        place.source.mkdir()
        (place.source / "nested").mkdir()
        (place.source / "new").write_text("deployed")
        daemon.wait_for("was replaced by another directory")
        wait_until((place.copy / "new").exists, message=lambda: daemon.log_tail)
        place.expect_no_loss(daemon, below="nested")
        assert away.exists()


@pytest.mark.parametrize("options", [("-i",), ()], ids=["with -i", "from its state"])
def test_a_nested_mount_missing_after_a_restart_deletes_nothing_of_its_copy(
    place: Nested, options: tuple[str, ...]
) -> None:
    place.mount()
    place.fill()
    place.synced()
    place.unmount(place.nested)
    place.remember()
    with place.daemon(*options, wait=False) as daemon:
        daemon.wait_for("nested", SOON)
        place.expect_rest_is_synced(daemon, "one")
        daemon.full_sync()
        place.expect_no_loss(daemon, below="nested")
        place.mount()
        (place.nested / "after").write_text("x")
        place.expect_equal(daemon)


@pytest.mark.both_methods
def test_a_new_mount_over_a_directory_deletes_nothing_of_its_copy(place: Nested) -> None:
    place.fill()
    with place.daemon("-i") as daemon:
        place.remember()
        mark = daemon.log_length()
        place.mount()
        daemon.wait_for("nested", after=mark)
        place.expect_rest_is_synced(daemon, "one")
        daemon.full_sync()
        place.expect_no_loss(daemon, below="nested")
        place.unmount(place.nested)
        (place.nested / "after").write_text("x")
        place.expect_equal(daemon)
        assert [path for path in place.lost() if path.startswith("nested/")] == []


def test_a_subtree_whose_mount_is_gone_can_be_released(place: Nested) -> None:
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        mark = daemon.log_length()
        place.unmount(place.nested)
        daemon.wait_for("nested", after=mark)
        daemon.release()
        place.expect_equal(daemon)
        assert list((place.copy / "nested").iterdir()) == []


@pytest.mark.both_methods
def test_the_copy_of_a_nested_mount_is_complete(place: Nested) -> None:
    place.mount()
    place.fill()
    with place.daemon("-i") as daemon:
        (place.nested / "g/new").write_text("x")
        (place.nested / "f").unlink()
        place.expect_equal(daemon)
