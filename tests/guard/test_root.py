"""A source disappears: no destination loses anything, and syncing resumes when it is back."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard import guarded
from guard.guarded import BACK, HELD, Guarded
from support.daemon import START_LINE
from support.disks import Disk, requires
from support.faults import wait_for_file
from support.mounts import Mounts, can_mount
from support.operations import exchange_paths
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("watched_by")

mounting = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Guarded]:
    with Mounts() as mounts:
        yield Guarded(tmp_path, mounts)


# -- unmounted ------------------------------------------------------------------------------------


@mounting
@pytest.mark.parametrize("bare", ["", "stray"], ids=["empty", "with a stray file"])
@pytest.mark.parametrize("on_device", [True, False], ids=["another device", "the same device"])
def test_an_unmounted_idle_source_deletes_nothing(
    place: Guarded, bare: str, *, on_device: bool
) -> None:
    if bare and not on_device:
        pytest.skip("a directory with files on the same device is a new source, and followed")
    place.mount_source(on_device=on_device, bare=bare)
    with place.daemon("-i") as daemon:
        place.remember()
        place.unmount()
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        place.mount_again()
        daemon.wait_for(BACK)
        (place.source / "after").write_text("x")
        place.expect_equal(daemon)
        assert place.lost() == []


@mounting
@pytest.mark.parametrize("full", [True, False], ids=["full sync", "list"])
def test_a_source_unmounted_during_a_run_deletes_nothing(place: Guarded, *, full: bool) -> None:
    place.mount_source()
    go = place.directory / "go"
    with place.daemon("-i") as daemon:
        place.remember(but=("a", "d/c"))
        place.faulty.add_fault(wait_for_file(go))
        if full:
            daemon.full_sync()
        else:
            (place.source / "a").write_text("changed")
            (place.source / "d/c").write_text("changed")
        wait_until(lambda: not place.faulty.pending_faults, message=lambda: daemon.log_tail)
        place.unmount(lazy=True)
        go.touch()
        daemon.wait_for(HELD)
        place.expect_no_loss(daemon)
        assert (place.copy / "a").exists()
        assert (place.copy / "d/c").exists()
        place.mount_again()
        daemon.wait_for(BACK)
        place.expect_equal(daemon)


@mounting
@pytest.mark.parametrize("options", [("-i",), ()], ids=["with -i", "from its state"])
def test_a_source_that_is_not_mounted_at_a_restart_deletes_nothing(
    place: Guarded, options: tuple[str, ...]
) -> None:
    place.mount_source()
    place.synced()
    place.unmount()
    place.remember()
    with place.daemon(*options, wait=False) as daemon:
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        # The reason is kept up to date.
        place.source.rmdir()
        daemon.wait_for("is held: it cannot be opened")
        place.source.mkdir()
        place.mount_again()
        daemon.wait_for(BACK)
        (place.source / "after").write_text("x")
        place.expect_equal(daemon)
        assert place.lost() == []


@requires("xfs")
def test_a_disk_that_is_another_device_after_a_restart_needs_no_full_sync(place: Guarded) -> None:
    place.copy.mkdir()
    with (
        Disk(place.directory / "source.image", "xfs") as source,
        Disk(place.directory / "copy.image", "xfs") as copy,
    ):
        mounted = ((source, place.source), (copy, place.copy))
        for disk, path in mounted:
            place.mounts.mount_device(disk.attach(), path)
        place.fill()
        place.synced()
        (place.source / "new").write_text("while it was down")
        for disk, path in mounted:
            place.unmount(path)
            place.mounts.mount_device(disk.attach(), path)
        with place.daemon() as daemon:
            place.expect_equal(daemon)
            daemon.wait_for("catching up with")
            assert "full sync" not in daemon.log
        for _, path in mounted:
            place.unmount(path)


@pytest.mark.both_methods
@mounting
def test_changes_of_an_unmounted_source_are_synced_when_it_is_back(
    place: Guarded,
) -> None:
    place.mount_source()
    with place.daemon("-i") as daemon:
        mark = daemon.log_length()
        place.unmount()
        # The message of the source, not that of a worker whose run failed.
        daemon.wait_for("The source .* is held", after=mark)
        (place.backing / "a").unlink()
        (place.backing / "new").write_text("new")
        place.mount_again()
        daemon.wait_for(BACK)
        place.expect_equal(daemon)
        (place.source / "d/deep/later").write_text("watched again")
        place.expect_equal(daemon)


# -- replaced by nothing ---------------------------------------------------------------------------


def test_an_empty_directory_in_the_sources_place_deletes_nothing(place: Guarded) -> None:
    place.fill()
    with place.daemon("-i") as daemon:
        place.remember()
        away = place.move_away()
        place.source.mkdir()
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        place.source.rmdir()
        away.rename(place.source)
        daemon.wait_for(BACK)
        (place.source / "after").write_text("x")
        place.expect_equal(daemon)
        assert place.lost() == []


@pytest.mark.parametrize("full", [True, False], ids=["full sync", "list"])
def test_an_empty_directory_that_appears_during_a_run_deletes_nothing(
    place: Guarded, *, full: bool
) -> None:
    place.fill()
    go = place.directory / "go"
    with place.daemon("-i") as daemon:
        place.remember(but=("a", "d/c"))
        place.faulty.add_fault(wait_for_file(go))
        if full:
            daemon.full_sync()
        else:
            (place.source / "a").write_text("changed")
            (place.source / "d/c").write_text("changed")
        wait_until(lambda: not place.faulty.pending_faults, message=lambda: daemon.log_tail)
        away = place.move_away()
        place.source.mkdir()
        go.touch()
        daemon.wait_for(HELD)
        place.expect_no_loss(daemon)
        assert (place.copy / "a").exists()
        assert (place.copy / "d/c").exists()
        place.source.rmdir()
        away.rename(place.source)
        daemon.wait_for(BACK)
        place.expect_equal(daemon)


@pytest.mark.parametrize("options", [("-i",), ()], ids=["with -i", "from its state"])
def test_a_source_that_is_empty_after_a_restart_deletes_nothing_until_released(
    place: Guarded, options: tuple[str, ...]
) -> None:
    place.fill()
    place.synced()
    place.remember()
    shutil.rmtree(place.source)
    place.source.mkdir()
    with place.daemon(*options, wait=False) as daemon:
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        # The empty source is accepted.
        daemon.release()
        place.expect_equal(daemon)


def test_an_empty_source_at_the_first_start_does_not_empty_a_copy(place: Guarded) -> None:
    place.fill(place.copy)
    place.remember()
    with place.daemon("-i", wait=False) as daemon:
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)


def test_an_empty_source_is_synced_to_an_empty_copy(place: Guarded) -> None:
    place.copy.mkdir()
    with place.daemon("-i") as daemon:
        (place.source / "first").write_text("x")
        place.expect_equal(daemon)


@pytest.mark.both_methods
def test_emptying_the_source_on_purpose_empties_the_copy(place: Guarded) -> None:
    # There was an event for each deletion, and the directory is the same.
    place.fill()
    with place.daemon("-i") as daemon:
        for path in place.source.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        place.expect_equal(daemon)
        assert os.listdir(place.copy) == []


# -- removed, moved away, replaced -----------------------------------------------------------------


@pytest.mark.both_methods
def test_a_source_that_is_moved_away_deletes_nothing(place: Guarded) -> None:
    place.fill()
    with place.daemon("-i") as daemon:
        place.remember()
        away = place.move_away()
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        (away / "b").unlink()
        (away / "new").write_text("new")
        away.rename(place.source)
        daemon.wait_for(BACK)
        place.expect_equal(daemon)
        assert place.lost() == ["b"]


@pytest.mark.both_methods
def test_a_source_deleted_as_a_whole_within_a_window_deletes_nothing(
    place: Guarded,
) -> None:
    place.fill()
    with place.daemon("-i", "-w", "3600") as daemon:
        place.remember()
        shutil.rmtree(place.source)
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        fresh = place.directory / "fresh"
        place.fill(fresh, only="new")
        (fresh / "a").unlink()
        fresh.rename(place.source)
        place.expect_equal(daemon)


def test_a_source_on_another_device_is_held(place: Guarded) -> None:
    other = guarded.other_device(place.directory)
    if other is None:
        pytest.skip("there is only one device here")
    try:
        real = place.move_away()
        place.fill(real)
        place.source.symlink_to(real)
        (other / "foreign").touch()
        with place.daemon("-i") as daemon:
            place.remember()
            _switch(place.source, other)
            daemon.wait_for(HELD)
            place.expect_untouched(daemon)
            assert not (place.copy / "foreign").exists()
            _switch(place.source, real)
            daemon.wait_for(BACK)
            (real / "after").write_text("x")
            place.expect_equal(daemon)
            assert place.lost() == []
    finally:
        guarded.remove(other)


@pytest.mark.both_methods
def test_a_symlink_switched_to_a_new_release_is_followed(place: Guarded) -> None:
    old, new = place.directory / "release-1", place.directory / "release-2"
    place.source.rmdir()
    place.fill(old, old="only here")
    place.fill(new, new="only here")
    place.source.symlink_to(old)
    with place.daemon("-i") as daemon:
        _switch(place.source, new)
        place.expect_equal(daemon)
        (new / "d/deep/later").write_text("watched")
        place.expect_equal(daemon)
        (old / "stray").write_text("not watched any more")
        (new / "last").write_text("x")
        place.expect_equal(daemon)
        daemon.full_sync()
        place.expect_equal(daemon)


def test_a_symlink_switched_between_two_runs_is_followed(place: Guarded) -> None:
    old, new = place.directory / "release-1", place.directory / "release-2"
    place.source.rmdir()
    place.fill(old, old="only here")
    place.fill(new, new="only here")
    place.source.symlink_to(old)
    with place.daemon("-i"):
        pass
    _switch(place.source, new)
    with place.daemon() as daemon:
        place.expect_equal(daemon)
        (new / "later").write_text("watched")
        place.expect_equal(daemon)
        daemon.stop()


@pytest.mark.both_methods
@pytest.mark.parametrize("how", ["rename", "exchange"])
def test_a_tree_renamed_into_the_sources_place_is_followed(place: Guarded, how: str) -> None:
    new = place.directory / "new"
    place.fill(new, new="only here")
    place.fill(old="only here")
    with place.daemon("-i") as daemon:
        if how == "exchange":
            exchange_paths(os.fsencode(new), os.fsencode(place.source))
        else:
            place.move_away()
            new.rename(place.source)
        place.expect_equal(daemon)
        assert not (place.copy / "old").exists()
        (place.source / "nested/g/later").write_text("watched")
        place.expect_equal(daemon)


def test_the_error_names_the_remedy_and_is_logged_once(place: Guarded) -> None:
    place.fill()
    with place.daemon("-i") as daemon:
        mark = daemon.log_length()
        away = place.move_away()
        line = daemon.wait_for(HELD, after=mark)
        assert str(place.source) in line
        place.remember()
        place.expect_no_loss(daemon, seconds=5.0)
        said = [line for line in daemon.log.splitlines()[mark:] if re.search(HELD, line)]
        assert len(said) <= 2, daemon.log_tail
        away.rename(place.source)
        daemon.wait_for(BACK)


def _switch(link: Path, target: Path) -> None:
    """Point a symlink elsewhere in one step, as deploys do."""
    fresh = link.with_name("link.new")
    fresh.symlink_to(target)
    fresh.rename(link)


# -- a directory or a link of another user --------------------------------------------------------

USER, OTHER = 65534, 65533

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def make_user_link(path: Path, target: Path | str) -> None:
    path.symlink_to(target)
    os.chown(path, USER, USER, follow_symlinks=False)


@only_root
@pytest.mark.parametrize("at_start", [True, False], ids=["at the start", "while it runs"])
def test_a_source_that_a_user_replaces_by_a_link_to_a_directory_of_root_is_held(
    place: Guarded, *, at_start: bool
) -> None:
    place.fill()
    secret = place.directory / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").write_text("secret")
    if not at_start:
        place.synced()
    was = place.source.with_name("was")
    with contextlib.ExitStack() as stack:
        if not at_start:
            daemon = stack.enter_context(place.daemon())
            # A hold before the first run is logged otherwise.
            (place.source / "before").write_text("x")
            place.expect_equal(daemon)
        place.source.rename(was)
        make_user_link(place.source, secret)
        if at_start:
            daemon = stack.enter_context(place.daemon("-i", wait=False))
        daemon.wait_for(r"is held: .*symbolic link that other users may change")
        daemon.release()
        place.source.unlink()
        if at_start:
            # The reason is kept up to date.
            daemon.wait_for("is held: it cannot be opened")
        was.rename(place.source)
        (place.source / "after").write_text("x")
        # A marked source that is at its place again may not have been missed but by the worker.
        daemon.wait_for(START_LINE if at_start else f"{BACK}|works again")
        place.expect_equal(daemon)
    assert not (place.copy / "key").exists()


@only_root
def test_a_source_replaced_by_a_directory_of_another_user_is_held_until_released(
    place: Guarded,
) -> None:
    place.fill()
    os.chown(place.source, USER, USER)
    with place.daemon("-i") as daemon:
        place.remember()
        place.source.rename(place.source.with_name("was"))
        place.source.mkdir()
        (place.source / "new").write_text("x")
        os.chown(place.source, OTHER, OTHER)
        daemon.wait_for(rf"is held: a directory of the user id {OTHER} is in its place")
        place.expect_untouched(daemon)
        daemon.release()
        place.expect_equal(daemon)
