"""Which files of a list have to be compared by content, and which size and time tell."""

import os
from pathlib import Path

import pytest

from pylsyncd.model.scoped_paths import Change, MutableScopedPaths, Scope, ScopedPaths
from pylsyncd.rsync.content_check import (
    CarriedTimes,
    ContentCheck,
    carried_times,
    check_contents,
    left_out_test,
)
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.patterns import FilterRule

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE

SECOND = 10**9
RUN_END, NOW = 1000 * SECOND, 2000 * SECOND
CARRIED, NEW, FUTURE = 999 * SECOND, 1500 * SECOND, 2001 * SECOND


def hints(*some: tuple[bytes, Scope]) -> ScopedPaths:
    found = MutableScopedPaths()
    for path, scope in some:
        found.add(path, scope)
    return found


def check(
    top: Path,
    entries: set[bytes],
    new_content: ScopedPaths,
    left_out: frozenset[bytes] = frozenset(),
) -> ContentCheck:
    root = os.open(top, os.O_RDONLY)
    try:
        return check_contents(
            root, FileList(entries), new_content, CarriedTimes(RUN_END, NOW), left_out.__contains__
        )
    finally:
        os.close(root)


def place(top: Path, **times: int) -> None:
    """Create a file for each name, in which ``_`` stands for a slash, with its time."""
    for name, mtime in times.items():
        path = top / name.replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
        os.utime(path, ns=(mtime, mtime))


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [
        pytest.param(RUN_END - 1, True, id="before the end of the latest run"),
        pytest.param(RUN_END, True, id="at its end"),
        pytest.param(RUN_END + 1, False, id="after it"),
        pytest.param(NOW, False, id="now"),
        pytest.param(NOW + 1, True, id="in the future, which an earlier run may have seen"),
    ],
)
def test_an_earlier_run_may_have_carried_times_up_to_its_end_and_in_the_future(
    mtime: int, expected: bool
) -> None:
    assert CarriedTimes(RUN_END, NOW).include(mtime) is expected


@pytest.mark.parametrize(
    ("mtime", "is_compared"),
    [(RUN_END, True), (RUN_END + 1, False), (NOW, False), (NOW + 1, True)],
    ids=["at the end of the run", "after it", "now", "in the future"],
)
@pytest.mark.parametrize("listed", [b"file", b""], ids=["named", "in a listed directory"])
def test_a_file_with_the_hint_is_compared_if_a_run_may_have_carried_its_time(
    tmp_path: Path, mtime: int, is_compared: bool, listed: bytes
) -> None:
    place(tmp_path, file=mtime)
    found = check(tmp_path, {listed}, hints((b"file", ENTRY)))
    assert set(found.compared.entries) == ({b"file"} if is_compared else set())
    assert found.size == len("content")


@pytest.mark.parametrize("entries", [0, 500], ids=["small directories", "large ones"])
def test_where_most_written_files_are_gone_the_others_are_found(
    tmp_path: Path, entries: int
) -> None:
    gone = [b"gone%d" % number for number in range(40)]
    written = []
    for name in (b"d0", b"d1", b"d2"):
        (tmp_path / os.fsdecode(name)).mkdir()
        place(tmp_path, **{f"{name.decode()}_old": CARRIED, f"{name.decode()}_new": NEW})
        for number in range(entries):
            (tmp_path / os.fsdecode(name) / f"other{number}").touch()
        written += [(name + b"/" + each, ENTRY) for each in (*gone, b"old", b"new")]
    found = check(tmp_path, {b"d0/", b"d1/", b"d2/"}, hints(*written))
    assert set(found.compared.entries) == {b"d0/old", b"d1/old", b"d2/old"}
    assert found.size == 6 * len("content")


def test_where_most_written_files_are_gone_nothing_is_left_out_that_cannot_be_listed(
    tmp_path: Path,
) -> None:
    names = [b"gone%d" % number for number in range(40)] + [b"old"]
    place(tmp_path, first_new=NEW, place_old=CARRIED)
    (tmp_path / "second").symlink_to("place")
    written = [(b"%b/%b" % (name, each), ENTRY) for name in (b"first", b"second") for each in names]
    found = check(tmp_path, {b"first/", b"second/"}, hints(*written))
    assert set(found.compared.entries) == {b"second/old"}


def test_a_run_without_rules_and_exceptions_leaves_nothing_out() -> None:
    files = FileList({b"a", b"b"})
    assert not left_out_test(Rules(), frozenset(), files)(b"a")
    assert left_out_test(Rules(), frozenset({b"a"}), files)(b"a")
    assert not left_out_test(Rules(), frozenset({b"a"}), files)(b"b")
    assert left_out_test(Rules((FilterRule(b"a"),)), frozenset(), files)(b"a")


def test_the_times_include_two_ticks_of_the_clock_and_what_rsync_takes_for_equal() -> None:
    assert carried_times(RUN_END).include(RUN_END + 20_000_000)
    assert not carried_times(RUN_END).include(RUN_END + 20_000_001)
    assert carried_times(RUN_END, 2 * SECOND).include(RUN_END + 2 * SECOND)


