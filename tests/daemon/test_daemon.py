"""The options, signals, log and shutdown of the daemon."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.counting import CountingRsync
from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd, environment
from support.setups import SyncSetup
from support.trees import equal_within
from support.waiting import wait_until

SYSLOG = "/dev/log"
NEVER = "3600"
"""Seconds: a window longer than any test."""

RUN = r"\] synced \d+ files?, deleted \d+, \S+ \S?B sent, \d+\.\d\d s$"


# A daemon whose first stop waits for longer than a test.
PATIENT = """
import sys
from pylsyncd import cli, replication
replication.STOP_GRACE_PERIOD = 3600.0
sys.exit(cli.main())
"""


def differences(source: Path, destination: Path) -> list[str]:
    return equal_within(os.fsencode(source), os.fsencode(destination), 45)


@pytest.fixture
def setup(tmp_path: Path) -> SyncSetup:
    return SyncSetup(tmp_path)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


# -- start ----------------------------------------------------------------------------------------


def test_missing_directories_above_a_destination_are_created(setup: SyncSetup) -> None:
    deep = setup.copy / "not/yet/there"
    (setup.source / "old").touch()
    with setup.daemon("-w", "0.1", copies=(deep,)) as daemon:
        daemon.wait_ready()
        (setup.source / "new").touch()
        wait_until((deep / "new").exists)
        # Without -i, existing files are not compared.
        assert not (deep / "old").exists()


def test_a_start_without_an_initial_sync_is_explained_in_the_log(setup: SyncSetup) -> None:
    with setup.daemon() as daemon:
        daemon.wait_for("No initial sync")


def test_nothing_above_the_source_is_modified_at_a_destination(tmp_path: Path) -> None:
    source, backup = tmp_path / "srv/www/site", tmp_path / "backup"
    source.mkdir(parents=True)
    mirror = backup / "www/site"
    mirror.mkdir(parents=True)
    (backup / "www/keep").touch()
    os.utime(backup / "www", (1, 1))
    (source / "f").touch()
    arguments = ("-i", "-w", "0.1", f"{tmp_path}/srv/./www/site", f"{backup}/")
    with Pylsyncd(*arguments, names=("backup",)) as daemon:
        daemon.wait_ready()
        (source / "g").touch()
        assert differences(source, mirror) == []
    assert (backup / "www/keep").exists()
    assert (backup / "www").stat().st_mtime == 1


def test_changes_made_during_the_initial_sync_are_not_lost(
    setup: SyncSetup, tmp_path: Path
) -> None:
    slow = script(
        tmp_path / "slow-rsync",
        f"""
