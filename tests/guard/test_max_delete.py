"""A limit of deletions: a run that would pass it is for a person to release."""

from pathlib import Path

from guarded import HELD, Guarded


def test_a_run_that_would_delete_too_much_waits_for_a_person(tmp_path: Path) -> None:
    place = Guarded(tmp_path)
    place.fill()
    with place.daemon("-i", "--max-delete", "3") as daemon:
        for number in range(5):
            (place.source / f"d/{number}").write_text("x")
        place.expect_equal(daemon)
        place.remember()
        for number in range(5):
            (place.source / f"d/{number}").unlink()
        daemon.wait_for(HELD)
        place.expect_untouched(daemon)
        daemon.release()
        place.expect_equal(daemon)
