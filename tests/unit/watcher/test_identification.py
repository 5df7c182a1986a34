"""What identifies a directory is stable over mounts, and different for each file system."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.disks import Disk, make_snapshot, make_subvolume, requires
from support.mounts import Mounts, can_mount, can_mount_sshfs
from support.trees import directory_id_of

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.endpoints import Destination
from pylsyncd.watcher.identification import local_directory_id, read_directory_id, read_uuid
from pylsyncd.watcher.mounts import Mount

needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory to mount something at."""
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def mounted() -> Iterator[Mounts]:
    with Mounts() as made:
        yield made


def test_a_directory_is_identified_by_more_than_its_device(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert directory_id_of(first).is_same(directory_id_of(first))
    assert not directory_id_of(first).is_same(directory_id_of(second))
    assert directory_id_of(first).is_on_same_file_system(directory_id_of(second))


@needs_mounts
def test_another_tmpfs_is_another_file_system(place: Path, mounted: Mounts) -> None:
    mounted.mount_tmpfs(place)
    first = directory_id_of(place)
    mounted.unmount(place)
    # It gets the same device number and inode.
    mounted.mount_tmpfs(place)
    assert not directory_id_of(place).is_on_same_file_system(first)


@pytest.mark.parametrize(
    "fs_type", [pytest.param(each, marks=requires(each)) for each in ("ext4", "xfs", "btrfs")]
)
def test_a_disk_is_the_same_under_another_device_number(
    place: Path, mounted: Mounts, fs_type: str
) -> None:
    with Disk(place.with_name("image"), fs_type) as disk:
        mounted.mount_device(disk.attach(), place)
        first = directory_id_of(place)
        mounted.unmount(place)
        mounted.mount_device(disk.attach(), place)
        second = directory_id_of(place)
        mounted.unmount(place)
    assert second.is_same(first)
    assert second.uuid
    assert second.device != first.device or fs_type == "btrfs"


@pytest.mark.parametrize(
    ("fs_type", "option"),
    [pytest.param("ext4", "-U", marks=requires("ext4")),
     pytest.param("btrfs", "-U", marks=requires("btrfs"))],
)  # fmt: skip
def test_the_uuid_of_a_disk_is_that_of_its_file_system(
    place: Path, mounted: Mounts, fs_type: str, option: str
) -> None:
    uuid = "93ef70e4-21d6-4fb1-9a5c-0c2b6d1f7e35"
    with Disk(place.with_name("image"), fs_type, option, uuid) as disk:
        mounted.mount_device(disk.attach(), place)
        found = directory_id_of(place)
        mounted.unmount(place)
    assert found.uuid == uuid.replace("-", "")


def test_the_mounts_are_read_only_for_a_file_system_without_an_identity(tmp_path: Path) -> None:
    def refuse() -> list[Mount]:
        raise AssertionError("the mounts are read")

    for path, is_known in ((tmp_path, True), (Path("/proc"), False)):
        opened = os.open(path, os.O_RDONLY)
        try:
            with nullcontext() if is_known else pytest.raises(AssertionError, match="are read"):
                read_directory_id(opened, refuse)
        finally:
            os.close(opened)


@requires("btrfs")
def test_a_snapshot_is_another_directory_of_the_same_file_system(
    place: Path, mounted: Mounts
) -> None:
    with Disk(place.with_name("image"), "btrfs") as disk:
        mounted.mount_device(disk.attach(), place)
        make_subvolume(place / "first")
        make_snapshot(place / "first", place / "second")
        first, second = directory_id_of(place / "first"), directory_id_of(place / "second")
        mounted.unmount(place)
    assert second.is_on_same_file_system(first)
    assert not second.is_same(first)


@pytest.mark.skipif(not can_mount_sshfs(), reason="sshfs cannot be mounted here")
def test_a_network_file_system_is_the_same_after_each_mount(
    place: Path, tmp_path: Path, mounted: Mounts
) -> None:
    for name in ("server", "another", "elsewhere"):
        (tmp_path / name).mkdir()
    found = []
    for name in ("server", "server", "another"):
        mounted.mount_sshfs(tmp_path / name, place)
        found.append(directory_id_of(place))
        mounted.unmount(place)
        # It takes the device number.
        mounted.mount_tmpfs(tmp_path / "elsewhere")
    first, again, another = found
    assert first.origin == f"fuse.sshfs here:{tmp_path / 'server'}"
    assert again.is_same(first)
    assert not another.is_on_same_file_system(first)


def test_a_file_system_of_which_nothing_is_known_has_its_device_number() -> None:
    # Of /proc, the f_fsid is the device number, and the source is any text.
    found = directory_id_of(Path("/proc"))
    assert found == DirectoryId(os.stat("/proc").st_dev, found.inode)


# Without FS_IOC_GETFSUUID: udev's links


def test_the_uuid_is_that_of_udevs_link_to_the_device(tmp_path: Path) -> None:
    links = tmp_path / "by-uuid"
    links.mkdir()
    (links / "aaaa-bbbb").symlink_to("/nowhere")
    (links / "93EF70E4-21d6").symlink_to("/dev/zero")
    # No file system has a UUID in /proc, so the links are asked.
    opened = os.open("/proc", os.O_RDONLY)
    try:
        device = os.stat("/dev/zero").st_rdev
        assert read_uuid(opened, device, str(links)) == "93ef70e421d6"
        assert read_uuid(opened, os.makedev(250, 7), str(links)) == ""
        # btrfs, NFS and other file systems without a device have such numbers.
        assert read_uuid(opened, os.makedev(0, 7), str(links)) == ""
        assert read_uuid(opened, device, str(tmp_path / "missing")) == ""
    finally:
        os.close(opened)


def test_a_uuid_of_zeros_is_none(tmp_path: Path) -> None:
    links = tmp_path / "by-uuid"
    links.mkdir()
    (links / "0000-0000").symlink_to("/dev/zero")
    opened = os.open("/proc", os.O_RDONLY)
    try:
        assert read_uuid(opened, os.stat("/dev/zero").st_rdev, str(links)) == ""
    finally:
        os.close(opened)


def test_only_a_local_destination_that_is_there_has_an_id(place: Path) -> None:
    target = os.fsencode(place) + b"/"
    local = Destination("copy", "", Transport.LOCAL, None, target, target[:-1])
    assert local_directory_id(local) == directory_id_of(place)
    place.rmdir()
    assert local_directory_id(local) is None
    assert (
        local_directory_id(Destination("copy", "", Transport.SHELL, "host", target, target)) is None
    )