case "$*" in *--version*|*--dry-run*) exec rsync "$@";; esac
rsync "$@"; status=$?
while ! [ -e {tmp_path}/go ]; do sleep 0.05; done
exit $status""",
    )
    with setup.daemon("-i", "-w", "0.1", "--rsync", slow) as daemon:
        wait_until(setup.copy.exists)
        (setup.source / "meanwhile").write_text("x")
        (tmp_path / "go").touch()
        daemon.wait_ready()
        setup.expect_equal()


# -- options --------------------------------------------------------------------------------------


def test_the_default_log_has_only_start_completion_and_stop(setup: SyncSetup) -> None:
    with setup.daemon("-i", "-w", "0.1") as daemon:
        daemon.wait_ready()
        (setup.source / "f").touch()
        setup.expect_equal()
        daemon.stop()
        lines = [line[20:] for line in daemon.log.splitlines()]
    assert [line.split()[0] for line in lines] == ["pylsyncd", "[copy]", "stopping", "stopped"]


def test_verbose_adds_a_line_for_each_run(setup: SyncSetup) -> None:
    with setup.daemon("-v", "-w", "0.1") as daemon:
        daemon.wait_ready()
        with daemon.paused():
            (setup.source / "f").write_bytes(b"x" * 2000)
        line = daemon.wait_for(RUN)
    assert "synced 1 file, deleted 0, 2." in line
    assert " kB sent, " in line


def test_deletions_are_counted(setup: SyncSetup) -> None:
    (setup.source / "d").mkdir()
    (setup.source / "d/f").touch()
    with setup.daemon("-v", "-i", "-w", "0.1") as daemon:
        daemon.wait_ready()
        with daemon.paused():
            shutil.rmtree(setup.source / "d")
        daemon.wait_for("synced 0 files, deleted 2, ")


def test_the_debug_log_has_every_step_with_escaped_names(setup: SyncSetup) -> None:
    with setup.daemon("-d", "-w", "0.1") as daemon:
        daemon.wait_ready()
        (setup.source / "odd\nname").touch()
        daemon.wait_for(r"event CREATE odd\\nname")
        daemon.wait_for(r"1 change: odd\\nname")
        daemon.wait_for(r"reduced to 1: odd\\nname")
        daemon.wait_for(r"list of 1: \./odd\\nname")
        daemon.wait_for(r"running: rsync .*--files-from=-")
        daemon.wait_for(RUN)


def test_a_dry_run_logs_its_actions_and_changes_nothing(setup: SyncSetup) -> None:
    (setup.source / "f").touch()
    with setup.daemon("-n", "-i", "-w", "0.1") as daemon:
        daemon.wait_for(r"would run: rsync ")
        daemon.wait_for(r"would have synced \d+ files, deleted 0")
        (setup.source / "g").touch()
        daemon.wait_for(r"list of 1: \./g")
    assert not setup.copy.exists()


def test_without_deletion_removed_files_are_kept_and_changed_ones_replaced(
    setup: SyncSetup,
) -> None:
    (setup.source / "d").mkdir()
    (setup.source / "d/f").touch()
    (setup.source / "gone").touch()
    with setup.daemon("-i", "--no-delete", "-w", "0.1") as daemon:
        daemon.wait_ready()
        (setup.source / "gone").unlink()
        shutil.rmtree(setup.source / "d")
        (setup.source / "d").write_text("a file now")
        wait_until((setup.copy / "d").is_file)
        assert (setup.copy / "gone").exists()
        daemon.full_sync()
        daemon.wait_for("full sync complete")
        assert (setup.copy / "gone").exists()


def test_excluded_paths_are_neither_sent_nor_deleted(setup: SyncSetup, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("# comment\n+ keep.tmp\n*.tmp\ncache/\n")
    setup.copy.mkdir()
    (setup.copy / "theirs.tmp").touch()
    options = ("-i", "-w", "0.1", "--exclude-from", tmp_path / "rules", "-x", "/top")
    with setup.daemon(*options) as daemon:
        daemon.wait_ready()
        (setup.source / "cache/deep").mkdir(parents=True)
        (setup.source / "d").mkdir()
        (setup.source / "d/cache").mkdir()
        for name in ("a.tmp", "keep.tmp", "cache/deep/f", "d/f", "d/cache/f", "top", "d/top"):
            (setup.source / name).touch()
        wait_until((setup.copy / "d/top").exists)
        wait_until((setup.copy / "keep.tmp").exists)
        (setup.source / "cache").rename(setup.source / "plain")
        wait_until((setup.copy / "plain/deep/f").exists)
    found = {str(path.relative_to(setup.copy)) for path in setup.copy.rglob("*")}
    assert found == {
        "theirs.tmp", "keep.tmp", "d", "d/f", "d/top", "plain", "plain/deep", "plain/deep/f",
    }  # fmt: skip


def test_a_file_that_stays_open_is_synced_after_a_pause_and_at_the_stop(setup: SyncSetup) -> None:
    path = setup.write("log")
    with setup.daemon("-i", "-w", "0.2") as daemon, path.open("ab", 0) as log:
        daemon.wait_ready()
        log.write(b"y")
        wait_until(lambda: _content(setup.copy / "log") == b"xy")
        os.truncate(path, 1)
        wait_until(lambda: _content(setup.copy / "log") == b"x")
    with setup.daemon("-i", "-w", NEVER) as daemon, path.open("ab", 0) as log:
        daemon.wait_ready()
        log.write(b"z")
        daemon.stop()
    assert _content(setup.copy / "log") == b"xz"


def test_with_modify_an_open_file_is_synced_while_it_is_written(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--modify", "-w", "0.1") as daemon:
        daemon.wait_ready()
        with (setup.source / "log").open("wb", buffering=0) as file:
            for text in (b"one", b"onetwo"):
                file.write(text[-3:])
                wait_until(lambda text=text: _content(setup.copy / "log") == text)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_max_changes_ends_a_window_early(setup: SyncSetup) -> None:
    with setup.daemon("-i", "-w", NEVER, "--max-changes", "50") as daemon:
        daemon.wait_ready()
        for number in range(60):
            (setup.source / str(number)).touch()
        wait_until((setup.copy / "40").exists)


def test_extra_options_are_passed_to_rsync(setup: SyncSetup, tmp_path: Path) -> None:
    counting = CountingRsync(tmp_path)
    options = ("-i", "--rsync", counting.program, "--rsync-option", "--chmod=F600", "-w", "0.1")
    with setup.daemon(*options) as daemon:
        daemon.wait_ready()
        (setup.source / "f").touch()
        wait_until((setup.copy / "f").exists)
    assert (setup.copy / "f").stat().st_mode & 0o777 == 0o600
    assert all(b"--chmod=F600" in arguments for arguments in counting.changing_runs())


@contextlib.contextmanager
def only_user_of_syslog() -> Iterator[None]:
    """Let no other test use the socket of syslog: another process may run one."""
    path = Path(tempfile.gettempdir(), f"pylsyncd-tests-syslog-{os.geteuid()}.lock")
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.skipif(os.geteuid() != 0 or os.path.exists(SYSLOG),
                    reason="needs root, and no syslog that others use")  # fmt: skip
def test_the_log_goes_to_syslog_too(setup: SyncSetup) -> None:
    with only_user_of_syslog(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(SYSLOG)
        try:
            syslog.settimeout(45)
            with setup.daemon("-s", "--syslog-facility", "local3") as daemon:
                daemon.wait_ready()
                # 19 * 8 + 5: local3, notice.
                assert syslog.recv(4096).startswith(b"<157>pylsyncd: pylsyncd")
        finally:
            os.unlink(SYSLOG)


@pytest.mark.skipif(os.path.exists(SYSLOG), reason="there is a syslog here")
def test_a_missing_syslog_is_reported(setup: SyncSetup) -> None:
    with only_user_of_syslog():
        run = subprocess.run(
            [sys.executable, "-m", "pylsyncd", "-s", f"{setup.source}/./", f"{setup.copy}/"],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert "syslog cannot be reached" in run.stderr


# -- once -----------------------------------------------------------------------------------------


def once(setup: SyncSetup, *options: str | Path, copies: tuple[Path | str, ...]) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--once", *map(str, options),
         f"{setup.source}/./", *[f"{path}/" for path in copies]],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return run.returncode, run.stderr


def test_once_syncs_all_destinations_and_succeeds(setup: SyncSetup) -> None:
    (setup.source / "f").touch()
    status, log = once(setup, copies=(setup.copy, setup.second_copy))
    assert status == 0, log
    assert log.count("initial sync complete") == 2
    setup.expect_equal(setup.copy, setup.second_copy)


def test_a_second_once_carries_contents_that_size_and_time_do_not_tell(
    setup: SyncSetup, tmp_path: Path
) -> None:
    changed = setup.source / "f"
    changed.write_text("old")
    state = f"--state-dir={tmp_path}/state"
    assert once(setup, state, copies=(setup.copy,))[0] == 0
    before = changed.stat()
    changed.write_text("new")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert once(setup, state, copies=(setup.copy,))[0] == 0
    setup.expect_equal(setup.copy)


def test_once_fails_when_one_destination_does_and_syncs_the_others(setup: SyncSetup) -> None:
    status, log = once(setup, copies=("rsync://127.0.0.1:9/none", setup.second_copy))
    assert status == 1
    assert log.count("[127.0.0.1] no rsync daemon listens on the port") == 1
    assert "next attempt" not in log
    assert "[127.0.0.1] stopped before everything was synced. Pending: everything." in log
    setup.expect_equal(setup.second_copy)


def test_a_destination_that_is_a_file_does_not_affect_the_others(
    setup: SyncSetup,
) -> None:
    setup.copy.write_text("in its way")
    with setup.daemon("-i", "-w", "0.1", copies=(setup.copy, setup.second_copy)) as daemon:
        daemon.wait_for(r"\[copy\] the destination(.s path)? cannot be (created|used)")
        daemon.wait_for(r"\[second\] initial sync complete")
        setup.expect_equal(setup.second_copy)


def test_a_single_run_logs_its_start_and_its_completion(setup: SyncSetup) -> None:
    (setup.source / "f").touch()
    status, log = once(setup, "-n", copies=(setup.copy,))
    assert status == 0
    lines = log.splitlines()
    assert f"syncing {setup.source} for copy, once, dry run: nothing is changed" in lines[0]
    assert "[copy] initial sync complete (dry run: nothing was changed)" in lines[-2]
    assert lines[-1].endswith(" stopped")
    assert not setup.copy.exists()


# -- failing destinations -------------------------------------------------------------------------


def test_a_destination_that_returns_gets_all_missed_changes(setup: SyncSetup) -> None:
    away = setup.copy.with_name("away")
    with setup.daemon("-i", "-w", "0.1") as daemon:
        daemon.wait_ready()
        setup.copy.rename(away)
        (setup.source / "one").touch()
        daemon.wait_for(
            r"\[copy\] the destination is another directory than before: check that its disk"
        )
        (setup.source / "two").touch()
        away.rename(setup.copy)
        daemon.flush()
        daemon.wait_for(r"\[copy\] works again")
        setup.expect_equal()


def test_a_destination_whose_disk_is_not_mounted_is_not_filled(setup: SyncSetup) -> None:
    away = setup.copy.with_name("away")
    with setup.daemon("-i", "-w", "0.1") as daemon:
        daemon.wait_ready()
        setup.copy.rename(away)
        setup.copy.mkdir()
        (setup.source / "one").touch()
        daemon.wait_for(r"\[copy\] the destination is another directory than before")
        daemon.flush()
        assert list(setup.copy.iterdir()) == []
        # After a release the new directory is the destination, and everything is missing there.
        mark = daemon.log_length()
        daemon.release()
        daemon.wait_for(r"\[copy\] works again", after=mark)
        setup.expect_equal()


def test_a_failing_destination_is_retried_until_it_works(setup: SyncSetup, tmp_path: Path) -> None:
    sick = script(
        tmp_path / "sick-rsync",
        f"""
