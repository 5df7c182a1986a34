"""A reader of a destination never finds an index, or a link, that names something missing."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from support.daemon import Pylsyncd
from support.trees import equal_within

VERSIONS = 16
KEPT = 3
SECONDS_BETWEEN = 0.15


class Publisher:
    """Publishes versions: blobs that an index names, and a release that a link points to."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._names: list[str] = []
        for name in ("blobs", "releases"):
            (source / name).mkdir(parents=True)

    def publish(self) -> None:
        """Publish the next version, and remove what it no longer names."""
        name = f"v{len(self._names)}"
        self._names.append(name)
        (self._source / "blobs" / name).write_text(name * 10_000)
        (self._source / "releases" / name).mkdir()
        (self._source / "releases" / name / "file").write_text(name)
        new = self._source / ".new"
        new.write_text(" ".join(self._names[-KEPT:]))
        new.rename(self._source / "index")
        new.symlink_to(f"releases/{name}")
        new.rename(self._source / "current")
        for gone in self._names[-KEPT - 1 : -KEPT]:
            (self._source / "blobs" / gone).unlink()
            shutil.rmtree(self._source / "releases" / gone)


class Reader(threading.Thread):
    """Reads a copy again and again, and records what is named and missing."""

    def __init__(self, copy: Path) -> None:
        super().__init__(name="reader")
        self._copy = copy
        self.is_stopped = threading.Event()
        self.missing: set[str] = set()
        self.versions: set[str] = set()

    def run(self) -> None:
        while not self.is_stopped.wait(0.002):
            with contextlib.suppress(FileNotFoundError):
                self._read_index()
                self._read_link()

    def _read_index(self) -> None:
        index = self._copy / "index"
        text = index.read_text()
        self.versions.add(text)
        blobs = [self._copy / "blobs" / name for name in text.split()]
        missing = [blob.name for blob in blobs if not blob.exists()]
        # Unless the index has been replaced meanwhile.
        if missing and index.read_text() == text:
            self.missing.update(missing)

    def _read_link(self) -> None:
        release = os.readlink(self._copy / "current")
        is_there = (self._copy / release / "file").exists()
        if not is_there and os.readlink(self._copy / "current") == release:
            self.missing.add(release)


def test_what_goes_last_never_names_what_is_missing(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    publisher = Publisher(source)
    copy.mkdir()
    reader = Reader(copy)
    options = ("-w", "0.2", "--last", "/index", "--last", "/current", "-x", "/.new")
    with Pylsyncd("-i", *options, f"{source}/./", copy, names=["copy"]) as running:
        running.wait_ready()
        reader.start()
        try:
            for _ in range(VERSIONS):
                publisher.publish()
                reader.is_stopped.wait(SECONDS_BETWEEN)
            different = equal_within(os.fsencode(source), os.fsencode(copy), 45)
        finally:
            reader.is_stopped.set()
            reader.join()
        assert not different, (different, running.log_tail)
        assert not reader.missing, (reader.missing, running.log_tail)
    assert reader.versions
