"""What is deleted with ``delete = startup`` and ``delete = running``, and what is kept."""

import shutil
from pathlib import Path

import pytest
from support.setups import SyncSetup
from support.waiting import wait_until


@pytest.fixture
def setup(tmp_path: Path) -> SyncSetup:
    """Return a source and a copy that has files of its own."""
    setup = SyncSetup(tmp_path, "-w", "0.1", keeps_state=True)
    for name in ("a", "b", "d/one", "d/two", "old/f", "new/g", "gone/deep/f"):
        setup.write(name)
        own = setup.copy / f"{name}.own"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.touch()
    return setup


OWN = {f"{name}.own" for name in ("a", "b", "d/one", "d/two", "old/f", "new/g", "gone/deep/f")}


def test_running_deletes_what_is_deleted_meanwhile_and_nothing_else(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--delete", "running") as daemon:
        daemon.wait_ready()
        assert setup.copied_files() >= OWN
        (setup.source / "a").unlink()
        # The same names again: what was deleted before them goes.
        shutil.rmtree(setup.source / "d")
        setup.write("d/three")
        # Another directory of the same name.
        (setup.source / "old").rename(setup.source / "older")
        (setup.source / "new").rename(setup.source / "old")
        shutil.rmtree(setup.source / "gone")
        setup.write("late")
        daemon.wait_for(r"synced|\[copy\]")
        expected = {"b", "late", "d/three", "old/g", "older/f", "a.own", "b.own"}
        wait_until(
            lambda: setup.copied_files() == expected,
            message=lambda: str(setup.copied_files() ^ expected) + daemon.log_tail,
        )
        # Neither a full sync nor a directory that is compared deletes anything.
        daemon.full_sync()
        daemon.wait_for("full sync complete")
        assert setup.copied_files() == expected
    (setup.source / "b").unlink()
    with setup.daemon("--delete", "running") as daemon:
        setup.write("later")
        wait_until((setup.copy / "later").exists)
        assert setup.copied_files() == expected | {"later"}


def test_startup_deletes_at_each_start_and_nothing_later(setup: SyncSetup) -> None:
    # Each start is a full sync, without -i.
    for kept in ("a", "b"):
        with setup.daemon("--delete", "startup") as daemon:
            daemon.wait_for("initial sync complete")
            found = setup.copied_files()
            assert found == {
                str(path.relative_to(setup.source))
                for path in setup.source.rglob("*")
                if path.is_file()
            }
            (setup.source / kept).unlink()
            (setup.copy / "own").touch()
            (setup.source / "d/one").rename(setup.source / "d/moved")
            wait_until((setup.copy / "d/moved").exists)
            daemon.full_sync()
            daemon.wait_for("full sync complete")
            assert setup.copied_files() == found | {"own", "d/moved"}
        (setup.source / "d/moved").rename(setup.source / "d/one")
