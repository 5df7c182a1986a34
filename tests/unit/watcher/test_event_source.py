"""By which method a source is watched."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify

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
    ("method", "level"), [(WatchMethod.FANOTIFY, "WARNING"), (WatchMethod.AUTO, "INFO")]
)
def test_what_is_not_possible_is_said_and_falls_back_to_inotify(
    source: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    method: WatchMethod, level: str,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)

    class Refusing:
        def __init__(self) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    # As for a user without the capabilities.
    monkeypatch.setattr(event_source, "Fanotify", Refusing)
    events = open_by(method, source, has_many_directories=True)
    assert not events.is_marked
    events.close()
    assert caplog.records[0].levelname == level
    assert "run pylsyncd as root" in caplog.text
