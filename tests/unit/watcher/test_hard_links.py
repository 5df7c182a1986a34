"""A change through one name of a file is a change of all its names in the source."""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.model.changes import EVERYTHING, MutableChangeset
from pylsyncd.model.moves import NO_MOVES, Move, Moves
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import walk
from pylsyncd.watcher import hard_link_search, hard_links
from pylsyncd.watcher.hard_link_search import (
    HardLinkScanResult,
    SearchArea,
    file_id,
    scan_hard_links,
)
from pylsyncd.watcher.hard_links import HardLinks

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


def place(source: Path, *names: str) -> None:
    """Create one file with all these names."""
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / names[0]).write_text("content")
    for name in names[1:]:
        os.link(source / names[0], source / name, follow_symlinks=False)


def links_of(source: Path, *patterns: bytes) -> HardLinks:
    rules = build_rules(parse_exclude(pattern) for pattern in patterns) if patterns else Rules()
    return HardLinks(os.fsencode(source), rules)


def looked(
    source: Path,
    some: HardLinks,
    since_ns: int,
    *patterns: bytes,
    on_progress: Callable[[], None] = lambda: None,
) -> MutableChangeset:
    """Return the changes since a ctime that ``some`` takes from a look at the source."""
    return some.complete(found_in(source, since_ns, *patterns, on_progress=on_progress))


def found_in(
    source: Path,
    since_ns: int = 1 << 62,
    *patterns: bytes,
    on_progress: Callable[[], None] = lambda: None,
) -> HardLinkScanResult:
    rules = build_rules(parse_exclude(pattern) for pattern in patterns) if patterns else Rules()
    with walk.opened_root(os.fsencode(source)) as root:
        return scan_hard_links(SearchArea(root, rules, on_progress), since_ns)


def added(some: HardLinks, *named: str, scope: Scope = ENTRY) -> set[str]:
    """Return the paths that are added to these changes, which must be entries."""
    changes = MutableChangeset()
    for path in named:
        changes.add(os.fsencode(path), scope)
    before = set(changes)
    some.add_other_names(changes)
    after = set(changes)
    assert before <= after
    assert {change.scope for change in after - before} <= {ENTRY}
    return {os.fsdecode(change.path) for change in after - before}


def test_the_other_names_are_added_wherever_they_are(source: Path) -> None:
    place(source, "a/one", "b/c/two", "three")
    place(source, "a/alone", "x")
    assert added(links_of(source), "a/one") == {"b/c/two", "three"}


def test_all_names_of_a_file_have_the_new_content_that_one_of_them_has(source: Path) -> None:
    place(source, "a/one", "two", "three")
    place(source, "other", "another")
    changes = MutableChangeset()
    changes.add_new_content(b"a", TREE)
    changes.add(b"two", ENTRY)
    changes.add(b"other", ENTRY)
    links_of(source).add_other_names(changes)
    assert Change(b"another", ENTRY) in set(changes)
    hinted = {b"a/one", b"two", b"three"}
    assert set(changes.new_content) == {Change(b"a", TREE), *(Change(p, ENTRY) for p in hinted)}


def moved_directory(source: Path) -> MutableChangeset:
    """Return the changes of a directory with two hard links that was moved from old to new."""
    place(source, "new/one", "other")
    place(source, "new/alone", "outside")
    changes = MutableChangeset()
    changes.add(b"old", ENTRY)
    changes.add_new_content(b"new", TREE)
    changes.moves = Moves({b"new": Move(b"old", is_directory=True, is_new_name=True)})
    return changes


def test_a_moved_file_that_was_written_through_another_name_has_a_new_content(
    source: Path,
) -> None:
    changes = moved_directory(source)
    changes.add_new_content(b"other", ENTRY)
    links_of(source).add_other_names(changes)
    assert changes.moves is not None
    assert set(changes.moves.written) == {Change(b"new/one", ENTRY)}
    believed = changes.after_moves({b"new"}).new_content
    assert believed.includes_entry(b"new/one")
    assert not believed.includes_entry(b"new/alone")


