"""pylsyncctl and pylsyncd together: the status is true, and commands take effect."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import processes
from support.ctl import CTL_TIMEOUT, Pylsyncctl
from support.daemon import Pylsyncd, environment
from support.faults import FaultyRsync, print_error_and_exit, wait_for_file
from support.in_process import run_pylsyncctl
from support.trees import equal_within
from support.waiting import wait_until

from pylsyncd.control import client
from pylsyncd.control.client import NoAnswerError
from pylsyncd.control.protocol import ControlRequest
from pylsyncd.system import unix_sockets

NEVER = "3600"
REFUSED = "rsync: [sender] failed to connect to h (192.0.2.1): Connection refused (111)"
"""A window that does not end during a test."""

AT_ONCE = 50
OK, FAILED, ABSENT, CRITICAL, WARNING = 0, 1, 4, 2, 1


class ControlledDaemon(Pylsyncctl):
    """pylsyncctl, and a daemon with a source, a destination and a substitute rsync."""

    def __init__(self, top: Path) -> None:
        super().__init__(top / "run")
        self.source, self.copy = top / "source", top / "copy"
        self.top = top
        self.source.mkdir()
        self.rsync = FaultyRsync(top)

    def daemon(
        self, *options: str | Path, source: Path | None = None, copy: Path | None = None
    ) -> Pylsyncd:
        source, copy = source or self.source, copy or self.copy
        return Pylsyncd(
            *("-i", "-v", "--rsync", self.rsync.program, *options, f"{source}/./", f"{copy}/"),
            names=[copy.name], extra_environment={"RUNTIME_DIRECTORY": str(self.directory)},
        )  # fmt: skip

    def destination_status(self) -> Any:
        """Return the status of the only destination of the only daemon."""
        code, output, errors = run_pylsyncctl(self.directory, "status", "--json")
        assert (code, errors) == (OK, "")
        return json.loads(output)["syncs"][0]["destinations"][0]

    def wait_until_condition(self, condition: str, *, is_paused: bool = False) -> Any:
        """Return the status in which that is the condition, between two attempts if asked for."""
        seen: list[Any] = []

        def is_met() -> bool:
            seen.append(self.destination_status())
            is_met = seen[-1]["condition"] == condition
            return is_met and not (is_paused and seen[-1]["next_attempt"] is None)

        wait_until(is_met)
        return seen[-1]

    def write(self, *names: str) -> None:
        for name in names:
            (self.source / name).write_text(name)

    def assert_equal(self) -> None:
        assert equal_within(os.fsencode(self.source), os.fsencode(self.copy), 45) == []

    def sockets(self) -> list[str]:
        return os.listdir(self.directory)


@pytest.fixture
def place(tmp_path: Path) -> ControlledDaemon:
    return ControlledDaemon(tmp_path)


@pytest.fixture
def quiet(place: ControlledDaemon) -> Iterator[Pylsyncd]:
    """Return a daemon that is in sync, and whose windows do not end by themselves."""
    place.write("old")
    with place.daemon("-w", NEVER) as daemon:
        daemon.wait_ready()
        # It has tried out what the destination can do: each rsync that follows is asked for.
        place.write("first")
        assert place.run("wait", "--timeout", "45").returncode == OK
        yield daemon


# -- the socket -----------------------------------------------------------------------------------


def test_the_socket_is_named_after_the_pid_and_removed_at_the_stop(place: ControlledDaemon) -> None:
    with place.daemon("-w", NEVER) as daemon:
        daemon.wait_ready()
        assert place.sockets() == [f"{daemon.pid}.sock"]
        daemon.stop()
        assert place.sockets() == []
    assert place.run("status").returncode == ABSENT


def test_the_socket_of_a_killed_daemon_is_removed_by_the_next_one(place: ControlledDaemon) -> None:
    daemon = place.daemon("-w", NEVER)
    with contextlib.ExitStack() as stack:
        daemon.__enter__()
        stack.callback(daemon.kill)
        daemon.wait_ready()
        daemon.crash()
    assert len(place.sockets()) == 1
    assert place.run("status").returncode == ABSENT
    with place.daemon("-w", NEVER) as daemon:
        daemon.wait_ready()
        assert place.sockets() == [f"{daemon.pid}.sock"]


def test_a_second_daemon_does_not_start_at_the_same_socket(place: ControlledDaemon) -> None:
    socket_path = place.top / "web.sock"
    with place.daemon("-w", NEVER, "--control", socket_path) as daemon:
        daemon.wait_ready()
        assert place.run("-S", socket_path, "status").returncode == OK
        other = subprocess.run(
            [*_PYLSYNCD, "--control", socket_path, f"{place.source}/./", f"{place.top}/other/"],
            env=environment(), capture_output=True, text=True, timeout=CTL_TIMEOUT, check=False,
        )  # fmt: skip
        assert other.returncode == 2
        assert f"Another pylsyncd already listens at {socket_path}" in other.stderr
        assert place.run("-S", socket_path, "status").returncode == OK


_PYLSYNCD = [Pylsyncctl(Path()).command()[0], "-m", "pylsyncd"]


def test_a_daemon_runs_without_a_control_socket(place: ControlledDaemon) -> None:
    with place.daemon("-w", "0.1", "--control", "no") as daemon:
        daemon.wait_ready()
        place.write("new")
        place.assert_equal()
    assert not place.directory.exists()


def test_several_daemons_are_shown_and_each_gets_its_own_commands(place: ControlledDaemon) -> None:
    other = place.top / "other-source"
    other.mkdir()
    with (
        place.daemon("-w", NEVER) as first,
        place.daemon("-w", NEVER, source=other, copy=place.top / "mirror") as second,
    ):
        for daemon in (first, second):
            daemon.wait_ready()
        output = place.run("status").stdout
        assert f"pid {first.pid}," in output
        assert f"pid {second.pid}," in output
        place.write("new")
        (other / "new").touch()
        wait_until(lambda: place.run("status").stdout.count("waiting") == 4)
        assert place.run("flush", "mirror").returncode == OK
        wait_until((place.top / "mirror/new").exists)
        assert not (place.copy / "new").exists()
        assert place.run("wait", "--timeout", "45").returncode == OK
        assert (place.copy / "new").exists()


# -- many clients ---------------------------------------------------------------------------------


def test_fifty_clients_at_once_are_answered_while_the_daemon_syncs(place: ControlledDaemon) -> None:
    with place.daemon("-w", "0.1") as daemon:
        daemon.wait_ready()
        path = str(place.directory / f"{daemon.pid}.sock")
        failures: list[Exception] = []

        def ask() -> None:
            try:
                for _ in range(20):
                    assert client.send_request(path, ControlRequest("status"))["status"]
                    client.send_request(path, ControlRequest("flush"))
            except Exception as error:  # noqa: BLE001  # it is shown below
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for number in range(20):
            place.write(f"new {number}")
        for thread in threads:
            thread.join()
        assert failures == []
        place.assert_equal()


def test_garbage_at_the_socket_does_no_harm(place: ControlledDaemon) -> None:
    with place.daemon("-w", "0.1") as daemon, contextlib.ExitStack() as stack:
        daemon.wait_ready()
        path = str(place.directory / f"{daemon.pid}.sock")
        for number in range(40):
            connection = stack.enter_context(unix_sockets.connect(path, CTL_TIMEOUT))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(os.urandom(1 + 4000 * number))
            if number % 2:
                # Those that are not even cut off stay as they are, and read nothing.
                connection.shutdown(socket.SHUT_WR)
        place.write("new")
        place.assert_equal()
        stack.close()
        wait_until(lambda: place.run("status").returncode == OK)
        assert "Traceback" not in daemon.log


# -- status --------------------------------------------------------------------------------------


def test_a_destination_is_in_sync_then_waiting_then_in_sync(
    place: ControlledDaemon, quiet: Pylsyncd
) -> None:
    found = place.destination_status()
    assert (found["name"], found["condition"], found["waiting"], found["behind"]) == (
        "copy", "in sync", 0, 0.0,
    )  # fmt: skip
    assert found["last_run"]["outcome"] == "done"
    place.write("new")
    found = place.wait_until_condition("waiting")
    assert found["waiting"] >= 1
    wait_until(lambda: place.destination_status()["behind"] > found["behind"])
    assert not (place.copy / "new").exists()
    assert place.run("flush").returncode == OK
    place.wait_until_condition("in sync")
    assert (place.copy / "new").exists()
    assert "copy" in place.run("status").stdout
    assert quiet.is_running


def test_a_failing_destination_is_retrying_with_reason_and_next_attempt(
    place: ControlledDaemon, quiet: Pylsyncd
) -> None:
    for _ in range(50):
        place.rsync.add_fault(print_error_and_exit(REFUSED, 10))
    place.write("new")
    place.run("flush")
    found = place.wait_until_condition("retrying", is_paused=True)
    assert "no rsync daemon listens on the port" in found["error"]
    assert found["last_run"]["code"] == 10
    table = place.run("status").stdout
    assert "retrying" in table
    assert "no rsync daemon listens on the port" in table
    assert place.run("status", "--check").returncode == WARNING
    wait_until(lambda: place.run("status", "--check", "--max-lag", "0.5").returncode == CRITICAL)
    # A wait does not wait for the next attempt.
    place.rsync.discard_faults()
    assert place.run("wait", "--timeout", "45").returncode == OK
    assert (place.copy / "new").exists()
    assert place.destination_status()["condition"] == "in sync"
    assert "Traceback" not in quiet.log


def test_a_held_destination_shows_the_reason_and_can_be_released(place: ControlledDaemon) -> None:
    place.write(*"abcdefgh")
    with place.daemon("-w", "0.1", "--max-delete", "3") as daemon:
        daemon.wait_ready()
        with daemon.paused():
            for name in "abcdef":
                (place.source / name).unlink()
        found = place.wait_until_condition("held")
        assert "would be deleted" in found["error"]
        assert place.run("status", "--check").returncode == CRITICAL
        answer = place.run("wait", "--timeout", "0.5")
        assert answer.returncode == FAILED
        assert "copy is not in sync after 0 s: held" in answer.stderr
        assert (place.copy / "a").exists()
        assert place.run("release", "elsewhere").returncode == FAILED
        assert (place.copy / "a").exists()
        assert place.run("release", "copy").returncode == OK
        place.wait_until_condition("in sync")
        place.assert_equal()


def test_the_status_file_shows_the_same(place: ControlledDaemon) -> None:
    path = place.top / "status.json"
    with place.daemon("-w", NEVER, "--status-file", path) as daemon:
        daemon.wait_ready()
        wait_until(
            lambda: path.exists() and "in sync" in place.run("status", "--file", path).stdout
        )
        place.write("new")
        wait_until(lambda: "waiting" in place.run("status", "--file", path).stdout)
        assert place.run("flush").returncode == OK
        wait_until(lambda: "in sync" in place.run("status", "--file", path).stdout)
        assert f"pid {daemon.pid}," in place.run("status", "--file", path).stdout
        daemon.stop()
    assert "ago: pylsyncd was stopped\n" in place.run("status", "--file", path).stdout
    code, output, _ = place.run("status", "--check", "--file", path)
    assert code == CRITICAL
    assert re.match(r"PYLSYNCD CRITICAL - pylsyncd was stopped \S+ \S+ ago \|", output), output


@pytest.mark.parametrize(
    ("options", "mode"),
    [((), 0o640), (("--status-file-mode", "604"), 0o604)],
)
def test_the_status_file_has_the_mode_of_its_option(
    place: ControlledDaemon, options: tuple[str, ...], mode: int
) -> None:
    path = place.top / "status.json"
    with place.daemon("--status-file", path, *options):
        wait_until(path.exists)
        assert path.stat().st_mode & 0o777 == mode


# -- commands --------------------------------------------------------------------------------------


def test_wait_ends_only_when_the_copy_has_arrived(place: ControlledDaemon, quiet: Pylsyncd) -> None:
    go = place.top / "go"
    place.rsync.add_fault(wait_for_file(go))
    place.write("new")
    with processes.running_process(
        place.command("wait", "--timeout", "60"), env=place.environment()
    ) as waiting:
        # The flush is its own: rsync runs, and is waited for.
        wait_until(lambda: place.rsync.pending_faults == 0)
        place.wait_until_condition("syncing")
        assert waiting.poll() is None
        assert not (place.copy / "new").exists()
        go.touch()
        assert waiting.wait(CTL_TIMEOUT) == OK
    assert (place.copy / "new").exists()
    assert quiet.is_running


def test_wait_covers_all_changes_before_it(place: ControlledDaemon, quiet: Pylsyncd) -> None:
    for number in range(10):
        name = f"new {number}"
        place.write(name)
        assert place.run("wait", "--timeout", "45").returncode == OK
        assert (place.copy / name).exists(), quiet.log_tail


def test_a_timed_out_wait_names_the_destination_and_the_reason(
    place: ControlledDaemon, quiet: Pylsyncd
) -> None:
    for _ in range(50):
        place.rsync.add_fault(print_error_and_exit(REFUSED, 10))
    place.write("new")
    code, output, errors = place.run("wait", "--timeout", "1.5", "copy")
    assert (code, output) == (FAILED, "")
    assert errors.startswith("pylsyncctl: copy is not in sync after 1 s: retrying, ")
    assert "no rsync daemon listens on the port" in errors
    assert quiet.is_running
    place.rsync.discard_faults()


def test_a_paused_destination_collects_changes_and_runs_no_rsync(place: ControlledDaemon) -> None:
    with place.daemon("-w", "0.1") as daemon:
        daemon.wait_ready()
        assert place.run("pause", "copy").returncode == OK
        found = place.wait_until_condition("paused")
        assert place.run("status", "--check").returncode == WARNING
        mark = daemon.log_length()
        place.write("a", "b")
        wait_until(lambda: place.destination_status()["waiting"] >= 2)
        place.write("c", "d")
        (place.source / "a").unlink()
        assert place.run("flush").returncode == OK
        answer = place.run("wait", "--timeout", "1")
        assert answer.returncode == FAILED
        assert "paused" in answer.stderr
        assert os.listdir(place.copy) == []
        assert place.destination_status()["last_run"] == found["last_run"]
        assert place.run("resume").returncode == OK
        daemon.wait_for(r"paused \(copy\)")
        daemon.wait_for(r"resumed \(all\)")
        assert place.run("wait", "--timeout", "45").returncode == OK
        place.assert_equal()
        # All of it in one run.
        daemon.wait_for(r"synced 3 files", after=mark)
        assert place.wait_until_condition("in sync")["waiting"] == 0


def test_a_pause_of_one_destination_does_not_affect_another(place: ControlledDaemon) -> None:
    second = place.top / "second"
    with Pylsyncd(
        *("-i", "-w", "0.1", f"{place.source}/./", f"{place.copy}/", f"{second}/"),
        names=["copy", "second"], extra_environment={"RUNTIME_DIRECTORY": str(place.directory)},
    ) as daemon:  # fmt: skip
        daemon.wait_ready()
        assert place.run("pause", "second").returncode == OK
        place.write("new")
        assert place.run("wait", "--timeout", "45", "copy").returncode == OK
        assert (place.copy / "new").exists()
        assert not (second / "new").exists()
        answer = place.run("wait", "--timeout", "0.5")
        assert answer.returncode == FAILED
        assert answer.stderr.startswith("pylsyncctl: second is not in sync")
        assert answer.stderr.count("\n") == 1
        assert place.run("resume", "second").returncode == OK
        assert place.run("wait", "--timeout", "45").returncode == OK
        assert (second / "new").exists()


def test_sync_repairs_changes_made_at_the_destination(
    place: ControlledDaemon, quiet: Pylsyncd
) -> None:
    (place.copy / "old").unlink()
    (place.copy / "more").touch()
    assert place.run("wait", "--timeout", "45").returncode == OK
    assert (place.copy / "more").exists()
    assert place.run("sync", "copy").returncode == OK
    assert place.run("wait", "--timeout", "45").returncode == OK
    place.assert_equal()
    quiet.wait_for("full sync complete")


def test_the_log_level_is_changed_at_runtime(place: ControlledDaemon, quiet: Pylsyncd) -> None:
    place.write("one")
    assert place.run("wait", "--timeout", "45").returncode == OK
    assert "reduced to" not in quiet.log
    assert place.run("log-level", "debug").returncode == OK
    place.write("two")
    assert place.run("wait", "--timeout", "45").returncode == OK
    quiet.wait_for("reduced to")
    assert place.run("log-level", "warning").returncode == OK
    mark = quiet.log_length()
    place.write("three")
    assert place.run("wait", "--timeout", "45").returncode == OK
    assert quiet.log_length() == mark


def test_a_stopping_daemon_disconnects_waiting_clients(place: ControlledDaemon) -> None:
    with place.daemon("-w", NEVER) as daemon:
        daemon.wait_ready()
        assert place.run("pause").returncode == OK
        place.write("new")
        with client.PendingRequest(
            str(place.directory / f"{daemon.pid}.sock"), ControlRequest("wait")
        ) as waiting:
            daemon.stop()
            with pytest.raises(
                NoAnswerError, match=r"The answer of the pylsyncd at .* is incomplete"
            ):
                waiting.wait_for_answer()
