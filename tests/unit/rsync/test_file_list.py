"""The list for rsync: its rules, and real runs whose list makes two trees equal."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import processes
from support.filtering import (
    ENVIRONMENT,
    RSYNC,
    entries_of,
    included_entries,
    prefixed_patterns,
    rsync,
)
from support.limits import checked_permissions
from support.rsync_features import DELETE_OPTIONS, can_delete_by_name, needs_deletion_by_name
from support.trees import Snapshot, differences, snapshot

from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.rsync import file_list
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.entry_counts import EntryCounts
from pylsyncd.rsync.runner import Runner
from pylsyncd.rsync.size_limit import MAX_EXCLUDED_LARGE_FILES, SizeLimit
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude, parse_filter

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE
NO_RULES = Rules()


def changes(*those: tuple[bytes, Scope]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in those:
        collection.add(path, scope)
    return collection


def listed(
    source: Path, changeset: Changeset, rules: Rules = NO_RULES, *, missing_args: bool = True
) -> list[bytes]:
    root = os.open(source, os.O_RDONLY)
    try:
        return file_list.build_file_list(
            root, changeset, rules, delete_missing_args=missing_args
        ).entries
    finally:
        os.close(root)


@contextmanager
def when_opened(name: str, act: Callable[[], object]) -> Iterator[None]:
    """Call ``act`` right before a directory of that name is opened for the first time."""
    is_waiting = True

    def look(event: str, arguments: Sequence[object]) -> None:
        nonlocal is_waiting
        if is_waiting and event == "open" and arguments[0] in {name, os.fsencode(name)}:
            is_waiting = False
            act()

    # An audit hook cannot be removed.
    sys.addaudithook(look)
    yield
    is_waiting = False


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
    assert file_list.FileList({b"#x", b"", b"d/"}).encode() == b"./\0./#x\0./d/\0"


def test_excluded_directories_of_a_tree_are_not_listed(source: Path) -> None:
    rules = build_rules([parse_exclude(b"b/")])
    assert listed(source, changes((b"a", TREE)), rules) == [b"a/"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param(b"gone", [], id="what-the-rules-keep-is-not-named"),
        # rsync would delete a directory of that name, which the rule protects.
        pytest.param(b"gone/", [b"a/"], id="of-what-only-a-directory-is-kept-the-parent-is-listed"),
        pytest.param(b"other", [b"a/gone"], id="what-no-rule-matches-is-named"),
    ],
)
def test_rules_protect_what_is_missing(source: Path, pattern: bytes, expected: list[bytes]) -> None:
    rules = build_rules([parse_exclude(pattern)])
    assert listed(source, changes((b"a/gone", ENTRY)), rules) == expected


def test_a_missing_directory_that_a_rule_includes_is_found_by_its_parent(source: Path) -> None:
    rules = build_rules([parse_exclude(b"+ */"), parse_exclude(b"*")])
    assert listed(source, changes((b"a/gone", ENTRY)), rules) == [b"a/"]


def test_a_path_that_rsync_would_silently_drop_is_reported() -> None:
    fits, too_long = (
        b"x" * file_list.MAX_LISTED_PATH_BYTES,
        b"x" * (file_list.MAX_LISTED_PATH_BYTES + 1),
    )
    files = file_list.FileList({fits, too_long})
    assert (files.entries, files.too_long) == ([fits], [too_long])


# Large files

LIMIT = SizeLimit(100, preserves_hard_links=False)


@pytest.fixture
def sized(source: Path) -> Path:
    """Return a source with files at and above the size limit."""
    for name, size in {"a/just": 100, "a/large": 101, "a/b/large": 5000, "large": 101}.items():
        (source / name).write_bytes(b"x" * size)
    (source / "a/link").symlink_to("large")
    return source


def split(
    source: Path, changeset: Changeset, rules: Rules = NO_RULES, size_limit: SizeLimit = LIMIT
) -> tuple[list[bytes], set[bytes], set[bytes]]:
    """Return the listed paths, the large files, and those of them that need an exclude."""
    root = os.open(source, os.O_RDONLY)
    try:
        files = file_list.build_file_list(
            root, changeset, rules, delete_missing_args=True, size_limit=size_limit
        )
    finally:
        os.close(root)
    assert all(change.scope is ENTRY for change in files.large_files)
    return files.entries, {change.path for change in files.large_files}, set(files.files_to_exclude)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param((b"a/large", ENTRY), ([], {b"a/large"}, set()), id="a-file"),
        pytest.param((b"a/just", ENTRY), ([b"a/just"], set(), set()), id="a-file-at-the-limit"),
        pytest.param((b"a/link", ENTRY), ([b"a/link"], set(), set()), id="a-link-to-a-large-one"),
        pytest.param((b"a/gone", ENTRY), ([b"a/gone"], set(), set()), id="a-missing-one"),
        pytest.param((b"a/large", TREE), ([], {b"a/large"}, set()), id="a-tree-that-is-a-file"),
        pytest.param((b"a", LISTING), ([b"a/"], {b"a/large"}, {b"a/large"}), id="a-listing"),
        pytest.param((b"", LISTING), ([b""], {b"large"}, {b"large"}), id="the-roots-listing"),
        pytest.param(
            (b"a", TREE),
            ([b"a/", b"a/b/", b"a/b/c/"], {b"a/large", b"a/b/large"}, {b"a/large", b"a/b/large"}),
            id="a-tree",
        ),
    ],
)
def test_large_files_are_left_out_and_reported(
    sized: Path,
    change: tuple[bytes, Scope],
    expected: tuple[list[bytes], set[bytes], set[bytes]],
) -> None:
    assert split(sized, changes(change)) == expected


def test_without_a_size_limit_no_file_is_left_out(sized: Path) -> None:
    assert listed(sized, changes((b"a/large", ENTRY))) == [b"a/large"]


def test_hard_linked_files_are_left_out_only_if_links_are_not_preserved(sized: Path) -> None:
    os.link(sized / "large", sized / "a/other")
    both = changes((b"large", ENTRY), (b"a", LISTING))
    assert split(sized, both)[1] == {b"large", b"a/large", b"a/other"}
    kept = split(sized, both, size_limit=SizeLimit(100, preserves_hard_links=True))
    assert kept == ([b"a/", b"large"], {b"a/large"}, {b"a/large"})


def test_excluded_files_of_a_listing_are_not_reported_as_large(sized: Path) -> None:
    rules = build_rules([parse_exclude(b"large")])
    assert split(sized, changes((b"a", LISTING)), rules) == ([b"a/"], set(), set())


def test_a_directory_listed_for_another_reason_does_not_send_its_large_files(
    sized: Path,
) -> None:
    # With this rule, a missing path is found by listing its parent.
    rules = build_rules([parse_exclude(b"gone/")])
    entries, _, unlisted = split(sized, changes((b"a/large", ENTRY), (b"a/gone", ENTRY)), rules)
    assert (entries, unlisted) == ([b"a/"], {b"a/large"})


def test_too_many_large_files_are_sent_with_their_directory(sized: Path) -> None:
    for number in range(MAX_EXCLUDED_LARGE_FILES):
        (sized / f"a/{number}").write_bytes(b"x" * 101)
    both = changes((b"a", LISTING), (b"large", ENTRY))
    assert split(sized, both) == ([b"a/"], {b"large"}, set())


def test_excluded_paths_are_not_reported_as_large(sized: Path) -> None:
    root = os.open(sized, os.O_RDONLY)
    files = file_list.build_file_list(
        root, changes((b"a", LISTING)), NO_RULES,
        delete_missing_args=True, size_limit=LIMIT, excluded={b"a/large"},
    )  # fmt: skip
    os.close(root)
    assert not files.large_files


def test_regular_files_have_no_symlink_above_them(sized: Path) -> None:
    root = os.open(sized, os.O_RDONLY)
    candidates = [b"a/large", b"a", b"a/link", b"link/large", b"gone", b"large/x", b"gone/x"]
    found = file_list.regular_files(root, candidates)
    os.close(root)
    assert found == {b"a/large"}


def test_files_that_cannot_be_looked_at_count_as_regular(sized: Path) -> None:
    root = os.open(sized, os.O_RDONLY)
    (sized / "a").chmod(0)
    with checked_permissions():
        found = file_list.regular_files(root, [b"a/large", b"a/b/c", b"link/large", b"gone"])
    (sized / "a").chmod(0o700)
    os.close(root)
    assert found == {b"a/large", b"a/b/c"}


# With the real rsync

names = st.sampled_from([b"a", b"b", b"#c", b"-n", b"d\n\xff"])
some_paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
contents = st.sampled_from(["directory", "link", b"", b"one", b"two", b"three"])
some_trees = st.dictionaries(some_paths, contents, max_size=12)

KINDS = [
    pytest.param(RsyncCapabilities(), True, id="missing-args", marks=needs_deletion_by_name),
    pytest.param(RsyncCapabilities(has_delete_missing_args=False), True, id="without-missing-args"),
]


def make(top: bytes, tree: dict[bytes, str | bytes]) -> None:
    """Create a tree, without paths that conflict with earlier ones."""
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


def seen_changes(before: Snapshot, after: Snapshot) -> MutableChangeset:
    """Return the changes that a watcher would report between two snapshots."""
    seen = MutableChangeset()
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


@pytest.mark.parametrize(("capabilities", "delete"), KINDS)
@settings(max_examples=60)
@given(old=some_trees, new=some_trees, is_reduced=st.booleans())
def test_one_rsync_with_the_list_makes_the_trees_equal(
    scratch: bytes,
    capabilities: RsyncCapabilities,
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
    rsync = RsyncOptions("rsync", (3, 2, 7), delete=delete)
    first = Runner().run(rsync.full_sync_command(source, destination, capabilities), b"")
    assert first.exit_status == 0, first.messages
    before = snapshot(source)
    shutil.rmtree(source)
    make(source, new)
    seen = seen_changes(before, snapshot(source))
    with EntryCounts(source).opened() as count_entries:
        changeset = optimize(seen, count_entries if is_reduced else None)
    root = os.open(source, os.O_RDONLY)
    entries = file_list.build_file_list(
        root, changeset, NO_RULES, delete_missing_args=capabilities.has_delete_missing_args
    )
    os.close(root)
    command = rsync.file_list_command(source, destination, capabilities, create_parents=False)
    run = Runner().run(command, entries.encode())
    assert run.exit_status == 0, (run.messages, entries.entries)
    assert differences(source, replica) == [], entries.entries


@pytest.mark.parametrize(
    ("name", "expected"), [("a", [b"a"]), ("b", [b"a/", b"a/b"])], ids=["the top", "below"]
)
def test_a_directory_that_becomes_a_symlink_during_the_walk_is_not_entered(
    source: Path, name: str, expected: list[bytes]
) -> None:
    path = {"a": source / "a", "b": source / "a/b"}[name]

    def replace() -> None:
        path.rename(source / "elsewhere")
        path.symlink_to(source / "elsewhere")

    with when_opened(name, replace):
        assert listed(source, changes((b"a", TREE))) == expected
    assert path.is_symlink()


@pytest.mark.parametrize(
    ("name", "expected"), [("a", [b"a/"]), ("b", [b"a/", b"a/b/"])], ids=["the top", "below"]
)
def test_an_unreadable_directory_is_listed_so_that_rsync_reports_it(
    source: Path, name: str, expected: list[bytes]
) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with when_opened(name, refuse):
        assert listed(source, changes((b"a", TREE))) == expected


# With rules: one run by the list does what a full sync by the rules does.

FULL_SYNC = ("-r", "--delete")
# Those options of a real run that decide on deletion.
LIST_OPTIONS = ("--dirs", "--times", *DELETE_OPTIONS, "--from0", "--files-from=-")

Kinds = dict[bytes, bool]
"""The paths of a tree; True for a directory."""


class SyncedReplicas(NamedTuple):
    """Two equal replicas after a change of the source."""

    by_list: Kinds
    in_full: Kinds
    could_be_full: bool
    """True if the full sync succeeded: a protected copy may be in the way of a new entry."""
    entries: list[bytes]


def kinds_in(tree: Path) -> Kinds:
    return {entry.removesuffix(b"/"): entry.endswith(b"/") for entry in entries_of(tree)}


def make_entries(tree: Path, entries: Iterable[bytes]) -> Kinds:
    """Create a new tree, without paths that conflict with earlier ones."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for entry in sorted(entries):
        path = os.path.join(os.fsencode(tree), entry)
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not path.endswith(b"/"):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    return kinds_in(tree)


