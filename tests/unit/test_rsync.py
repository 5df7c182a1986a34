"""Running rsync: its counters and messages, and that nothing it says blocks or fills memory."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from pylsyncd import rsync
from pylsyncd.commands import Abilities, Rsync
from pylsyncd.endpoints import Destination
from pylsyncd.errors import UsageError
from pylsyncd.notation import Transport
from pylsyncd.rsync import Run, Runner


def full(source: Path, replica: Path, shown: list[str]) -> Run:
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    rsync_with_items = Rsync("rsync", (3, 2, 7), tells_items=True)
    command = rsync_with_items.full(os.fsencode(source), to, Abilities())
    return Runner().run(command, b"", shown.append)


def shell(text: str) -> Run:
    return Runner().run([b"sh", b"-c", text.encode()], b"")


def test_the_counters_of_a_run_are_read(tmp_path: Path) -> None:
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(b"x" * 5000)
    (source / "link").symlink_to("d")
    (replica / "old").mkdir(parents=True)
    (replica / "old/f").touch()
    shown: list[str] = []
    run = full(source, replica, shown)
    assert (run.code, list(run.messages)) == (0, [])
    assert (run.files, run.deleted) == (3, 2)
    assert ">f+++++++++ d/f" in shown
    assert "*deleting   old/f" in shown
    assert 5000 < run.bytes_sent < 6000
    assert 0 < run.seconds < 20


def test_odd_names_do_not_upset_the_counters(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in (b"a\n>f+++++++++ b", b"Total bytes sent: 9", b"\xff", b"*deleting   c"):
        descriptor = os.open(os.fsencode(source) + b"/" + name, os.O_CREAT)
        os.close(descriptor)
    shown: list[str] = []
    run = full(source, tmp_path / "dst", shown)
    assert (run.files, run.deleted, list(run.messages)) == (4, 0, [])
    # The destination itself is told of if its time was not the right one by chance.
    assert len([line for line in shown if not line.endswith(" ./")]) == 4


def test_of_a_flood_of_messages_only_the_last_are_kept() -> None:
    run = shell("yes 'rsync: it hurts' | head -n 200000 >&2; echo end >&2; exit 23")
    assert run.code == 23
    assert len(run.messages) == run.messages.maxlen
    assert run.messages[-1] == "end"


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    run = shell("head -c 50000000 /dev/zero >&2")
    assert sum(map(len, run.messages)) < 100_000


def test_the_list_is_on_standard_input_whatever_its_size() -> None:
    content = b"x" * 10_000_000
    run = Runner().run([b"sh", b"-c", b"wc -c >&2"], content)
    assert run.messages[-1].strip() == str(len(content))


def test_a_program_that_is_not_there_is_an_outcome_and_no_crash() -> None:
    run = Runner().run([b"./no-such-program"], b"")
    assert run.code == 127
    assert "cannot be run" in run.messages[0]


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RSYNC_OLD_ARGS", "RSYNC_PROTECT_ARGS", "RSYNC_RSH", "LC_ALL"):
        monkeypatch.setenv(name, "1")
    run = shell("env | grep -e ^RSYNC_ -e ^LC_ALL= >&2")
    assert list(run.messages) == ["LC_ALL=C"]


def test_a_run_and_all_that_it_started_can_be_ended(tmp_path: Path) -> None:
    runner, pids = Runner(), tmp_path / "pids"
    command = [b"sh", b"-c", b"sleep 600 & echo $$ $! >%b; wait" % os.fsencode(pids)]
    found: list[Run] = []
    thread = threading.Thread(target=lambda: found.append(runner.run(command, b"")))
    thread.start()
    deadline = time.monotonic() + 20
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runner.end(signal.SIGTERM)
    thread.join(20)
    assert found[0].code == -signal.SIGTERM
    for pid in pids.read_text().split():
        while Path(f"/proc/{pid}").exists() and "Z" not in _state(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_the_version_is_read_and_a_stranger_refused() -> None:
    assert rsync.version("rsync") >= (3, 2, 3)
    with pytest.raises(UsageError, match="does not answer"):
        rsync.version("true")
