"""Events that are read before they are processed."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pylsyncd.watcher import prefetched_events
from pylsyncd.watcher.inotify import Inotify, decode_events
from pylsyncd.watcher.prefetched_events import PrefetchedEvents


@pytest.fixture
def inotify(tmp_path: Path) -> Iterator[Inotify]:
    with closing(Inotify()) as instance:
        directory = os.open(tmp_path, os.O_RDONLY)
        instance.add_watch(directory)
        os.close(directory)
        yield instance


def test_the_queue_is_emptied_while_events_are_processed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inotify: Inotify
) -> None:
    events = PrefetchedEvents(inotify)
    for number in range(3_000):
        (tmp_path / f"a long name that fills a chunk of events {number}").touch()
    first = events.take_next()
    assert inotify.is_full(first)
    assert inotify.pending_bytes() == 0
    (tmp_path / "later").touch()
    chunks = [first, *iter(events.take_next, b"")]
    assert chunks[-1].rstrip(b"\0").endswith(b"later")
    names = {name for _, _, name in decode_events(b"".join(chunks))}
    assert len(names) == 3_001
    monkeypatch.setattr(prefetched_events, "_MAX_CHUNKS", 1)
    for number in range(3_000):
        (tmp_path / f"a long name that fills a chunk of events {number}").unlink()
    events.take_next()
    assert inotify.pending_bytes() > 0
