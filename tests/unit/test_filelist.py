"""The list builder: its rules, and one real rsync that makes two trees equal by its list."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trees import Snapshot, differences, snapshot

from pylsyncd.model.changes import Changes, Changeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.optimizer import optimize
from pylsyncd.rsync import filelist
from pylsyncd.rsync.commands import Abilities, Rsync
from pylsyncd.rsync.runner import Runner
from pylsyncd.rules.excludes import Rules, build, parse_pattern

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE
NO_RULES = Rules()


def changes(*those: tuple[bytes, Scope]) -> Changes:
    collection = Changes()
    for path, scope in those:
        collection.add(path, scope)
    return collection


def listed(
    source: Path, changeset: Changeset, rules: Rules = NO_RULES, *, missing_args: bool = True
) -> list[bytes]:
    root = os.open(source, os.O_RDONLY)
    try:
        return filelist.build(root, changeset, rules, missing_args=missing_args).entries
    finally:
        os.close(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/f").touch()
    (tmp_path / "link").symlink_to("a")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "with_missing_args", "without"),
    [
        pytest.param((b"a/f", ENTRY), [b"a/f"], [b"a/f"], id="a-file-is-named"),
        pytest.param((b"a/b", ENTRY), [b"a/b"], [b"a/b"], id="a-directory-without-its-contents"),
        pytest.param((b"a", LISTING), [b"a/"], [b"a/"], id="a-listing-ends-with-a-slash"),
        pytest.param(
            (b"a", TREE),
            [b"a/", b"a/b/", b"a/b/c/"],
            [b"a/", b"a/b/", b"a/b/c/"],
            id="of-a-tree-every-directory-is-listed",
        ),
        pytest.param((b"a/f", TREE), [b"a/f"], [b"a/f"], id="a-tree-that-is-a-file-is-named"),
        pytest.param((b"a/gone", ENTRY), [b"a/gone"], [b"a/"], id="a-missing-file"),
        pytest.param((b"a/gone", TREE), [b"a/gone"], [b"a/"], id="a-missing-tree"),
        pytest.param((b"gone", ENTRY), [b"gone"], [b""], id="missing-from-the-root"),
        pytest.param(
            (b"a/gone/x/y", ENTRY), [b"a/gone"], [b"a/"], id="only-the-topmost-missing-ancestor"
        ),
        pytest.param((b"a/f/x/y", ENTRY), [b"a/f"], [b"a/f"], id="a-file-in-a-directorys-place"),
        pytest.param((b"link/f", ENTRY), [b"link"], [b"link"], id="nothing-through-a-symlink"),
        pytest.param((b"link/b", TREE), [b"link"], [b"link"], id="no-tree-through-a-symlink"),
        pytest.param((b"link", LISTING), [b"link"], [b"link"], id="no-listing-of-a-symlink"),
        pytest.param(
            (b"", ENTRY), [b".pylsyncd-none"], [b".pylsyncd-none"], id="the-roots-own-attributes"
        ),
        pytest.param((b"", LISTING), [b""], [b""], id="the-roots-listing"),
    ],
)
def test_a_change_becomes_the_entries_that_rsync_needs(
    source: Path,
    change: tuple[bytes, Scope],
    with_missing_args: list[bytes],
    without: list[bytes],
) -> None:
    assert listed(source, changes(change)) == with_missing_args
    assert listed(source, changes(change), missing_args=False) == without


def test_every_entry_begins_with_a_dot_and_ends_with_a_nul() -> None:
    assert filelist.FileList({b"#x", b"", b"d/"}).content() == b"./\0./#x\0./d/\0"


def test_excluded_directories_of_a_tree_are_not_listed(source: Path) -> None:
    rules = build([parse_pattern(b"b/")])
    assert listed(source, changes((b"a", TREE)), rules) == [b"a/"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param(b"gone", [], id="what-the-rules-keep-is-not-named"),
        # rsync would delete a directory by that name, which the rule keeps.
        pytest.param(b"gone/", [b"a/"], id="of-what-only-a-directory-is-kept-the-parent-is-listed"),
        pytest.param(b"other", [b"a/gone"], id="what-no-rule-matches-is-named"),
    ],
)
def test_rules_protect_what_is_missing(source: Path, pattern: bytes, expected: list[bytes]) -> None:
    rules = build([parse_pattern(pattern)])
    assert listed(source, changes((b"a/gone", ENTRY)), rules) == expected


def test_a_missing_directory_that_a_rule_includes_is_found_by_its_parent(source: Path) -> None:
    rules = build([parse_pattern(b"+ */"), parse_pattern(b"*")])
    assert listed(source, changes((b"a/gone", ENTRY)), rules) == [b"a/"]


def test_a_path_that_rsync_would_drop_in_silence_is_told() -> None:
    fits, too_long = b"x" * filelist.LONGEST_PATH, b"x" * (filelist.LONGEST_PATH + 1)
    files = filelist.FileList({fits, too_long})
    assert (files.entries, files.too_long) == ([fits], [too_long])


def test_entries_are_counted_no_further_than_asked(source: Path) -> None:
    count = filelist.count_entries(os.fsencode(source))
    assert (count(b"", 10), count(b"", 1), count(b"none", 7)) == (2, 1, 7)


# -- with the real rsync --------------------------------------------------------------------------

names = st.sampled_from([b"a", b"b", b"#c", b"-n", b"d\n\xff"])
some_paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
contents = st.sampled_from(["directory", "link", b"", b"one", b"two", b"three"])
some_trees = st.dictionaries(some_paths, contents, max_size=12)

KINDS = [
    pytest.param(Abilities(), True, id="missing-args"),
    pytest.param(Abilities(missing_args=False), True, id="without-missing-args"),
]


def make(top: bytes, tree: dict[bytes, str | bytes]) -> None:
    """Make a tree; what does not fit below what is there already is left out."""
    os.mkdir(top)
    for path, content in sorted(tree.items()):
        full = os.path.join(top, path)
        with suppress(OSError):
            os.makedirs(os.path.dirname(full), exist_ok=True)
            if content == "directory":
                os.mkdir(full)
            elif content == "link":
                os.symlink(b"a", full)
            else:
                descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                os.write(descriptor, os.fsencode(content))
                os.close(descriptor)


def seen_changes(before: Snapshot, after: Snapshot) -> Changes:
    """Return what a watcher would report between two snapshots."""
    seen = Changes()
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old != new:
            came = new is not None and new.kind == "directory" != getattr(old, "kind", None)
            seen.add(path, TREE if came else ENTRY)
    return seen


@pytest.fixture(scope="module")
def scratch() -> Iterator[bytes]:
    path = b"/dev/shm" if os.path.isdir("/dev/shm") else b"/tmp"  # noqa: S108
    directory = os.path.join(path, b"pylsyncd-filelist-%d" % os.getpid())
    os.mkdir(directory)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(("abilities", "delete"), KINDS)
@settings(max_examples=60)
@given(old=some_trees, new=some_trees, is_reduced=st.booleans())
def test_one_rsync_with_the_list_makes_the_trees_equal(
    scratch: bytes,
    abilities: Abilities,
    delete: bool,
    old: dict[bytes, str | bytes],
    new: dict[bytes, str | bytes],
    is_reduced: bool,
) -> None:
    source, replica = scratch + b"/source", scratch + b"/replica"
    for directory in (source, replica):
        shutil.rmtree(directory, ignore_errors=True)
    make(source, old)
    destination = Destination("replica", "replica", Transport.LOCAL, None, replica + b"/")
    rsync = Rsync("rsync", (3, 2, 7), delete=delete)
    first = Runner().run(rsync.full(source, destination, abilities), b"")
    assert first.code == 0, first.messages
    before = snapshot(source)
    shutil.rmtree(source)
    make(source, new)
    seen = seen_changes(before, snapshot(source))
    changeset = optimize(seen, filelist.count_entries(source) if is_reduced else None)
    root = os.open(source, os.O_RDONLY)
    entries = filelist.build(root, changeset, NO_RULES, missing_args=abilities.missing_args)
    os.close(root)
    command = rsync.listed(source, destination, abilities, mkpath=False)
    run = Runner().run(command, entries.content())
    assert run.code == 0, (run.messages, entries.entries)
    assert differences(source, replica) == [], entries.entries
