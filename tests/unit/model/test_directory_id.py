"""Two directories are told apart by the best that is known of both."""

import pytest

from pylsyncd.model.directory_id import DirectoryId, MountId

DISK = DirectoryId(0x811, 2, "0a1b", 0xABC)
# XFS and f2fs make their f_fsid of the device number, so it counts as unknown.
XFS = DirectoryId(0x811, 128, "c0ffee")
# Without FS_IOC_GETFSUUID and without udev.
UNNAMED = DirectoryId(0x811, 128)
NFS = DirectoryId(0x30, 7, origin="nfs4 server:/export")
SUBVOLUME = DirectoryId(0x28, 256, "b7f5", 0xE1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(DISK, DISK, id="nothing has changed"),
        pytest.param(DISK, DirectoryId(0x821, 2, "0a1b", 0xABC), id="a disk is another device"),
        pytest.param(DISK, DirectoryId(0x821, 2, "", 0xABC), id="its UUID is unknown"),
        pytest.param(XFS, DirectoryId(0x821, 128, "c0ffee"), id="XFS on another device"),
        pytest.param(XFS, UNNAMED, id="only the device number is known of one"),
        pytest.param(NFS, DirectoryId(0x31, 7, origin="nfs4 server:/export"), id="NFS again"),
        pytest.param(SUBVOLUME, DirectoryId(0x2A, 256, "b7f5", 0xE1), id="btrfs mounted again"),
        pytest.param(DirectoryId(0x811, 2), DISK, id="from a state file of version 1"),
    ],
)
def test_a_directory_is_the_same(one: DirectoryId, other: DirectoryId) -> None:
    for first, second in ((one, other), (other, one)):
        assert first.is_same(second)
        assert first.is_on_same_file_system(second)


@pytest.mark.parametrize(
    ("one", "other", "is_on_same_file_system"),
    [
        pytest.param(DISK, DirectoryId(0x811, 3, "0a1b", 0xABC), True, id="another directory"),
        pytest.param(DISK, DirectoryId(0x811, 2, "ffff", 0xDEF), False, id="a reused device"),
        pytest.param(DISK, DirectoryId(0x811, 2, "", 0xDEF), False, id="another f_fsid"),
        pytest.param(XFS, DirectoryId(0x811, 128, "ffff"), False, id="another XFS"),
        pytest.param(UNNAMED, DirectoryId(0x821, 128), False, id="only device numbers"),
        pytest.param(
            NFS, DirectoryId(0x30, 7, origin="nfs4 server:/other"), False, id="another export"
        ),
        pytest.param(SUBVOLUME, DirectoryId(0x29, 256, "b7f5", 0xE2), True, id="another subvolume"),
    ],
)
def test_a_directory_is_another_one(
    one: DirectoryId, other: DirectoryId, *, is_on_same_file_system: bool
) -> None:
    for first, second in ((one, other), (other, one)):
        assert not first.is_same(second)
        assert first.is_on_same_file_system(second) is is_on_same_file_system


@pytest.mark.parametrize(
    ("other", "is_same", "is_replaced"),
    [
        pytest.param(MountId("btrfs e1 /s", SUBVOLUME), True, False, id="the same"),
        pytest.param(MountId("btrfs e1 /s"), True, False, id="the same, of version 1"),
        pytest.param(MountId("btrfs e2 /s"), False, False, id="another one, of version 1"),
        pytest.param(
            MountId("btrfs e1 /s.old", DirectoryId(0x2B, 256, "b7f5", 0xE1)),
            True, False, id="the same, under another name",
        ),
        pytest.param(
            MountId("btrfs e2 /s", DirectoryId(0x29, 256, "b7f5", 0xE2)),
            False, True, id="another subvolume",
        ),
        pytest.param(
            MountId("btrfs e1 /s", DirectoryId(0x28, 256, "ffff", 0xE1)),
            False, False, id="another file system",
        ),
    ],
)  # fmt: skip
def test_a_mount_is_compared_with_what_was_there(
    other: MountId, *, is_same: bool, is_replaced: bool
) -> None:
    known = MountId("btrfs e1 /s", SUBVOLUME)
    assert known.is_same(other) is is_same
    assert other.is_same(known) is is_same
    assert known.is_replaced_by(other) is is_replaced
