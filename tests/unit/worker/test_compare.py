"""A comparison of copies with their source: a line for each difference. With real rsyncs."""

import logging
import os
import signal
from pathlib import Path

import pytest

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.worker.compare import compare_destinations


class Copies:
    """A source with two equal copies."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("source", "one", "two"):
            (directory / name / "d").mkdir(parents=True)
            (directory / name / "d/f").write_text("content")
            for path in (directory / name / "d/f", directory / name / "d", directory / name):
                os.utime(path, (1e9, 1e9))

    def verify(self, *, checksum: bool = False) -> list[str]:
        return sorted(compare_destinations(self.sync(), checksum=checksum))

    def sync(self) -> SyncSettings:
        source = Source(os.fsencode(self.directory / "source"), b"", is_full_path=False)
        return SyncSettings(source, tuple(map(self._settings, ("one", "two"))))

    def _settings(self, name: str) -> DestinationSettings:
        target = os.fsencode(self.directory / name) + b"/"
        return DestinationSettings(
            Destination(name, "", Transport.LOCAL, None, target), RsyncOptions("rsync", (3, 2, 7))
        )


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


def test_equal_copies_have_no_differences(copies: Copies) -> None:
    assert copies.verify() == []
    assert copies.verify(checksum=True) == []


def test_the_report_says_what_it_trusts(copies: Copies, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    copies.verify()
    trusted = "[one] equal (contents of the same size and time are taken for equal without"
    assert trusted in caplog.text
    caplog.clear()
    copies.verify(checksum=True)
    assert "[one] equal\n" in caplog.text


def test_missing_superfluous_and_different_paths_are_reported_and_left_alone(
    copies: Copies,
) -> None:
    one, two = copies.directory / "one", copies.directory / "two"
    (one / "d/f").unlink()
    (two / "d/f").chmod(0o600)
    (two / "more").touch()
    for path in (one / "d", two):
        os.utime(path, (1e9, 1e9))
    assert copies.verify() == [
        "[one] missing at the destination: d/f",
        "[two] differs in mode: d/f",
        "[two] only at the destination: more",
    ]
    assert not (one / "d/f").exists()
    assert (two / "more").exists()


def test_only_a_checksum_finds_content_of_the_same_size_and_time(copies: Copies) -> None:
    path = copies.directory / "one/d/f"
    path.write_text("CONTENT")
    os.utime(path, (1e9, 1e9))
    assert copies.verify() == []
    assert copies.verify(checksum=True) == ["[one] differs in content: d/f"]


def test_a_source_that_cannot_be_opened_is_reported(copies: Copies) -> None:
    (copies.directory / "source").rename(copies.directory / "away")
    assert copies.verify() == [
        f"[{name}] not compared: cannot open the source: No such file or directory"
        for name in ("one", "two")
    ]


def test_a_comparison_that_failed_is_reported(copies: Copies) -> None:
    (copies.directory / "one").rename(copies.directory / "away")
    (copies.directory / "one").touch()
    (line,) = copies.verify()
    assert line.startswith("[one] comparison incomplete: ")


def test_a_signal_stops_the_comparison_and_its_handler_is_restored(copies: Copies) -> None:
    before = signal.getsignal(signal.SIGTERM)
    (copies.directory / "one/d/f").unlink()
    lines = compare_destinations(copies.sync(), checksum=False)
    next(lines)
    # At once, since the caller may be writing the line to a full pipe.
    with pytest.raises(SystemExit, match="stopped by SIGTERM before the comparison was complete"):
        signal.raise_signal(signal.SIGTERM)
    lines.close()  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGTERM) is before


def test_closing_the_iterator_stops_the_comparison(copies: Copies) -> None:
    (copies.directory / "one/d/f").unlink()
    lines = compare_destinations(copies.sync(), checksum=False)
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    assert next(lines, None) is None
