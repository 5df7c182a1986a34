"""A reload affects only what changed in the configuration, and loses no change."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.daemon import environment
from support.reloading import LONG_WINDOW, ReloadSetup, reload
from support.rsync_features import can_delete_by_name


@pytest.fixture
def place(tmp_path: Path) -> ReloadSetup:
    return ReloadSetup(tmp_path)


def test_one_process_syncs_several_sources_to_their_own_destinations(place: ReloadSetup) -> None:
    place.set_sync("web", ["one", "two"])
    place.set_sync("data", ["three"], "exclude = *.tmp")
    place.write_file()
    (place.source_path("web") / "page").write_text("page")
    with place.make_daemon() as daemon:
        daemon.wait_for(r"\[data/three\] initial sync complete")
        for name in ("f", "f.tmp"):
            (place.source_path("web") / name).write_text(name)
            (place.source_path("data") / name).write_text(name)
        place.wait_until_confirmed()
        place.expect_equal("web", "one", "two")
        assert os.listdir(place.copy_path("three")) == ["f"]


def test_a_reload_does_not_touch_unchanged_syncs(place: ReloadSetup) -> None:
    place.set_sync("web", ["one"])
    place.set_sync("data", ["two"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("data/two.*complete")
        daemon.wait_for("web/one.*complete")
        if not can_delete_by_name():
            # Said when there is nothing to do: not because of what comes.
            daemon.wait_for("data/two.*cannot delete by name")
        place.set_sync("web", ["one"], "exclude = *.tmp")
        place.write_file()
        before = len(place.counting_rsync.changing_runs())
        said = reload(daemon)
        place.wait_until_confirmed()
        assert "Restarting the sync web (changed rules, web/one)." in said
        assert "data" not in said
        touched = [
            run for run in place.counting_rsync.changing_runs()[before:] if "two" in str(run)
        ]
        assert touched == []
        said = reload(daemon, "No sync has changed")
        assert "Restarting" not in said


def test_destinations_are_added_and_removed_while_the_watcher_continues(place: ReloadSetup) -> None:
    place.set_sync("web", ["one", "two"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("web/two.*initial sync complete")
        place.set_sync("web", ["two", "three"])
        place.write_file()
        said = reload(daemon)
        assert "watching" not in said
        assert "Changing the sync web (added web/three; removed web/one)." in said
        daemon.wait_for(r"\[web/three\] initial sync complete")
        (place.source_path("web") / "new").write_text("new")
        place.wait_until_confirmed()
        place.expect_equal("web", "two", "three")
        assert not (place.copy_path("one") / "new").exists()
        assert place.run("sync", "web/one").returncode != 0
        # It is served again, and has missed something meanwhile.
        place.set_sync("web", ["one"])
        place.write_file()
        reload(daemon)
        place.wait_until_confirmed()
        place.expect_equal("web", "one")


def test_pending_changes_move_to_the_new_worker_of_a_destination(place: ReloadSetup) -> None:
    place.set_sync("web", ["one"])
    place.write_file(f"window = {LONG_WINDOW}")
    with place.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        assert place.run("pause").returncode == 0
        (place.source_path("web") / "pending").write_text("pending")
        assert place.run("flush").returncode == 0
        content = place.file.read_text() + "\n[destination web/one]\nretry_first = 2\n"
        place.file.write_text(content)
        reload(daemon)
        assert place.run("resume").returncode == 0
        place.expect_equal("web", "one")
        assert "full sync" not in daemon.log


def test_a_file_with_errors_changes_nothing_and_each_error_is_logged(place: ReloadSetup) -> None:
    place.set_sync("web", ["one"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        place.file.write_text(
            place.file.read_text().replace("destinations", "destinatoins") + "windw = 3\n"
        )
        said = reload(daemon, "windw")
        assert "Did you mean destinations?" in daemon.log
        assert "was not applied" in said
        answer = place.run("reload")
        assert answer.returncode == 1
        assert "Did you mean window?" in answer.stderr
        (place.source_path("web") / "new").write_text("new")
        place.wait_until_confirmed()
        place.expect_equal("web", "one")


def test_a_removed_sync_is_stopped_and_an_added_one_is_started(place: ReloadSetup) -> None:
    place.set_sync("web", ["one"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        del place.syncs["web"]
        place.set_sync("data", ["two"])
        (place.source_path("data") / "there").write_text("there")
        place.write_file()
        said = reload(daemon)
        assert "Stopping the sync web: it was removed" in said
        place.wait_until_confirmed()
        place.expect_equal("data", "two")
        (place.source_path("web") / "late").write_text("late")
        (place.source_path("data") / "new").write_text("new")
        place.wait_until_confirmed()
        assert not (place.copy_path("one") / "late").exists()


def test_options_that_need_a_restart_are_named(place: ReloadSetup) -> None:
    place.set_sync("web", ["one"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        place.write_file(f"status_file = {place.directory_of_test}/status")
        said = reload(daemon)
        assert "take effect after a restart" in said
        assert "status_file" in said
        # What is as it was at the start takes none.
        place.write_file()
        assert "take effect after a restart" not in reload(daemon)


WRITER = """
import os, sys, time
top, seconds = sys.argv[1], float(sys.argv[2])
end, number = time.monotonic() + seconds, 0
while time.monotonic() < end:
    number += 1
    directory = f"{top}/d{number % 50}"
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/f{number}"
    with open(path, "w") as file:
        file.write(str(number))
    if number % 3 == 0:
        os.rename(path, f"{top}/d{(number + 1) % 50 // 7}-{number}")
    if number % 50 == 0:
        os.rename(directory, f"{top}/r{number}")
print(number)
"""


@pytest.mark.parametrize("what", ["rules", "destinations"])
def test_reloads_under_load_lose_no_change(place: ReloadSetup, what: str) -> None:
    place.set_sync("web", ["one", "two"])
    place.write_file()
    with place.make_daemon() as daemon:
        daemon.wait_for("web/two.*complete")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, place.source_path("web"), "4"],
            stdout=subprocess.PIPE,
            env=environment(),
        )
        rounds = 0
        while writer.poll() is None:
            rounds += 1
            if what == "rules":
                place.set_sync("web", ["one", "two"], f"exclude = *.tmp{rounds}")
            else:
                place.set_sync("web", ["one", "two"] if rounds % 2 else ["one", "three", "two"])
            place.write_file()
            reload(daemon)
            time.sleep(0.1)  # a writer's pace
        made = int(writer.communicate()[0])
        assert made > 100, "there was no load"
        assert rounds > 2, "it was not read again under load"
        place.wait_until_confirmed()
        place.expect_equal("web", "one", "two", seconds=5)
