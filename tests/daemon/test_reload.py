"""A reload affects only what changed in the configuration, and loses no change."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import processes
from support.daemon import environment
from support.reloading import LONG_WINDOW, ReloadSetup, reload
from support.rsync_features import can_delete_by_name


@pytest.fixture
def setup(tmp_path: Path) -> ReloadSetup:
    return ReloadSetup(tmp_path)


def test_one_process_syncs_several_sources_to_their_own_destinations(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one", "two"])
    setup.set_sync("data", ["three"], "exclude = *.tmp")
    setup.write_file()
    (setup.source_path("web") / "page").write_text("page")
    with setup.make_daemon() as daemon:
        daemon.wait_for(r"\[data/three\] initial sync complete")
        for name in ("f", "f.tmp"):
            (setup.source_path("web") / name).write_text(name)
            (setup.source_path("data") / name).write_text(name)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one", "two")
        assert os.listdir(setup.copy_path("three")) == ["f"]


def test_a_reload_does_not_touch_unchanged_syncs(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.set_sync("data", ["two"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("data/two.*complete")
        daemon.wait_for("web/one.*complete")
        if not can_delete_by_name():
            # This is logged during an idle period, not because of the reload.
            daemon.wait_for("data/two.*cannot delete by name")
        setup.set_sync("web", ["one"], "exclude = *.tmp")
        setup.write_file()
        before = len(setup.counting_rsync.changing_runs())
        said = reload(daemon)
        setup.wait_until_confirmed()
        assert "Restarting the sync web (changed rules, web/one)." in said
        assert "data" not in said
        touched = [
            run for run in setup.counting_rsync.changing_runs()[before:] if "two" in str(run)
        ]
        assert touched == []
        said = reload(daemon, "No sync has changed")
        assert "Restarting" not in said


def test_destinations_are_added_and_removed_while_the_watcher_continues(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one", "two"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/two.*initial sync complete")
        setup.set_sync("web", ["two", "three"])
        setup.write_file()
        said = reload(daemon)
        assert "watching" not in said
        assert "Changing the sync web (added web/three; removed web/one)." in said
        daemon.wait_for(r"\[web/three\] initial sync complete")
        (setup.source_path("web") / "new").write_text("new")
        setup.wait_until_confirmed()
        setup.expect_equal("web", "two", "three")
        assert not (setup.copy_path("one") / "new").exists()
        assert setup.run("sync", "web/one").returncode != 0
        # The destination returns, and has missed a change.
        setup.set_sync("web", ["one"])
        setup.write_file()
        reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one")


def test_pending_changes_move_to_the_new_worker_of_a_destination(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file(f"window = {LONG_WINDOW}")
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        assert setup.run("pause").returncode == 0
        (setup.source_path("web") / "pending").write_text("pending")
        assert setup.run("flush").returncode == 0
        content = setup.file.read_text() + "\n[destination web/one]\nretry_first = 2\n"
        setup.file.write_text(content)
        reload(daemon)
        assert setup.run("resume").returncode == 0
        setup.expect_equal("web", "one")
        assert "full sync" not in daemon.log


def test_a_file_with_errors_changes_nothing_and_each_error_is_logged(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        setup.file.write_text(
            setup.file.read_text().replace("destinations", "destinatoins") + "windw = 3\n"
        )
        said = reload(daemon, "windw")
        assert "Did you mean destinations?" in daemon.log
        assert "was not applied" in said
        logged = daemon.log_length()
        answer = setup.run("reload")
        assert answer.returncode == 1
        assert "Did you mean window?" in answer.stderr
        daemon.wait_for(r"Did you mean window\?", after=logged)
        (setup.source_path("web") / "new").write_text("new")
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one")


def test_a_removed_sync_is_stopped_and_an_added_one_is_started(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        del setup.syncs["web"]
        setup.set_sync("data", ["two"])
        (setup.source_path("data") / "there").write_text("there")
        setup.write_file()
        said = reload(daemon)
        assert "Stopping the sync web: it was removed" in said
        setup.wait_until_confirmed()
        setup.expect_equal("data", "two")
        (setup.source_path("web") / "late").write_text("late")
        (setup.source_path("data") / "new").write_text("new")
        setup.wait_until_confirmed()
        assert not (setup.copy_path("one") / "late").exists()


def test_options_that_need_a_restart_are_named(setup: ReloadSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/one.*complete")
        setup.write_file(f"status_file = {setup.directory_of_test}/status")
        said = reload(daemon)
        assert "take effect after a restart" in said
        assert "status_file" in said
        # A value that is the same as at the start needs no restart.
        setup.write_file()
        assert "take effect after a restart" not in reload(daemon)


RELOADS_UNDER_LOAD = 6
# It writes until its standard input is closed, and prints a line after every 50 files.
WRITER = """
import os, select, sys
top, number = sys.argv[1], 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
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
        print(number, flush=True)
"""


@pytest.mark.parametrize("what", ["rules", "destinations"])
def test_reloads_under_load_lose_no_change(setup: ReloadSetup, what: str) -> None:
    setup.set_sync("web", ["one", "two"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/two.*complete")
        command = [sys.executable, "-c", WRITER, setup.source_path("web")]
        with processes.running_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        ) as writer:
            for number in range(1, RELOADS_UNDER_LOAD + 1):
                assert writer.stdout.readline(), "the writer has failed"
                if what == "rules":
                    setup.set_sync("web", ["one", "two"], f"exclude = *.tmp{number}")
                else:
                    setup.set_sync("web", ["one", "two"] if number % 2 else ["one", "three", "two"])
                setup.write_file()
                reload(daemon)
            writer.communicate()
        assert writer.returncode == 0
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one", "two")


def test_a_missing_source_holds_only_its_own_sync_and_is_taken_up_when_it_comes(
    setup: ReloadSetup,
) -> None:
    for name in ("web", "data"):
        setup.set_sync(name, [f"{name}-copy"])
    setup.write_file()
    missing = setup.source_path("data")
    missing.rmdir()
    with setup.make_daemon() as daemon:
        daemon.wait_for("web/web-copy. initial sync complete")
        daemon.wait_for(f"{missing} is held: it cannot be opened .No such file or directory")
        status = setup.run("status").stdout
        assert re.search(r"data +data-copy +held", status), status
        assert re.search(r"web +web-copy +in sync", status), status
        (setup.copy_path("data-copy") / "below").mkdir(parents=True)
        missing.symlink_to(setup.copy_path("data-copy") / "below")
        daemon.wait_for("is held: it leads into its own destination")
        missing.unlink()
        (setup.source_path("data") / "f").write_text("f")
        setup.wait_until_confirmed()
        setup.expect_equal("data", "data-copy")
