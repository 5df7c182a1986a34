"""What becomes of a changeset whose run was only a part, has failed or has left out subtrees."""

from dataclasses import replace

import pytest
from support.worker_setup import entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.scoped_paths import NO_PATHS, Change, Scope
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer_result import (
    TransferRequest,
    TransferResult,
    combined_parts,
    has_stopped,
    held_changes,
    nothing_confirmed,
)

ENTRY, LISTING, TREE = Scope
DONE, PARTIAL = Outcome(Verdict.DONE), Outcome(Verdict.PARTIAL)
BROKEN = Outcome(Verdict.RETRY_LATER)


@pytest.mark.parametrize(
    ("is_counted", "exit_status", "pending"),
    [
        pytest.param(True, -9, {(b"d/f", ENTRY), (b"d", LISTING)}, id="a killed run"),
        pytest.param(False, 5, {(b"d/f", ENTRY)}, id="a dry run that did not begin"),
    ],
)
def test_nothing_is_confirmed_by_a_run_that_failed_as_a_whole(
    is_counted: bool, exit_status: int, pending: set[Change]
) -> None:
    request = TransferRequest(
        0, entries(b"d/f"), RsyncOptions("rsync", (3, 2, 7)), frozenset(), is_released=False,
        in_flight=frozenset(), size_limit=None,
    )  # fmt: skip
    run = SessionRun(BROKEN, RunResult(exit_status=exit_status), is_counted=is_counted)
    result = nothing_confirmed(request, run)
    assert (result.verdict, set(result.pending)) == (Verdict.RETRY_LATER, pending)
    assert result.run is (run if is_counted else None)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(PARTIAL, DONE, PARTIAL), (DONE, BROKEN, BROKEN), (PARTIAL, BROKEN, BROKEN)],
)
def test_two_parts_have_the_worse_outcome_and_the_failures_of_both(
    first: Outcome, second: Outcome, expected: Outcome
) -> None:
    run = SessionRun(DONE, RunResult(files=1, deleted=2, bytes_sent=3, seconds=4.0))
    one = TransferResult(first, failed=entries(b"a"), unset_attributes=entries(b"x"), run=run)
    other = TransferResult(second, failed=entries(b"b"), pending=entries(b"c"), run=run)
    result = combined_parts(one, other)
    assert result.outcome is expected
    assert set(result.failed) == {(b"a", ENTRY), (b"b", ENTRY)}
    assert set(result.pending) == {(b"c", ENTRY)}
    assert set(result.unset_attributes) == {(b"x", ENTRY)}
    assert result.run is not None
    assert result.run.result == replace(run.result, files=2, deleted=4, bytes_sent=6, seconds=8.0)
    # The second one needed no run.
    assert combined_parts(one, replace(other, run=None)).run is None


def test_a_run_has_stopped_if_it_may_not_have_come_to_all_files() -> None:
    assert not has_stopped(TransferResult(DONE))
    assert not has_stopped(TransferResult(PARTIAL, failed=entries(b"a")))
    # A destination that has become full or read-only: the run has come to its end.
    assert not has_stopped(TransferResult(BROKEN, failed=entries(b"a")))
    assert has_stopped(TransferResult(BROKEN, pending=entries(b"a")))
    assert has_stopped(TransferResult(PARTIAL, pending=entries(b"a")))
    assert has_stopped(TransferResult(PARTIAL, aborting=entries(b"a")))


def test_a_held_subtree_is_kept_as_a_whole_with_its_changes_and_hints() -> None:
    hints = MutableChangeset()
    hints.add_new_content(b"m", TREE)
    kept = held_changes({b"m", b"n"}, entries(b"m/f"), hints.new_content)
    assert {(b"m", TREE), (b"n", TREE)} <= set(kept)
    assert set(kept.new_content) == {(b"m", TREE)}
    assert not held_changes({b"n"}, NOTHING, NO_PATHS).new_content


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("left", ["", "pending", "failed", "held"])
def test_what_a_result_leaves_tells_whether_everything_is_confirmed_and_not_its_verdict(
    verdict: Verdict, left: str
) -> None:
    tree = MutableChangeset()
    tree.add(b"d", TREE)
    for carried in (EVERYTHING, tree, NOTHING):
        for rest in (EVERYTHING, entries(b"d/f")):
            result = TransferResult(Outcome(verdict), carried=carried)
            if left:
                result = replace(result, **{left: rest})
            is_left = bool(left) and rest.is_everything
            assert result.confirms_everything is (carried.is_everything and not is_left)