def test_a_moved_file_that_was_written_through_a_removed_name_has_a_new_content(
    source: Path,
) -> None:
    changes, some = moved_directory(source), links_of(source)
    some.remember({file_id(os.stat(source / "new/one")): {b"new/one", b"gone"}})
    changes.add_new_content(b"gone", ENTRY)
    some.add_other_names(changes)
    assert changes.moves is not None
    assert set(changes.moves.written) == {Change(b"new/one", ENTRY)}


def test_a_move_alone_is_no_new_content_of_the_names_below_it(source: Path) -> None:
    changes = moved_directory(source)
    links_of(source).add_other_names(changes)
    assert changes.moves is not None
    assert not changes.moves.written


def test_a_new_content_through_a_removed_name_is_that_of_the_other_names(source: Path) -> None:
    place(source, "one", "two")
    some = links_of(source)
    looked(source, some, time.time_ns() + 10**9)
    (source / "one").unlink()
    changes = MutableChangeset()
    changes.add_new_content(b"one", ENTRY)
    some.add_other_names(changes)
    assert set(changes.new_content) == {Change(b"one", ENTRY), Change(b"two", ENTRY)}


def test_names_may_contain_any_bytes(source: Path) -> None:
    place(source, "a\nb/\udcff", "-n \\")
    assert added(links_of(source), "-n \\") == {"a\nb/\udcff"}


def test_symlinks_and_pipes_have_other_names_too(source: Path) -> None:
    (source / "symlink").symlink_to("nowhere")
    os.link(source / "symlink", source / "other", follow_symlinks=False)
    os.mkfifo(source / "pipe")
    os.link(source / "pipe", source / "pipe2")
    assert added(links_of(source), "symlink", "pipe") == {"other", "pipe2"}


def test_names_in_the_changes_make_a_search_unnecessary(source: Path) -> None:
    place(source, "a/one", "b/two")
    some = links_of(source)
    assert added(some, "a/one", "b/two") == set()
    assert some.search_count == 0
    # And they are known from now on.
    assert added(some, "b/two") == {"a/one"}
    assert some.search_count == 0


def test_a_file_with_one_name_needs_no_search(source: Path) -> None:
    place(source, "a/one")
    (source / "a/link").symlink_to("one")
    some = links_of(source)
    assert added(some, "a/one", "a/link", "a", "", "missing", "a/one/below") == set()
    assert added(some, "a", "a/one", scope=TREE) == set()
    assert added(some, "a", "a/one", "missing", scope=LISTING) == set()
    assert some.search_count == 0


def test_known_names_make_a_second_search_unnecessary(source: Path) -> None:
    place(source, "one", "two", "three")
    some = links_of(source)
    for _ in range(3):
        assert added(some, "two") == {"one", "three"}
    assert some.search_count == 1


def test_names_outside_the_source_are_searched_once(source: Path) -> None:
    place(source, "one", "two", "../outside")
    some = links_of(source)
    assert added(some, "one") == {"two"}
    assert added(some, "two") == {"one"}
    assert added(some, "one", "two") == set()
    assert some.search_count == 1


def test_a_new_name_is_found_by_its_change_or_by_the_link_count(source: Path) -> None:
    place(source, "one", "two", "../outside")
    some = links_of(source)
    added(some, "one")
    os.link(source / "one", source / "three")
    assert added(some, "two") == {"one", "three"}
    (source / "../outside").unlink()
    os.link(source / "one", source / "four")
    assert added(some, "four") == {"one", "two", "three"}
    assert added(some, "three") == {"one", "two", "four"}
    assert some.search_count == 2


def test_names_below_a_renamed_directory_are_found_again(source: Path) -> None:
    place(source, "old/deep/one", "two", "../outside")
    some = links_of(source)
    assert added(some, "two") == {"old/deep/one"}
    (source / "old").rename(source / "new")
    assert added(some, "two") == {"new/deep/one"}
    assert added(some, "new", scope=TREE) == {"two"}
    assert some.search_count == 2


def test_a_name_that_another_file_has_taken_is_not_added(source: Path) -> None:
    place(source, "one", "two", "three", "../outside")
    some = links_of(source)
    added(some, "one")
    (source / "two").unlink()
    place(source, "two")
    assert added(some, "one") == {"three"}


