"""pylsyncctl as people run it: a process, its two outputs and its exit status."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support import processes
from support.commands import IN_SYNC_STATUS, RecordingCommands, destination, status
from support.ctl import CTL_TIMEOUT, Pylsyncctl
from support.waiting import wait_until

from pylsyncd.control.server import ControlServer
from pylsyncd.model.status import Condition, Status
from pylsyncd.model.status_json import format_status

OK, FAILED, WRONG_USAGE, ABSENT = 0, 1, 2, 4
WARNING, CRITICAL, UNKNOWN = 1, 2, 3


class Place(Pylsyncctl):
    """A runtime directory and the daemons in it."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(directory)
        self.stack = stack

    def serve(self, name: str, commands: RecordingCommands) -> ControlServer:
        """Have a daemon at a socket of this name."""
        failed: list[str] = []
        control = ControlServer(str(self.directory / name), commands, failed.append)
        control.start()
        self.stack.callback(control.stop)
        return control


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    with contextlib.ExitStack() as stack:
        yield Place(directory, stack)


@pytest.fixture
def commands(place: Place) -> RecordingCommands:
    """Return what the one daemon there is told."""
    made = RecordingCommands()
    place.serve("one.sock", made)
    return made


# -- status ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("commands")
def test_the_status_is_a_table_and_nothing_else(place: Place) -> None:
    code, said, complained = place.run("status")
    assert (code, complained) == (OK, "")
    assert said.splitlines()[1].split() == [
        "SYNC", "DESTINATION", "STATE", "BEHIND", "WAITING", "LAST", "RUN", "NEXT", "ATTEMPT",
    ]  # fmt: skip
    assert said.splitlines()[2].startswith("web   srv2         in sync")
    assert "\x1b" not in said


@pytest.mark.usefixtures("commands")
def test_json_is_a_line_for_each_daemon(place: Place) -> None:
    place.serve("two.sock", RecordingCommands(status(destination("srv9"))))
    code, said, _ = place.run("status", "--json")
    assert code == OK
    first, second = said.splitlines()
    assert first == format_status(IN_SYNC_STATUS)
    assert json.loads(second)["syncs"][0]["destinations"][0]["name"] == "srv9"


def test_the_daemons_of_instances_are_found_one_level_below(place: Place) -> None:
    for name in ("web", "mail"):
        place.serve(f"{name}/1.sock", RecordingCommands(status(destination(f"srv-{name}"))))
    said = place.run("status").stdout
    assert said.index("srv-mail") < said.index("srv-web")
    assert "\n\npylsyncd" in said


def test_a_socket_can_be_named_before_and_after_the_command(place: Place) -> None:
    for name in ("one", "two"):
        place.serve(f"{name}.sock", RecordingCommands(status(destination(f"srv-{name}"))))
    path = place.directory / "two.sock"
    for words in (("-S", path, "status"), ("status", "--socket", path)):
        said = place.run(*words).stdout
        assert "srv-two" in said
        assert "srv-one" not in said


def test_nothing_that_a_terminal_would_obey_gets_through(place: Place) -> None:
    evil = "\x1b]0;title\x07\x9b2J\n\udcff"
    place.serve(
        "one.sock", RecordingCommands(status(destination(evil, error=evil), name=evil, held=evil))
    )
    for words in (("status",), ("status", "--json"), ("status", "--check"), ("flush", "x")):
        _, said, complained = place.run(*words)
        assert all(line.isprintable() for line in (said + complained).splitlines())


