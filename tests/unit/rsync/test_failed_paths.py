"""The paths in rsync's messages: its real messages, and real runs that fail partially."""

import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rsync_features import CAPABILITIES
from support.servers import RsyncDaemon

from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.paths import RelativePath
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.failed_paths import FailedPaths, target_in_messages
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude

ENTRY, LISTING, TREE = Scope
EMPTY = re.compile("rsync error: |IO error")
DENIED = "Permission denied (13)"
FULL = "No space left on device (28)"
UNSUPPORTED = "Operation not supported (95)"
CLOSING = "rsync error: some files/attrs were not transferred (code 23) at main.c(1394) [sender]"


FULL_SYNC = CarriedPaths(None, Rules())


def collected(
    *lines: str,
    target: bytes = b"/dst",
    carried: CarriedPaths = FULL_SYNC,
    present: Collection[bytes] = (),
) -> FailedPaths:
    failed = FailedPaths(
        b"/src", target, carried, lambda path: stat.S_IFREG if path in present else 0
    )
    for line in lines:
        failed.add(line)
    return failed


def changes(
    *lines: str, target: bytes = b"/dst", carried: CarriedPaths = FULL_SYNC
) -> set[tuple[bytes, Scope]] | None:
    """Return all failures, of whatever kind; None if they are not all known."""
    failed = collected(*lines, target=target, carried=carried)
    return {*failed.content, *failed.attributes} if failed.are_known else None


