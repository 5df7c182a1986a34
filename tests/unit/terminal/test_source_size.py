"""A source is counted once, in a thread, without what the rules exclude."""

import os
import threading
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.terminal.source_size import (
    CountedSource,
    SourceCounter,
    SourceSize,
    count_source,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "a/b").mkdir(parents=True)
    (top / "cache/c").mkdir(parents=True)
    (top / "a/b/f").write_bytes(b"x" * 10)
    (top / "a/g.tmp").write_bytes(b"x" * 100)
    (top / "cache/h").write_bytes(b"x" * 1000)
    (top / "link").symlink_to("cache")
    os.mkfifo(top / "fifo")
    return top


def counted(source: Path, *excludes: bytes) -> CountedSource:
    rules = build_rules([parse_exclude(each, "") for each in excludes])
    return CountedSource(os.fsencode(source), rules if excludes else Rules())


def test_entries_files_and_sizes_are_counted_and_links_not_followed(source: Path) -> None:
    assert count_source(counted(source), threading.Event()) == SourceSize(10, 5, 1110)


def test_what_the_rules_exclude_is_not_counted(source: Path) -> None:
    found = count_source(counted(source, b"*.tmp", b"/cache/"), threading.Event())
    assert found == SourceSize(6, 3, 10)


def test_a_stopped_count_has_no_result(source: Path) -> None:
    is_stopping = threading.Event()
    is_stopping.set()
    assert count_source(counted(source), is_stopping) is None


def test_a_source_is_counted_once_and_again_when_it_was_forgotten(source: Path) -> None:
    counter = SourceCounter()
    found = counted(source)
    wait_until(lambda: counter.find(found) is not None)
    (source / "new").touch()
    counter.keep({found.path})
    assert counter.find(found) == SourceSize(10, 5, 1110)
    counter.stop(45.0)
    counter.keep(set())
    counter = SourceCounter()
    wait_until(lambda: counter.find(found) == SourceSize(11, 6, 1110))
    counter.stop(45.0)


def test_a_source_that_is_gone_has_no_size(tmp_path: Path) -> None:
    counter = SourceCounter()
    assert counter.find(counted(tmp_path / "none")) is None
    counter.stop(45.0)
    assert counter.find(counted(tmp_path / "none")) is None
