"""The commands that connect to a destination, and what their end means."""

import pytest

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import DEFAULT_REMOTE_SHELL, RsyncOptions
from pylsyncd.rsync.connecting import connection_failure, daemon_command, ssh_command
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.output_capture import CapturedOutput


def to(transport: Transport, target: bytes) -> Destination:
    return Destination("copy", "", transport, "h", target)


@pytest.mark.parametrize(
    ("rsh", "limit"),
    [("ssh", [b"-o", b"ConnectTimeout=30"]), ("ssh -oconnecttimeout=5", []),
     (DEFAULT_REMOTE_SHELL, [])],
)  # fmt: skip
@pytest.mark.parametrize("is_shared", [True, False])
def test_ssh_logs_in_without_a_command(rsh: str, limit: list[bytes], *, is_shared: bool) -> None:
    command = ssh_command(rsh, to(Transport.SHELL, b"me@[::1]:/x/"), is_shared=is_shared)
    words = rsh.encode().split()
    assert command[: len(words) + 1] == [*words, b"-N"]
    assert command[-3 - len(limit) :] == [*limit, b"-l", b"me", b"::1"]
    # The login of a connection that is not shared has to end.
    assert (b"LocalCommand=echo connected" in command) is not is_shared


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (b"rsync://h/module/path/", b"rsync://h/"),
        (b"rsync://me@[::1]:8730/module/", b"rsync://me@[::1]:8730/"),
        (b"me@h::module/a::b/", b"me@h::"),
        (b"[::1]::module/", b"[::1]::"),
    ],
)
def test_a_daemon_is_asked_for_its_modules(target: bytes, asked: bytes) -> None:
    options = RsyncOptions(
        "my-rsync", (3, 2, 7), extra_options=("-z", "--contimeout=5", "--ipv6", "--timeout=9")
    )
    assert daemon_command(options, to(Transport.DAEMON, target)) == [
        b"my-rsync", b"--list-only", b"--contimeout=30", b"--timeout=15", b"--contimeout=5",
        b"--ipv6", b"--", asked,
    ]  # fmt: skip


def test_a_daemon_has_no_more_time_than_the_runs() -> None:
    options = RsyncOptions("rsync", (3, 2, 7), timeout=1.5)
    assert b"--timeout=2" in daemon_command(options, to(Transport.DAEMON, b"h::module/"))


@pytest.mark.parametrize(
    ("transport", "status", "message", "verdict"),
    [
        (Transport.SHELL, 255, b"ssh: connect to host h port 22: Connection timed out",
         Verdict.RETRY_LATER),
        (Transport.SHELL, 255, b"Host key verification failed.", Verdict.HELD),
        (Transport.DAEMON, 10, b"rsync: failed to connect to h: Connection refused (111)",
         Verdict.RETRY_LATER),
        (Transport.DAEMON, 35, b"", Verdict.RETRY_LATER),
        (Transport.DAEMON, 30, b"", Verdict.RETRY_LATER),
    ],
)  # fmt: skip
def test_a_failed_connection_has_the_outcome_of_a_run(
    transport: Transport, status: int, message: bytes, verdict: Verdict
) -> None:
    outcome = connection_failure(transport, CapturedOutput(status, b"", message + b"\n"))
    assert outcome is not None
    assert (outcome.verdict, outcome.message) == (verdict, message.decode())


@pytest.mark.parametrize(
    ("transport", "ended"),
    [
        (Transport.SHELL, CapturedOutput(0)),
        (Transport.SHELL, CapturedOutput(-15, b"c")),
        (Transport.SHELL, CapturedOutput(1, b"", b"usage: ssh")),
        (Transport.SHELL, CapturedOutput(255, b"", b"killed", has_timed_out=True)),
        (Transport.DAEMON, CapturedOutput(0)),
        (Transport.DAEMON, CapturedOutput(-15, b"m")),
        (Transport.DAEMON, CapturedOutput(5, b"", b"@ERROR: access denied")),
        (Transport.DAEMON, CapturedOutput(10, b"m", b"reset")),
    ],
)
def test_whatever_else_happens_a_run_finds_out(transport: Transport, ended: CapturedOutput) -> None:
    assert connection_failure(transport, ended) is None
