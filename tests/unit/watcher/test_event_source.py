"""By which method a source is watched."""

import contextlib
import errno
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount, can_mount_sshfs

from pylsyncd.config.settings import SyncSettings, WatchMethod
from pylsyncd.model.endpoints import Source
from pylsyncd.watcher import event_source, inotify
from pylsyncd.watcher.event_source import EventSource, ManyDirectoriesError, open_events
from pylsyncd.watcher.rescanner import RescanPlan

Open = Callable[..., EventSource]

PERMITTED_WATCHES = 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "a/b/c").mkdir(parents=True)
    return source


@pytest.fixture
def few_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel's limit read from another file."""
    (tmp_path / "max_user_watches").write_text(f"{PERMITTED_WATCHES}\n")
    (tmp_path / "max_queued_events").write_text("16384\n")
    monkeypatch.setattr(inotify, "_LIMITS", f"{tmp_path}/")


def open_by(
    method: WatchMethod, source: Path, *, has_many_directories: bool = False
) -> EventSource:
    sync = SyncSettings(Source(os.fsencode(source), b"", is_full_path=False), (), watch=method)
    return open_events(
        sync, RescanPlan(), lambda _: None, None, has_many_directories=has_many_directories
    )


@pytest.mark.parametrize("method", [WatchMethod.INOTIFY, WatchMethod.FANOTIFY])
def test_a_source_is_watched_by_the_chosen_method(method: WatchMethod, source: Path) -> None:
    skip_without_fanotify(source)
    events = open_by(method, source)
    events.rescanner.initial_scan()
    assert events.is_marked is (method is WatchMethod.FANOTIFY)
    assert events.watches.directory_count == (0 if events.is_marked else 4)
    assert events.watches.unwatched_count == 0
    events.close()


@pytest.mark.usefixtures("few_watches")
def test_a_small_source_has_watches_with_auto(source: Path) -> None:
    events = open_by(WatchMethod.AUTO, source)
    events.rescanner.initial_scan()
    assert not events.is_marked
    events.close()


@pytest.mark.usefixtures("few_watches")
def test_a_large_source_has_a_mark_with_auto(source: Path) -> None:
    skip_without_fanotify(source)
    # The walk reports its progress once for so many directories.
    for number in range(300):
        (source / f"{number}").mkdir()
    events = open_by(WatchMethod.AUTO, source)
    with pytest.raises(ManyDirectoriesError):
        events.rescanner.initial_scan()
    events.close()
    events = open_by(WatchMethod.AUTO, source, has_many_directories=True)
    assert events.is_marked
    events.close()


@pytest.mark.parametrize(
    ("method", "number", "level", "remedy"),
    [
        (WatchMethod.FANOTIFY, errno.EPERM, "WARNING", "pylsyncd-fanotify.conf"),
        (WatchMethod.AUTO, errno.EPERM, "INFO", "pylsyncd-fanotify.conf"),
        (WatchMethod.FANOTIFY, errno.EMFILE, "WARNING", "`sysctl -w fs.fanotify.max_user_groups="),
        (WatchMethod.FANOTIFY, errno.ENOSYS, "WARNING", "it needs Linux 5.9"),
    ],
)
def test_what_is_not_possible_is_said_and_falls_back_to_inotify(
    source: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    method: WatchMethod, number: int, level: str, remedy: str,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)

    class Refusing:
        def __init__(self) -> None:
            raise OSError(number, os.strerror(number))

    # As in a process that may not use it.
    monkeypatch.setattr(os, "geteuid", int)
    monkeypatch.setattr(event_source, "Fanotify", Refusing)
    monkeypatch.setattr(event_source, "Fanotify", Refusing)
    events = open_by(method, source, has_many_directories=True)
    assert not events.is_marked
    events.close()
    assert caplog.records[0].levelname == level
    assert "fanotify is not possible" in caplog.text
    assert remedy in caplog.text


@pytest.mark.parametrize("method", [WatchMethod.INOTIFY, WatchMethod.FANOTIFY])
@pytest.mark.parametrize(
    ("path", "error"), [("gone", FileNotFoundError), ("file", NotADirectoryError)]
)
def test_a_source_that_is_no_directory_for_a_moment_is_no_reason_for_inotify(
    source: Path, caplog: pytest.LogCaptureFixture, method: WatchMethod, path: str,
    error: type[OSError],
) -> None:  # fmt: skip
    skip_without_fanotify(source)
    (source / "file").touch()
    with pytest.raises(error):
        open_by(method, source / path)
    assert caplog.text == ""