def test_nothing_is_named_through_a_symlink(source: Path) -> None:
    place(source, "real/one", "two")
    some = links_of(source)
    added(some, "two")
    (source / "real").rename(source / "moved")
    (source / "real").symlink_to("moved")
    assert added(some, "two") == {"moved/one"}
    assert added(some, "real/one") == set()
    (source / "outside").symlink_to("..")
    assert added(some, "outside/source/two") == set()
    assert added(some, "outside", scope=TREE) == set()


def test_excluded_names_are_not_added(source: Path) -> None:
    place(source, "one", "two.bak", "cache/three", "d/four", "d/cache/five")
    some = links_of(source, b"*.bak", b"cache/")
    assert added(some, "one") == {"d/four"}
    assert added(some, "d/four") == {"one"}
    assert some.search_count == 1
    assert added(some, "two.bak") == {"one", "d/four"}


def test_entries_of_a_listing_have_other_names(source: Path) -> None:
    place(source, "d/one", "elsewhere/two")
    place(source, "d/below/three", "elsewhere/four")
    assert added(links_of(source), "d", scope=LISTING) == {"elsewhere/two"}
    assert added(links_of(source), "", scope=LISTING) == set()


def test_entries_of_a_tree_have_other_names(source: Path) -> None:
    place(source, "d/one", "elsewhere/two")
    place(source, "d/below/three", "elsewhere/four", "d/below/five")
    place(source, "d/kept/six", "elsewhere/seven")
    some = links_of(source, b"kept/")
    assert added(some, "d", scope=TREE) == {"elsewhere/two", "elsewhere/four"}
    assert some.search_count == 1


def test_a_tree_at_a_file_is_that_file(source: Path) -> None:
    place(source, "one", "two")
    assert added(links_of(source), "one", scope=TREE) == {"two"}


def test_a_full_sync_is_not_extended(source: Path) -> None:
    place(source, "one", "two")
    changes = MutableChangeset()
    changes.merge(EVERYTHING)
    changes.add(b"one", ENTRY)
    links_of(source).add_other_names(changes)
    assert len(changes) == 2


def test_a_source_that_is_gone_is_no_error(source: Path) -> None:
    source.rmdir()
    assert added(links_of(source), "one", "two") == set()


def test_one_search_finds_the_names_of_all_files(source: Path) -> None:
    for number in range(50):
        place(source, f"a/{number}", f"b/{number % 7}/{number}")
    some = links_of(source)
    expected = {f"b/{number % 7}/{number}" for number in range(50)}
    assert added(some, *(f"a/{number}" for number in range(50))) == expected
    assert some.search_count == 1


def test_a_file_may_have_thousands_of_names(source: Path) -> None:
    names = [f"d{number % 40}/{number}" for number in range(2000)]
    place(source, *names)
    some = links_of(source)
    assert added(some, names[7]) == set(names) - {names[7]}
    assert added(some, names[8]) == set(names) - {names[8]}
    assert some.search_count == 1


def test_existing_names_among_many_missing_ones_are_checked(source: Path) -> None:
    place(source, "d/one", "two")
    missing = [f"d/{number}" for number in range(1000)]
    assert added(links_of(source), *missing, "d/one") == {"two"}
    assert added(links_of(source), *(f"gone/{number}" for number in range(1000))) == set()


def test_names_in_a_large_directory_are_found_after_many_missing_ones(
    source: Path,
) -> None:
    for number in range(20):
        place(source, f"d/{number}", f"other/{number}")
    for number in range(500):
        (source / f"d/filler{number}").touch()
    missing = [f"gone/{number}" for number in range(300)]
    asked = [f"d/{number}" for number in range(20)]
    assert added(links_of(source), *missing, *asked) == {f"other/{n}" for n in range(20)}


def test_the_number_of_kept_names_is_limited(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_links, "_MAX_KEPT_NAMES", 10)
    for number in range(10):
        place(source, f"a/{number}", f"b/{number}")
    some = links_of(source)
    for number in range(10):
        assert added(some, f"a/{number}") == {f"b/{number}"}
    assert some.search_count == 10
    # Three files fit, with two names each and one for the file.
    assert added(some, "a/9", "a/8", "a/7") == {"b/9", "b/8", "b/7"}
    assert some.search_count == 10
    assert added(some, "a/6") == {"b/6"}
    assert some.search_count == 11