@pytest.mark.parametrize(
    ("line", "path", "scope"),
    [
        ('file has vanished: "/src/a/b\\#012c"', b"a/b\nc", TREE),
        ('directory has vanished: "/src/d"', b"d", TREE),
        ("WARNING: parent dir is absent in the file list: d", b"d", TREE),
        (f'rsync: [sender] opendir "/src/u" failed: {DENIED}', b"u", TREE),
        (f'rsync: [sender] link_stat "/src/n/x" failed: {DENIED}', b"n/x", TREE),
        (f'rsync: [sender] readlink_stat("/src/n/x") failed: {DENIED}', b"n/x", TREE),
        (f'rsync: [sender] get_xattr_data: lgetxattr("/src/d","u",0) failed: {DENIED}', b"d", TREE),
        (f'rsync: [sender] get_xattr_names: llistxattr("/src/d",99) failed: {DENIED}', b"d", TREE),
        (
            f'rsync: [sender] send_files failed to open "/src/o\\#001\\#377"q/f": {DENIED}',
            b'o\1\xff"q/f',
            TREE,
        ),
        ('rsync: [sender] read errors mapping "/src/t": Is a directory (21)', b"t", TREE),
        ("ERROR: t failed verification -- update discarded.", b"t", TREE),
        ("WARNING: t failed verification -- update discarded (will try again).", b"t", TREE),
        (f"rsync: [generator] delete_file: unlink(d/std/x) failed: {DENIED}", b"d/std/x", TREE),
        (f"rsync: [generator] delete_file: rmdir(own/sub) failed: {DENIED}", b"own/sub", TREE),
        ("cannot delete non-empty directory: d/std", b"d/std", TREE),
        ("cannot delete mount point: m", b"m", TREE),
        ("could not make way for new regular file: d2f", b"d2f", TREE),
        ("could not make way for new directory: f: d", b"f: d", TREE),
        (f'rsync: [generator] failed to set times on "/dst/.": {DENIED}', b"", ENTRY),
        (f'rsync: [generator] failed to set times on "/dst/d": {DENIED}', b"d", ENTRY),
        (f'rsync: [generator] failed to set permissions on "/dst/d/a": {DENIED}', b"d/a", ENTRY),
        (f'rsync: [generator] chown "/dst/d/a" failed: {DENIED}', b"d/a", ENTRY),
        (f'rsync: [receiver] rename "/dst/d/.a.L43IDo" -> "d/a": {DENIED}', b"d/a", TREE),
        (f'rsync: [receiver] copy "/tmp/a.u4N0yE" -> "d/a": {DENIED}', b"d/a", TREE),
        (
            f'rsync: [receiver] rename failed for "/dst/d/a" (from d/.~tmp~/a): {DENIED}',
            b"d/a",
            TREE,
        ),
        (f'rsync: [receiver] open "/dst/d/a" failed: {DENIED}', b"d/a", TREE),
        (f'rsync: [receiver] unlink "/dst/d/a": {DENIED}', b"d/a", TREE),
        (f'rsync: [generator] opendir "/dst/own/sub" failed: {DENIED}', b"own/sub", TREE),
        (f'rsync: [generator] mknod "/dst/ro/fi" failed: {DENIED}', b"ro/fi", TREE),
        (f'rsync: [generator] symlink "/dst/ro/ln" -> "x" failed: {DENIED}', b"ro/ln", TREE),
        (f'rsync: [generator] link "/dst/d/b2" => d/b failed: {DENIED}', b"d/b2", TREE),
        (f'rsync: [generator] recv_generator: mkdir "/dst/e" failed: {DENIED}', b"e", TREE),
        (f"rsync: [generator] set_acl: xacl_set(d/a, ACL_TYPE_ACCESS): {DENIED}", b"d/a", ENTRY),
        (
            f'rsync: [receiver] rsync_xal_set: fsetxattr("/dst/d/a","user.x") failed: {DENIED}',
            b"d/a",
            ENTRY,
        ),
        ('skipping socket (creation unsupported here): "/dst/ro/s"', b"ro/s", TREE),
        ('ERROR: daemon refused to receive file "e/f2"', b"e/f2", TREE),
        ('ERROR: daemon refused to receive directory "e/d"', b"e/d", TREE),
        ("filename overflows max-path len by 1: x/y", b"x/y", TREE),
        ("[sender] cannot convert filename: bad\\#377/x (Invalid character)", b"bad\xff/x", TREE),
        (f'rsync: mkdir "/dst/old" failed: {DENIED}', b"old", TREE),
    ],
)
def test_a_message_names_a_path(line: str, path: bytes, scope: Scope) -> None:
    assert changes(line, CLOSING) == {(path, scope)}


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/", 'mkdir "/d/e" (in module) failed'),
        (b"/", 'mkdir "d/e" (in module) failed'),
        (b"/sub", 'mkdir "/sub/d/e" (in module) failed'),
        (b"/a//b/./c/", 'mkdir "/a/b/c/d/e" failed'),
    ],
)
def test_a_path_at_the_destination_becomes_relative_to_its_root(target: bytes, line: str) -> None:
    assert changes(f"rsync: [generator] {line}: {DENIED}", target=target) == {(b"d/e", TREE)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".a.2H4tpH", {(b"d/a", TREE), (b"d/.a", TREE)}),
        (".a.b.2H4tpH", {(b"d/a.b", TREE), (b"d/.a.b", TREE)}),
        ("." + "n" * 246 + ".2H4tpH", {(b"d", LISTING)}),
        ("....2H4tpH", {(b"d/...", TREE)}),
        (".2H4tpH", None),
        ("a", None),
    ],
    ids=["short", "two dots", "cut", "dots", "no name", "another's"],
)
def test_a_temporary_name_leads_to_the_final_name(
    name: str, expected: set[tuple[bytes, Scope]] | None
) -> None:
    assert changes(f'rsync: [receiver] mkstemp "/dst/d/{name}" failed: {DENIED}') == expected


