"""What size and time cannot tell is compared by content, and nothing else. With real rsyncs."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import print_error_and_exit
from support.trees import snapshot
from support.waiting import wait_until
from support.worker_setup import UNWRITABLE, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset, union
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.command import ContentComparison
from pylsyncd.rsync.content_check import ContentCheck, carried_times
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.worker.content_runs import choose_comparison
from pylsyncd.worker.transfer_result import TransferResult

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE

OLD = 10**18


class Place(WorkerSetup):
    """A source and its copy, of which the runs of rsync are recorded."""

    def __init__(self, top: Path, **options: object) -> None:
        super().__init__(top, **options)  # type: ignore[arg-type]
        self._arguments = top / "arguments"
        self._session = self.session()
        self._transfer = self.transfer(self._session)

    def put(self, name: str, content: str, mtime: int = OLD) -> None:
        """Write a file and set its time."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(mtime, mtime))

    def carry(self, changeset: Changeset, **options: bool) -> TransferResult:
        """Carry changes by the same transfer each time."""
        return self._transfer.carry(changeset, **options)  # type: ignore[arg-type]

    def wait_for_clock(self) -> None:
        """Wait until no run can have carried a file with the present time."""
        probe = self.source.parent / "probe"

        def is_later() -> bool:
            probe.touch()
            times = carried_times(self._session.statistics.latest_carried_ns)
            return not times.include(probe.stat().st_mtime_ns)

        wait_until(is_later)

    def end_latest_run_now(self) -> None:
        """Record that the latest run has gone on until now, after its list was complete."""
        statistics = self._session.statistics
        statistics.record_carried(time.time_ns(), statistics.latest_listed_ns)

    def record(self, count: int = 1) -> None:
        """Record the arguments of the next runs."""
        for _ in range(count):
            self.faulty.add_fault(f'echo "$@" >> {self._arguments}')

    def comparisons(self) -> list[str]:
        """Return how each recorded run compares."""
        self.faulty.discard_faults()
        runs = self._arguments.read_text().splitlines()
        self._arguments.unlink()
        known = ("--checksum", "--ignore-times")
        return [next((option for option in known if option in run), "times") for run in runs]

    def is_equal(self) -> bool:
        source, copy = (snapshot(os.fsencode(top)) for top in (self.source, self.copy))
        return source == copy


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(Place(tmp_path, **options)))


@pytest.fixture
def place(make: Callable[..., Place]) -> Place:
    return make()


def hinted(*some: bytes, scope: Scope = ENTRY) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add_new_content(path, scope)
    return changes


def test_a_content_that_size_and_time_do_not_tell_is_copied_with_the_hint_alone(
    place: Place,
) -> None:
    place.put("f", "one")
    place.carry(entries(b"f"))
    place.put("f", "two")
    place.carry(entries(b"f"))
    assert not place.is_equal()
    place.record()
    assert place.carry(hinted(b"f")).verdict is Verdict.DONE
    assert place.comparisons() == ["--checksum"]
    assert place.is_equal()


def test_an_ordinary_write_is_not_compared(place: Place) -> None:
    place.wait_for_clock()
    place.write("f", "g")
    place.record()
    place.carry(hinted(b"f", b"g"))
    assert place.comparisons() == ["times"]
    assert place.is_equal()


def test_what_was_written_before_the_latest_run_had_built_its_list_is_compared(
    place: Place,
) -> None:
    place.put("f", "one")
    place.faulty.add_fault(f"echo two > {place.source}/g")
    place.carry(hinted(b"f"))
    place.record()
    place.carry(hinted(b"g"))
    assert place.comparisons() == ["--checksum"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param((), "times", id=""),
        pytest.param(("--no-times",), "--checksum", id="but copies have other times"),
        pytest.param(("--no-t",), "--checksum", id="but copies have other times, in short"),
    ],
)
def test_what_was_written_after_the_latest_run_had_built_its_list_is_not_compared(
    make: Callable[..., Place], options: tuple[str, ...], expected: str
) -> None:
    place = make(extra_options=options)
    place.put("f", "one")
    place.carry(hinted(b"f"))
    place.wait_for_clock()
    place.write("g")
    place.end_latest_run_now()
    place.record()
    place.carry(hinted(b"g"))
    assert place.comparisons() == [expected]