case "$*" in *--version*) exec rsync "$@";; esac
[ -e {tmp_path}/well ] && exec rsync "$@"
echo 'rsync: connection unexpectedly closed' >&2
exit 30""",
    )
    (setup.source / "f").touch()
    with setup.daemon("-i", "--rsync", sick) as daemon:
        daemon.wait_for(
            r"the destination stopped responding: .* \(rsync: connection unexpectedly closed\)"
        )
        (tmp_path / "well").touch()
        daemon.wait_ready()
        setup.expect_equal()


def test_a_slow_destination_does_not_delay_another(setup: SyncSetup, tmp_path: Path) -> None:
    slow = script(
        tmp_path / "slow-rsync",
        f"""
case "$*" in
*--version*|*--dry-run*) ;;
*/copy/*) while ! [ -e {tmp_path}/go ]; do sleep 0.05; done;;
esac
exec rsync "$@" """,
    )
    both = (setup.copy, setup.second_copy)
    with setup.daemon("-w", "0.1", "--rsync", slow, copies=both) as daemon:
        daemon.wait_ready()
        for number in range(3):
            (setup.source / str(number)).touch()
            wait_until((setup.second_copy / str(number)).exists)
        assert not setup.copy.exists()
        (tmp_path / "go").touch()
        setup.expect_equal(*both)


def test_while_rsync_runs_changes_are_merged_into_one_run(setup: SyncSetup, tmp_path: Path) -> None:
    slow = script(
        tmp_path / "slow-rsync",
        f"""
case "$*" in *--version*|*--dry-run*) exec rsync "$@";; esac
echo run >>{tmp_path}/runs
while ! [ -e {tmp_path}/go ]; do sleep 0.05; done
exec rsync "$@" """,
    )
    runs = tmp_path / "runs"
    control = Pylsyncctl(tmp_path / "run")
    options = ("--control", control.directory / "socket", "-w", NEVER, "--rsync", slow)
    control.directory.mkdir(mode=0o700)
    with setup.daemon(*options) as daemon:
        daemon.wait_ready()
        for number in range(4):
            (setup.source / str(number)).touch()
            # Unlike after a signal, the changes are in the queue when it returns.
            assert control.run("-S", control.directory / "socket", "flush").returncode == 0
            wait_until(runs.exists)
        (tmp_path / "go").touch()
        setup.expect_equal()
        assert runs.read_text().count("run") == 2


def test_an_rsync_without_deletion_by_name_is_detected_at_the_start(
    setup: SyncSetup, tmp_path: Path
) -> None:
    # The message of receivers with rsync 3.4.3 (issue 910).
    broken = script(
        tmp_path / "broken-rsync",
        """
case "$*" in *--delete-missing-args*)
  echo 'invalid file mode 00 for x [Receiver]' >&2; exit 2;;
esac
exec rsync "$@" """,
    )
    (setup.source / "d").mkdir()
    (setup.source / "d/f").touch()
    with setup.daemon("-v", "-i", "-w", "0.1", "--rsync", broken) as daemon:
        daemon.wait_for("cannot delete by name")
        shutil.rmtree(setup.source / "d")
        setup.expect_equal()


def test_nothing_is_deleted_while_an_empty_directory_replaces_the_source(
    setup: SyncSetup, tmp_path: Path
) -> None:
    (setup.source / "precious").touch()
    with setup.daemon("-i", "-w", "0.1") as daemon:
        daemon.wait_ready()
        setup.source.rename(tmp_path / "moved")
        setup.source.mkdir()
        daemon.wait_for(
            "an empty directory is in its place. Nothing is sent and nothing is deleted"
        )
        daemon.full_sync()
        daemon.wait_for(r"\[copy\] the source .* is held: an empty directory is in its place")
        assert (setup.copy / "precious").exists()


# -- signals --------------------------------------------------------------------------------------


def test_hup_repairs_changed_copies(setup: SyncSetup) -> None:
    (setup.source / "f").write_text("right")
    both = (setup.copy, setup.second_copy)
    with setup.daemon("-i", copies=both) as daemon:
        daemon.wait_ready()
        (setup.copy / "f").write_text("wrong!")
        (setup.second_copy / "extra").touch()
        daemon.full_sync()
        for path in both:
            daemon.wait_for(rf"\[{path.name}\] full sync complete")
        setup.expect_equal(*both)


def test_usr1_flushes_before_the_window_ends(setup: SyncSetup) -> None:
    with setup.daemon("-i", "-w", NEVER) as daemon:
        daemon.wait_ready()
        (setup.source / "f").touch()
        daemon.flush()
        setup.expect_equal()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_last_changes_are_synced_before_a_stop(
    setup: SyncSetup, number: signal.Signals
) -> None:
    with setup.daemon("-i", "-w", NEVER) as daemon:
        daemon.wait_ready()
        (setup.source / "last words").write_text("x")
        os.kill(daemon.pid, number)
        daemon.wait_for(r"\bstopped$")
        daemon.stop()
        setup.expect_equal()


def test_a_second_stop_does_not_wait_for_rsync(setup: SyncSetup, tmp_path: Path) -> None:
    hanging = script(
        tmp_path / "hanging-rsync",
        f"""
case "$*" in *--version*) exec rsync "$@";; esac
echo $$ >{tmp_path}/pid
exec sleep 600""",
    )
    patient = tmp_path / "patient.py"
    patient.write_text(PATIENT)
    arguments = ("-i", "--rsync", hanging, f"{setup.source}/./", f"{setup.copy}/")
    with Pylsyncd(*arguments, program=(patient,)) as daemon:
        wait_until(lambda: _content(tmp_path / "pid").strip())
        child = int((tmp_path / "pid").read_text())
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_for("stopping")
        # The first stop waits for an hour.
        daemon.stop()
        assert "Pending: everything" in daemon.log
        assert not Path(f"/proc/{child}").exists()


def test_an_rsync_that_ignores_sigterm_is_killed_with_its_children(
    setup: SyncSetup, tmp_path: Path
) -> None:
    stubborn = script(
        tmp_path / "stubborn-rsync",
        f"""
case "$*" in *--version*) exec rsync "$@";; esac
trap '' TERM
sleep 600 &
echo $$ $! >{tmp_path}/pids
wait; sleep 600""",
    )
    with setup.daemon("-i", "--rsync", stubborn) as daemon:
        wait_until(lambda: len(_content(tmp_path / "pids").split()) == 2)
        children = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_for("stopping")
        daemon.stop()
        for child in children:
            wait_until(lambda child=child: not Path(f"/proc/{child}").exists())


# -- many events ----------------------------------------------------------------------------------


def with_watches(count: int) -> list[str]:
    """Return the command prefix that limits the number of inotify watches."""
    limit = f'echo {count} >/proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"]
    try:
        answer = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if answer.returncode:
        pytest.skip(f"user namespaces are not permitted: {answer.stderr.strip()}")
    return command


def test_directories_beyond_the_watch_limit_are_logged_and_scanned(setup: SyncSetup) -> None:
    for number in range(20):
        (setup.source / f"{number}/deep").mkdir(parents=True)
    with setup.daemon("-w", "0.1", "--poll-interval", "0.5", prefix=with_watches(15)) as daemon:
        line = daemon.wait_for("sysctl -w fs.inotify.max_user_watches=")
        assert "15 directories are watched here, 26 more need a watch" in line
        assert "Not watched, but scanned every 0.5 s with all subdirectories" in line
        for number in range(20):
            (setup.source / f"{number}/deep/file").write_text("new")
            (setup.source / f"{number}/new/tree").mkdir(parents=True)
        setup.expect_equal()


def test_later_directories_beyond_the_watch_limit_are_scanned(setup: SyncSetup) -> None:
    options = ("-i", "-w", "0.1", "--poll-interval", "0.5")
    with setup.daemon(*options, prefix=with_watches(5)) as daemon:
        daemon.wait_ready()
        for number in range(10):
            (setup.source / f"{number}/deep").mkdir(parents=True)
        daemon.wait_for("sysctl -w fs.inotify.max_user_watches=")
        setup.expect_equal()
        (setup.source / "9/deep/file").write_text("new")
        (setup.source / "9").rename(setup.source / "1/deep/nine")
        setup.expect_equal()


def test_a_scan_repairs_dropped_events_without_a_full_sync(setup: SyncSetup) -> None:
    (setup.source / "d").mkdir()
    with setup.daemon("-v", "-i", "-w", "0.5") as daemon:
        daemon.wait_ready()
        # The queue of a suspended daemon overflows.
        daemon.pause()
        try:
            for number in range(20_000):
                (setup.source / "d" / str(number)).touch()
            (setup.source / "new/deep").mkdir(parents=True)
        finally:
            daemon.resume()
        daemon.wait_for("The kernel dropped events")
        daemon.wait_for("Scanned the source for missed changes")
        setup.expect_equal()
        (setup.source / "new/deep/after").touch()
        setup.expect_equal()
        assert "full sync" not in daemon.log