@pytest.mark.parametrize(
    ("line", "temporary", "scope"),
    [
        (f'[generator] symlink "/dst/d/.a.717" -> "x" failed: {DENIED}', "717", TREE),
        (f'[generator] mknod "/dst/d/.a.14608" failed: {DENIED}', "14608", TREE),
        (f'[generator] link "/dst/d/.a.9" => d/b failed: {DENIED}', "9", TREE),
        (f'[receiver] chown "/dst/d/.a.2H4tpH" failed: {DENIED}', "2H4tpH", ENTRY),
        (f"[receiver] set_acl: xacl_set(d/.a.2H4tpH, ACL): {DENIED}", "2H4tpH", ENTRY),
    ],
)
def test_a_created_path_may_be_named_by_its_temporary_name(
    line: str, temporary: str, scope: Scope
) -> None:
    own = (f"d/.a.{temporary}".encode(), scope)
    assert changes(f"rsync: {line}") == {own, (b"d/a", scope), (b"d/.a", scope)}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [CLOSING],
        ["IO error encountered -- skipping file deletion", CLOSING],
        ['file has vanished: "/elsewhere/a"'],
        ['file has vanished: "/source"'],
        [f'rsync: [generator] mkdir "/elsewhere/d" failed: {DENIED}'],
        [f'rsync: [sender] opendir "/dst/d" failed: {DENIED}'],
        ['file has vanished: "/src/a'],
        ['file has vanished: "/src/a[...]'],
        ['file has vanished: "/src/b\\xe4"'],
        [f'file has vanished: "/src/rsync: [generator] mkdir "/dst/d" failed: {DENIED}"'],
        [f'rsync: [receiver] rename "/dst/.a" -> "b.2H4tpH" -> "a" -> "b": {DENIED}'],
        ["Deletions stopped due to --max-delete limit (4 skipped)"],
    ],
)
def test_the_failed_paths_are_unknown_if_any_message_has_an_unknown_form(
    lines: Sequence[str],
) -> None:
    assert changes(*lines) is None
    if not all(EMPTY.match(line) for line in lines):
        assert changes('file has vanished: "/src/x"', *lines) is None


def test_failed_paths_at_the_destination_are_unknown_if_its_directory_is() -> None:
    assert changes(f'rsync: [generator] mkdir "/dst/d" failed: {DENIED}', target=b"") is None


def test_the_failed_paths_are_unknown_if_a_message_was_cut() -> None:
    failed = collected('file has vanished: "/src/a"')
    failed.add('file has vanished: "/src/b"', is_cut=True)
    assert not failed.are_known


def test_very_many_failed_paths_are_known_by_their_directories() -> None:
    failed = FailedPaths(b"/src", b"/dst", FULL_SYNC, limit=100)
    for number in range(101):
        failed.add(f'rsync: [sender] opendir "/src/d{number % 3}/{number}" failed: {DENIED}')
    assert failed.are_known
    assert len(failed.content) <= 50
    assert {(b"d0", TREE), (b"d1", TREE), (b"d2", TREE)} & set(failed.content)


UNSET = [
    (f'[generator] failed to set times on "/dst/d/a": {DENIED}', "d/a"),
    (f'[generator] failed to set permissions on "/dst/d/a": {DENIED}', "d/a"),
    ('[generator] failed to set times on "/dst/.": Operation not permitted (1)', ""),
    ('[receiver] chown "/dst/d/.a.L43IDo" failed: Invalid argument (22)', "d/a"),
    (f'[receiver] chgrp "/dst/d/a" failed: {DENIED}', "d/a"),
    ('[receiver] chown "/dst/d/a" failed: Disk quota exceeded (122)', "d/a"),
    (f'[receiver] rsync_xal_set: fsetxattr("/dst/d/.a.pmVNQc","user.x") failed: {FULL}', "d/a"),
    (f'[generator] rsync_xal_clear: lremovexattr("/dst/d/a","user.x") failed: {DENIED}', "d/a"),
    (f"[receiver] set_acl: sys_acl_set_file(d/a, ACL_TYPE_ACCESS): {UNSUPPORTED}", "d/a"),
    (f'[receiver] failed to write xattr user.rsync.%stat for "/dst/d/a": {UNSUPPORTED}', "d/a"),
]


@pytest.mark.parametrize(("line", "path"), UNSET)
def test_attributes_that_cannot_be_set_are_told_from_content(line: str, path: str) -> None:
    failed = collected(f"rsync: {line}", CLOSING, present=[b"d/a"])
    assert failed.are_known
    assert set(failed.attributes) == {(path.encode(), ENTRY)}
    assert not failed.content


