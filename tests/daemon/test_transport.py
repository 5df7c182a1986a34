"""How rsync is run: shared ssh logins, priorities, and the number of processes."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.counting import CountingRsync
from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd
from support.destinations import Destination, local, on_rsync_daemon, over_ssh
from support.faults import FaultyRsync, wait_for_file
from support.mounts import Mounts, can_mount
from support.servers import LOOPBACK, RsyncDaemon, SshServer
from support.trees import differences, equal_within
from support.waiting import wait_until

SECONDS = 45.0
NEVER = "3600"
ROUNDS = 4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("first")
    return path


@pytest.fixture
def sockets() -> Iterator[Path]:
    """Return a directory for sockets with a short path."""
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        yield Path(directory)


def daemon(source: Path, sockets: Path, *options: str, to: list[Destination]) -> Pylsyncd:
    return Pylsyncd(
        "-i", "-w", NEVER, *options, *(to[0].options), f"{source}/./",
        *(destination.argument for destination in to),
        names=[destination.name for destination in to],
        extra_environment={"RUNTIME_DIRECTORY": str(sockets), "TMPDIR": str(sockets)},
    )  # fmt: skip


def send(running: Pylsyncd, source: Path, to: Destination, content: str) -> None:
    (source / "file").write_text(content)
    running.flush()
    different = equal_within(os.fsencode(source), to.path, SECONDS)
    assert not different, (different, running.log_tail)


def masters(sockets: Path) -> list[int]:
    """Return the processes that keep the ssh connections of a daemon open."""
    found = []
    for process in processes.list_processes():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            path = os.fsencode(sockets)
            # A master that a run has started has a title; one without a run keeps its arguments.
            if title.startswith(b"ssh: " + path) or b"ControlPath=" + path in title:
                found.append(process.pid)
    return found


def logins(server: SshServer) -> int:
    return server.log.read_bytes().count(b"Accepted publickey")


def test_all_runs_over_ssh_share_one_login_and_leave_nothing_behind(
    source: Path, sockets: Path, tmp_path: Path, ssh_server: SshServer
) -> None:
    to = over_ssh(ssh_server, tmp_path / "replica")
    before = logins(ssh_server)
    with daemon(source, sockets, to=[to]) as running:
        running.wait_ready()
        for number in range(ROUNDS):
            send(running, source, to, f"content {number}")
        assert logins(ssh_server) - before == 1
        # The ssh of the last run may be ending.
        wait_until(lambda: len(masters(sockets)) == 1, message="one connection is open")
    wait_until(lambda: not masters(sockets), message="the connection is closed")
    assert not list(sockets.glob("**/pylsyncd-ssh-*"))


def test_without_sharing_each_run_logs_in(
    source: Path, sockets: Path, tmp_path: Path, ssh_server: SshServer
) -> None:
    to = over_ssh(ssh_server, tmp_path / "replica")
    before = logins(ssh_server)
    with daemon(source, sockets, "--no-share-ssh", to=[to]) as running:
        running.wait_ready()
        for number in range(ROUNDS):
            send(running, source, to, f"content {number}")
        assert logins(ssh_server) - before > ROUNDS
        assert not masters(sockets)
    assert not list(sockets.glob("**/pylsyncd-ssh-*"))


def test_a_start_after_a_crash_closes_the_leftover_ssh_connection(
    source: Path, sockets: Path, tmp_path: Path, ssh_server: SshServer
) -> None:
    to = over_ssh(ssh_server, tmp_path / "replica")
    crashed = daemon(source, sockets, to=[to])
    with contextlib.suppress(AssertionError), crashed:
        crashed.wait_ready()
        # The ssh of the last run may be ending.
        wait_until(lambda: len(masters(sockets)) == 1, message="one connection is open")
        left = masters(sockets)
        crashed.crash()
        assert left == masters(sockets)
    with daemon(source, sockets, to=[to]) as running:
        running.wait_ready()
        wait_until(lambda: left[0] not in masters(sockets), message="the connection is closed")
        assert len(list(sockets.glob("**/pylsyncd-ssh-*"))) == 1


def test_connections_to_rsync_daemons_use_tcp_nodelay(
    source: Path, sockets: Path, tmp_path: Path, rsync_daemon: RsyncDaemon
) -> None:
    to = on_rsync_daemon(rsync_daemon, "rsyncd", tmp_path.name)
    counting = CountingRsync(tmp_path)
    with daemon(source, sockets, "--rsync", str(counting.program), to=[to]) as running:
        running.wait_ready()
        send(running, source, to, "content")
    assert len(counting.changing_runs()) >= 2
    for arguments in counting.changing_runs():
        assert b"--sockopts=TCP_NODELAY" in arguments


def test_rsync_runs_with_the_configured_priorities(
    source: Path, sockets: Path, tmp_path: Path
) -> None:
    to = local(tmp_path / "replica")
    rsync, go = FaultyRsync(tmp_path), tmp_path / "go"
    rsync.add_fault(wait_for_file(go))
    options = ["--nice", "7", "--ionice", "best-effort:6", "--rsync", str(rsync.program)]
    with daemon(source, sockets, *options, to=[to]) as running:
        wait_until(lambda: not rsync.pending_faults, message="rsync runs")
        (child,) = [each for each in processes.list_processes() if each.parent == running.pid]
        niceness = os.getpriority(os.PRIO_PROCESS, child.pid)
        asked = subprocess.run(
            ("ionice", "-p", str(child.pid)),  # noqa: S607 - it is what a person asks
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        go.touch()
        running.wait_ready()
    assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
    assert asked.stdout == "best-effort: prio 6\n"


def test_a_full_sync_of_a_large_tree_is_divided_and_is_one_run_in_the_log(
    source: Path, sockets: Path, tmp_path: Path, rsync_daemon: RsyncDaemon
) -> None:
    to = on_rsync_daemon(rsync_daemon, "rsyncd", tmp_path.name)
    for number in range(30):
        directory = source / f"{number % 9}/{number}"
        directory.mkdir(parents=True)
        with (directory / "hole").open("wb") as file:
            file.truncate(8_000_000)
        os.utime(directory, (number, number))
    counting = CountingRsync(tmp_path)
    options = ["-v", "--parallel", "3", "--rsync", str(counting.program), "--rsync-option=-S"]
    with daemon(source, sockets, *options, to=[to]) as running:
        running.wait_ready()
        assert running.log.count("] synced ") == 1, running.log_tail
        assert not differences(os.fsencode(source), to.path, ignore=to.ignore), running.log_tail
    runs = [b"--ignore-missing-args" in arguments for arguments in counting.changing_runs()]
    assert runs.count(True) >= 3


SLOW = """#!/bin/sh
case " $* " in *" --version "*) exec {rsync} "$@";; esac
for target; do :; done
case " $* " in *" --dry-run "*) what=probe;; *) what=run;; esac
echo "begins $what $target" >>{log}
sleep 0.1
{rsync} "$@"
code=$?
echo "ends $what $target" >>{log}
exit $code
"""


def test_max_runs_limits_the_rsync_processes_and_every_destination_gets_its_turn(
    source: Path, sockets: Path, tmp_path: Path
) -> None:
    log, program = tmp_path / "runs", tmp_path / "slow-rsync"
    log.touch()
    rsync = shlex.quote(shutil.which("rsync") or "rsync")
    program.write_text(SLOW.format(rsync=rsync, log=shlex.quote(str(log))))
    program.chmod(0o755)
    to = [local(tmp_path / f"replica{number}") for number in range(6)]

    def begun() -> Counter[str]:
        lines = map(str.split, log.read_text().splitlines())
        return Counter(target for verb, what, target in lines if (verb, what) == ("begins", "run"))

    with daemon(source, sockets, "--max-runs", "2", "--rsync", str(program), to=to) as running:
        running.wait_ready()
        started = time.monotonic()
        # Every destination always has pending changes.
        while min(begun().values()) < ROUNDS:
            assert time.monotonic() - started < SECONDS, running.log_tail
            (source / f"file{time.monotonic_ns()}").touch()
            running.flush()
            time.sleep(0.02)
    present, most = 0, 0
    runs: Counter[str] = Counter()
    for verb, what, target in map(str.split, log.read_text().splitlines()):
        present += 1 if verb == "begins" else -1
        most = max(most, present)
        runs[target] += (verb, what) == ("begins", "run")
        # Without the first runs, which start at the same time, and the last ones.
        if len(runs) == len(to) and max(runs.values()) <= ROUNDS:
            assert max(runs.values()) - min(runs.values()) <= 2, runs
    assert (most, present) == (2, 0)
    for destination in to:
        assert not equal_within(os.fsencode(source), destination.path, SECONDS)


# Runs whose list has a file "large" wait.
LARGE_WAITS = """#!/bin/sh
case " $* " in
*" --version "*|*" --dry-run "*) exec rsync "$@";;
*" --files-from=- "*) ;;
*) exec rsync "$@";;
esac
cat >{list}.$$
if tr '\\0' '\\n' <{list}.$$ | grep -qx ./large; then
    touch {begun}
    until [ -e {go} ]; do sleep 0.02; done