def test_files_of_a_run_that_others_share_are_compared_in_a_run_of_their_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylsyncd.rsync.content_check._MAX_JOINED_BYTES", 2)
    for name in ("f", "d/f", "d/other", "mode", "e/x"):
        place.put(name, "one")
    place.carry(EVERYTHING)
    place.put("f", "two")
    place.put("d/f", "two")
    (place.source / "mode").chmod(0o600)
    (place.source / "e/x").unlink()
    listing = MutableChangeset()
    listing.add(b"d", LISTING)
    listing.new_content.add(b"d/f", ENTRY)
    place.record(2)
    result = place.carry(union(hinted(b"f"), listing, entries(b"mode", b"e/x", b"e")))
    assert place.comparisons() == ["--checksum", "times"]
    assert result.verdict is Verdict.DONE
    assert result.run is not None
    assert (result.run.result.files, result.run.result.deleted) == (2, 1)
    assert place.is_equal()


def test_lists_of_any_length_are_compared(place: Place) -> None:
    # Some options of a local run fail with lists of 1,000 entries and more.
    names = [b"d/%d" % number for number in range(1_100)]
    for content in ("one", "two"):
        for name in names:
            place.put(name.decode(), content)
        place.record()
        place.carry(hinted(*names))
        assert place.comparisons() == ["--checksum"]
        assert place.is_equal()


def test_a_tree_created_again_with_the_same_times_is_compared(place: Place) -> None:
    for content in ("one", "two"):
        for name in ("d/f", "d/e/f", "d/e/g"):
            place.put(name, content)
        place.record()
        place.carry(hinted(b"d", scope=TREE))
        assert place.comparisons() == ["--ignore-times"]
        assert place.is_equal()


