"""The mount table: which mounts are visible where, and which are hidden."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount
from support.waiting import wait_until

from pylsyncd.watcher.mounts import (
    Mount,
    MountTable,
    find_unmounted_point,
    lacks_ctimes,
    mount_fingerprint,
    mount_of,
    mount_origin,
    mounts_below,
    parse_fstab,
    parse_mountinfo,
    read_fstab_mount_points,
    sends_no_events,
)

TEXT = rb"""
1 1 0:2 / / rw - rootfs rootfs rw
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:5 - proc proc rw
24 22 0:50 / /home rw shared:7 master:2 - nfs4 server:/home rw
25 22 8:17 / /srv/with\040blank rw - ext4 /dev/sdb1 rw
26 25 8:17 /part\134x /srv/with\040blank/in\012ner rw - ext4 /dev/sdb1 rw
27 22 0:51 / /srv/web rw propagate_from:3 - fuse.sshfs host:/ rw
a broken line
28 22 nonsense / /x rw - ext4 /dev/sdc1 rw
30 22 99999999999999999999:1 / /z rw - ext4 /dev/sdc1 rw
29 22 8:33 / /y rw
"""
MOUNTS = parse_mountinfo(TEXT)


def mounted(*rows: tuple[int, int, bytes]) -> list[Mount]:
    """Return mounts with these ids, parent ids and mount points."""
    return [Mount(point, number, "ext4", number, parent, b"/") for number, parent, point in rows]


def numbers(path: bytes, mounts: list[Mount]) -> dict[bytes, int]:
    return {point: mount.mount_id for point, mount in mounts_below(path, mounts).items()}


def test_octal_escapes_in_a_line_are_decoded() -> None:
    assert [mount.mount_id for mount in MOUNTS] == [1, 22, 23, 24, 25, 26, 27, 29]
    expected = (b"/srv/with blank/in\nner", os.makedev(8, 17), "ext4", 26, 25, rb"/part\x")
    assert MOUNTS[5][:-1] == expected
    assert MOUNTS[5].source == b"/dev/sdb1"


def test_what_a_boot_has_not_mounted_at_or_above_a_path_is_found_if_it_is_empty(
    tmp_path: Path,
) -> None:
    fstab = tmp_path / "fstab"
    for name in ("a", "used/below", "ab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    points = ["/", "/proc", *(tmp_path / name for name in ("link", "used", "none"))]
    fstab.write_text("".join(f"x {point} ext4 defaults 0 2\n" for point in points))

    def find(path: object) -> bytes | None:
        return find_unmounted_point(os.fsencode(str(path)), str(fstab))

    assert find(tmp_path / "a") == find(tmp_path / "link/b/c") == os.fsencode(tmp_path / "a")
    # Mounted, in use, missing, beside, or above none of them.
    for path in (
        "/proc/x",
        tmp_path / "used/below",
        tmp_path / "none/x",
        tmp_path / "ab",
        tmp_path,
    ):
        assert find(path) is None
    fstab.unlink()
    assert find(tmp_path / "a") is None


def test_fstab_tells_where_a_boot_mounts(tmp_path: Path) -> None:
    lines = [
        b"# /srv/comment /srv/comment",
        b"LABEL=a\t/srv/a ext4 defaults 0 2",
        b"srv:/b  /srv/b\\040c nfs rw,nofail",
        b"LABEL=d /srv/d ext4 ro,noauto,user 0 0",
        b"/swap   none   swap sw 0 0",
        b"LABEL=e /srv/e",
        b"LABEL=f",
        b"",
    ]
    assert parse_fstab(b"\n".join(lines)) == [b"/srv/a", b"/srv/b c", b"/srv/e"]
    (tmp_path / "fstab").write_bytes(b"tmpfs /tmp tmpfs")
    assert read_fstab_mount_points(str(tmp_path / "fstab")) == [b"/tmp"]
    assert read_fstab_mount_points(str(tmp_path / "none")) == []


def test_the_mount_of_a_path_is_the_nearest_above_it() -> None:
    assert mount_of(b"/srv/web/a/b", MOUNTS).fs_type == "fuse.sshfs"
    assert mount_of(b"/srv/web", MOUNTS).mount_id == 27
    assert mount_of(b"/srv/webber", MOUNTS).mount_id == 22
    assert mount_of(b"/", MOUNTS).mount_id == 22


def test_an_unlisted_root_has_a_substitute() -> None:
    assert mount_of(b"/a", mounted((7, 3, b"/b"))).fs_type == "unlisted"
    assert mount_of(b"/b/c", mounted((7, 3, b"/b"))).mount_id == 7
    assert mount_of(b"/", []).fs_type == "unlisted"


def test_mounts_below_a_path_have_relative_paths() -> None:
    assert numbers(b"/srv", MOUNTS) == {b"with blank": 25, b"with blank/in\nner": 26, b"web": 27}
    assert numbers(b"/srv/with blank", MOUNTS) == {b"in\nner": 26}
    assert numbers(b"/srv/web", MOUNTS) == {}
    assert set(numbers(b"/", MOUNTS)) == {
        b"proc", b"home", b"srv/with blank", b"srv/with blank/in\nner", b"srv/web", b"y",
    }  # fmt: skip


HIDDEN = {
    "one over another at the same point": (
        [(1, 0, b"/"), (2, 1, b"/a"), (3, 2, b"/a")],
        {b"a": 3},
    ),
    "one over a directory that holds another": (
        [(1, 0, b"/"), (2, 1, b"/a/b"), (3, 1, b"/a")],
        {b"a": 3},
    ),
    "one over another that holds a third": (
        [(1, 0, b"/"), (2, 1, b"/a"), (3, 2, b"/a/b"), (4, 2, b"/a")],
        {b"a": 4},
    ),
    "the same, moved there from elsewhere: its line comes first": (
        [(4, 2, b"/a"), (1, 0, b"/"), (2, 1, b"/a"), (3, 2, b"/a/b")],
        {b"a": 4},
    ),
    "one over a directory that holds another that holds a third": (
        [(1, 0, b"/"), (2, 1, b"/a/b"), (3, 2, b"/a/b/c"), (4, 1, b"/a")],
        {b"a": 4},
    ),
    "one inside the one that hides": (
        [(1, 0, b"/"), (2, 1, b"/a/b"), (3, 1, b"/a"), (4, 3, b"/a/b")],
        {b"a": 3, b"a/b": 4},
    ),
    "nothing: one inside another": (
        [(1, 0, b"/"), (2, 1, b"/a"), (3, 2, b"/a/b")],
        {b"a": 2, b"a/b": 3},
    ),
    "nothing: names that only begin alike": (
        [(1, 0, b"/"), (2, 1, b"/a-b"), (3, 1, b"/a"), (4, 1, b"/ab")],
        {b"a-b": 2, b"a": 3, b"ab": 4},
    ),
    "a root over the root": (
        [(1, 1, b"/"), (2, 1, b"/"), (3, 2, b"/a"), (4, 1, b"/b")],
        {b"a": 3},
    ),
    "nothing: a ring of parents, from a table that changed while it was read": (
        [(2, 3, b"/a"), (3, 2, b"/b")],
        {b"a": 2, b"b": 3},
    ),
    "one over another in the same parent that holds a third": (
        [(1, 0, b"/"), (2, 1, b"/a"), (3, 2, b"/a/b"), (4, 1, b"/a")],
        {b"a": 4},
    ),
    "the later of two in the same parent": (
        [(1, 0, b"/"), (2, 1, b"/a"), (3, 1, b"/a")],
        {b"a": 3},
    ),
}


@pytest.mark.parametrize(("rows", "expected"), HIDDEN.values(), ids=HIDDEN)
def test_a_mount_hides_others(
    rows: list[tuple[int, int, bytes]], expected: dict[bytes, int]
) -> None:
    assert numbers(b"/", mounted(*rows)) == expected


def test_a_hidden_mount_is_never_the_mount_of_a_path() -> None:
    mounts = mounted((1, 0, b"/"), (2, 1, b"/a/b"), (3, 1, b"/a"))
    assert mount_of(b"/a/b/c", mounts).mount_id == 3


def test_a_fingerprint_distinguishes_file_systems_but_not_remounts() -> None:
    disk = Mount(b"/srv", os.makedev(8, 17), "ext4", 25, 22, b"/", b"/dev/sdb1")
    assert mount_fingerprint(disk, 0xABC) == "ext4 abc /"
    again = disk._replace(
        mount_id=99, parent_id=1, mount_point=b"/mnt", device=1, source=b"/dev/sdc1"
    )
    assert mount_fingerprint(again, 0xABC) == mount_fingerprint(disk, 0xABC)
    others = [disk._replace(fs_type="xfs"), disk._replace(root=b"/part")]
    assert mount_fingerprint(disk, 0xABC) not in {
        mount_fingerprint(other, 0xABC) for other in others
    }
    assert mount_fingerprint(disk, 0xABD) != mount_fingerprint(disk, 0xABC)


@pytest.mark.parametrize(
    ("fs_type", "source", "origin"),
    [
        ("nfs4", b"server:/export", "nfs4 server:/export"),
        ("cifs", b"//server/a share", "cifs //server/a share"),
        ("fuse.sshfs", b"me@host:/srv", "fuse.sshfs me@host:/srv"),
        # The next disk may be called sdb1, too.
        ("vfat", b"/dev/sdb1", ""),
        ("tmpfs", b"tmpfs", ""),
    ],
)
def test_only_the_source_of_a_network_file_system_identifies_it(
    fs_type: str, source: bytes, origin: str
) -> None:
    assert mount_origin(Mount(b"/srv", 40, fs_type, 25, 22, b"/", source)) == origin


def test_without_a_file_system_id_the_fingerprint_uses_the_mount_source() -> None:
    share = Mount(b"/srv", os.makedev(0, 40), "nfs4", 25, 22, b"/", b"server:/export")
    assert mount_fingerprint(share, 0) == "nfs4 server:/export /"
    assert mount_fingerprint(share._replace(device=41), 0) == mount_fingerprint(share, 0)


@pytest.mark.parametrize(
    "kind",
    [
        "nfs", "nfs4", "cifs", "smb3", "fuse", "fuse.sshfs", "fuse.glusterfs", "9p", "ceph",
        "lustre", "fakeowner", "osxfs", "grpcfuse", "fuse.grpcfuse", "fuse.osxfs", "drvfs",
    ],
)  # fmt: skip
def test_a_remote_file_system_sends_no_events(kind: str) -> None:
    assert sends_no_events(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "f2fs", "vfat", ""]
)
def test_a_local_file_system_sends_events(kind: str) -> None:
    assert not sends_no_events(kind)


@pytest.mark.parametrize(
    "kind",
    ["fuse.sshfs", "fuse.rclone", "fuse", "fuseblk", "vfat", "exfat", "afs", "squashfs", "iso9660"],
)
def test_on_some_file_systems_a_ctime_tells_nothing(kind: str) -> None:
    assert lacks_ctimes(kind)


@pytest.mark.parametrize(
    "kind",
    ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "nfs4", "cifs", "9p", "virtiofs",
     "fuse.glusterfs", "fuse.mergerfs", "fuse.grpcfuse", "fakeowner", ""],
)  # fmt: skip
def test_other_file_systems_have_ctimes(kind: str) -> None:
    assert not lacks_ctimes(kind)


# From here on: the table of this machine.


@pytest.fixture
def table() -> Iterator[MountTable]:
    opened = MountTable()
    yield opened
    opened.close()


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    if not can_mount():
        pytest.skip("mounting is not permitted here")
    with Mounts() as mounted_here:
        yield mounted_here


def test_the_table_has_the_device_numbers_of_stat(table: MountTable, tmp_path: Path) -> None:
    for path in (tmp_path, Path("/proc"), Path("/dev/shm")):  # noqa: S108  # another file system
        found = mount_of(os.fsencode(path.resolve()), table.read())
        if found.fs_type not in {"btrfs", "unlisted"}:
            assert found.device == path.stat().st_dev


def test_the_whole_table_is_read_each_time(table: MountTable) -> None:
    def is_whole() -> bool:
        # Other programs may mount file systems meanwhile.
        return table.read() == parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())

    for _ in range(2):
        wait_until(is_whole)


def test_a_mount_and_its_unmount_are_seen(
    table: MountTable, mounts: Mounts, tmp_path: Path
) -> None:
    point = tmp_path / "a b\\\n\udcff"
    point.mkdir()
    top = os.fsencode(tmp_path.resolve())
    assert mounts_below(top, table.read()) == {}
    mounts.mount_tmpfs(point)
    found = mounts_below(top, table.read())
    assert list(found) == [b"a b\\\n\xff"]
    mount = found[b"a b\\\n\xff"]
    assert (mount.device, mount.fs_type) == (point.stat().st_dev, "tmpfs")
    assert mount_of(os.fsencode(point.resolve()), table.read()) == mount
    mounts.unmount(point)
    assert mounts_below(top, table.read()) == {}


def test_a_mount_below_another_mount_is_not_seen(
    table: MountTable, mounts: Mounts, tmp_path: Path
) -> None:
    inner = tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    top = os.fsencode(tmp_path.resolve())
    mounts.mount_tmpfs(inner)
    mounts.mount_tmpfs(inner)
    assert list(mounts_below(top, table.read())) == [b"outer/inner"]
    assert mounts_below(top, table.read())[b"outer/inner"].device == inner.stat().st_dev
    mounts.mount_tmpfs(inner.parent)
    assert list(mounts_below(top, table.read())) == [b"outer"]
    mounts.unmount(inner.parent)
    assert list(mounts_below(top, table.read())) == [b"outer/inner"]


def test_bind_mounts_of_two_directories_have_different_fingerprints(
    table: MountTable, mounts: Mounts, tmp_path: Path
) -> None:
    for name in ("one", "two", "place"):
        (tmp_path / name).mkdir()
    place = os.fsencode((tmp_path / "place").resolve())
    mounts.mount_bind(tmp_path / "one", tmp_path / "place")
    first = mount_of(place, table.read())
    mounts.unmount(tmp_path / "place")
    mounts.mount_bind(tmp_path / "two", tmp_path / "place")
    second = mount_of(place, table.read())
    assert first.device == second.device == tmp_path.stat().st_dev
    assert mount_fingerprint(first, 1) != mount_fingerprint(second, 1)


def test_each_change_of_the_table_is_reported_once(
    table: MountTable, mounts: Mounts, tmp_path: Path
) -> None:
    # Other programs may mount file systems meanwhile.
    while table.has_changed():
        pass
    mounts.mount_tmpfs(tmp_path)
    assert table.has_changed()
    wait_until(lambda: not table.has_changed())
    mounts.unmount(tmp_path)
    assert table.has_changed()
    wait_until(lambda: not table.has_changed())


def test_the_same_table_is_parsed_once_for_all_readers() -> None:
    with closing(MountTable()) as one, closing(MountTable()) as other:
        # Other programs may mount file systems meanwhile.
        wait_until(lambda: one.read()[0] is other.read()[0])
