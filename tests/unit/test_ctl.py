"""The command pylsyncctl as a process: its output and its exit status."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support import processes
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, RecordingCommands, destination, status
from support.ctl import CTL_TIMEOUT, CtlResult, Pylsyncctl
from support.in_process import run_main
from support.waiting import wait_until

from pylsyncd import ctl
from pylsyncd.control.server import ControlServer
from pylsyncd.model.status import Condition, PathSummary, SetAside, Status
from pylsyncd.model.status_json import format_status

OK, FAILED, WRONG_USAGE, SET_ASIDE, ABSENT = 0, 1, 2, 3, 4
WARNING, CRITICAL, UNKNOWN = 1, 2, 3


class RuntimeDirectory(Pylsyncctl):
    """pylsyncctl, and a runtime directory with the sockets of daemons."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(directory)
        self.stack = stack

    def run(self, *words: str | Path, more: Mapping[str, str] | None = None) -> CtlResult:
        """Run the command in this process, which is fast, or with more variables in its own."""
        if more:
            return super().run(*words, more=more)
        return CtlResult(*run_main(ctl.main, *words))

    def serve(self, name: str, commands: RecordingCommands) -> ControlServer:
        """Start a control server at a socket of this name."""
        failed: list[str] = []
        control = ControlServer(str(self.directory / name), commands, failed.append)
        control.start()
        self.stack.callback(control.stop)
        return control


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RuntimeDirectory]:
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(directory))
    with contextlib.ExitStack() as stack:
        yield RuntimeDirectory(directory, stack)


@pytest.fixture
def commands(daemons: RuntimeDirectory) -> RecordingCommands:
    """Return the commands that the only daemon receives."""
    made = RecordingCommands()
    daemons.serve("one.sock", made)
    return made


# -- status ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("commands")
def test_status_prints_a_table_and_nothing_else(daemons: RuntimeDirectory) -> None:
    code, output, errors = daemons.run("status")
    assert (code, errors) == (OK, "")
    assert output.splitlines()[1].split() == [
        "SYNC", "DESTINATION", "STATE", "BEHIND", "WAITING", "LAST", "RUN", "NEXT", "ATTEMPT",
    ]  # fmt: skip
    assert output.splitlines()[2].startswith("web   srv2         in sync")
    assert "\x1b" not in output


@pytest.mark.usefixtures("commands")
def test_json_is_a_line_for_each_daemon(daemons: RuntimeDirectory) -> None:
    daemons.serve("two.sock", RecordingCommands(status(destination("srv9"))))
    code, output, _ = daemons.run("status", "--json")
    assert code == OK
    first, second = output.splitlines()
    assert first == format_status(IN_SYNC_STATUS)
    assert json.loads(second)["syncs"][0]["destinations"][0]["name"] == "srv9"


def test_sockets_of_instances_are_found_one_level_below(daemons: RuntimeDirectory) -> None:
    for name in ("web", "mail"):
        daemons.serve(f"{name}/1.sock", RecordingCommands(status(destination(f"srv-{name}"))))
    output = daemons.run("status").stdout
    assert output.index("srv-mail") < output.index("srv-web")
    assert "\n\npylsyncd" in output


def test_the_socket_option_may_stand_before_or_after_the_command(daemons: RuntimeDirectory) -> None:
    for name in ("one", "two"):
        daemons.serve(f"{name}.sock", RecordingCommands(status(destination(f"srv-{name}"))))
    path = daemons.directory / "two.sock"
    for words in (("-S", path, "status"), ("status", "--socket", path)):
        output = daemons.run(*words).stdout
        assert "srv-two" in output
        assert "srv-one" not in output


def test_control_characters_are_escaped(daemons: RuntimeDirectory) -> None:
    evil = "\x1b]0;title\x07\x9b2J\n\udcff"
    daemons.serve(
        "one.sock", RecordingCommands(status(destination(evil, error=evil), name=evil, held=evil))
    )
    for words in (("status",), ("status", "--json"), ("status", "--check"), ("flush", "x")):
        _, output, errors = daemons.run(*words)
        assert all(line.isprintable() for line in (output + errors).splitlines())


