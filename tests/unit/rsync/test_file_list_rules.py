"""A list of changes, and rules: one run by the list does what a full sync by the rules does."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import processes
from support.filtering import ENVIRONMENT, RSYNC, prefixed_patterns, rsync, sent_by, tree_of
from support.installed import DELETING, deletes_by_name

from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.rsync import file_list
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude, parse_filter

FULL = ("-r", "--delete")
# The options of a run of the daemon, as far as they decide what is deleted.
LISTED = ("--dirs", "--times", *DELETING, "--from0", "--files-from=-")

Kinds = dict[bytes, bool]
"""What is in a tree: whether each path is a directory."""


class Synced(NamedTuple):
    """What a change of a source makes of two equal replicas."""

    by_list: Kinds
    in_full: Kinds
    could_be_full: bool
    """Whether the full sync succeeded: something protected may stand where something is to go."""
    entries: list[bytes]


def kinds(tree: Path) -> Kinds:
    return {entry.removesuffix(b"/"): entry.endswith(b"/") for entry in tree_of(tree)}


def make(tree: Path, entries: Iterable[bytes]) -> Kinds:
    """Make a new tree; what does not fit below what is there already is left out."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for entry in sorted(entries):
        path = os.path.join(os.fsencode(tree), entry)
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not path.endswith(b"/"):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    return kinds(tree)


def seen_changes(was: Kinds, now: Kinds, rules: Rules) -> MutableChangeset:
    """Return what a watcher would report that looks at nothing that the rules exclude."""
    seen = MutableChangeset()
    for path in was.keys() | now.keys():
        old, new = was.get(path), now.get(path)
        sent = [k for k in (old, new) if k is not None and not rules.excludes(path, is_directory=k)]
        if old != new and sent:
            is_entered = new and not rules.excludes(path, is_directory=True)
            seen.add(path, Scope.TREE if is_entered else Scope.ENTRY)
    return seen


