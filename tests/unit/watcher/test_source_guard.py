"""The state of a source: the same, replaced or held; and the mounts below it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disks import Disk, make_snapshot, make_subvolume, requires
from support.mounts import MountBusy, Mounts, can_mount, can_mount_sshfs

from pylsyncd.model.directory_id import MountId
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError, SourceState

needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "d").mkdir(parents=True)
    (path / "d/f").touch()
    return path


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    with Mounts() as made:
        yield made


@contextlib.contextmanager
def guarding(source: Path, rules: Rules | None = None) -> Iterator[SourceGuard]:
    with contextlib.closing(SourceGuard(os.fsencode(source), rules or Rules())) as guard:
        guard.accept()
        yield guard


def assert_held(guard: SourceGuard, because: str) -> None:
    assert because in guard.check_state()[1]
    assert guard.check_state()[0] is SourceState.HELD
    with pytest.raises(SourceHeldError, match=because), guard.open_checked():
        pass


def replace(source: Path, *names: str) -> None:
    source.rename(source.with_name("was"))
    source.mkdir()
    for name in names:
        (source / name).touch()


# -- the source itself ----------------------------------------------------------------------------


def test_the_same_directory_is_the_same_source_even_when_emptied(source: Path) -> None:
    with guarding(source) as guard:
        (source / "d/f").unlink()
        (source / "d").rmdir()
        # Being empty does not matter: its entries were deleted one by one.
        assert guard.check_state() == (SourceState.SAME, "")
        with guard.open_checked() as root:
            assert os.fstat(root).st_ino == source.stat().st_ino
            guard.verify_unchanged(root)


def test_a_source_that_is_gone_is_held_and_released_when_it_is_back(source: Path) -> None:
    with guarding(source) as guard:
        source.rename(source.with_name("was"))
        assert guard.check_state() == (
            SourceState.HELD, "it cannot be opened (No such file or directory)",
        )  # fmt: skip
        with pytest.raises(SourceHeldError, match="gone"), guard.open_checked():
            pass
        source.with_name("was").rename(source)
        assert guard.check_state() == (SourceState.SAME, "")


def test_a_file_in_the_sources_place_is_held(source: Path) -> None:
    with guarding(source) as guard:
        source.rename(source.with_name("was"))
        source.touch()
        assert guard.check_state()[0] is SourceState.HELD


def test_an_empty_directory_in_the_sources_place_is_held(source: Path) -> None:
    with guarding(source) as guard:
        replace(source)
        assert_held(guard, "an empty directory is in its place")


def test_excluded_entries_and_lost_and_found_leave_a_source_empty(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("lost+found", "cache", "elsewhere"):
        (source / name).mkdir(parents=True)
    (source / "f.tmp").touch()
    rules = build_rules([parse_exclude(each) for each in (b"*.tmp", b"/cache/", b"/elsewhere")])
    with guarding(source, rules) as guard:
        assert guard.is_empty()
        # The rule is about directories, and this is a link to one.
        (source / "cache").rmdir()
        (source / "cache").symlink_to("elsewhere")
        assert not guard.is_empty()


def test_a_source_that_was_not_accepted_has_no_identity(source: Path) -> None:
    guard = SourceGuard(os.fsencode(source), Rules())
    with contextlib.closing(guard), pytest.raises(RuntimeError, match="was not accepted"):
        guard.accepted  # noqa: B018  # it raises


def test_another_tree_of_the_same_file_system_is_replaced_until_accepted(
    source: Path,
) -> None:
    with guarding(source) as guard:
        replace(source, "new")
        assert guard.check_state()[0] is SourceState.REPLACED
        with pytest.raises(SourceHeldError, match="replaced a moment ago"), guard.open_checked():
            pass
        guard.accept()
        assert guard.check_state()[0] is SourceState.SAME
        with guard.open_checked():
            pass


def test_a_source_replaced_during_a_run_fails_the_check(source: Path) -> None:
    with guarding(source) as guard, guard.open_checked() as root:
        replace(source, "new")
        with pytest.raises(SourceHeldError):
            guard.verify_unchanged(root)
        guard.accept()
        # The new directory is accepted, but the run has read the old one.
        with pytest.raises(SourceHeldError, match="replaced a moment ago"):
            guard.verify_unchanged(root)


@needs_mounts
@pytest.mark.parametrize("names", [(), ("stray",)], ids=["empty", "with a file"])
def test_an_unmounted_source_is_held_until_it_is_mounted(
    source: Path, mounts: Mounts, names: tuple[str, ...]
) -> None:
    for name in names:
        (source / name).touch()
    disk = source.with_name("disk")
    disk.mkdir()
    mounts.mount_tmpfs(disk)
    (disk / "f").touch()
    mounts.mount_bind(disk, source)
    with guarding(source) as guard:
        assert guard.find_missing_mount([guard.accepted.mount_point]) is None
        mounts.unmount(source)
        assert_held(guard, "nothing is mounted at ")
        assert guard.find_missing_mount([guard.accepted.mount_point]) == os.fsencode(source)
        mounts.mount_bind(disk, source)
        assert guard.check_state() == (SourceState.SAME, "")


@needs_mounts
def test_another_file_system_over_the_source_is_held_until_it_is_accepted(
    source: Path, mounts: Mounts
) -> None:
    with guarding(source) as guard:
        mounts.mount_tmpfs(source)
        (source / "f").touch()
        assert_held(guard, "another file system is in its place")
        guard.accept()
        assert guard.check_state() == (SourceState.SAME, "")
        mounts.unmount(source)
        assert guard.check_state()[0] is SourceState.HELD


@pytest.mark.parametrize(
    "fs_type", [pytest.param(each, marks=requires(each)) for each in ("ext4", "xfs")]
)
def test_a_disk_that_is_back_under_another_device_number_is_the_same_source(
    source: Path, mounts: Mounts, fs_type: str
) -> None:
    with Disk(source.with_name("image"), fs_type) as disk:
        mounts.mount_device(disk.attach(), source)
        (source / "f").touch()
        with guarding(source) as guard:
            mounts.unmount(source)
            assert_held(guard, "nothing is mounted at ")
            mounts.mount_device(disk.attach(), source)
            # Its watches are gone, and a run would read another mount than was checked.
            assert guard.check_state() == (SourceState.REMOUNTED, "")
            with pytest.raises(SourceHeldError, match="mounted again"), guard.open_checked():
                pass
            guard.accept_replacement()
            assert guard.check_state() == (SourceState.SAME, "")
        mounts.unmount(source)


@requires("btrfs")
def test_a_subvolume_in_the_sources_place_is_a_replaced_source(
    source: Path, mounts: Mounts
) -> None:
    with Disk(source.with_name("image"), "btrfs") as disk:
        mounts.mount_device(disk.attach(), source)
        make_subvolume(source / "data")
        with guarding(source / "data") as guard:
            make_snapshot(source / "data", source / "new")
            (source / "data").rename(source / "old")
            make_subvolume(source / "data")
            assert_held(guard, "an empty directory is in its place")
            (source / "data").rename(source / "empty")
            (source / "new").rename(source / "data")
            (source / "data/f").touch()
            assert guard.check_state() == (SourceState.REPLACED, "")
            guard.accept_replacement()
            assert guard.check_state() == (SourceState.SAME, "")
        mounts.unmount(source)


# -- what belongs to other users ------------------------------------------------------------------

USER, OTHER = 65534, 65533

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(source: Path) -> Path:
    """Return a directory of a user, with the source in it and a link to the source."""
    home = source.parent / "home"
    home.mkdir()
    source.rename(home / "1")
    shutil.copytree(home / "1", home / "2")
    for path in (home, home / "1", home / "2"):
        os.chown(path, USER, USER)
    secret = source.parent / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").touch()
    point(home, "1")
    return home


def point(home: Path, target: str, owner: int = USER) -> None:
    """Switch the link as a deployment does."""
    (home / "new").symlink_to(target)
    os.chown(home / "new", owner, owner, follow_symlinks=False)
    (home / "new").rename(home / "current")


@only_root
def test_a_link_that_its_owner_switches_to_a_directory_of_his_is_a_replaced_source(
    home: Path,
) -> None:
    with guarding(home / "current") as guard:
        point(home, "2")
        assert guard.check_state() == (SourceState.REPLACED, "")
        guard.accept_replacement()
        assert guard.check_state() == (SourceState.SAME, "")


@only_root
def test_a_link_that_a_user_switches_to_a_directory_of_root_is_held(home: Path) -> None:
    with guarding(home / "current") as guard:
        point(home, "../secret")
        assert_held(guard, "symbolic link that other users may change")
        with pytest.raises(OSError, match="symbolic link"):
            guard.accept()
        assert "remove the link" in guard.why_not_opened(only_links=True)
        point(home, "1")
        assert guard.check_state() == (SourceState.SAME, "")
        assert guard.why_not_opened() == ""
        (home / "current").unlink()
        assert guard.why_not_opened(only_links=True) == ""
        assert "No such file" in guard.why_not_opened()


@only_root
@pytest.mark.parametrize("name", ["", "d"])
def test_a_directory_that_a_user_replaces_by_a_link_to_one_of_root_is_held(
    home: Path, name: str
) -> None:
    (home.parent / "secret/d").mkdir()
    with guarding(home / "1" / name) as guard:
        (home / "1").rename(home / "was")
        point(home, "../secret")
        (home / "current").rename(home / "1")
        assert_held(guard, "symbolic link that other users may change")


@only_root
def test_a_directory_of_another_owner_in_the_sources_place_is_held_until_accepted(
    home: Path,
) -> None:
    source = home / "1"
    with guarding(source) as guard:
        source.rename(home / "was")
        (home / "2").rename(source)
        os.chown(source, OTHER, OTHER)
        assert_held(guard, f"a directory of the user id {OTHER} is in its place")
        with pytest.raises(OSError, match=f"belonged to the user id {USER}"):
            guard.accept_replacement()
        guard.accept()
        assert guard.check_state() == (SourceState.SAME, "")
        assert guard.accepted.owner == OTHER


@only_root
def test_a_directory_of_root_may_take_the_sources_place(home: Path) -> None:
    source = home / "1"
    with guarding(source) as guard:
        source.rename(home / "was")
        (home / "2").rename(source)
        os.chown(source, 0, 0)
        assert guard.check_state() == (SourceState.REPLACED, "")


@only_root
def test_the_source_itself_may_get_another_owner(home: Path) -> None:
    source = home / "1"
    with guarding(source) as guard:
        os.chown(source, OTHER, OTHER)
        assert guard.check_state() == (SourceState.SAME, "")
        source.rename(home / "was")
        (home / "2").rename(source)
        os.chown(source, OTHER, OTHER)
        assert guard.check_state() == (SourceState.REPLACED, "")


@only_root
def test_the_source_may_get_another_owner_before_it_is_watched_again(home: Path) -> None:
    with guarding(home / "1") as guard:
        os.chown(home / "1", OTHER, OTHER)
        guard.accept_replacement()
        assert guard.accepted.owner == OTHER


# -- what is mounted below it ---------------------------------------------------------------------


@pytest.fixture
def disk(source: Path, mounts: Mounts) -> Path:
    """Return a file system that can be bind-mounted in the source."""
    path = source.with_name("disk")
    path.mkdir()
    mounts.mount_tmpfs(path)
    return path


@needs_mounts
def test_a_subtree_is_held_while_its_file_system_is_unmounted(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        assert guard.held_subtrees == {}
        mounts.unmount(source / "d")
        with guard.open_checked():
            assert set(guard.held_subtrees) == {b"d"}
            assert "is gone" in guard.held_subtrees[b"d"]
        assert guard.check_state() == (SourceState.SAME, "")
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert guard.held_subtrees == {}


@needs_mounts
def test_what_is_mounted_below_the_source_stays_mounted_during_a_run(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        with guard.open_checked(), pytest.raises(MountBusy):
            mounts.unmount(source / "d", seconds=0.0)
        mounts.unmount(source / "d")


@needs_mounts
def test_a_subtree_with_a_new_mount_is_held_until_accepted(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    with guarding(source) as guard:
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert set(guard.held_subtrees) == {b"d"}
        guard.accept()
        assert guard.held_subtrees == {}
        mounts.unmount(source / "d")
        guard.update_held_subtrees()
        assert set(guard.held_subtrees) == {b"d"}


@needs_mounts
def test_what_is_mounted_over_a_directory_can_be_accepted_alone(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    (source / "e").mkdir()
    with guarding(source) as guard:
        for name in ("d", "e"):
            mounts.mount_bind(disk, source / name)
        guard.update_held_subtrees()
        mounted = guard.new_mounts
        assert set(mounted) == {b"d", b"e"}
        guard.accept_mount(b"d", MountId("something else"))
        assert set(guard.held_subtrees) == {b"d", b"e"}
        guard.accept_mount(b"d", mounted[b"d"])
        assert (set(guard.held_subtrees), set(guard.new_mounts)) == ({b"e"}, {b"e"})
        assert guard.take_released() == {b"d"}
        assert guard.accepted.nested_mounts == {b"d": mounted[b"d"]}
        mounts.unmount(source / "d")
        guard.update_held_subtrees()
        # It is known now, so it is missed, and no mount over an empty directory.
        assert guard.held_subtrees[b"d"] == "the file system that was mounted there is gone"
        assert set(guard.new_mounts) == {b"e"}


@needs_mounts
def test_what_a_person_accepts_in_place_of_a_mount_is_another_directory(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        mounts.unmount(source / "d")
        guard.update_held_subtrees()
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert guard.take_exchanged() == set()
        mounts.unmount(source / "d")
        guard.update_held_subtrees()
        guard.accept()
        assert guard.take_exchanged() == {b"d"}
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert guard.take_exchanged() == set()
        guard.accept()
        assert guard.take_exchanged() == {b"d"}


@needs_mounts
def test_a_subtree_that_was_held_between_two_checks_only_counts_as_released(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        mounts.unmount(source / "d")
        guard.update_held_subtrees()
        assert guard.take_released() == set()
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert guard.held_subtrees == {}
        assert guard.take_released() == {b"d"}
        assert guard.take_released() == set()


@needs_mounts
def test_a_subtree_with_another_file_system_is_held(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    other = source.with_name("other")
    other.mkdir()
    mounts.mount_tmpfs(other)
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        mounts.unmount(source / "d")
        mounts.mount_bind(other, source / "d")
        guard.update_held_subtrees()
        assert guard.held_subtrees == {b"d": "another file system was mounted there"}


@needs_mounts
def test_a_mount_known_from_the_last_run_and_missing_is_held_from_the_start(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    mounts.mount_bind(disk, source / "d")
    with guarding(source) as guard:
        remembered = guard.accepted.nested_mounts
    mounts.unmount(source / "d")
    with contextlib.closing(SourceGuard(os.fsencode(source), Rules())) as guard:
        guard.accept(remembered)
        assert set(guard.held_subtrees) == {b"d"}
        # It stays known for the next run.
        assert set(guard.accepted.nested_mounts) == {b"d"}
        guard.accept()
        assert guard.held_subtrees == {}
        assert guard.accepted.nested_mounts == {}


@requires("btrfs")
def test_another_subvolume_in_a_subtree_is_followed_unless_it_is_empty(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    with Disk(source.with_name("image"), "btrfs") as image:
        device = image.attach()
        mounts.unmount(disk)
        mounts.mount_device(device, disk)
        for name in ("one", "two", "empty"):
            make_subvolume(disk / name)
        (disk / "two/f").touch()
        mounts.mount_device(device, source / "d", "subvol=one")
        with guarding(source) as guard:
            for name, held in (
                ("empty", {b"d": "an empty directory was mounted there"}),
                ("two", {}),
            ):
                mounts.unmount(source / "d")
                mounts.mount_device(device, source / "d", f"subvol={name}")
                guard.update_held_subtrees()
                assert guard.held_subtrees == held
                assert guard.take_remounted() == ({b"d"} if not held else set())
                assert guard.take_exchanged() == ({b"d"} if not held else set())
            # It is the known one from now on.
            mounts.unmount(source / "d")
            guard.update_held_subtrees()
            assert "is gone" in guard.held_subtrees[b"d"]
            mounts.mount_device(device, source / "d", "subvol=two")
            guard.update_held_subtrees()
            assert guard.held_subtrees == {}
            assert guard.take_exchanged() == set()
        for path in (source / "d", disk):
            mounts.unmount(path)


@requires("xfs")
def test_a_subtree_whose_disk_is_back_under_another_device_number_is_watched_again(
    source: Path, mounts: Mounts
) -> None:
    with Disk(source.with_name("image"), "xfs") as image:
        mounts.mount_device(image.attach(), source / "d")
        with guarding(source) as guard:
            mounts.unmount(source / "d")
            mounts.mount_device(image.attach(), source / "d")
            guard.update_held_subtrees()
            assert guard.held_subtrees == {}
            assert guard.take_remounted() == {b"d"}
        mounts.unmount(source / "d")


@needs_mounts
def test_mounts_at_excluded_paths_are_ignored(source: Path, disk: Path, mounts: Mounts) -> None:
    (source / "cache/deep").mkdir(parents=True)
    with guarding(source, build_rules([parse_exclude(b"/cache/")])) as guard:
        for place in (source / "cache/deep", source / "cache"):
            mounts.mount_bind(disk, place)
            guard.update_held_subtrees()
            assert guard.held_subtrees == {}
            guard.accept()
            mounts.unmount(place)
            guard.update_held_subtrees()
            assert guard.held_subtrees == {}


@needs_mounts
def test_a_mounted_file_is_not_watched_again(source: Path, disk: Path, mounts: Mounts) -> None:
    (disk / "f").touch()
    mounts.mount_bind(disk / "f", source / "d/f")
    (source / "e").mkdir()
    mounts.mount_bind(disk, source / "e")
    with guarding(source) as guard:
        mounts.unmount(source / "e")
        mounts.mount_bind(disk, source / "e")
        guard.update_held_subtrees()
        assert guard.held_subtrees == {}
        assert guard.take_remounted() == {b"e"}


@needs_mounts
def test_a_mount_elsewhere_holds_nothing(source: Path, disk: Path, mounts: Mounts) -> None:
    beside = source.with_name("source-too")
    beside.mkdir()
    with guarding(source) as guard:
        mounts.mount_bind(disk, beside)
        guard.update_held_subtrees()
        assert guard.held_subtrees == {}
        assert guard.check_state() == (SourceState.SAME, "")


@needs_mounts
def test_mounts_below_a_source_behind_a_symlink_are_seen(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    link = source.with_name("link")
    link.symlink_to(source)
    with guarding(link) as guard:
        mounts.mount_bind(disk, source / "d")
        guard.update_held_subtrees()
        assert set(guard.held_subtrees) == {b"d"}


def test_a_local_source_has_no_eventless_directories(source: Path) -> None:
    with guarding(source) as guard:
        assert guard.find_eventless_directories() == []
        assert guard.find_directories_without_ctimes() == []


@pytest.mark.skipif(not can_mount_sshfs(), reason="sshfs cannot be mounted here")
def test_network_file_systems_are_found_unless_they_are_excluded(
    source: Path, disk: Path, mounts: Mounts
) -> None:
    server = source.with_name("server")
    for path in (server / "below", source / "cache", source / "local"):
        path.mkdir(parents=True)
    rules = build_rules([parse_exclude(b"/cache/")])
    mounts.mount_bind(disk, source / "local")
    for name in ("cache", "d"):
        mounts.mount_sshfs(server, source / name)
    for path, expected in ((source, [b"d"]), (source / "d/below", [b""])):
        with guarding(path, rules) as guard:
            assert guard.find_eventless_directories() == expected
            assert guard.find_directories_without_ctimes() == expected