def test_what_the_terminals_character_set_lacks_is_escaped(place: Place) -> None:
    place.serve("one.sock", RecordingCommands(status(destination("büro"))))
    answer = place.run("status", more={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert answer.returncode == OK
    assert r"b\xfcro" in answer.stdout


def test_who_reads_only_the_beginning_is_no_fault(place: Place) -> None:
    many = status(*(destination(f"srv{number}" * 10) for number in range(3000)))
    place.serve("one.sock", RecordingCommands(many))
    with processes.running_process(
        place.command("status"), env=place.environment(), text=True,
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
def test_who_reads_nothing_is_no_fault(
    place: Place, words: tuple[str, ...], unbuffered: str, *, runs: bool
) -> None:
    if runs:
        place.serve("one.sock", RecordingCommands())
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        ended = subprocess.run(
            place.command(*words), env=place.environment({"PYTHONUNBUFFERED": unbuffered}),
            timeout=CTL_TIMEOUT, check=False, stdout=closed, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert ended.returncode in {FAILED, ABSENT}
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["flush", "sync", "pause", "resume", "release"])
def test_a_command_goes_to_the_destinations_that_are_named(
    place: Place, commands: RecordingCommands, command: str
) -> None:
    assert place.run(command, "srv2") == (OK, "", "")
    assert commands.calls == [(command, "srv2")]


@pytest.mark.parametrize("command", ["flush", "sync", "pause", "resume"])
def test_without_names_it_goes_to_all_destinations_of_all_daemons(
    place: Place, commands: RecordingCommands, command: str
) -> None:
    other = RecordingCommands()
    place.serve("two.sock", other)
    assert place.run(command) == (OK, "", "")
    assert commands.calls == other.calls == [(command,)]


def test_a_release_needs_a_name(place: Place, commands: RecordingCommands) -> None:
    answer = place.run("release")
    assert answer.returncode == WRONG_USAGE
    assert "DEST" in answer.stderr
    assert "Try pylsyncctl --help." in answer.stderr
    assert commands.calls == []


def test_names_go_to_the_daemons_that_know_them(place: Place) -> None:
    both = {
        name: RecordingCommands(status(destination(name), destination("same"))) for name in "ab"
    }
    for name, commands in both.items():
        place.serve(f"{name}.sock", commands)
    assert place.run("flush", "a", "same").returncode == OK
    assert both["a"].calls == [("flush", "a", "same")]
    assert both["b"].calls == [("flush", "same")]


@pytest.mark.parametrize("name", ["web", "srv2", "web/srv2", "h:/a/", "web/h:/a/"])
def test_a_destination_may_be_named_without_its_sync(place: Place, name: str) -> None:
    commands = RecordingCommands(status(destination("web/srv2"), destination("web/h:/a/")))
    commands.extra_names = {"web", "srv2", "web/srv2", "h:/a/", "web/h:/a/"}
    place.serve("one.sock", commands)
    assert place.run("flush", name).returncode == OK
    assert commands.calls == [("flush", name)]


def test_a_name_that_nobody_knows_is_refused_and_nothing_is_done(
    place: Place, commands: RecordingCommands
) -> None:
    code, _, complained = place.run("pause", "srv2", "srv3")
    assert code == FAILED
    assert "has a destination srv3. Known destinations: srv2." in complained
    assert commands.calls == []


def test_the_level_and_a_reload_are_passed_on(place: Place, commands: RecordingCommands) -> None:
    assert place.run("log-level", "debug") == (OK, "", "")
    assert place.run("reload") == (OK, "", "")
    assert place.run("log-level", "loud").returncode == WRONG_USAGE
    assert commands.calls == [("level", "debug"), ("reload",)]


def test_what_the_daemon_refuses_is_said_with_a_line_for_each_fault(place: Place) -> None:
    place.serve("one.sock", RecordingCommands(late=["srv2"]))
    code, _, complained = place.run("reload")
    assert code == FAILED
    first, second = complained.splitlines()
    assert first.startswith("pylsyncctl: pylsyncd.conf:3: there is no option windw")
    assert second.startswith("pylsyncctl: pylsyncd.conf:4: there is no option dely")
    assert "one.sock" in second


# -- wait -----------------------------------------------------------------------------------------


def test_a_wait_ends_when_all_is_confirmed(place: Place, commands: RecordingCommands) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        place.command("wait", "srv2"), env=place.environment()
    ) as process:
        wait_until(lambda: ("wait", "srv2") in commands.calls)
        assert process.poll() is None
        commands.wait_may_end.set()
        assert process.wait(CTL_TIMEOUT) == OK


def test_a_wait_that_takes_too_long_says_for_whom_and_why(place: Place) -> None:
    late = destination("srv2", Condition.RETRYING, error="it is full: free space there")
    commands = RecordingCommands(status(late, destination("srv3")), late=["srv2"])
    place.serve("one.sock", commands)
    place.serve("two.sock", RecordingCommands())
    code, said, complained = place.run("wait", "--timeout", "90")
    assert (code, said) == (FAILED, "")
    assert complained == (
        "pylsyncctl: srv2 is not in sync after 1 min 30 s: retrying, it is full: free space there\n"
    )
    assert ("timeout", 90.0) in commands.calls


def test_a_daemon_that_ends_meanwhile_is_a_sentence(
    place: Place, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        place.command("wait"), env=place.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: ("wait",) in commands.calls)
        place.stack.close()
        assert process.stderr is not None
        assert "incomplete (connection closed): check that it" in process.stderr.read()
        assert process.wait(CTL_TIMEOUT) == FAILED
    commands.wait_may_end.set()
    wait_until(lambda: threading.active_count() == 1)


def test_an_interrupted_wait_says_nothing(place: Place, commands: RecordingCommands) -> None:
    commands.wait_may_end.clear()
    with processes.running_process(
        place.command("wait"), env=place.environment(), stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: ("wait",) in commands.calls)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(CTL_TIMEOUT) == 130
    commands.wait_may_end.set()


# -- nobody, or somebody else ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [("status",), ("flush",), ("flush", "srv2"), ("wait",)])
def test_without_a_daemon_the_sentence_says_where_was_looked(
    place: Place, words: tuple[str, ...]
) -> None:
    code, said, complained = place.run(*words)
    assert (code, said) == (ABSENT, "")
    assert f"No pylsyncd was found: there is no socket in {place.directory}." in complained
    assert "--socket" in complained


def leave(path: Path) -> None:
    """Leave a socket as a daemon does that is killed."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def test_what_a_killed_daemon_has_left_counts_only_where_there_is_nobody(place: Place) -> None:
    leave(place.directory / "dead.sock")
    answer = place.run("status")
    assert answer.returncode == ABSENT
    assert "No pylsyncd listens at" in answer.stderr
    place.serve("one.sock", RecordingCommands())
    code, said, complained = place.run("status")
    assert (code, complained) == (OK, "")
    assert "srv2" in said


@contextlib.contextmanager
def speaking(path: Path, answer: bytes) -> Iterator[None]:
    """Have somebody at a socket who says the same to all, and ends."""
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
def test_whatever_is_at_the_socket_it_ends_with_a_sentence(
    place: Place, answer: bytes, reason: str
) -> None:
    with speaking(place.directory / "one.sock", answer):
        code, said, complained = place.run("status")
        assert (code, said) == (FAILED, "")
        assert reason in complained
        assert place.run("status", "--check").returncode == UNKNOWN
        place.serve("two.sock", RecordingCommands())
        code, said, complained = place.run("status")
        # The others are shown nevertheless.
        assert code == FAILED
        assert "srv2" in said
        assert reason in complained


def test_a_file_that_is_no_socket_is_a_sentence(place: Place) -> None:
    path = place.directory / "file"
    path.touch()
    answer = place.run("-S", path, "status")
    assert answer.returncode == ABSENT
    assert f"No pylsyncd listens at {path}" in answer.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("dance",), ("status", "--watch", "soon"), ("wait", "--timeout", "-1"), ("--loud",),
     ("status", "--max-lag", "nan", "--json"), ("wait", "--timeout")],
)  # fmt: skip
def test_wrong_usage_is_said(place: Place, words: tuple[str, ...]) -> None:
    answer = place.run(*words)
    assert answer.returncode == WRONG_USAGE
    assert answer.stderr.endswith("Try pylsyncctl --help.\n")


def test_the_help_tells_the_exit_statuses(place: Place) -> None:
    said = place.run("--help").stdout
    assert "exit status: 0 done; 1 failed" in said
    assert "2 CRITICAL" in said


# -- for Nagios -----------------------------------------------------------------------------------


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
def test_a_check_is_one_line_and_its_status(
    place: Place, answer: Status, words: tuple[str, ...], code: int, begin: str
) -> None:
    place.serve("one.sock", RecordingCommands(answer))
    found, said, complained = place.run("status", "--check", *words)
    assert (found, complained) == (code, "")
    assert said.startswith(begin)
    assert said.count("\n") == 1


def test_for_a_check_it_is_critical_that_no_daemon_runs(place: Place) -> None:
    code, said, complained = place.run("status", "--check")
    assert (code, complained) == (CRITICAL, "")
    assert said.startswith("PYLSYNCD CRITICAL - No pylsyncd was found")
    assert said.count("\n") == 1


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("words", [("--json",), ("--watch",), ("--max-lag", "x"), ("--dance",)])
def test_for_a_check_wrong_usage_is_unknown(place: Place, words: tuple[str, ...]) -> None:
    code, said, _ = place.run("status", "--check", *words)
    assert code == UNKNOWN
    assert said.startswith("PYLSYNCD UNKNOWN - ")
    assert said.count("\n") == 1


# -- the status file ------------------------------------------------------------------------------


def write(path: Path, *, age: float) -> Path:
    path.write_text(format_status(status(destination("srv2"), at=time.time() - age)) + "\n")
    return path


def test_a_status_file_gives_the_same_table_and_its_age(place: Place, tmp_path: Path) -> None:
    path = write(tmp_path / "status.json", age=300.0)
    code, said, _ = place.run("status", "--file", path)
    assert code == OK
    assert "As of 5 min ago: pylsyncd has ended or hangs\n" in said
    assert "web   srv2         in sync" in said
    line = place.run("status", "--file", path, "--json").stdout
    assert line == path.read_text()


def test_a_status_file_can_be_checked(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert place.run("status", "--check", "--file", path).returncode == CRITICAL
    assert place.run("status", "--check", "--file", write(path, age=0.0)).returncode == OK
    assert place.run("status", "--check", "--file", write(path, age=900.0)).returncode == CRITICAL
    path.write_text("half of")
    assert place.run("status", "--check", "--file", path).returncode == UNKNOWN


# -- again and again ------------------------------------------------------------------------------


class Terminal:
    """pylsyncctl on a pseudo terminal."""

    def __init__(self, place: Place, *words: str, more: Mapping[str, str] | None = None) -> None:
        self._command = place.command(*words)
        self._environment = place.environment({"TERM": "xterm", **(more or {})})
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

    def until(self, is_so: Callable[[bytes], bool]) -> bytes:
        """Return what was shown until something is so of that."""
        deadline = time.monotonic() + CTL_TIMEOUT
        found = b""
        while not is_so(found):
            left = deadline - time.monotonic()
            assert select.select([self._screen], [], [], max(0.0, left))[0], found
            found += os.read(self._screen, 65536)
        return found

    def rest(self) -> bytes:
        """Return what is shown until its end."""
        found = b""
        with contextlib.suppress(OSError):  # The terminal is an error when nobody has it open.
            while chunk := os.read(self._screen, 65536):
                found += chunk
        return found


def test_on_a_terminal_it_is_drawn_anew_in_place_until_interrupted(
    place: Place, commands: RecordingCommands
) -> None:
    with Terminal(place, "status", "--watch", "0.1") as terminal:
        first = terminal.until(lambda shown: shown.count(b"\x1b[J") >= 2)
        assert first.startswith(b"\x1b[2J\x1b[H")
        assert b"\x1b[32min sync\x1b[0m" in first
        commands.answer = status(destination("srv2", Condition.HELD, error="too much."))
        terminal.until(lambda shown: b"\x1b[1;31mheld" in shown and b"too much." in shown)
        terminal.process.send_signal(signal.SIGINT)
        terminal.rest()
        assert terminal.process.wait(CTL_TIMEOUT) == OK


def test_a_daemon_that_goes_and_comes_back_is_watched_on(place: Place) -> None:
    with Terminal(place, "status", "--watch", "0.1") as terminal:
        terminal.until(lambda shown: b"No pylsyncd was found" in shown)
        place.serve("one.sock", RecordingCommands())
        terminal.until(lambda shown: b"srv2" in shown)
        place.stack.close()
        terminal.until(lambda shown: b"No pylsyncd was found" in shown)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(CTL_TIMEOUT) == OK


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_for_terminals_that_want_them(place: Place, more: dict[str, str]) -> None:
    with Terminal(place, "status", more=more) as terminal:
        shown = terminal.rest()
        assert terminal.process.wait(CTL_TIMEOUT) == OK
    assert b"srv2" in shown
    assert (b"\x1b[" in shown) is (more == {})


@pytest.mark.usefixtures("commands")
def test_into_a_pipe_it_is_one_table_after_the_other(place: Place) -> None:
    with processes.running_process(
        place.command("status", "--watch", "0.1"), env=place.environment(), text=True,
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