@pytest.mark.parametrize(("limit", "searches"), [(3, 1), (2, 2)])
def test_names_are_kept_up_to_the_limit(
    source: Path, monkeypatch: pytest.MonkeyPatch, limit: int, searches: int
) -> None:
    # Two names and the file itself.
    monkeypatch.setattr(hard_links, "_MAX_KEPT_NAMES", limit)
    place(source, "one", "two")
    some = links_of(source)
    for _ in range(2):
        assert added(some, "one") == {"two"}
    assert some.search_count == searches


def test_the_names_of_other_files_in_the_directory_stay_known(source: Path) -> None:
    place(source, "d/one", "d/two", "d/three")
    place(source, "d/other", "another")
    some = links_of(source)
    for name in ("d/one", "d/other", "d/one"):
        added(some, name)
    # The names of the first file are forgotten, and the others are kept again.
    (source / "d/three").unlink()
    assert added(some, "d/one") == {"d/two"}
    (source / "d/other").unlink()
    assert added(some, "d/other") == {"another"}


def test_the_attributes_of_the_source_are_no_change_of_its_files(source: Path) -> None:
    place(source, "one", "two")
    place(source, "d/three", "d/four")
    some = links_of(source)
    added(some, "one", "d/three")
    assert added(some, "") == set()


def test_without_hard_links_a_change_costs_microseconds(source: Path) -> None:
    for number in range(2000):
        place(source, f"{number % 500}/f{number}")
    changes = MutableChangeset()
    for number in range(2000):
        changes.add(b"%d/f%d" % (number % 500, number), ENTRY)
        changes.add(b"%d/gone%d" % (number % 500, number), ENTRY)

    def cost() -> float:
        some = links_of(source)
        started = time.thread_time()
        some.add_other_names(changes)
        return time.thread_time() - started

    # Measured: 4 microseconds; the rest is for slower machines. Python may collect garbage once.
    assert min(cost() for _ in range(3)) < 4000 * 50e-6


def test_a_scan_keeps_names_that_are_removed_later(source: Path) -> None:
    place(source, "a/one", "b/two")
    place(source, "a/alone")
    some = links_of(source)
    assert not looked(source, some, time.time_ns() + 10**9)
    (source / "a/one").write_text("through a removed name")
    (source / "a/one").unlink()
    assert added(some, "a/one") == {"b/two"}
    assert some.search_count == 0


@pytest.mark.parametrize(
    ("changed", "scope"),
    [("a/b/c/one", ENTRY), ("a/b/c", LISTING), ("a/b/c", TREE), ("a", ENTRY), ("a", TREE)],
)
def test_a_change_that_covers_a_removed_name_adds_the_other_names(
    source: Path, changed: str, scope: Scope
) -> None:
    place(source, "a/b/c/one", "other/two")
    some = links_of(source)
    looked(source, some, time.time_ns() + 10**9)
    shutil.rmtree(source / "a")
    assert added(some, changed, scope=scope) == {"other/two"}
    assert added(some, "a/b", "a/b/neighbour", scope=LISTING) == set()


def test_a_scan_knows_that_nothing_was_moved_unless_it_has_found_new_contents(
    source: Path,
) -> None:
    before = time.time_ns() - 10**9
    (source / "plain").touch()
    changes = looked(source, links_of(source), before)
    assert {change.path for change in changes} == {b"plain"}
    assert changes.moves == NO_MOVES
    (source / "one").touch()
    (source / "two").hardlink_to(source / "one")
    assert looked(source, links_of(source), before).moves is None


def test_a_scan_includes_files_with_exactly_the_ctime(source: Path) -> None:
    place(source, "one", "two")
    moment = os.stat(source / "one").st_ctime_ns
    assert {change.path for change in looked(source, links_of(source), moment)} == {b"one", b"two"}
    assert not looked(source, links_of(source), moment + 1)