def test_large_directories_that_appeared_are_not_written_again_if_they_are_equal(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylsyncd.worker.content_runs._MAX_NEW_TREE_BYTES", 5)
    place.put("d/f", "one")
    place.carry(EVERYTHING)
    inode = (place.copy / "d/f").stat().st_ino
    place.put("d/g", "two")
    place.record()
    place.carry(hinted(b"d", scope=TREE))
    assert place.comparisons() == ["--checksum"]
    assert (place.copy / "d/f").stat().st_ino == inode
    assert place.is_equal()


@pytest.mark.parametrize(
    ("path", "scope", "expected"),
    [
        pytest.param(b"f", ENTRY, ["--checksum", "times"], id="a file"),
        pytest.param(b"d", TREE, ["--ignore-times", "times"], id="a tree"),
        pytest.param(b"", TREE, ["--ignore-times"], id="all"),
    ],
)
def test_a_full_sync_compares_what_has_the_hint(
    place: Place, path: bytes, scope: Scope, expected: list[str]
) -> None:
    for name in ("f", "d/f", "unhinted"):
        place.put(name, "one")
    place.carry(EVERYTHING)
    for name in ("f", "d/f"):
        place.put(name, "two")
    place.record(2)
    hints = hinted(path, scope=scope).new_content
    place.carry(EVERYTHING.with_new_content(hints))
    assert place.comparisons() == expected
    covered = {"f": [b"f", b""], "d/f": [b"d", b""]}
    for name, covering in covered.items():
        assert ((place.copy / name).read_text() == "two") is (path in covering)


def test_much_is_not_read_before_the_first_byte_is_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylsyncd.worker.content_runs._MAX_CHECKSUM_BYTES", 5)
    place.put("f", "one")
    place.put("g", "one")
    place.carry(EVERYTHING)
    place.put("f", "two")
    place.record()
    place.carry(hinted(b"f"))
    assert place.comparisons() == ["--checksum"]
    place.put("f", "3rd")
    place.record()
    place.carry(hinted(b"f", b"g"))
    assert place.comparisons() == ["--ignore-times"]
    assert place.is_equal()


def test_a_failed_run_leaves_all_hints(place: Place) -> None:
    place.put("f", "one")
    place.carry(EVERYTHING)
    place.put("f", "two")
    place.wait_for_clock()
    place.write("new")
    place.faulty.add_fault(print_error_and_exit("rsync: connection reset", 12))
    result = place.carry(hinted(b"f", b"new"))
    assert {Change(b"f", ENTRY), Change(b"new", ENTRY)} <= set(result.pending)
    # The time of the new one can be set back before the next run.
    assert set(result.pending.new_content) == {Change(b"f", ENTRY), Change(b"new", ENTRY)}
    place.carry(result.pending)
    assert place.is_equal()


@pytest.mark.parametrize("fault", ["", "exit 10"], ids=["", "in a failed run"])
@pytest.mark.parametrize("scope", [ENTRY, LISTING, TREE])
def test_a_time_that_is_set_back_before_rsync_looks_is_noticed(
    place: Place, scope: Scope, fault: str
) -> None:
    place.put("d/f", "one")
    place.carry(EVERYTHING)
    place.wait_for_clock()
    place.write("d/f")
    (place.source / "d" / "f").write_text("two")
    # The list is built, and rsync has not looked yet.
    place.faulty.add_fault(f"touch -r {place.copy}/d/f {place.source}/d/f; {fault}")
    result = place.carry(hinted(b"d/f" if scope is ENTRY else b"d", scope=scope))
    assert bool(fault) is bool(result.pending)
    place.carry(result.pending)
    assert (place.copy / "d" / "f").read_text() == "two"
    assert place.is_equal()


def test_what_failed_to_be_compared_keeps_its_hint_and_the_rest_is_carried(place: Place) -> None:
    for name in ("bad", "f", "mode"):
        place.put(name, "one")
    place.carry(EVERYTHING)
    for name in ("bad", "f"):
        place.put(name, "two")
    place.put("mode", "other")
    place.make_fail("bad")
    result = place.carry(union(hinted(b"bad", b"f"), entries(b"mode")))
    assert {change.path for change in result.failed} == {b"bad"}
    assert set(result.failed.new_content) == {Change(b"bad", ENTRY)}
    assert not result.pending
    assert (place.copy / "mode").read_text() == "other"


@pytest.mark.parametrize("error", UNWRITABLE)
def test_a_comparison_that_ends_at_a_full_destination_confirms_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr("pylsyncd.rsync.content_check._MAX_JOINED_BYTES", 2)
    for name in ("bad", "f", "other"):
        place.put(name, "one")
    place.carry(EVERYTHING)
    place.put("bad", "two")
    place.put("f", "two")
    place.put("other", "another")
    place.make_fail("bad", first="", error=error)
    result = place.carry(union(hinted(b"bad", b"f"), entries(b"other")))
    assert {change.path for change in result.failed} == {b"bad"}
    # Its run is tried, although it may fail as well.
    assert (place.copy / "other").read_text() == "another"
    assert not result.pending
    assert result.verdict is Verdict.RETRY_LATER


def test_what_a_comparison_would_delete_counts_for_the_limit(make: Callable[..., Place]) -> None:
    place = make(max_delete=1)
    for name in ("d/a", "d/b", "d/c", "e/x", "mode"):
        place.put(name, "one")
    place.carry(EVERYTHING)
    for name in ("d/a", "e/x"):
        (place.source / name).unlink()
    place.put("d/b", "two")
    changes = union(hinted(b"d", scope=TREE), entries(b"e/x", b"mode"))
    assert place.carry(changes).verdict is Verdict.HELD
    assert (place.copy / "d/b").read_text() == "one"
    assert place.carry(changes, is_released=True).verdict is Verdict.DONE
    assert sorted(os.listdir(place.copy / "d")) == ["b", "c"]
    assert (place.copy / "d/b").read_text() == "two"


def test_a_large_file_is_compared_by_its_own_thread(make: Callable[..., Place]) -> None:
    place = make(size_limit=SizeLimit(10, preserves_hard_links=False))
    place.put("large", "1" * 20)
    place.carry(EVERYTHING)
    place.put("large", "2" * 20)
    with place.worker() as worker:
        worker.put(WorkItem(hinted(b"large")))
        wait_until(place.is_equal)


@pytest.mark.parametrize(
    ("transport", "timeout", "size", "expected"),
    [
        pytest.param(Transport.LOCAL, 600.0, 4 << 30, ContentComparison.CHECKSUMS, id="local"),
        pytest.param(Transport.SHELL, 600.0, 1, ContentComparison.CHECKSUMS, id="a remote shell"),
        pytest.param(Transport.SHELL, 600.0, 5 << 30, ContentComparison.CONTENTS, id="much"),
        pytest.param(Transport.SHELL, 10.0, 1 << 30, ContentComparison.CONTENTS, id="in a hurry"),
        pytest.param(Transport.DAEMON, 600.0, 1, ContentComparison.CONTENTS, id="a daemon"),
    ],
)
def test_the_size_the_timeout_and_the_transport_decide_how_to_compare(
    transport: Transport, timeout: float, size: int, expected: ContentComparison
) -> None:
    check = ContentCheck(FileList({b"f"}), FileList(set()), can_join=True, size=size)
    assert choose_comparison(check, transport, timeout) is expected


def test_hard_links_are_kept_by_a_comparison(make: Callable[..., Place]) -> None:
    place = make(extra_options=("-H",))
    place.put("a", "one")
    os.link(place.source / "a", place.source / "b")
    place.put("mode", "one")
    place.carry(EVERYTHING)
    place.put("a", "two")
    place.carry(union(hinted(b"a", b"b"), entries(b"mode")))
    assert place.is_equal()
    assert os.path.samefile(place.copy / "a", place.copy / "b")