def changes_seen_with_rules(was: Kinds, now: Kinds, rules: Rules) -> MutableChangeset:
    """Return the changes that a watcher reports that ignores excluded paths."""
    seen = MutableChangeset()
    for path in was.keys() | now.keys():
        old, new = was.get(path), now.get(path)
        sent = [k for k in (old, new) if k is not None and not rules.excludes(path, is_directory=k)]
        if old != new and sent:
            is_entered = new and not rules.excludes(path, is_directory=True)
            seen.add(path, Scope.TREE if is_entered else Scope.ENTRY)
    return seen


def file_list_of(
    source: Path, changes: MutableChangeset, rules: Rules, *, missing_args: bool = True
) -> file_list.FileList:
    root = os.open(source, os.O_RDONLY)
    try:
        return file_list.build_file_list(
            root, optimize(changes), rules, delete_missing_args=missing_args
        )
    finally:
        os.close(root)


@pytest.fixture(scope="module")
def rules_scratch() -> Iterator[Path]:
    base = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp")  # noqa: S108
    directory = base / f"pylsyncd-filelist-rules-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def sync_both_ways(
    rules_scratch: Path, old: Iterable[bytes], new: Iterable[bytes], rules: Rules
) -> SyncedReplicas:
    """Change a source from one tree to another, and sync it by a list and in full."""
    source, by_list, in_full = (rules_scratch / name for name in ("source", "by-list", "in-full"))
    was = make_entries(source, old)
    before = included_entries(rules, entries_of(source))
    now = make_entries(source, new)
    for replica in (by_list, in_full):
        make_entries(replica, before)
    seen = changes_seen_with_rules(was, now, rules)
    files = file_list_of(source, seen, rules, missing_args=can_delete_by_name())
    arguments = (*rules.arguments(), f"{source}/")
    full = (RSYNC, *FULL_SYNC, *arguments, f"{in_full}/")
    with processes.running_process(full, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as whole:
        if files:
            rsync(*LIST_OPTIONS, *arguments, f"{by_list}/", names=files.encode())
    return SyncedReplicas(
        kinds_in(by_list), kinds_in(in_full), whole.returncode == 0, files.entries
    )


# One rule at a time


@pytest.mark.parametrize(
    ("rule", "old", "new", "kept"),
    [
        pytest.param("P f", [b"d/f"], [b"d/"], {b"d", b"d/f"}, id="a-file"),
        pytest.param("P e/", [b"d/e/"], [b"d/"], {b"d", b"d/e"}, id="a-directory"),
        pytest.param("P! */", [b"d/e/", b"d/f"], [b"d/"], {b"d", b"d/f"}, id="all-but-directories"),
        pytest.param("P e/", [b"d/e"], [b"d/"], {b"d"}, id="but-no-file-by-a-directorys-name"),
        pytest.param("R f", [b"d/f"], [b"d/"], {b"d"}, id="but-not-what-is-at-risk"),
        # The file was sent before: the rule hides the new directory, and protects nothing.
        pytest.param("H e/", [b"d/e"], [b"d/e/"], {b"d"}, id="but-not-what-is-only-hidden"),
    ],
)
def test_a_protected_copy_outlives_its_source(
    rules_scratch: Path, rule: str, old: list[bytes], new: list[bytes], kept: set[bytes]
) -> None:
    made = sync_both_ways(rules_scratch, old, new, build_rules([parse_filter(rule.encode())]))
    assert (made.by_list.keys(), made.by_list) == (kept, made.in_full)


def test_a_path_protected_both_as_file_and_directory_is_not_listed(rules_scratch: Path) -> None:
    make_entries(rules_scratch / "source", [b"d/"])
    changes = MutableChangeset()
    changes.add(b"d/gone", Scope.ENTRY)
    entries = {
        rule: file_list_of(
            rules_scratch / "source", changes, build_rules([parse_filter(rule)])
        ).entries
        for rule in (b"P gone", b"P gone/", b"P! gone", b"H gone")
    }
    assert entries == {
        b"P gone": [],
        # Only rsync knows whether the copy is a directory.
        b"P gone/": [b"d/"],
        b"P! gone": [b"d/gone"],
        b"H gone": [b"d/gone"],
    }


@pytest.mark.parametrize(
    ("pattern", "old", "new"),
    [
        pytest.param(b"x/", [b"d/x"], [b"d/x/in"], id="a-file-that-became-an-excluded-directory"),
        pytest.param(b"x/", [b"x"], [b"x/"], id="the-same-in-the-root"),
    ],
)
def test_no_copy_of_a_path_stays_after_it_became_excluded(
    rules_scratch: Path, pattern: bytes, old: list[bytes], new: list[bytes]
) -> None:
    made = sync_both_ways(rules_scratch, old, new, build_rules([parse_exclude(pattern)]))
    assert made.by_list == made.in_full
    assert not any(path.endswith(b"x") for path in made.by_list)


def test_no_copy_of_a_directory_stays_after_it_became_an_excluded_file(rules_scratch: Path) -> None:
    rules = build_rules([parse_filter(b"+ x/"), parse_filter(b"- x")])
    made = sync_both_ways(rules_scratch, [b"d/x/in"], [b"d/x"], rules)
    assert made.by_list == made.in_full == {b"d": True}


def test_a_protected_copy_stays_although_an_excluded_entry_took_its_place(
    rules_scratch: Path,
) -> None:
    rules = build_rules([parse_filter(b"P x"), parse_filter(b"H x/")])
    made = sync_both_ways(rules_scratch, [b"d/x"], [b"d/x/"], rules)
    assert made.by_list == made.in_full == {b"d": True, b"d/x": False}


@pytest.mark.parametrize("rules", [(b"- x",), (b"H x",), (b"P x", b"H x/")])
def test_a_directory_is_not_listed_for_paths_that_were_never_sent_or_are_protected(
    rules_scratch: Path, rules: tuple[bytes, ...]
) -> None:
    make_entries(rules_scratch / "source", [b"d/x/"])
    changes = MutableChangeset()
    changes.add(b"d/x", Scope.ENTRY)
    assert file_list_of(
        rules_scratch / "source", changes, build_rules(map(parse_filter, rules))
    ).entries == [b"d"]


def test_an_excluded_entry_of_the_root_is_not_named(rules_scratch: Path) -> None:
    make_entries(rules_scratch / "source", [b"x/"])
    rules = build_rules([parse_exclude(b"x")])
    assert file_list_of(rules_scratch / "source", changes((b"x", TREE)), rules).entries == [
        b".pylsyncd-none"
    ]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("path", [b"secret/key", b"secret/gone", b"secret/deep", b"secret/deep/x"])
def test_nothing_below_an_excluded_directory_is_named(
    rules_scratch: Path, path: bytes, scope: Scope
) -> None:
    make_entries(rules_scratch / "source", [b"a", b"secret/key", b"secret/deep/x"])
    rules = build_rules([parse_exclude(b"/secret/")])
    both = changes((path, scope), (b"a", ENTRY))
    assert file_list_of(rules_scratch / "source", both, rules).entries == [b"a"]


UNSAFE = [b"..", b"../x", b"a/..", b"a/../../x", b"a/./f", b"/etc/x", b"a//f", b"a/", b"a\0b", b"."]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("path", UNSAFE)
def test_a_path_that_may_lead_out_of_the_source_is_not_listed(
    source: Path, path: bytes, scope: Scope
) -> None:
    assert listed(source, changes((path, scope), (b"a/f", ENTRY))) == [b"a/f"]


@pytest.mark.parametrize("path", UNSAFE)
def test_no_file_outside_the_source_is_regular(source: Path, path: bytes) -> None:
    root = os.open(source, os.O_RDONLY)
    try:
        assert file_list.regular_files(root, [path, b"a/f"]) == {b"a/f"}
    finally:
        os.close(root)


# Any rules

plain_names = st.sampled_from([b"a", b"b", b"ab", b"x y"])
entry_paths = st.builds(
    lambda parts, end: b"/".join(parts) + end,
    st.lists(plain_names, min_size=1, max_size=3),
    st.sampled_from([b"", b"/"]),
)
entry_sets = st.sets(entry_paths, max_size=10)
ONE_SIDED = [
    *(b"P a/", b"P a", b"P b/", b"P a/b", b"P! a", b"P,p b", b"R b", b"H a", b"H a/", b"H! */"),
    *(b"H /a/b/", b"-p a", b"- x y/", b"- ab", b"- b/", b"+ */", b"- *"),
]


@settings(max_examples=80)
@given(old=entry_sets, new=entry_sets, texts=st.lists(st.sampled_from(ONE_SIDED), max_size=3))
def test_a_list_does_what_a_full_sync_does_under_rules_for_one_side(
    rules_scratch: Path, old: set[bytes], new: set[bytes], texts: list[bytes]
) -> None:
    made = sync_both_ways(rules_scratch, old, new, build_rules(map(parse_filter, texts)))
    assert made.by_list == made.in_full or not made.could_be_full, made.entries


@settings(max_examples=60)
@given(old=entry_sets, new=entry_sets, texts=st.lists(prefixed_patterns(), max_size=3))
def test_a_list_does_what_a_full_sync_does_under_any_excludes(
    rules_scratch: Path, old: set[bytes], new: set[bytes], texts: list[bytes]
) -> None:
    made = sync_both_ways(rules_scratch, old, new, build_rules(map(parse_exclude, texts)))
    assert made.by_list == made.in_full or not made.could_be_full, made.entries