def test_a_scan_finds_files_that_changed_through_a_removed_name(source: Path) -> None:
    place(source, "old", "ex/cluded", "older")
    place(source, "a/one", "b/two", "c/three", "ex/four")
    place(source, "a/gone", "last")
    since = time.time_ns()
    while os.stat(source / "old").st_ctime_ns >= since - 20_000_000:
        since = time.time_ns()
    (source / "a/one").write_text("through a removed name")
    (source / "a/one").unlink()
    (source / "a/gone").write_text("likewise")
    (source / "a/gone").unlink()
    found = looked(source, links_of(source, b"ex"), since - 10_000_000, b"ex")
    assert {change.path for change in found} == {b"b/two", b"c/three", b"last"}
    assert {change.scope for change in found} == {ENTRY}
    # The last name may as well be that of a file whose mode has changed.
    assert {change.path for change in found.new_content} == {b"b/two", b"c/three"}


def test_a_scan_keeps_a_limited_number_of_names_but_finds_all_changes(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_HARD_LINK_NAMES", 4)
    for number in range(10):
        place(source, f"a/{number}", f"b/{number}")
    some = links_of(source)
    assert len(looked(source, some, 0)) == 20


def test_more_names_than_can_be_pending_are_a_full_sync(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_search, "MAX_PENDING_CHANGES", 15)
    for number in range(10):
        place(source, f"a/{number}", f"b/{number}")
    for path, scope in ((b"a", TREE), (b"a", LISTING), (b"a/1", ENTRY)):
        changes = MutableChangeset()
        changes.add(path, scope)
        links_of(source).add_other_names(changes)
        assert not changes.is_everything
    changes = MutableChangeset()
    changes.add(b"a", TREE)
    changes.add(b"b", TREE)
    some = links_of(source)
    some.add_other_names(changes)
    assert changes.is_everything
    assert looked(source, some, 0).is_everything
    assert len(looked(source, links_of(source), time.time_ns() + 10**9)) == 0


def test_every_walk_through_the_source_reports_progress(source: Path) -> None:
    for number in range(20):
        place(source, f"a{number}/one", f"b{number}/two")
    progress: list[None] = []
    some = HardLinks(os.fsencode(source), Rules(), lambda: progress.append(None))
    looked(source, some, 0, on_progress=lambda: progress.append(None))
    assert len(progress) == 40
    assert added(some, "a3/one") == {"b3/two"}
    place(source, "c/one", "d/two")
    assert added(some, "c/one") == {"d/two"}
    assert len(progress) == 82


def deferring(source: Path) -> HardLinks:
    """Return what is known while a look goes on that has found nothing yet."""
    some = links_of(source)
    some.defers_searches = True
    return some


def paths_in(changes: MutableChangeset) -> set[str]:
    return {os.fsdecode(change.path) for change in changes}


def test_during_a_look_a_file_is_deferred_until_the_look_ends(source: Path) -> None:
    place(source, "a/one", "b/two")
    place(source, "x", "y")
    some = deferring(source)
    changes = MutableChangeset()
    changes.add_new_content(b"a/one", ENTRY)
    changes.add(b"x", ENTRY)
    changes.add(b"y", ENTRY)
    some.add_other_names(changes)
    assert paths_in(changes) == {"a/one", "x", "y"}
    assert some.deferred_count == 1, "all names of the other file are there"
    again = looked(source, some, time.time_ns() + 10**9)
    assert set(again) == set(again.new_content) == {Change(b"a/one", ENTRY)}
    some.add_other_names(again)
    assert set(again.new_content) == {Change(b"a/one", ENTRY), Change(b"b/two", ENTRY)}
    assert (some.deferred_count, some.search_count) == (0, 0)


def test_after_a_look_a_changed_file_has_the_names_that_it_has_got_meanwhile(source: Path) -> None:
    place(source, "one", "two", "three")
    some = deferring(source)
    found = found_in(source)
    (source / "two").rename(source / "moved")
    assert added(some, "two", "moved") == set()
    some.complete(found)
    (source / "one").unlink()
    assert added(some, "one") == {"moved", "three"}
    assert some.search_count == 0


def test_a_file_is_found_whose_changed_name_is_new_and_gone_when_the_look_ends(
    source: Path,
) -> None:
    place(source, "one")
    place(source, "x", "y")
    some = deferring(source)
    found = found_in(source)
    os.link(source / "one", source / "new")
    assert added(some, "new") == set()
    (source / "new").unlink()
    changes = some.complete(found)
    assert {Change(b"one", ENTRY), Change(b"new", ENTRY)} == set(changes)
    assert changes.new_content.includes_entry(b"one")


def test_a_look_finds_only_what_was_not_taken_since_it_has_changed(source: Path) -> None:
    place(source, "taken")
    place(source, "late")
    place(source, "one", "two")
    some = deferring(source)
    newest = max(os.stat(source / name).st_ctime_ns for name in ("taken", "late", "two"))
    wait_until(lambda: time.time_ns() > newest + 50_000_000)
    assert added(some, "taken", "late", "one", "two") == set()
    (source / "late").touch()
    # A linked file may have another content than when it was taken.
    assert paths_in(looked(source, some, 0)) == {"late", "one", "two"}


def test_too_many_deferred_names_are_a_full_sync(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_links, "MAX_PENDING_CHANGES", 3)
    some = deferring(source)
    for number in range(5):
        place(source, f"a/{number}", f"b/{number}")
        added(some, f"a/{number}")
    assert looked(source, some, time.time_ns() + 10**9).is_everything


def test_what_was_deferred_is_there_when_another_scan_has_found_all_names(source: Path) -> None:
    place(source, "one", "two")
    some = deferring(source)
    added(some, "one")
    some.remember({file_id(os.stat(source / "one")): {b"one", b"two"}})
    assert paths_in(some.complete()) == {"one"}
    assert added(some, "one") == {"two"}


def test_a_scan_of_a_missing_source_raises(source: Path) -> None:
    some = links_of(source)
    source.rmdir()
    with pytest.raises(FileNotFoundError):
        looked(source, some, 0)


@pytest.mark.parametrize("seed", range(20))
def test_after_random_operations_all_names_of_a_changed_file_are_there(
    source: Path, seed: int
) -> None:
    print("seed", seed)  # noqa: T201  # shown with a failure
    chance = random.Random(seed)
    outside = source.parent / "outside"
    outside.mkdir()
    some = links_of(source, b"*.bak")
    for _ in range(40):
        changes = MutableChangeset()
        for _ in range(chance.randrange(1, 6)):
            operate(chance, source, outside, changes)
        asked = {change.path for change in changes if change.scope is ENTRY}
        expected = {name for path in asked for name in names_of(source, path)}
        some.add_other_names(changes)
        assert expected <= {path for path in walked(source) if covered(changes, path)}


def operate(chance: random.Random, source: Path, outside: Path, changes: MutableChangeset) -> None:
    """Run a random operation, and add the changes that the watcher would find."""
    places = [source / "a", source / "b", source / "a/c", outside]
    path = chance.choice(places) / f"{chance.randrange(6)}{chance.choice(['', '', '.bak'])}"
    other = chance.choice(places) / str(chance.randrange(6))
    path.parent.mkdir(parents=True, exist_ok=True)
    other.parent.mkdir(parents=True, exist_ok=True)
    operation = chance.choice(["write", "write", "link", "link", "unlink", "rename", "move"])
    if operation == "write":
        path.write_text(str(chance.random()))
    elif operation == "link" and path.exists() and not other.exists():
        os.link(path, other)
    elif operation == "unlink":
        path.unlink(missing_ok=True)
    elif operation == "rename" and path.exists():
        path.rename(other)
    elif operation == "move" and not (source / "b/c").exists() and (source / "a/c").exists():
        (source / "b").mkdir(exist_ok=True)
        (source / "a/c").rename(source / "b/c")
        changes.add(b"a/c", ENTRY)
        changes.add(b"b/c", TREE)
    for changed in (path, other):
        if changed.is_relative_to(source) and not changed.name.endswith(".bak"):
            changes.add(os.fsencode(changed.relative_to(source)), ENTRY)


def walked(source: Path) -> set[bytes]:
    files = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".bak")
    return {os.fsencode(path.relative_to(source)) for path in files}


def names_of(source: Path, path: bytes) -> set[bytes]:
    """Return all names of a file, by comparing all files."""
    file = Path(os.fsdecode(os.path.join(os.fsencode(source), path)))
    if not file.is_file():
        return set()
    return {name for name in walked(source) if file.samefile(source / os.fsdecode(name))}


def covered(changes: MutableChangeset, path: bytes) -> bool:
    return any(change.covers(Change(path, ENTRY)) for change in changes)
