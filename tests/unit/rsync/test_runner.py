"""Runs of rsync: counters, signals, processes left behind, and failures to start."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import runner as rsync_runner
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict, interpret
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.system import processes


def full(source: Path, replica: Path, shown: list[str]) -> RunResult:
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    rsync_with_items = RsyncOptions("rsync", (3, 2, 7), itemize=True)
    command = rsync_with_items.full_sync_command(os.fsencode(source), to, RsyncCapabilities())
    return Runner().run(command, b"", shown.append)


def shell(text: str) -> RunResult:
    return Runner().run([b"sh", b"-c", text.encode()], b"")


def test_the_counters_of_a_run_are_parsed(tmp_path: Path) -> None:
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(b"x" * 5000)
    (source / "link").symlink_to("d")
    (replica / "old").mkdir(parents=True)
    (replica / "old/f").touch()
    shown: list[str] = []
    run = full(source, replica, shown)
    assert (run.exit_status, list(run.messages)) == (0, [])
    assert (run.files, run.deleted) == (3, 2)
    assert ">f+++++++++ d/f" in shown
    assert "*deleting   old/f" in shown
    assert 5000 < run.bytes_sent < 6000
    assert 0 < run.seconds < 45


LIST = "building file list ... "


@pytest.mark.parametrize(
    ("lines", "is_listed", "messages"),
    [
        pytest.param([f"{LIST}done", "other"], True, ["other"], id="in one line"),
        pytest.param([LIST, "other", "done"], True, ["other"], id="with a message between"),
        pytest.param([f"{LIST}other", "done", "more"], True, ["more"], id="before a message"),
        pytest.param([LIST, "other"], False, ["other"], id="never complete"),
        pytest.param(["done"], False, ["done"], id="the end alone"),
        pytest.param([f"x{LIST}done"], False, [f"x{LIST}done"], id="in a message"),
    ],
)
def test_the_moment_at_which_a_list_is_complete_is_recorded(
    lines: list[str], is_listed: bool, messages: list[str]
) -> None:
    before = time.time_ns()
    run = Runner().run([b"printf", rb"%s\n", *map(str.encode, lines)], b"")
    assert (run.listed_ns > before) is is_listed
    assert list(run.messages) == messages


def test_a_copy_gets_the_time_that_its_file_had_when_the_list_was_complete(tmp_path: Path) -> None:
    source, replica = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    (source / "a").write_bytes(os.urandom(300_000))
    (source / "b").write_text("one")
    listed = (source / "b").stat().st_mtime_ns
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    options = RsyncOptions("rsync", (3, 2, 7), bandwidth_limit="300")
    command = options.file_list_command(
        os.fsencode(source), to, RsyncCapabilities(), create_parents=True
    )
    rsync = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert rsync.stdin is not None
    assert rsync.stdout is not None
    with rsync:
        rsync.stdin.write(b"./a\0./b\0")
        rsync.stdin.close()
        assert rsync.stdout.readline() == b"building file list ... done\n"
        # While the first one is sent.
        (source / "b").write_text("two")
        rsync.stdout.read()
    assert (replica / "b").stat().st_mtime_ns == listed


@pytest.mark.parametrize("counted", ["0", "3 (reg: 2, dir: 1)"])
def test_deletions_are_counted_by_name_if_the_daemon_does_not_count_them(counted: str) -> None:
    shown: list[str] = []
    lines = ["deleting d/a", "deleting d/", "*deleting   b", f"Number of deleted files: {counted}"]
    run = Runner().run([b"printf", rb"%s\n", *map(str.encode, lines)], b"", shown.append)
    assert (run.deleted, list(run.messages), shown) == (3, [], ["*deleting   b"])


@pytest.mark.parametrize(
    "counter",
    [
        "Number of deleted files: %s",
        "Number of regular files transferred: %s",
        "Number of created files: %s (reg: 1)",
        "Number of created files: 1 (reg: %s)",
        "Total bytes sent: %s",
    ],
)
@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, "-1", "", "\u0663"], ids=len)
def test_a_count_that_rsync_cannot_have_printed_is_ignored(counter: str, number: str) -> None:
    line = counter.replace("%s", number)
    run = Runner().run([b"printf", rb"%s\n", line.encode()], b"")
    assert (run.files, run.deleted, run.bytes_sent) in {(0, 0, 0), (1, 0, 0)}
    assert (run.exit_status, list(run.messages)) == (0, [])


def test_repeated_counters_do_not_grow_without_end() -> None:
    line = f"Number of regular files transferred: {10**19 - 1}\nNumber of created files: 5"
    # Equal lines of one piece of output count once.
    run = Runner().run(
        [b"sh", b"-c", b"for i in 1 2 3; do echo '%b'; sleep 0.05; done" % line.encode()], b""
    )
    assert run.files == 10**19


def test_odd_names_do_not_disturb_the_counters(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in (b"a\n>f+++++++++ b", b"Total bytes sent: 9", b"\xff", b"*deleting   c"):
        descriptor = os.open(os.fsencode(source) + b"/" + name, os.O_CREAT)
        os.close(descriptor)
    shown: list[str] = []
    run = full(source, tmp_path / "dst", shown)
    assert (run.files, run.deleted, list(run.messages)) == (4, 0, [])
    # The destination itself is reported unless it has the right mtime by chance.
    assert len([line for line in shown if not line.endswith(" ./")]) == 4


def test_an_item_is_one_line_without_control_characters() -> None:
    shown: list[str] = []
    text = rb"printf '>f+++++++++ \033[2J\r\t\302\233x\n'"
    Runner().run([b"sh", b"-c", text], b"", shown.append)
    assert shown == [r">f+++++++++ \x1b[2J\r\t\xc2\x9bx"]


def test_a_list_of_any_size_is_on_standard_input() -> None:
    content = b"x" * 10_000_000
    run = Runner().run([b"sh", b"-c", b"wc -c >&2"], content)
    assert list(run.messages)[-1].strip() == str(len(content))


def test_a_missing_program_is_a_result_and_not_an_error() -> None:
    run = Runner().run([b"./no-such-program"], b"")
    assert run.exit_status == 127
    assert "cannot be run" in next(iter(run.messages))


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Return a file into which a command writes the pids of the processes that it leaves behind."""
    file = tmp_path / "pids"
    yield file
    for pid in file.read_text().split() if file.exists() else ():
        if _is_alive(pid):
            os.kill(int(pid), signal.SIGKILL)


