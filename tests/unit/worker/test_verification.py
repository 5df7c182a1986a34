"""What is said of a destination that was never compared with the source as a whole."""

import pytest

from pylsyncd.worker.verification import Verification


@pytest.mark.parametrize(
    ("verification", "owes_everything", "text"),
    [
        (Verification(is_verified=True), False, ""),
        (Verification(is_verified=True), True, ""),
        (Verification(), True, "its full sync is not complete"),
        (Verification(), False,
         "it was never compared with the source as a whole: run pylsyncctl sync 'a copy'"),
        (Verification(is_dry_run=True), True,
         "a dry run changes nothing: start pylsyncd without --dry-run"),
    ],
)  # fmt: skip
def test_an_unverified_destination_has_a_reason_and_what_to_do(
    verification: Verification, owes_everything: bool, text: str
) -> None:
    assert verification.describe("a copy", owes_everything=owes_everything) == text


def test_a_full_sync_verifies_a_destination_unless_it_was_a_dry_run() -> None:
    for is_dry_run in (False, True):
        verification = Verification(is_dry_run=is_dry_run)
        assert not verification.is_verified
        verification.record_complete()
        assert verification.is_verified is not is_dry_run