@pytest.mark.parametrize(
    ("new_content", "expected"),
    [
        pytest.param([], set(), id="no hint"),
        pytest.param([(b"old", ENTRY), (b"new", ENTRY)], {b"old"}, id="a file"),
        pytest.param([(b"future", ENTRY)], {b"future"}, id="a time in the future"),
        pytest.param([(b"link", ENTRY), (b"d", ENTRY), (b"gone", ENTRY)], set(), id="no files"),
        pytest.param([(b"d", LISTING)], {b"d/"}, id="a listing"),
        pytest.param([(b"", TREE)], {b"old", b"future", b"d/"}, id="everything"),
        pytest.param([(b"d/old", ENTRY), (b"d/new", ENTRY)], {b"d/old"}, id="names in a listing"),
        pytest.param([(b"e", TREE)], set(), id="a tree in which all is new"),
        pytest.param([(b"d/left", ENTRY)], set(), id="a file that is left out"),
        pytest.param([(b"other/file", ENTRY)], set(), id="what is no change"),
    ],
)
def test_a_file_that_may_be_new_is_compared_if_an_earlier_run_may_have_seen_its_time(
    tmp_path: Path, new_content: list[tuple[bytes, Scope]], expected: set[bytes]
) -> None:
    place(tmp_path, old=CARRIED, new=NEW, future=FUTURE, d_old=CARRIED, d_new=NEW, e_new=NEW)
    place(tmp_path, d_left=CARRIED, other_file=CARRIED)
    (tmp_path / "link").symlink_to("old")
    listed = {b"old", b"new", b"future", b"link", b"gone", b"d/", b"e/"}
    found = check(tmp_path, listed, hints(*new_content), frozenset([b"d/left"]))
    assert set(found.compared.entries) == expected
    assert set(found.others.entries) == listed - expected


@pytest.mark.parametrize(
    ("listed", "new_content", "expected"),
    [
        pytest.param({b"old", b"new"}, [(b"old", ENTRY), (b"new", ENTRY)], True, id="all have it"),
        pytest.param({b"old", b"other"}, [(b"old", ENTRY)], False, id="a file without the hint"),
        pytest.param({b"old", b"gone", b"link", b"d"}, [(b"old", ENTRY)], True, id="no file"),
        pytest.param({b"old", b"d/"}, [(b"old", ENTRY)], False, id="a listing without the hint"),
        pytest.param({b"old", b"d/"}, [(b"old", ENTRY), (b"d", LISTING)], True, id="with it"),
        pytest.param({b"old", b"d/"}, [(b"old", ENTRY), (b"d/new", ENTRY)], True, id="by name"),
        pytest.param({b"new"}, [(b"new", ENTRY)], False, id="nothing to compare"),
    ],
)
def test_one_run_is_enough_if_no_file_without_the_hint_is_compared_with_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: set[bytes],
    new_content: list[tuple[bytes, Scope]],
    *,
    expected: bool,
) -> None:
    monkeypatch.setattr("pylsyncd.rsync.content_check._MAX_JOINED_BYTES", 6)
    place(tmp_path, old=CARRIED, new=NEW, other=CARRIED, d_new=NEW)
    (tmp_path / "link").symlink_to("old")
    assert check(tmp_path, listed, hints(*new_content)).can_join is expected


def test_one_run_is_enough_if_the_files_without_the_hint_are_few_and_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, old=CARRIED, other=CARRIED, d_one=CARRIED, d_two=CARRIED)
    listed, hinted = {b"old", b"other", b"d/"}, hints((b"old", ENTRY))
    assert check(tmp_path, listed, hinted).can_join
    monkeypatch.setattr("pylsyncd.rsync.content_check._MAX_JOINED_FILES", 3)
    assert check(tmp_path, listed, hinted).can_join
    monkeypatch.setattr("pylsyncd.rsync.content_check._MAX_JOINED_FILES", 2)
    assert not check(tmp_path, listed, hinted).can_join


def test_a_second_look_finds_the_times_that_were_set_back_and_nothing_else(tmp_path: Path) -> None:
    place(tmp_path, old=CARRIED, new=NEW, later=NEW, d_old=CARRIED, d_new=NEW)
    names = (b"old", b"new", b"later", b"d/old", b"d/new")
    new_content = hints(*((name, ENTRY) for name in names))
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        listed = FileList({b"new", b"later", b"old", b"d/"})
        times = CarriedTimes(RUN_END, NOW)
        found = check_contents(root, listed, new_content, times, lambda _: False)
        assert set(found.compared.entries) == {b"old", b"d/old"}
        place(tmp_path, new=CARRIED, later=FUTURE)
        assert found.repeat is not None
        assert found.repeat().compared.entries == [b"new"]
    finally:
        os.close(root)


def test_what_had_to_be_compared_keeps_its_hint_and_nothing_else(tmp_path: Path) -> None:
    place(tmp_path, old=CARRIED, new=NEW, d_old=CARRIED, e_new=NEW)
    found = check(tmp_path, {b"old", b"new", b"d/", b"e/"}, hints((b"", TREE)))
    assert set(found.hints) == {Change(b"old", ENTRY), Change(b"d", LISTING)}
    # Of a directory that cannot be read, nothing below it is in the list.
    found = check(tmp_path, {b"missing/"}, hints((b"missing", TREE)))
    assert Change(b"missing", TREE) in set(found.hints)


def test_a_time_that_is_ahead_of_the_clock_is_remembered_until_the_clock_has_reached_it(
    tmp_path: Path,
) -> None:
    place(tmp_path, ahead=FUTURE, far=NOW + 10**6 * SECOND, old=CARRIED)
    names = (b"ahead", b"far", b"old")
    found = check(tmp_path, set(names), hints(*((name, ENTRY) for name in names)))
    assert found.latest_ns == FUTURE
