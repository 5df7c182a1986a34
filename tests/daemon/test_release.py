"""What is held is done when somebody says so; what fails by itself holds up nothing else."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.daemon import Pylsyncd
from support.trees import equal_within
from support.waiting import wait_until

FILES = [f"{directory}/{name}" for directory in ("d", "e") for name in range(5)]


class Place:
    """A source with some files, and where its copy is to be."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy, self.state = top / "source", top / "copy", top / "state"
        for name in FILES:
            self.write(name)

    def daemon(self, *options: str, prefix: Sequence[str] = ()) -> Pylsyncd:
        return Pylsyncd(
            *("-v", "-w", "0.1", *options, f"{self.source}/./", f"{self.copy}/"),
            names=[self.copy.name], state=self.state, prefix=prefix,
        )  # fmt: skip

    def write(self, name: str, text: str = "x") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def expect_equal(self, daemon: Pylsyncd) -> None:
        found = equal_within(os.fsencode(self.source), os.fsencode(self.copy), 20)
        assert found == [], daemon.log_tail

    def copied(self) -> set[str]:
        found = [path for path in self.copy.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(self.copy)) for path in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- held -----------------------------------------------------------------------------------------


def test_a_release_of_nothing_is_not_kept_for_what_is_held_later(place: Place) -> None:
    with place.daemon("-i", "--max-delete", "2") as daemon:
        daemon.wait_ready()
        daemon.release()
        daemon.wait_for("released")
        before = place.copied()
        for number in range(4):
            (place.source / f"d/{number}").unlink()
        daemon.wait_for("4 would be deleted, --max-delete allows 2")
        assert place.copied() == before


def test_a_run_within_the_limit_of_deletions_is_not_held(place: Place) -> None:
    with place.daemon("-i", "--max-delete", "5") as daemon:
        daemon.wait_ready()
        for number in range(4):
            (place.source / f"d/{number}").unlink()
        place.expect_equal(daemon)
        assert "held" not in daemon.log.lower()


def test_too_many_deletions_are_done_once_somebody_has_released_them(place: Place) -> None:
    with place.daemon("-i", "--max-delete", "3") as daemon:
        daemon.wait_ready()
        before = place.copied()
        shutil.rmtree(place.source / "d")
        daemon.wait_for(r"6 would be deleted, --max-delete allows 3.*USR2.*Held until you act")
        assert place.copied() == before
        mark = daemon.log_length()
        daemon.release()
        place.expect_equal(daemon)
        daemon.wait_for("works again", after=mark)
        # It was for once.
        mark = daemon.log_length()
        shutil.rmtree(place.source / "e")
        daemon.wait_for("6 would be deleted", after=mark)
        assert (place.copy / "e/0").exists()


def test_what_is_held_is_still_held_after_a_restart(place: Place) -> None:
    with place.daemon("-i", "--max-delete", "3") as daemon:
        daemon.wait_ready()
        shutil.rmtree(place.source / "d")
        daemon.wait_for("Held until you act")
    with place.daemon("--max-delete", "3") as daemon:
        daemon.wait_for("6 would be deleted")
        daemon.release()
        daemon.wait_for("catch-up complete")
        place.expect_equal(daemon)


def test_a_source_that_is_empty_at_the_start_deletes_nothing_until_it_is_released(
    place: Place,
) -> None:
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
    before = place.copied()
    for name in ("d", "e"):
        shutil.rmtree(place.source / name)
    with place.daemon() as daemon:
        daemon.wait_for("the source is empty and the destination is not.*USR2")
        assert place.copied() == before
        daemon.release()
        place.expect_equal(daemon)
        place.write("new")
        place.expect_equal(daemon)


def test_an_empty_source_and_an_empty_copy_need_nobody(place: Place) -> None:
    for name in ("d", "e"):
        shutil.rmtree(place.source / name)
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        assert "held" not in daemon.log.lower()


def test_a_source_that_is_emptied_under_the_daemon_empties_its_copy(place: Place) -> None:
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        for name in ("d", "e"):
            shutil.rmtree(place.source / name)
        place.expect_equal(daemon)