def test_an_excluded_directory_has_no_attributes_that_are_missed() -> None:
    carried = CarriedPaths(None, build_rules([parse_exclude(b"/secret/")]))
    line = f'rsync: [generator] failed to set permissions on "/dst/secret": {DENIED}'
    for mode, expected in ((stat.S_IFDIR, []), (stat.S_IFREG, [(b"secret", ENTRY)])):
        failed = FailedPaths(b"/src", b"/dst", carried, lambda _, mode=mode: mode)
        failed.add(line)
        assert list(failed.attributes) == expected
        assert failed.are_known is bool(expected)


@pytest.mark.parametrize(
    "line",
    [
        '[generator] failed to set times on "/dst/d/a": Read-only file system (30)',
        '[generator] failed to set times on "/dst/d/a": No such file or directory (2)',
        '[receiver] chown "/dst/d/.a.L43IDo" failed: Input/output error (5)',
        f'[sender] get_xattr_data: lgetxattr("/src/d/a","user.x",1) failed: {DENIED}',
    ],
)
def test_attributes_that_fail_with_their_file_are_failed_content(line: str) -> None:
    failed = collected(f"rsync: {line}", present=[b"d/a"])
    assert failed.are_known
    assert {path for path, _ in failed.content} == {b"d/a"}
    assert not failed.attributes


def test_a_path_whose_content_and_attributes_fail_is_failed_content() -> None:
    failed = collected(
        f'rsync: [receiver] chown "/dst/d/.a.L43IDo" failed: {DENIED}',
        f'rsync: [receiver] rename "/dst/d/.a.L43IDo" -> "d/a": {DENIED}',
        f'rsync: [receiver] chown "/dst/d/.b.L43IDo" failed: {DENIED}',
        present=[b"d/a", b"d/b"],
    )
    assert set(failed.attributes) == {(b"d/b", ENTRY)}
    assert {path for path, _ in failed.content} >= {b"d/a"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'[receiver] mkstemp "/dst/d/.a.2H4tpH" failed: {DENIED}', {b"d/a"}),
        (f'[receiver] mkstemp "/dst/d/.b.2H4tpH" failed: {DENIED}', {b"d/.b"}),
        (f'[generator] symlink "/dst/d/.a.717" -> "x" failed: {DENIED}', {b"d/a"}),
        (f'[generator] mknod "/dst/d/.a.717" failed: {DENIED}', {b"d/a"}),
        # The name of a file that the source lacks, and that rsync fails to delete.
        (f"[generator] delete_file: unlink(d/.a.2H4tpH) failed: {DENIED}",
         {b"d/.a.2H4tpH", b"d/a"}),
    ],
)  # fmt: skip
def test_what_the_source_has_tells_a_temporary_name_from_a_final_one(
    line: str, expected: set[bytes]
) -> None:
    failed = collected(f"rsync: {line}", present=[b"d/a", b"d/.b"])
    assert {path for path, _ in failed.content} == expected


SPLIT = CarriedPaths([b"a", b"d/", b"e/f/g", b"gone", b"long/" + b"n" * 250], Rules())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'[receiver] mkstemp "/dst/.a.2H4tpH" failed: {DENIED}', {(b"a", TREE)}),
        (f'[receiver] mkstemp "/dst/.b.2H4tpH" failed: {DENIED}', None),
        (f'[receiver] mkstemp "/dst/d/x/.b.2H4tpH" failed: {DENIED}',
         {(b"d/x/b", TREE), (b"d/x/.b", TREE)}),
        (f"[generator] delete_file: rmdir(gone/x/y) failed: {DENIED}", {(b"gone", ENTRY)}),
        (f'[generator] recv_generator: mkdir "/dst/e" failed: {DENIED}', {(b"e/f/g", ENTRY)}),
        (f'[generator] failed to set times on "/dst/e/f": {DENIED}', {(b"e/f", ENTRY)}),
        (f'[generator] failed to set times on "/dst/.": {DENIED}', {(b"", ENTRY)}),
        (f'[receiver] mkstemp "/dst/long/.{"n" * 246}.2H4tpH" failed: {DENIED}',
         {(b"long/" + b"n" * 250, ENTRY)}),
        (f'[generator] opendir "/dst/." failed: {DENIED}', None),
        (f'[generator] opendir "/dst/ee" failed: {DENIED}', None),
    ],
)  # fmt: skip
def test_a_message_is_only_about_what_the_run_carried(
    line: str, expected: set[tuple[bytes, Scope]] | None
) -> None:
    assert changes(f"rsync: {line}", carried=SPLIT) == expected