@pytest.mark.skipif(not can_mount(), reason="only root may mount")
def test_a_mount_that_cannot_be_marked_is_polled_from_the_start(source: Path) -> None:
    skip_without_fanotify(source)
    sync = SyncSettings(
        Source(os.fsencode(source), b"", is_full_path=False), (), watch=WatchMethod.FANOTIFY
    )
    with Mounts() as mounts:
        mounts.mount_proc(source / "a/b")
        plan = RescanPlan(find_mounts=lambda: [b"a/b"])
        events = open_events(sync, plan, lambda _: None, None)
        assert events.rescanner.is_near_eventless(b"a/b")
        assert not events.rescanner.is_near_eventless(b"c")
        events.close()


def test_the_progress_of_a_walk_is_reported_with_auto(source: Path) -> None:
    for number in range(300):
        (source / f"{number}").mkdir()
    sync = SyncSettings(
        Source(os.fsencode(source), b"", is_full_path=False), (), watch=WatchMethod.AUTO
    )
    progress: list[int] = []
    events = open_events(sync, RescanPlan(), progress.append, None)
    events.rescanner.initial_scan()
    assert progress
    assert not events.is_marked
    events.close()


# -- file systems ---------------------------------------------------------------------------------


@pytest.fixture(params=["overlayfs", "sshfs", "NFS"])
def without_handles(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system without handles that fanotify can report."""
    top = tmp_path / "mounted"
    top.mkdir()
    with Mounts() as mounts, contextlib.ExitStack() as stack:
        if request.param == "NFS":
            top = stack.enter_context(directory_on_nfs())
        elif request.param == "sshfs":
            if not can_mount_sshfs():
                pytest.skip("sshfs cannot be mounted here")
            (tmp_path / "remote").mkdir()
            mounts.mount_sshfs(tmp_path / "remote", top)
        else:
            mount_overlay(mounts, tmp_path, top)
        yield top


def mount_overlay(mounts: Mounts, layers: Path, where: Path, options: str = "") -> None:
    if not can_mount():
        pytest.skip("only root may mount")
    try:
        mounts.mount_overlay(layers, where, options)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"overlayfs cannot be mounted here: {error.stderr.strip()}")


@contextlib.contextmanager
def directory_on_nfs() -> Iterator[Path]:
    """Yield a new directory on the first NFS that is mounted here; skip without one."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for _, path, fs_type, *_ in mounts:
        if fs_type in {"nfs", "nfs4"} and os.access(path, os.W_OK):
            with tempfile.TemporaryDirectory(prefix="pylsyncd-test-", dir=path) as directory:
                yield Path(directory)
            return
    pytest.skip("no NFS is mounted here")


@pytest.mark.parametrize(
    ("method", "level"), [(WatchMethod.FANOTIFY, "WARNING"), (WatchMethod.AUTO, "INFO")]
)
def test_a_file_system_without_handles_is_watched_by_inotify(
    without_handles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    method: WatchMethod, level: str,
) -> None:  # fmt: skip
    # Otherwise the reason is another one.
    skip_without_fanotify(tmp_path)
    caplog.set_level(logging.INFO)
    (without_handles / "d").mkdir()
    events = open_by(method, without_handles, has_many_directories=True)
    events.rescanner.initial_scan()
    (without_handles / "d/new").write_text("x")
    assert changed_paths(events) == {b"d/new"}
    assert not events.is_marked
    events.close()
    (record,) = caplog.records
    assert record.levelname == level
    assert f"The source {without_handles} is watched by inotify" in record.getMessage()
    assert "the file system of the source has no handles for it" in record.getMessage()


def test_an_overlay_that_can_be_exported_by_nfs_has_handles(tmp_path: Path) -> None:
    skip_without_fanotify(tmp_path)
    top = tmp_path / "mounted"
    top.mkdir()
    with Mounts() as mounts:
        (tmp_path / "lower/d").mkdir(parents=True)
        (tmp_path / "lower/d/of the lower layer").write_text("x")
        mount_overlay(mounts, tmp_path, top, ",index=on,nfs_export=on")
        events = open_by(WatchMethod.FANOTIFY, top)
        events.rescanner.initial_scan()
        for name in ("of the lower layer", "new"):
            (top / "d" / name).write_text("y")
        assert events.is_marked
        assert changed_paths(events) == {b"d/of the lower layer", b"d/new"}
        events.close()


def changed_paths(events: EventSource) -> set[bytes]:
    while events.processor.process_next():
        pass
    return {change.path for change in events.processor.take_changes()}