def listed(
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
def scratch() -> Iterator[Path]:
    base = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp")  # noqa: S108
    directory = base / f"pylsyncd-filelist-rules-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def synced(scratch: Path, old: Iterable[bytes], new: Iterable[bytes], rules: Rules) -> Synced:
    """Sync a source that was one tree and is another now, by a list and in full."""
    source, by_list, in_full = (scratch / name for name in ("source", "by-list", "in-full"))
    was = make(source, old)
    before = sent_by(rules, tree_of(source))
    now = make(source, new)
    for replica in (by_list, in_full):
        make(replica, before)
    seen = seen_changes(was, now, rules)
    files = listed(source, seen, rules, missing_args=deletes_by_name())
    arguments = (*rules.arguments(), f"{source}/")
    full = (RSYNC, *FULL, *arguments, f"{in_full}/")
    with processes.running_process(full, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as whole:
        if files:
            rsync(*LISTED, *arguments, f"{by_list}/", names=files.encode())
    return Synced(kinds(by_list), kinds(in_full), whole.returncode == 0, files.entries)


# -- each rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "old", "new", "kept"),
    [
        pytest.param("P f", [b"d/f"], [b"d/"], {b"d", b"d/f"}, id="a-file"),
        pytest.param("P e/", [b"d/e/"], [b"d/"], {b"d", b"d/e"}, id="a-directory"),
        pytest.param("P! */", [b"d/e/", b"d/f"], [b"d/"], {b"d", b"d/f"}, id="all-but-directories"),
        pytest.param("P e/", [b"d/e"], [b"d/"], {b"d"}, id="but-no-file-by-a-directorys-name"),
        pytest.param("R f", [b"d/f"], [b"d/"], {b"d"}, id="but-not-what-is-at-risk"),
        # It was sent before: the rule hides what came, and protects nothing.
        pytest.param("H e/", [b"d/e"], [b"d/e/"], {b"d"}, id="but-not-what-is-only-hidden"),
    ],
)
def test_a_protected_copy_outlives_its_source(
    scratch: Path, rule: str, old: list[bytes], new: list[bytes], kept: set[bytes]
) -> None:
    made = synced(scratch, old, new, build_rules([parse_filter(rule.encode())]))
    assert (made.by_list.keys(), made.by_list) == (kept, made.in_full)


def test_a_path_protected_both_as_file_and_directory_is_not_listed(scratch: Path) -> None:
    make(scratch / "source", [b"d/"])
    changes = MutableChangeset()
    changes.add(b"d/gone", Scope.ENTRY)
    entries = {
        rule: listed(scratch / "source", changes, build_rules([parse_filter(rule)])).entries
        for rule in (b"P gone", b"P gone/", b"P! gone", b"H gone")
    }
    assert entries == {
        b"P gone": [],
        # Of what was there, only rsync knows whether it was a directory.
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
    scratch: Path, pattern: bytes, old: list[bytes], new: list[bytes]
) -> None:
    made = synced(scratch, old, new, build_rules([parse_exclude(pattern)]))
    assert made.by_list == made.in_full
    assert not any(path.endswith(b"x") for path in made.by_list)


def test_no_copy_of_a_directory_stays_after_it_became_an_excluded_file(scratch: Path) -> None:
    rules = build_rules([parse_filter(b"+ x/"), parse_filter(b"- x")])
    made = synced(scratch, [b"d/x/in"], [b"d/x"], rules)
    assert made.by_list == made.in_full == {b"d": True}


def test_a_protected_copy_stays_although_an_excluded_entry_took_its_place(scratch: Path) -> None:
    rules = build_rules([parse_filter(b"P x"), parse_filter(b"H x/")])
    made = synced(scratch, [b"d/x"], [b"d/x/"], rules)
    assert made.by_list == made.in_full == {b"d": True, b"d/x": False}


@pytest.mark.parametrize("rules", [(b"- x",), (b"H x",), (b"P x", b"H x/")])
def test_a_directory_is_not_listed_for_paths_that_were_never_sent_or_are_protected(
    scratch: Path, rules: tuple[bytes, ...]
) -> None:
    make(scratch / "source", [b"d/x/"])
    changes = MutableChangeset()
    changes.add(b"d/x", Scope.ENTRY)
    assert listed(scratch / "source", changes, build_rules(map(parse_filter, rules))).entries == [
        b"d/x"
    ]


# -- any rules ------------------------------------------------------------------------------------

names = st.sampled_from([b"a", b"b", b"ab", b"x y"])
entries = st.builds(
    lambda parts, end: b"/".join(parts) + end,
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from([b"", b"/"]),
)
trees = st.sets(entries, max_size=10)
ONE_SIDED = [
    *(b"P a/", b"P a", b"P b/", b"P a/b", b"P! a", b"P,p b", b"R b", b"H a", b"H a/", b"H! */"),
    *(b"H /a/b/", b"-p a", b"- x y/", b"- ab", b"- b/", b"+ */", b"- *"),
]


@settings(max_examples=80)
@given(old=trees, new=trees, texts=st.lists(st.sampled_from(ONE_SIDED), max_size=3))
def test_a_list_does_what_a_full_sync_does_under_rules_for_one_side(
    scratch: Path, old: set[bytes], new: set[bytes], texts: list[bytes]
) -> None:
    made = synced(scratch, old, new, build_rules(map(parse_filter, texts)))
    assert made.by_list == made.in_full or not made.could_be_full, made.entries


@settings(max_examples=60)
@given(old=trees, new=trees, texts=st.lists(prefixed_patterns(), max_size=3))
def test_a_list_does_what_a_full_sync_does_under_any_excludes(
    scratch: Path, old: set[bytes], new: set[bytes], texts: list[bytes]
) -> None:
    made = synced(scratch, old, new, build_rules(map(parse_exclude, texts)))
    assert made.by_list == made.in_full or not made.could_be_full, made.entries