EXCLUDING = CarriedPaths(
    [b"", b"d/"], build_rules([parse_exclude(b"/secret/"), parse_exclude(b"*.o")]), {b"u"}
)
MISLEADING = [
    f'rsync: [receiver] mkstemp "/dst/secret/.key.abcDEF" failed: {DENIED}',
    f'rsync: mkstemp "/dst/secret/.key.abcDEF" failed: {DENIED}',
    f'rsync: [receiver] mkstemp "/dst/d/.x.o.abcDEF" failed: {DENIED}',
    'file has vanished: "/src/secret/key"',
    "cannot delete non-empty directory: secret/deep",
    "cannot delete non-empty directory: u",
    "cannot delete non-empty directory: u/x",
    "cannot delete non-empty directory: ",
    "cannot delete non-empty directory: ////",
    "cannot delete non-empty directory: /d",
    "cannot delete non-empty directory: d\\#000b",
    "cannot delete non-empty directory: \\#056\\#056",
    "cannot delete non-empty directory: d\\#057..\\#057..",
    "cannot delete non-empty directory: secret\\#057deep",
    "could not make way for new regular file: d/../../outside",
    'file has vanished: "/src/../x"',
    "cannot delete non-empty directory: " + "x/" * 5000,
    "cannot delete non-empty directory: " + "x" * 5000,
]


@pytest.mark.parametrize("line", MISLEADING)
def test_a_message_about_what_no_run_carries_is_ignored(line: str) -> None:
    assert changes(line, carried=EXCLUDING) is None
    honest = 'file has vanished: "/src/d/f"'
    assert changes(honest, line, carried=EXCLUDING) == {(b"d/f", TREE)}


@pytest.mark.parametrize(
    "line",
    [
        "what is this?",
        "Quota for all: 20 GB",
        "Warning: Permanently added 'host' (ED25519) to the list of known hosts.",
        "** WARNING: connection is not using a post-quantum key exchange algorithm.",
    ],
)
def test_text_of_other_programs_is_ignored(line: str) -> None:
    assert changes(line) is None
    assert changes(line, 'file has vanished: "/src/x"', line) == {(b"x", TREE)}


@pytest.mark.parametrize(
    "name", ["rsync: [x", "rsync: [sender] x", "rsync: [generator] (", "Deletions stopped"]
)
def test_a_name_like_a_message_of_rsync_is_a_name(name: str) -> None:
    line = f'rsync: [sender] send_files failed to open "/src/{name}": {DENIED}'
    expected = None if name.endswith("(") else {(name.encode(), TREE)}
    assert changes(line) == expected


class AskedPaths(CarriedPaths):
    """Counts how often it is asked."""

    asked = 0

    def failing_with(self, path: RelativePath, scope: Scope) -> list[Change] | None:
        self.asked += 1
        return super().failing_with(path, scope)