def test_characters_that_the_terminal_lacks_are_escaped(daemons: RuntimeDirectory) -> None:
    daemons.serve("one.sock", RecordingCommands(status(destination("büro"))))
    answer = daemons.run("status", more={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert answer.returncode == OK
    assert r"b\xfcro" in answer.stdout


def test_a_reader_that_closes_the_pipe_early_causes_no_traceback(daemons: RuntimeDirectory) -> None:
    many = status(*(destination(f"srv{number}" * 10) for number in range(3000)))
    daemons.serve("one.sock", RecordingCommands(many))
    with processes.running_process(
        daemons.command("status"), env=daemons.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("pylsyncd")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(CTL_TIMEOUT) == FAILED


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("status",), ("status", "--check"), ("flush", "x")])
@pytest.mark.parametrize("runs", [True, False])
def test_a_closed_pipe_causes_no_traceback(
    daemons: RuntimeDirectory, words: tuple[str, ...], unbuffered: str, *, runs: bool
) -> None:
    if runs:
        daemons.serve("one.sock", RecordingCommands())
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        ended = subprocess.run(
            daemons.command(*words), env=daemons.environment({"PYTHONUNBUFFERED": unbuffered}),
            timeout=CTL_TIMEOUT, check=False, stdout=closed, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert ended.returncode in {FAILED, ABSENT}
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


def test_status_shows_the_named_destinations(daemons: RuntimeDirectory, tmp_path: Path) -> None:
    both = status(destination("web/a"), destination("web/b", Condition.PAUSED))
    daemons.serve("one.sock", RecordingCommands(both))
    daemons.serve("two.sock", RecordingCommands(status(destination("c"), name="")))
    code, output, errors = daemons.run("status", "a")
    assert (code, errors) == (OK, "")
    assert output.startswith("pylsyncd 0.1, pid 4242, up 2 h 5 min; 1 destination, in sync\n")
    assert [line.split()[:2] for line in output.splitlines()[2:]] == [["web", "a"]]
    (line,) = daemons.run("status", "--json", "web/b").stdout.splitlines()
    assert [each["name"] for each in json.loads(line)["syncs"][0]["destinations"]] == ["web/b"]
    code, output, _ = daemons.run("status", "--check", "a", "c")
    assert (code, output.split("|")[0]) == (OK, "PYLSYNCD OK - 2 destinations, at most 0 s behind ")
    code, output, _ = daemons.run("status", "--check", "web")
    assert (code, output.split("|")[0]) == (WARNING, "PYLSYNCD WARNING - web/b paused ")
    path = tmp_path / "status.json"
    path.write_text(format_status(both))
    assert "web   b " in daemons.run("status", "--file", path, "b").stdout


def test_a_configuration_file_stands_for_its_daemon(
    daemons: RuntimeDirectory, tmp_path: Path
) -> None:
    named = {}
    for name in ("one", "two"):
        (tmp_path / f"{name}.conf").touch()
        answer = replace(status(destination(name)), configuration=f"{tmp_path}/{name}.conf")
        named[name] = RecordingCommands(answer)
        daemons.serve(f"{name}.sock", named[name])
    (tmp_path / "link").symlink_to("two.conf")
    for path in (tmp_path / "two.conf", tmp_path / "link"):
        output = daemons.run("-c", path, "status").stdout
        assert "two " in output
        assert "one " not in output
        assert daemons.run("flush", f"--config={path}").returncode == OK
    assert (named["one"].calls, named["two"].calls) == ([], [("flush",), ("flush",)])
    answer = daemons.run("-c", tmp_path / "two.conf", "flush", "one")
    assert answer.returncode == FAILED
    assert "has a destination one. Known destinations: two." in answer.stderr
    (tmp_path / "three.conf").touch()
    answer = daemons.run("-c", tmp_path / "three.conf", "status")
    assert answer.returncode == ABSENT
    assert f"uses the file {tmp_path}/three.conf: start one with pylsyncd -c" in answer.stderr
    assert daemons.run("-c", tmp_path / "three.conf", "status", "--check").returncode == CRITICAL
    assert daemons.run("-c", tmp_path / "none", "status").returncode == WRONG_USAGE


def test_the_socket_that_a_configuration_file_names_is_used(
    daemons: RuntimeDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "my.conf"
    answer = replace(status(destination("a")), configuration=str(path))
    elsewhere = ControlServer(f"{tmp_path}/my.sock", RecordingCommands(answer), print)
    elsewhere.start()
    daemons.stack.callback(elsewhere.stop)
    path.write_text("# control = /x\n[pylsyncd]\nControl = my.sock\n[sync a]\ncontrol = x\n")
    assert " a " in daemons.run("-c", path, "status").stdout
    path.write_text("[pylsyncd]\ncontrol = no\n")
    code, _, errors = daemons.run("-c", path, "status")
    assert code == ABSENT
    assert "has no control socket: remove control = no" in errors


@pytest.mark.usefixtures("commands")
def test_a_warning_that_can_never_come_is_wrong_usage(daemons: RuntimeDirectory) -> None:
    for words in (("--max-lag", "5", "--warn-lag", "600"), ("--warn-lag", "601")):
        code, output, _ = daemons.run("status", "--check", *words)
        assert code == UNKNOWN
        assert "No warning would ever come: --warn-lag 60" in output
    assert daemons.run("status", "--check", "--max-lag", "5", "--warn-lag", "5").returncode == OK


@pytest.mark.usefixtures("commands")
def test_the_status_of_an_unknown_name_is_an_error(daemons: RuntimeDirectory) -> None:
    text = "No running pylsyncd has a destination x. Known destinations: srv2."
    assert daemons.run("status", "x") == (FAILED, "", f"pylsyncctl: {text}\n")
    code, output, errors = daemons.run("status", "srv2", "x")
    assert (code, errors) == (FAILED, f"pylsyncctl: {text}\n")
    assert "srv2 " in output
    code, output, _ = daemons.run("status", "--check", "x")
    assert (code, output) == (UNKNOWN, f"PYLSYNCD UNKNOWN - {text}\n")


def test_the_names_of_syncs_and_destinations_are_a_line_each(daemons: RuntimeDirectory) -> None:
    daemons.serve("one.sock", RecordingCommands(status(destination("web/a"), destination("web/b"))))
    daemons.serve("two.sock", RecordingCommands(status(destination("c d"), name="")))
    assert daemons.run("status", "--names") == (OK, "web\nweb/a\nweb/b\nc d\n", "")


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["flush", "sync", "pause", "resume", "release"])
def test_a_command_goes_to_the_named_destinations(
    daemons: RuntimeDirectory, commands: RecordingCommands, command: str
) -> None:
    assert daemons.run(command, "srv2") == (OK, "", "")
    assert commands.calls == [(command, "srv2")]


@pytest.mark.parametrize("command", ["flush", "sync", "pause", "resume"])
def test_a_command_without_names_goes_to_all_daemons(
    daemons: RuntimeDirectory, commands: RecordingCommands, command: str
) -> None:
    other = RecordingCommands()
    daemons.serve("two.sock", other)
    assert daemons.run(command) == (OK, "", "")
    assert commands.calls == other.calls == [(command,)]


def test_release_requires_a_name(daemons: RuntimeDirectory, commands: RecordingCommands) -> None:
    answer = daemons.run("release")
    assert answer.returncode == WRONG_USAGE
    assert "DEST" in answer.stderr
    assert "Try pylsyncctl --help." in answer.stderr
    assert commands.calls == []


def test_names_go_to_the_daemons_that_know_them(daemons: RuntimeDirectory) -> None:
    both = {
        name: RecordingCommands(status(destination(name), destination("same"))) for name in "ab"
    }
    for name, commands in both.items():
        daemons.serve(f"{name}.sock", commands)
    assert daemons.run("flush", "a", "same").returncode == OK
    assert both["a"].calls == [("flush", "a", "same")]
    assert both["b"].calls == [("flush", "same")]


@pytest.mark.parametrize("name", ["web", "srv2", "web/srv2", "h:/a/", "web/h:/a/"])
def test_a_destination_may_be_named_without_its_sync(daemons: RuntimeDirectory, name: str) -> None:
    commands = RecordingCommands(status(destination("web/srv2"), destination("web/h:/a/")))
    commands.extra_names = {"web", "srv2", "web/srv2", "h:/a/", "web/h:/a/"}
    daemons.serve("one.sock", commands)
    assert daemons.run("flush", name).returncode == OK
    assert commands.calls == [("flush", name)]


def test_an_unknown_name_is_an_error_and_no_command_is_sent(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    code, _, errors = daemons.run("pause", "srv2", "srv3")
    assert code == FAILED
    assert "has a destination srv3. Known destinations: srv2." in errors
    assert commands.calls == []


def test_log_level_and_reload_reach_the_daemon(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    assert daemons.run("log-level", "debug") == (OK, "", "")
    assert daemons.run("reload") == (OK, "", "")
    assert daemons.run("log-level", "loud").returncode == WRONG_USAGE
    assert daemons.run("log-level") == (OK, "notice\n", "")
    assert commands.calls == [("level", "debug"), ("reload",)]


def test_each_error_of_the_configuration_is_a_line(daemons: RuntimeDirectory) -> None:
    daemons.serve("one.sock", RecordingCommands(late=["srv2"]))
    code, _, errors = daemons.run("reload")
    assert code == FAILED
    first, second = errors.splitlines()
    assert first.startswith("pylsyncctl: pylsyncd.conf:3: there is no option windw")
    assert second.startswith("pylsyncctl: pylsyncd.conf:4: there is no option dely")
    assert "one.sock" in second


# -- wait -----------------------------------------------------------------------------------------


def test_wait_ends_when_everything_is_confirmed(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        daemons.command("wait", "srv2"), env=daemons.environment()
    ) as process:
        wait_until(lambda: ("wait", "srv2") in commands.calls)
        assert process.poll() is None
        commands.wait_may_end.set()
        assert process.wait(CTL_TIMEOUT) == OK


def test_a_timed_out_wait_names_the_late_destinations_and_the_reasons(
    daemons: RuntimeDirectory,
) -> None:
    late = destination("srv2", Condition.RETRYING, error="it is full: free space there")
    commands = RecordingCommands(status(late, destination("srv3")), late=["srv2"])
    daemons.serve("one.sock", commands)
    daemons.serve("two.sock", RecordingCommands())
    code, output, errors = daemons.run("wait", "--timeout", "90")
    assert (code, output) == (FAILED, "")
    assert errors == (
        "pylsyncctl: srv2 is not in sync after 1 min 30 s: retrying, it is full: free space there\n"
    )
    assert ("timeout", 90.0) in commands.calls


def test_a_wait_for_all_but_some_paths_has_a_status_of_its_own_and_names_them(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    names = tuple(f"f{number}" for number in range(10))
    commands.set_aside = {"srv2": SetAside(failed=PathSummary(12, names))}
    code, output, errors = daemons.run("wait")
    assert (code, output) == (SET_ASIDE, "")
    assert errors == (
        f"pylsyncctl: srv2 is in sync, except for 12 failed paths: {', '.join(names)}, ...\n"
    )
    commands.late = ["srv2"]
    assert daemons.run("wait", "--timeout", "1").returncode == FAILED


def test_a_wait_for_an_unverified_destination_has_that_status_and_says_what_to_run(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    commands.unverified = {"srv2": "never compared: run pylsyncctl sync srv2"}
    code, output, errors = daemons.run("wait")
    assert (code, output) == (SET_ASIDE, "")
    assert errors == ("pylsyncctl: srv2 is unverified: never compared: run pylsyncctl sync srv2\n")


def test_a_daemon_that_ends_during_a_wait_is_an_error(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        daemons.command("wait"), env=daemons.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: ("wait",) in commands.calls)
        daemons.stack.close()
        assert process.stderr is not None
        assert "incomplete (connection closed): check that it" in process.stderr.read()
        assert process.wait(CTL_TIMEOUT) == FAILED
    commands.wait_may_end.set()
    wait_until(lambda: threading.active_count() == 1)


def test_an_interrupted_wait_prints_nothing(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        daemons.command("wait"), env=daemons.environment(), stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: ("wait",) in commands.calls)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(CTL_TIMEOUT) == 130
    commands.wait_may_end.set()


# -- no daemon, or another program ----------------------------------------------------------------


@pytest.mark.parametrize("words", [("status",), ("flush",), ("flush", "srv2"), ("wait",)])
def test_without_a_daemon_the_error_names_the_searched_directory(
    daemons: RuntimeDirectory, words: tuple[str, ...]
) -> None:
    code, output, errors = daemons.run(*words)
    assert (code, output) == (ABSENT, "")
    assert f"No pylsyncd was found: there is no socket in {daemons.directory}." in errors
    assert "--socket" in errors


def leave_socket(path: Path) -> None:
    """Leave a socket behind, as a killed daemon does."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def test_the_socket_of_a_killed_daemon_is_an_error_only_if_no_other_runs(
    daemons: RuntimeDirectory,
) -> None:
    leave_socket(daemons.directory / "dead.sock")
    answer = daemons.run("status")
    assert answer.returncode == ABSENT
    assert "No pylsyncd listens at" in answer.stderr
    daemons.serve("one.sock", RecordingCommands())
    code, output, errors = daemons.run("status")
    assert (code, errors) == (OK, "")
    assert "srv2" in output


def answer_with(path: Sequence[str | int], text: str) -> bytes:
    """Return the answer of a daemon whose status has another JSON text at one place."""
    told = json.loads(format_status(MIXED_STATUS))
    place = told
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "HERE"
    answer = json.dumps({"version": 1, "status": told}).replace('"HERE"', text)
    return answer.encode() + b"\n"


FIRST = ("syncs", 0, "destinations", 0)
HUGE = ("1" + "0" * 4000, "-" + "9" * 5000, "1e999", "NaN", "-Infinity", "[" * 900 + "]" * 900)
PLACES = {
    "time": ("time",),
    "pid": ("pid",),
    "behind": (*FIRST, "behind"),
    "waiting": (*FIRST, "waiting"),
    "last run": (*FIRST, "last_run", "ended"),
    "bytes": (*FIRST, "last_run", "bytes_sent"),
    "exit status": (*FIRST, "last_run", "code"),
    "counts": (*FIRST, "counts", "codes"),
    "unknown": ("colour",),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_number_of_another_program_leads_to_a_traceback(
    daemons: RuntimeDirectory, place: str
) -> None:
    for number, text in enumerate(HUGE):
        path = daemons.directory / f"{number}.sock"
        with serving_answer(path, answer_with(PLACES[place], text)):
            for options in ((), ("--json",), ("--check",)):
                code, output, errors = daemons.run("status", *options)
                assert code == (UNKNOWN if options == ("--check",) else FAILED)
                assert "must be a line of JSON" in output + errors
                assert "Traceback" not in errors
        path.unlink()


@contextlib.contextmanager
def serving_answer(path: Path, answer: bytes) -> Iterator[None]:
    """Run a program at a socket that sends the same answer to all clients."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "incomplete (connection closed): check that it"),
        (b'{"version": 1, "sta', "incomplete (connection closed): check that it"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "The answer must be a line of JSON"),
        (b"[]\n", "The answer must be an object"),
        (b"\xff\xfe\n", "The answer must be a line of JSON"),
        (b'{"version": 2}\n', "The daemon speaks another version of the protocol: restart it"),
        (b'{"version": 1}\n', "sent an invalid status: it has None"),
        (b'{"version": 1, "status": {"pid": "x"}}\n', "sent an invalid status: it"),
        (b'{"version": 1, "error": "\\u001b[2J"}\n', r"\x1b[2J"),
    ],
)
def test_any_answer_of_another_program_is_an_error_without_a_traceback(
    daemons: RuntimeDirectory, answer: bytes, reason: str
) -> None:
    with serving_answer(daemons.directory / "one.sock", answer):
        code, output, errors = daemons.run("status")
        assert (code, output) == (FAILED, "")
        assert reason in errors
        assert daemons.run("status", "--check").returncode == UNKNOWN
        daemons.serve("two.sock", RecordingCommands())
        code, output, errors = daemons.run("status")
        # The status of the other daemon is shown nevertheless.
        assert code == FAILED
        assert "srv2" in output
        assert reason in errors


def test_a_file_that_is_not_a_socket_means_that_no_daemon_runs(daemons: RuntimeDirectory) -> None:
    path = daemons.directory / "file"
    path.touch()
    answer = daemons.run("-S", path, "status")
    assert answer.returncode == ABSENT
    assert f"No pylsyncd listens at {path}" in answer.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("dance",), ("status", "--watch", "soon"), ("wait", "--timeout", "-1"), ("--loud",),
     ("status", "--max-lag", "nan", "--json"), ("wait", "--timeout")],
)  # fmt: skip
def test_wrong_usage_is_an_error_that_refers_to_the_help(
    daemons: RuntimeDirectory, words: tuple[str, ...]
) -> None:
    answer = daemons.run(*words)
    assert answer.returncode == WRONG_USAGE
    assert answer.stderr.endswith("Try pylsyncctl --help.\n")


def test_the_help_lists_the_exit_statuses(daemons: RuntimeDirectory) -> None:
    output = daemons.run("--help").stdout
    assert "exit status: 0 done; 1 failed" in output
    assert "2 CRITICAL" in output


# -- check ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words", "code", "begin"),
    [
        (
            IN_SYNC_STATUS,
            (),
            OK,
            "PYLSYNCD OK - 1 destination, at most 0 s behind | 'srv2 lag'=0s;;600;0",
        ),
        (status(destination("a", behind=601.0)), (), CRITICAL, "PYLSYNCD CRITICAL - a in sync, 10"),
        (status(destination("a", behind=9.0)), ("--max-lag", "8"), CRITICAL, "PYLSYNCD CRITICAL"),
        (status(destination("a", behind=9.0)), ("--warn-lag", "8"), WARNING, "PYLSYNCD WARNING"),
        (status(destination("a", Condition.HELD)), (), CRITICAL, "PYLSYNCD CRITICAL - a held"),
        (status(destination("a", Condition.PAUSED)), (), WARNING, "PYLSYNCD WARNING - a paused"),
    ],
)
def test_check_prints_one_line_and_sets_the_exit_status(
    daemons: RuntimeDirectory, answer: Status, words: tuple[str, ...], code: int, begin: str
) -> None:
    daemons.serve("one.sock", RecordingCommands(answer))
    found, output, errors = daemons.run("status", "--check", *words)
    assert (found, errors) == (code, "")
    assert output.startswith(begin)
    assert output.count("\n") == 1


def test_check_is_critical_if_no_daemon_runs(daemons: RuntimeDirectory) -> None:
    code, output, errors = daemons.run("status", "--check")
    assert (code, errors) == (CRITICAL, "")
    assert output.startswith("PYLSYNCD CRITICAL - No pylsyncd was found")
    assert output.count("\n") == 1


def test_check_is_critical_if_a_daemon_hangs(
    daemons: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The command itself takes a second or two on a busy machine.
    assert ctl.CHECK_TIMEOUT <= 5.0
    monkeypatch.setattr(ctl, "CHECK_TIMEOUT", 0.2)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(daemons.directory))
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(daemons.directory / "hung.sock"))
        hung.listen()
        assert ctl.main(["status", "--check"]) == CRITICAL
    output = capsys.readouterr().out
    assert re.match(r"PYLSYNCD CRITICAL - The pylsyncd at .*hung\.sock has not answered", output)