fi
exec rsync "$@" <{list}.$$
"""


def test_small_files_do_not_wait_for_a_large_one(
    source: Path, sockets: Path, tmp_path: Path
) -> None:
    to = local(tmp_path / "replica")
    program, begun, go = (tmp_path / name for name in ("rsync", "begun", "go"))
    program.write_text(LARGE_WAITS.format(list=tmp_path / "list", begun=begun, go=go))
    program.chmod(0o755)
    options = ["--batch-size-limit", "500k", "--rsync", str(program)]
    with daemon(source, sockets, *options, to=[to]) as running:
        running.wait_ready()
        (source / "large").write_bytes(os.urandom(2_000_000))
        (source / "small").touch()
        running.flush()
        replica = tmp_path / "replica"
        wait_until(begun.exists, message="the large file is on its way")
        for number in range(ROUNDS):
            (source / f"small{number}").touch()
            running.flush()
            wait_until((replica / f"small{number}").exists, message="a small file is there")
            assert not (replica / "large").exists()
        go.touch()
        assert not equal_within(os.fsencode(source), to.path, SECONDS), running.log_tail


@pytest.mark.parametrize(
    "is_mounted", [False, pytest.param(True, marks=pytest.mark.skipif(
        not can_mount(), reason="mounting is not permitted"))]
)  # fmt: skip
def test_the_source_is_free_while_a_host_does_not_answer(
    tmp_path: Path, sockets: Path, *, is_mounted: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with socket.create_server((LOOPBACK, 0)) as listener, Mounts() as mounts:
        listener.settimeout(SECONDS)
        if is_mounted:
            mounts.mount_tmpfs(source)
        (source / "file").write_text("first")
        port = listener.getsockname()[1]
        rsh = f"ssh -F /dev/null -o BatchMode=yes -o HostName={LOOPBACK} -o Port={port}"
        with Pylsyncd(
            "-i", f"--rsh={rsh}", "--retry-first=600", f"{source}/./", "srv2:/nowhere",
            extra_environment={"RUNTIME_DIRECTORY": str(sockets), "TMPDIR": str(sockets)},
        ) as running:  # fmt: skip
            connection, _ = listener.accept()
            with connection:
                assert state_of_first_destination(sockets) == "waiting"
                if is_mounted:
                    # That is possible although ssh is connecting.
                    mounts.unmount(source)
            if is_mounted:
                return
            running.wait_for(r"the connection failed.* \((kex_exchange|Connection closed).*\)")
            wait_until(lambda: state_of_first_destination(sockets) == "retrying")
            assert "syncing" not in running.log


def state_of_first_destination(sockets: Path) -> object:
    found = json.loads(Pylsyncctl(sockets).run("status", "--json").stdout)
    return found["syncs"][0]["destinations"][0]["condition"]