def test_entries_below_a_directory_are_looked_for_once_however_many_messages_name_it() -> None:
    entries = [b"d/%04d" % number for number in range(1_000)]
    carried = AskedPaths(entries, Rules())
    failed = FailedPaths(b"/src", b"/dst", carried)
    for number in range(100):
        failed.add(f'rsync: [sender] opendir "/src/d" failed: Permission denied ({number})')
    assert carried.asked == 1
    assert failed.are_known
    assert sorted(change.path for change in failed.content) == entries


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ('rsync: x "a" (in %s: ', "):"),
        ('rsync: link "a" => %s', ": "),
        ('rsync: [sender] x: lgetxattr("%s', '",)'),
        ('rsync: [sender] x: lgetxattr("%s', '"): '),
        ('rsync: x "%s', '": '),
        ('rsync: rename failed for "a" (from %s', "): "),
        ("rsync: set_acl: x(%s", ", x"),
        ("rsync: delete_file: x(%s", "): "),
        ("[sender] cannot convert filename: %s", " ("),
        ("%s", "a "),
        ("rsync: %s", "a: "),
        ("rsync: [sender] %s", "a "),
        ("ERROR: %s", " failed verification"),
        ('rsync: x "a" failed: x (%s', "9"),
    ],
)
def test_no_message_takes_quadratic_time(form: str, part: str) -> None:
    def cost(size: int) -> float:
        line = form.replace("%s", part * (size // len(part)))
        times = []
        for _ in range(5):
            started = time.process_time()
            changes(line)
            times.append(time.process_time() - started)
        return min(times)

    assert cost(20_000) < 20 * cost(2_500) + 0.002


TEXTS = st.text(st.sampled_from('ad./\\#01567 \n"()'), max_size=25)


@given(
    st.sampled_from([
        f'rsync: [receiver] mkstemp "/dst/%s" failed: {DENIED}',
        f'rsync: [receiver] mkstemp "/dst/d/.%s.abcdef" failed: {DENIED}',
        f'rsync: [generator] symlink "/dst/%s" -> "x" failed: {DENIED}',
        'file has vanished: "/src/%s"',
        "cannot delete non-empty directory: %s",
        "could not make way for new regular file: %s",
        "%s",
    ]),
    TEXTS | st.text(max_size=30),
    st.sets(st.sampled_from([b"", b"a", b"d/", b"d", b"1/0/5", b"..a"])).map(sorted),
)  # fmt: skip
def test_whatever_a_message_says_no_other_path_becomes_pending(
    form: str, text: str, entries: list[bytes]
) -> None:
    rules = build_rules([parse_exclude(b"/0/"), parse_exclude(b"1")])
    carried = CarriedPaths(entries, rules, {b"a/a"})
    for path, _ in changes(form.replace("%s", text), carried=carried) or ():
        assert paths.is_relative(path)
        assert len(path) <= paths.MAX_PATH_BYTES
        assert not paths.covers(b"a/a", path)
        assert not rules.excludes(path, is_directory=False) or path in entries
        assert not paths.covers(b"0", path) or path == b"0"
        above = {path, *paths.ancestors(path)}
        is_carried = any(
            entry.rstrip(b"/") in above or paths.covers(path, entry) for entry in entries
        )
        assert is_carried or not path


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name))
ODD_NAMES = st.lists(
    st.sampled_from([b'" -> "', b'","', b") failed", b" (from ", b'" (in m)', b'"', b": ", b"x"]),
    min_size=1, max_size=4,
).map(b"".join)  # fmt: skip
FORMS = [
    f'rsync: [sender] opendir "/src/d/%s" failed: {DENIED}',
    f'rsync: [sender] readlink_stat("/src/d/%s") failed: {DENIED}',
    f"rsync: [generator] delete_file: unlink(d/%s) failed: {DENIED}",
    f'rsync: [generator] symlink "/dst/d/%s" -> "x" failed: {DENIED}',
    f'rsync: [generator] symlink "/dst/d/x" -> "%s" failed: {DENIED}',
    f'rsync: [generator] mkdir "/d/%s" (in m) failed: {DENIED}',
    f'rsync: [receiver] rename "/dst/d/.%s.abcdef" -> "d/%s": {DENIED}',
    f'rsync: [receiver] rsync_xal_set: fsetxattr("/dst/d/%s","user.x") failed: {DENIED}',
    "could not make way for new regular file: d/%s",
    'ERROR: daemon refused to receive file "d/%s"',
]