# -- drift ----------------------------------------------------------------------------------------


def test_full_syncs_at_an_interval_repair_what_others_have_changed_there(place: Place) -> None:
    with place.daemon("-i", "--full-sync-interval", "1") as daemon:
        daemon.wait_ready()
        (place.copy / "d/0").write_text("drift")
        (place.copy / "more").touch()
        place.expect_equal(daemon)
        (place.copy / "d/1").unlink()
        place.expect_equal(daemon)


# -- what fails by itself -------------------------------------------------------------------------

# Root without the capabilities to overlook permissions, of capabilities(7).
HEEDING = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def heeding_permissions() -> tuple[str, ...]:
    """Return what a command needs in front of it for permissions to count."""
    if os.geteuid():
        return ()
    try:
        answer = subprocess.run((*HEEDING, "true"), capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("setpriv is not installed")
    if answer.returncode:
        pytest.skip(f"capabilities cannot be dropped: {answer.stderr!r}")
    return HEEDING


def test_a_file_that_cannot_be_read_is_sent_as_soon_as_it_can_be_and_holds_up_nothing(
    place: Place,
) -> None:
    shut = place.write("d/shut", "secret")
    shut.chmod(0)
    with place.daemon("-i", prefix=heeding_permissions()) as daemon:
        daemon.wait_for("initial sync complete, except for 1 path")
        assert place.copied() == set(FILES)
        (place.source / "e/0").unlink()
        place.write("e/new")
        wait_until(lambda: place.copied() == {*FILES, "e/new"} - {"e/0"})
        shut.chmod(0o600)
        place.expect_equal(daemon)
        daemon.wait_for("works again")


def test_a_directory_that_cannot_be_read_stops_no_deletions_elsewhere(place: Place) -> None:
    place.write("shut/deep/f")
    with place.daemon("-i", prefix=heeding_permissions()) as daemon:
        daemon.wait_ready()
        (place.copy / "e/too much").touch()
        (place.source / "shut").chmod(0)
        try:
            daemon.full_sync()
            daemon.wait_for("full sync complete, except for 1 path")
            expected = {*FILES, "shut/deep/f"}
            # What cannot be seen is not taken for deleted.
            (place.copy / "shut").chmod(0o700)
            assert place.copied() == expected
            shutil.rmtree(place.source / "d")
            wait_until(lambda: not (place.copy / "d").exists())
        finally:
            (place.source / "shut").chmod(0o755)
        place.expect_equal(daemon)


def test_what_could_not_be_read_is_owed_over_a_restart(place: Place) -> None:
    place.write("shut/deep/f", "old")
    prefix = heeding_permissions()
    with place.daemon("-i", prefix=prefix) as daemon:
        daemon.wait_ready()
    place.write("shut/deep/f", "changed, and then not to be seen")
    (place.source / "shut").chmod(0)
    try:
        with place.daemon(prefix=prefix) as daemon:
            daemon.wait_for("catch-up complete, except for 1 path")
        (place.source / "shut").chmod(0o755)
        with place.daemon(prefix=prefix) as daemon:
            daemon.wait_for("catch-up complete")
            place.expect_equal(daemon)
    finally:
        (place.source / "shut").chmod(0o755)


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Have a file that not even root can write to or delete."""
    if not _chattr("+i", path):
        pytest.skip("files cannot be made immutable here")
    try:
        yield
    finally:
        assert _chattr("-i", path)


def _chattr(mode: str, path: Path) -> bool:
    command = [shutil.which("chattr") or "false", mode, path]
    return not subprocess.run(command, check=False, capture_output=True).returncode


def test_a_copy_that_cannot_be_replaced_holds_up_nothing_else(place: Place) -> None:
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        with immutable(place.copy / "d/0"):
            place.write("d/0", "changed")
            daemon.wait_for("some paths cannot be written")
            (place.source / "e/0").unlink()
            place.write("d/new")
            wait_until(lambda: place.copied() == {*FILES, "d/new"} - {"e/0"})
            assert (place.copy / "d/0").read_text() == "x"
        place.expect_equal(daemon)
        daemon.wait_for("works again")
