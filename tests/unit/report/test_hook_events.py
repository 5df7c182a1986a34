"""A hook's variables and list of paths, for one notice and for several merged ones."""

import pytest
from support.notices import changes, notice

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.report.hook_events import HookEvent, encode_paths, encode_text


@pytest.mark.parametrize(
    ("scope", "line"),
    [(Scope.ENTRY, b".\0"), (Scope.LISTING, b"./.\0"), (Scope.TREE, b"./\0")],
    ids=["entry", "listing", "everything"],
)
def test_the_source_itself_has_a_path(scope: Scope, line: bytes) -> None:
    assert encode_paths(changes((b"", scope))) == line


def test_paths_are_sorted_and_none_looks_like_an_option() -> None:
    given = changes((b"-rf", Scope.ENTRY), (b"d", Scope.LISTING), (b"\xff\n", Scope.TREE))
    assert encode_paths(given) == b"./-rf\0./d/.\0./\xff\n/\0"


def test_merged_notices_add_up_and_keep_the_fields_of_the_last_one() -> None:
    first = changes((b"a", Scope.ENTRY))
    event = HookEvent(notice(changeset=first, files=1, moved_files=3, reason="old"))
    event.merge(
        notice(
            changeset=changes((b"b", Scope.ENTRY)), files=2, seconds=0.5, reason="new",
            moved_files=1, moved_bytes=9,
        )
    )  # fmt: skip
    variables = event.variables("www", 2)
    assert variables[b"PYLSYNCD_RUNS"] == b"2"
    assert variables[b"PYLSYNCD_FILES"] == b"3"
    assert variables[b"PYLSYNCD_MOVED"] == b"4"
    assert variables[b"PYLSYNCD_UNSENT"] == b"9"
    assert variables[b"PYLSYNCD_SECONDS"] == b"0.500"
    assert variables[b"PYLSYNCD_REASON"] == b"new"
    assert variables[b"PYLSYNCD_PATHS"] == b"2"
    assert encode_paths(event.changeset()) == b"./a\0./b\0"


def test_merged_paths_are_bounded_and_none_is_lost() -> None:
    event = HookEvent(notice(changeset=changes((b"d/f", Scope.ENTRY))))
    for number in range(4):
        many = MutableChangeset()
        many.entries[b"d%d" % number] = {b"%d" % name for name in range(MAX_PENDING_CHANGES // 2)}
        event.merge(notice(changeset=many))
    lines = encode_paths(event.changeset()).split(b"\0")
    assert len(lines) < MAX_PENDING_CHANGES + 2
    for number in range(4):
        assert {b"./d%d/." % number, b"./d%d/77" % number} & set(lines)


def test_text_is_encoded_alike_in_every_locale() -> None:
    # A byte that was not UTF-8 is restored; no variable can contain a NUL.
    assert encode_text("\N{RIGHT SINGLE QUOTATION MARK}\udcff\0") == b"\xe2\x80\x99\xff"