@given(st.sampled_from(FORMS), st.one_of(NAMES, ODD_NAMES))
def test_no_name_is_mistaken_for_another(form: str, name: bytes) -> None:
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte != ord("\\") else f"\\#{byte:03o}" for byte in name
    )
    path = b"d/x" if '-> "%s"' in form else b"d/" + name
    target = b"/" if "(in m)" in form else b"/dst"
    found = changes(form.replace("%s", shown), target=target)
    is_temporary = re.search(rb"\.\w+$", name)
    if name not in {b".", b".."} and not is_temporary:
        assert found is None or {found_path for found_path, _ in found} == {path}


@pytest.mark.parametrize(
    ("transport", "target", "shown"),
    [
        (Transport.LOCAL, b"/a/../b//c/", b"/b/c"),
        (Transport.SHELL, b"me@host:/srv/www/", b"/srv/www"),
        (Transport.SHELL, b"me@[::1]:/srv/a:b/", b"/srv/a:b"),
        (Transport.SHELL, b"host:srv/", b""),
        (Transport.SHELL, b"host:./", b""),
        (Transport.SHELL, b"host:~me/x/", b""),
        (Transport.DAEMON, b"rsync://me@[::1]:87/module/", b"/"),
        (Transport.DAEMON, b"rsync://host/module/./-x/y/", b"/-x/y"),
        (Transport.DAEMON, b"host::module/a@b:c/", b"/a@b:c"),
        (Transport.DAEMON, b"[::1]::module/", b"/"),
    ],
)
def test_the_destination_is_named_as_in_rsyncs_messages(
    transport: Transport, target: bytes, shown: bytes
) -> None:
    assert target_in_messages(Destination("d", "", transport, None, target)) == shown


# Real runs, by a root without the privileges of root.

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="an rsync that is not root's gives itself permission to write"
)
MEEK = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


class UnprivilegedDaemon(RsyncDaemon):
    """An rsync daemon that is subject to permissions."""

    def command(self) -> Sequence[str]:
        return (*MEEK, *super().command())


@pytest.fixture(scope="module", params=["local", "shell", "daemon", "below a module"])
def far(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Destination, RsyncOptions, Path]]:
    """Return a destination, options to reach it, and its directory."""
    home = tmp_path_factory.mktemp("far")
    replica = home / "dst"
    shell = home / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    shell.chmod(0o755)
    rsync = RsyncOptions("rsync", (3, 2, 7), rsh=str(shell))
    if request.param in {"local", "shell"}:
        kind = Transport.LOCAL if request.param == "local" else Transport.SHELL
        target = f"{'' if request.param == 'local' else 'host:'}{replica}/"
        yield Destination("d", "", kind, None, target.encode()), rsync, replica
        return
    module = replica if request.param == "daemon" else home
    replica.mkdir()
    with UnprivilegedDaemon(home, {"m": module}) as server:
        target = server.url("m", "" if request.param == "daemon" else "dst/")
        yield Destination("d", "", Transport.DAEMON, None, target.encode()), rsync, replica


def run(far: tuple[Destination, RsyncOptions, Path], source: Path, *entries: str) -> RunResult:
    """Run a list, or a full sync without one, by a root without privileges."""
    destination, rsync, _ = far
    if entries:
        command = rsync.file_list_command(
            CURRENT_DIRECTORY, destination, CAPABILITIES, create_parents=False
        )
    else:
        command = rsync.full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities())
    content = b"".join(b"./" + os.fsencode(entry) + b"\0" for entry in entries)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return Runner().run([*map(os.fsencode, MEEK), *command], content, directory=descriptor)
    finally:
        os.close(descriptor)


def gone(name: str) -> str:
    """Return the list entry that deletes missing entries of the source's root."""
    return name if CAPABILITIES.has_delete_missing_args else ""