def _is_alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_signal_reaches_a_run_and_all_its_children(pids: Path) -> None:
    runner = Runner()
    command = [b"sh", b"-c", b"sleep 600 & echo $$ $! >%b; wait" % os.fsencode(pids)]
    found: list[RunResult] = []
    thread = threading.Thread(target=lambda: found.append(runner.run(command, b"")))
    thread.start()
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    runner.send_signal(signal.SIGTERM)
    thread.join(45)
    assert found[0].exit_status == -signal.SIGTERM
    assert not found[0].stall_reason
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: not _is_alive(pid))


def test_a_signal_without_a_running_rsync_is_ignored() -> None:
    runner = Runner()
    runner.send_signal(signal.SIGTERM)
    runner.run([b"true"], b"")
    runner.send_signal(signal.SIGTERM)


def test_children_that_outlive_a_run_are_killed(pids: Path) -> None:
    run = shell(f"trap '' TERM; sleep 600 & echo $! >{pids}; exit 3")
    assert run.exit_status == 3
    wait_until(lambda: not _is_alive(pids.read_text().strip()))


def left_open(pids: Path) -> RunResult:
    """Run a command that leaves a process in another session that holds the outputs open."""
    return shell(f"setsid sleep 600 & echo $! >{pids}; seq -f 'rsync: %g' 300 >&2; exit 23")


def test_a_run_ends_with_its_process_although_another_process_holds_its_outputs(pids: Path) -> None:
    run = left_open(pids)
    assert run.exit_status == 23
    assert len(run.messages) == 300
    assert run.seconds < 45


def test_a_run_ends_with_its_process_also_without_pidfd(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", fail)
    run = left_open(pids)
    assert (run.exit_status, len(run.messages)) == (23, 300)
    assert run.seconds < 45


def test_a_run_that_has_closed_its_outputs_is_waited_for() -> None:
    run = shell("exec >&- 2>&-; sleep 0.3; exit 7")
    assert run.exit_status == 7
    assert run.seconds >= 0.3


def test_a_run_without_progress_that_ignores_sigterm_is_killed_with_its_group(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT", 0.5)
    text = f"trap '' TERM; sleep 600 & echo $! >{pids}; while :; do wait; done"
    run = Runner().run([b"sh", b"-c", text.encode()], b"", stall_timeout=1.0)
    assert run.stall_reason
    assert run.exit_status == -signal.SIGKILL
    wait_until(lambda: not _is_alive(pids.read_text().strip()))


def test_a_stopped_rsync_leaves_no_partial_file_at_the_destination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync_runner, "_CLEANUP_TIMEOUT", 45.0)
    source, replica = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    replica.mkdir()
    (source / "a").write_bytes(os.urandom(3_000_000))
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    command = RsyncOptions("rsync", (3, 2, 7), extra_options=("--bwlimit=50",)).full_sync_command(
        os.fsencode(source), to, RsyncCapabilities()
    )
    for _ in range(5):  # Without time to clean up, every second run leaves a file.
        one = Runner()

        def end(one: Runner = one) -> None:
            wait_until(lambda: any(name.startswith(".a.") for name in os.listdir(replica)))
            one.send_signal(signal.SIGTERM)

        thread = threading.Thread(target=end)
        thread.start()
        assert one.run(command, b"").exit_status != 0
        thread.join()
        assert os.listdir(replica) == []


def test_rsync_runs_in_the_open_directory_after_it_was_renamed(
    tmp_path: Path,
) -> None:
    source, moved, replica = tmp_path / "src", tmp_path / "moved", tmp_path / "dst"
    source.mkdir()
    (source / "right").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/wrong").touch()
    descriptor = os.open(source, os.O_RDONLY)
    try:
        source.rename(moved)
        source.symlink_to("other")
        to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
        command = RsyncOptions("rsync", (3, 2, 7)).full_sync_command(
            CURRENT_DIRECTORY, to, RsyncCapabilities()
        )
        run = Runner().run(command, b"", directory=descriptor)
    finally:
        os.close(descriptor)
    assert (run.exit_status, list(run.messages)) == (0, [])
    assert os.listdir(replica) == ["right"]


def test_a_directory_that_cannot_be_entered_is_not_mistaken_for_a_missing_rsync(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        run = Runner().run([b"true"], b"", directory=descriptor)
    finally:
        os.close(descriptor)
    assert run.exit_status == 3
    assert list(run.messages) == ["true cannot start in the source: Not a directory"]


def test_a_lack_of_descriptors_during_a_run_is_retried_later() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    takes_them = (
        "import os, resource, sys; "
        "_, hard = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE); "
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, hard)); sys.exit(23)"
    )
    try:
        run = Runner().run([os.fsencode(sys.executable), b"-c", takes_them.encode()], b"")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert interpret(run.exit_status, run.messages).verdict is Verdict.RETRY_LATER
    assert "cannot be run: Too many open files" in list(run.messages)[-1]