def test_check_reports_what_others_tell_beside_the_daemon_that_does_not(
    daemons: RuntimeDirectory,
) -> None:
    daemons.serve("one.sock", RecordingCommands(status(destination("srv2", Condition.PAUSED))))
    with serving_answer(daemons.directory / "two.sock", b"[]\n"):
        code, output, _ = daemons.run("status", "--check")
    assert code == UNKNOWN
    assert "The answer must be an object" in output
    assert "; srv2 paused | 'srv2 lag'" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_check_by_a_user_who_may_not_look_is_unknown_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-") as directory:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        os.seteuid(65534)
        try:
            assert ctl.main(["status", "--check"]) == UNKNOWN
            assert ctl.main(["status"]) == FAILED
        finally:
            os.seteuid(0)
    output = capsys.readouterr()
    assert output.out.startswith("PYLSYNCD UNKNOWN - User id 65534 may not see whether")
    for each in output:
        assert "with sudo, or read its status file with status --file" in each


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("words", [("--json",), ("--watch",), ("--max-lag", "x"), ("--dance",)])
def test_check_with_wrong_usage_is_unknown(
    daemons: RuntimeDirectory, words: tuple[str, ...]
) -> None:
    code, output, _ = daemons.run("status", "--check", *words)
    assert code == UNKNOWN
    assert output.startswith("PYLSYNCD UNKNOWN - ")
    assert output.count("\n") == 1