def plant(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def clear(replica: Path) -> None:
    """Empty a directory but keep it, because it is a daemon's working directory."""
    replica.mkdir(exist_ok=True)
    for path in sorted(replica.rglob("*"), reverse=True):
        if stat.S_ISDIR(path.lstat().st_mode):
            path.rmdir()
        else:
            path.unlink()


def failures(
    far: tuple[Destination, RsyncOptions, Path],
    source: Path,
    result: RunResult,
    carried: CarriedPaths = FULL_SYNC,
) -> FailedPaths:
    failed = FailedPaths(os.fsencode(source), target_in_messages(far[0]), carried)
    for line in result.messages:
        failed.add(line)
    return failed


def named(
    far: tuple[Destination, RsyncOptions, Path],
    source: Path,
    result: RunResult,
    entries: Sequence[str] | None,
) -> set[bytes]:
    listed = None if entries is None else sorted(map(os.fsencode, entries))
    carried = CarriedPaths(listed, Rules())
    failed = failures(far, source, result, carried)
    assert failed.are_known, list(result.messages)
    return {path for path, _ in failed.content}


@needs_root
@pytest.mark.parametrize("is_full", [True, False], ids=["full", "listed"])
def test_unreadable_paths_are_named_and_skipped_deletions_are_detected(
    far: tuple[Destination, RsyncOptions, Path], tmp_path: Path, is_full: bool
) -> None:
    source, replica = tmp_path / "src", far[2]
    clear(replica)
    plant(source, "a", "d/secret", "d/plain", "odd\n\x01ä/f", "u/x")
    plant(replica, "stale", "d/stale", "u/old")
    for name in ("d/secret", "odd\n\x01ä/f", "u"):
        (source / name).chmod(0)
    entries = ["a", gone("stale"), "d/", "odd\n\x01ä/", "u/"]
    result = run(far, source) if is_full else run(far, source, *entries)
    assert result.exit_status == 23
    expected = {b"d/secret", os.fsencode("odd\n\x01ä/f"), b"u"}
    assert named(far, source, result, None if is_full else entries) == expected
    assert failures(far, source, result).has_skipped_deletions
    assert (replica / "u/old").exists()
    # Missing paths that are listed by name are deleted nevertheless.
    if not is_full:
        assert (replica / "d/stale").exists()
        assert (replica / "stale").exists() is not CAPABILITIES.has_delete_missing_args


@needs_root
@pytest.mark.parametrize("is_full", [True, False], ids=["full", "listed"])
def test_unwritable_paths_are_named(
    far: tuple[Destination, RsyncOptions, Path], tmp_path: Path, is_full: bool
) -> None:
    source, replica = tmp_path / "src", far[2]
    clear(replica)
    plant(source, "a", "ro/new", "ro/.dot", "ro/changed", "ro/sub/x", "way", "w/fine")
    (source / "ro/link").symlink_to("x")
    os.mkfifo(source / "ro/fifo")
    (source / "ro/moved").symlink_to("y")
    plant(replica, "ro/changed", "ro/stale", "gone/x", "way/x", "w/stale")
    (replica / "ro/changed").write_text("old")
    (replica / "ro/moved").symlink_to("elsewhere")
    for directory in (source / "ro", replica / "ro", replica / "gone", replica / "way"):
        directory.chmod(0o555)
    entries = ["a", "ro/", "ro/sub/", gone("gone"), "way", "w/"]
    result = run(far, source) if is_full else run(far, source, *entries)
    assert result.exit_status == 23
    failing = {b"ro/changed", b"ro/link", b"ro/fifo", b"ro/sub", b"ro/stale"}
    failing |= {b"gone", b"way", b"ro/new", b"ro/.dot", b"ro/moved"}
    beside = {b"ro/.new", b"ro/.changed", b"ro/dot", b"ro/.moved", b"ro/.fifo"}
    found = {
        path
        for path in named(far, source, result, None if is_full else entries)
        if not re.search(rb"\.\d+$", path)
    }
    assert found - beside == failing
    assert not failures(far, source, result).has_skipped_deletions
    assert sorted(os.listdir(replica / "w")) == ["fine"]