# -- the status file ------------------------------------------------------------------------------


def write(path: Path, *, age: float) -> Path:
    path.write_text(format_status(status(destination("srv2"), at=time.time() - age)) + "\n")
    return path


def test_a_status_file_is_shown_with_its_age(daemons: RuntimeDirectory, tmp_path: Path) -> None:
    path = write(tmp_path / "status.json", age=300.0)
    code, output, _ = daemons.run("status", "--file", path)
    assert code == OK
    assert "As of 5 min ago: pylsyncd has ended or hangs\n" in output
    assert "web   srv2         in sync" in output
    line = daemons.run("status", "--file", path, "--json").stdout
    assert line == path.read_text()


def test_check_reads_a_status_file(daemons: RuntimeDirectory, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert daemons.run("status", "--check", "--file", path).returncode == CRITICAL
    assert daemons.run("status", "--check", "--file", write(path, age=0.0)).returncode == OK
    assert daemons.run("status", "--check", "--file", write(path, age=40.0)).returncode == CRITICAL
    path.write_text("half of")
    assert daemons.run("status", "--check", "--file", path).returncode == UNKNOWN


# -- watch ----------------------------------------------------------------------------------------


class Terminal:
    """pylsyncctl on a pseudo terminal."""

    def __init__(
        self, daemons: RuntimeDirectory, *words: str, more: Mapping[str, str] | None = None
    ) -> None:
        self._command = daemons.command(*words)
        self._environment = daemons.environment({"TERM": "xterm", **(more or {})})
        self.shown = b""

    def __enter__(self) -> "Terminal":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._screen, inside = pty.openpty()
        self.process = subprocess.Popen(
            self._command, stdin=inside, stdout=inside, stderr=inside, env=self._environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(inside)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def resize(self, columns: int) -> None:
        """Set the number of columns of the window."""
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read_until(self, condition: Callable[[bytes], bool]) -> bytes:
        """Return the output up to the moment at which a condition holds for it."""
        deadline = time.monotonic() + CTL_TIMEOUT
        found = b""
        while not condition(found):
            left = deadline - time.monotonic()
            assert select.select([self._screen], [], [], max(0.0, left))[0], found
            found += os.read(self._screen, 65536)
        return found

    def read_rest(self) -> bytes:
        """Return the output up to the end of the process."""
        found = b""
        with contextlib.suppress(OSError):  # EIO when the other end is closed.
            while chunk := os.read(self._screen, 65536):
                found += chunk
        return found


def test_watch_redraws_the_terminal_in_place_until_interrupted(
    daemons: RuntimeDirectory, commands: RecordingCommands
) -> None:
    with Terminal(daemons, "status", "--watch", "0.1") as terminal:
        first = terminal.read_until(lambda shown: shown.count(b"\x1b[J") >= 2)
        assert first.startswith(b"\x1b[2J\x1b[H")
        assert b"\x1b[32min sync\x1b[0m" in first
        commands.answer = status(destination("srv2", Condition.HELD, error="too much."))
        terminal.read_until(lambda shown: b"\x1b[1;31mheld" in shown and b"too much." in shown)
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_rest()
        assert terminal.process.wait(CTL_TIMEOUT) == OK


def test_watch_keeps_the_state_in_a_narrow_window(daemons: RuntimeDirectory) -> None:
    name = "a-rather-long-name.of.some.server.example.com"
    daemons.serve("one.sock", RecordingCommands(status(destination(name, Condition.HELD))))
    with Terminal(daemons, "status", "--watch", "0.1", more={"NO_COLOR": "1"}) as terminal:
        terminal.resize(50)
        shown = terminal.read_until(lambda shown: b"\xe2\x80\xa6  held" in shown)
        assert b"web   a-rather-long-name" in shown
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(CTL_TIMEOUT) == OK


def test_watch_survives_the_restart_of_a_daemon(daemons: RuntimeDirectory) -> None:
    with Terminal(daemons, "status", "--watch", "0.1") as terminal:
        terminal.read_until(lambda shown: b"No pylsyncd was found" in shown)
        daemons.serve("one.sock", RecordingCommands())
        terminal.read_until(lambda shown: b"srv2" in shown)
        daemons.stack.close()
        terminal.read_until(lambda shown: b"No pylsyncd was found" in shown)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(CTL_TIMEOUT) == OK


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_used_on_capable_terminals_only(
    daemons: RuntimeDirectory, more: dict[str, str]
) -> None:
    with Terminal(daemons, "status", more=more) as terminal:
        shown = terminal.read_rest()
        assert terminal.process.wait(CTL_TIMEOUT) == OK
    assert b"srv2" in shown
    assert (b"\x1b[" in shown) is (more == {})


@pytest.mark.usefixtures("commands")
def test_watch_into_a_pipe_prints_one_table_after_the_other(daemons: RuntimeDirectory) -> None:
    with processes.running_process(
        daemons.command("status", "--watch", "0.1"), env=daemons.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(9)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.stderr.read() == ""
        assert process.wait(CTL_TIMEOUT) == OK
    assert "\x1b" not in "".join(lines) + rest
    assert lines[3] == lines[7] == "\n"
    assert lines[:4] == lines[4:8]
