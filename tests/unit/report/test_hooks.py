"""Hooks run one at a time for each destination, delay no worker, and log failures once."""

import logging
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.notices import changes, notice
from support.waiting import wait_until

from pylsyncd.config.settings import DestinationSettings, HookSettings, SyncSettings
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.report.hook_output import MAX_FIRST_LINES, MAX_LAST_LINES
from pylsyncd.report.hook_process import HookCommand
from pylsyncd.report.hooks import HookRunners
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import SupervisedThread


def shell(text: str) -> tuple[str, ...]:
    return "sh", "-c", text


def sync_with_hooks(hooks: HookSettings, *names: str) -> SyncSettings:
    """Return a sync with hooks and destinations of these names."""
    destinations = (
        DestinationSettings(
            Destination(name, name, Transport.LOCAL, None, b"/x/"), RsyncOptions("rsync", (3, 2, 7))
        )
        for name in names
    )
    return SyncSettings(
        Source(b"/srv", b"", is_full_path=False), tuple(destinations), name="www", hooks=hooks
    )


@contextmanager
def running_hooks(hooks: HookSettings, seconds: float = 45) -> Iterator[HookRunners]:
    """Yield runners for two destinations, and stop them at the end."""
    started: list[SupervisedThread] = []
    runners = HookRunners([sync_with_hooks(hooks, "web1", "web2")], started.append)
    try:
        yield runners
    finally:
        runners.stop(seconds)
        assert not [thread for thread in started if thread.is_alive()]


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the log messages at level notice and above."""
    caplog.set_level(logging.DEBUG, "pylsyncd")
    return lambda: [each.getMessage() for each in caplog.records if each.levelno >= NOTICE]


def test_a_command_gets_all_variables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running_hooks(HookSettings(held=shell(f"env -0 >{out}"))) as runners:
        runners.report(
            notice(
                NoticeKind.HELD, changes((b"a", Scope.ENTRY), (b"b", Scope.ENTRY)),
                reason="ssh is not let in", message=r"denied $(touch x) \x1b ä", code=255,
                files=1, deleted=2, bytes_sent=3, seconds=4.5678,
                moved_files=5, moved_bytes=6,
            )
        )  # fmt: skip
    variables = dict(
        line.split(b"=", 1)
        for line in out.read_bytes().split(b"\0")
        if line.startswith(b"PYLSYNCD_")
    )
    assert variables == {
        b"PYLSYNCD_EVENT": b"held",
        b"PYLSYNCD_SYNC": b"www",
        b"PYLSYNCD_SOURCE": b"/srv",
        b"PYLSYNCD_DESTINATION": b"web1",
        b"PYLSYNCD_TARGET": b"web1:/srv",
        b"PYLSYNCD_REASON": b"ssh is not let in",
        b"PYLSYNCD_MESSAGE": rb"denied $(touch x) \x1b " + "ä".encode(),
        b"PYLSYNCD_EXIT": b"255",
        b"PYLSYNCD_FILES": b"1",
        b"PYLSYNCD_DELETED": b"2",
        b"PYLSYNCD_BYTES": b"3",
        b"PYLSYNCD_MOVED": b"5",
        b"PYLSYNCD_UNSENT": b"6",
        b"PYLSYNCD_SECONDS": b"4.568",
        b"PYLSYNCD_RUNS": b"1",
        b"PYLSYNCD_PATHS": b"2",
    }


def test_a_command_gets_the_environment_of_the_daemon_without_that_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "LC_ALL", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PYLSYNCD_REASON", "an older one")
    with running_hooks(HookSettings(batch=shell(f"env >{tmp_path}/out"))) as runners:
        runners.report(notice())
    found = (tmp_path / "out").read_text().splitlines()
    assert {"PYTHONPATH=x", "LC_ALL=x", "PYLSYNCD_REASON="} <= set(found)
    assert not [line for line in found if line.startswith(("NOTIFY_", "WATCHDOG_"))]


def test_the_paths_are_on_standard_input(tmp_path: Path) -> None:
    odd = b"-rf \n$(x) \xff"
    given = changes(
        (odd, Scope.ENTRY), (b"d/e", Scope.LISTING), (b"d/t", Scope.TREE), (b"d/f", Scope.ENTRY)
    )
    with running_hooks(HookSettings(batch=shell(f"cat >{tmp_path}/out"))) as runners:
        runners.report(notice(changeset=given))
    lines = (tmp_path / "out").read_bytes().split(b"\0")
    assert lines == [b"./" + odd, b"./d/e/.", b"./d/f", b"./d/t/", b""]


def test_each_kind_has_its_command_and_held_defaults_to_the_one_for_errors(
    tmp_path: Path,
) -> None:
    def echo(word: str) -> tuple[str, ...]:
        return shell(f"echo {word} $PYLSYNCD_EVENT >>{tmp_path}/out")

    with running_hooks(
        HookSettings(batch=echo("b"), error=echo("e"), recovery=echo("r"))
    ) as runners:
        for kind in (NoticeKind.ERROR, NoticeKind.HELD, NoticeKind.RECOVERY, NoticeKind.BATCH):
            runners.report(notice(kind))
    with running_hooks(HookSettings(error=echo("e"), held=echo("h"))) as runners:
        for kind in (NoticeKind.HELD, NoticeKind.BATCH, NoticeKind.RECOVERY, NoticeKind.ERROR):
            runners.report(notice(kind))
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == ["e error", "e held", "r recovery", "b batch", "h held", "e error"]


def test_notices_during_a_run_are_merged_and_reported_without_waiting(
    tmp_path: Path,
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    text = (
        f"echo $PYLSYNCD_RUNS $PYLSYNCD_FILES $PYLSYNCD_BYTES $PYLSYNCD_REASON >>{log}; "
        f"tr '\\0' '\\n' >>{log}; until [ -e {gate} ]; do sleep 0.02; done"
    )
    with running_hooks(HookSettings(batch=shell(text))) as runners:
        runners.report(notice(changeset=changes((b"first", Scope.ENTRY)), files=1))
        wait_until(lambda: log.exists() and "./first" in log.read_text())
        started = time.monotonic()
        for number in range(200):
            path = b"%d" % (number % 2)
            runners.report(notice(changeset=changes((path, Scope.ENTRY)), files=1, bytes_sent=10))
        runners.report(notice(changeset=changes((b"0", Scope.TREE)), reason="last"))
        assert time.monotonic() - started < 45
        gate.touch()
    assert log.read_text().splitlines() == ["1 1 0", "./first", "201 200 2000 last", "./0/", "./1"]


def test_the_last_of_contradicting_notices_is_run_last(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    text = f"echo $PYLSYNCD_EVENT >>{log}; until [ -e {gate} ]; do sleep 0.02; done"
    hooks = HookSettings(batch=shell(text), error=shell(text), recovery=shell(text))
    with running_hooks(hooks) as runners:
        runners.report(notice(NoticeKind.BATCH))
        wait_until(log.exists)
        for kind in (
            NoticeKind.ERROR,
            NoticeKind.RECOVERY,
            NoticeKind.ERROR,
            NoticeKind.RECOVERY,
            NoticeKind.ERROR,
        ):
            runners.report(notice(kind))
        gate.touch()
    assert log.read_text().split() == ["batch", "recovery", "error"]


def test_output_is_logged_line_by_line_with_control_characters_escaped(
    messages: Callable[[], list[str]],
) -> None:
    text = r"printf 'one\n\n\033[2Jtwo\302\233\r\n\377' >&2; head -c 5000 /dev/zero | tr '\0' x"
    with running_hooks(HookSettings(batch=shell(text))) as runners:
        runners.report(notice())
    long = "\\xff" + 999 * "x"
    assert messages() == [
        "[web1] hook batch: one",
        r"[web1] hook batch: \x1b[2Jtwo\x9b",
        f"[web1] hook batch: {long} ...",
    ]


def test_of_a_flood_of_output_the_first_and_the_last_lines_are_logged(
    messages: Callable[[], list[str]],
) -> None:
    with running_hooks(HookSettings(batch=shell("seq 100000"))) as runners:
        runners.report(notice())
    numbers = [line.removeprefix("[web1] hook batch: ") for line in messages()]
    first = [str(number) for number in range(1, MAX_FIRST_LINES + 1)]
    last = [str(number) for number in range(100_000 - MAX_LAST_LINES + 1, 100_001)]
    left_out = 100_000 - MAX_FIRST_LINES - MAX_LAST_LINES
    assert numbers == [*first, f"({left_out} lines more)", *last]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (shell("exit 3"), "sh ended with exit status 3"),
        (shell("kill -9 $$"), "sh was ended by SIGKILL"),
        (shell("sleep 600"), "sh exceeded hook_timeout (3 s) and was terminated"),
        (("/no/such/program", "x"), "cannot run /no/such/program: No such file or directory"),
        (("/etc/passwd",), "cannot run /etc/passwd: Permission denied"),
    ],
    ids=["exit status", "signal", "time", "missing", "no program"],
)
def test_a_failure_is_logged_with_its_reason(
    command: tuple[str, ...], sentence: str, messages: Callable[[], list[str]]
) -> None:
    # Only the one that sleeps may exceed its time.
    timeout = 3.0 if "hook_timeout" in sentence else 60.0
    with running_hooks(HookSettings(error=command, timeout=timeout)) as runners:
        runners.report(notice(NoticeKind.ERROR))
    assert messages() == [f"[web1] hook error failed: {sentence}."]


def test_a_repeated_failure_is_logged_once_and_so_is_the_next_success(
    tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    runs, mended = tmp_path / "runs", tmp_path / "mended"
    command = shell(f"echo >>{runs}; [ -e {mended} ] || exit 1")
    with running_hooks(HookSettings(batch=command)) as runners:
        for count in range(1, 5):
            if count == 4:
                mended.touch()
            runners.report(notice())
            wait_until(lambda count=count: runs.exists() and runs.stat().st_size == count)  # type: ignore[misc]
    assert messages() == [
        "[web1] hook batch failed: sh ended with exit status 1.",
        "[web1] hook batch works again.",
    ]


def test_arguments_are_passed_without_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("sh", "-c", f'printf "%s|" "$@" >{shlex.quote(str(out))}', "x", "$(id) *", "\udcff")
    with running_hooks(HookSettings(batch=words)) as runners:
        runners.report(notice())
    assert out.read_bytes() == b"$(id) *|\xff|"


def test_a_stop_waits_for_pending_hooks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running_hooks(HookSettings(batch=shell(f"echo >>{out}; sleep 0.3"))) as runners:
        runners.report(notice())
        wait_until(out.exists)
        runners.report(notice())
    assert out.read_text() == "\n\n"


def test_a_stop_terminates_slow_hooks_and_logs_which_did_not_finish(
    tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    begun = tmp_path / "begun"
    text = f"trap '' TERM; >{begun}; while :; do sleep 1; done"
    with running_hooks(HookSettings(batch=shell(text), error=("true",)), seconds=0.5) as runners:
        runners.report(notice())
        wait_until(begun.exists)
        runners.report(notice(NoticeKind.ERROR))
        started = time.monotonic()
    assert 0.5 <= time.monotonic() - started < 45
    assert messages() == ["[web1] stopped before 2 hooks finished: batch, error."]


def test_a_notice_after_the_stop_is_ignored(tmp_path: Path) -> None:
    runners = HookRunners([sync_with_hooks(HookSettings(batch=shell(f">{tmp_path}/out")), "web1")])
    runners.stop(1.0)
    runners.report(notice())
    assert not (tmp_path / "out").exists()


def test_without_a_command_no_thread_is_started() -> None:
    started: list[SupervisedThread] = []
    runners = HookRunners([sync_with_hooks(HookSettings(), "web1")], started.append)
    runners.report(notice())
    runners.stop(1.0)
    assert started == []


def test_the_hooks_of_one_destination_do_not_wait_for_those_of_another(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = (
        f"[ $PYLSYNCD_DESTINATION = web2 ] || until [ -e {gate} ]; do sleep 0.02; done; "
        f"echo $PYLSYNCD_DESTINATION >>{tmp_path}/out"
    )
    with running_hooks(HookSettings(batch=shell(text))) as runners:
        runners.report(notice())
        runners.report(notice(name="web2"))
        wait_until((tmp_path / "out").exists)
        gate.touch()
    assert (tmp_path / "out").read_text().split() == ["web2", "web1"]


def test_a_new_configuration_applies_to_later_notices_and_ends_the_threads_of_removed_destinations(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    started: list[SupervisedThread] = []

    def echo(word: str) -> HookSettings:
        return HookSettings(batch=shell(f"echo {word} >>{out}"))

    runners = HookRunners([sync_with_hooks(echo("1"), "web1", "web2")], started.append)
    for name in ("web1", "web2"):
        runners.report(notice(name=name))
    wait_until(lambda: out.exists() and out.read_text() == "1\n1\n")
    runners.configure([sync_with_hooks(echo("2"), "web1")])
    started[1].join(45)
    assert [thread.is_alive() for thread in started] == [True, False]
    runners.report(notice())
    runners.stop(20)
    assert out.read_text() == "1\n1\n2\n"
    assert not started[0].is_alive()


def test_the_hook_before_a_run_is_that_of_the_present_configuration() -> None:
    with running_hooks(HookSettings(batch=shell("true"))) as runners:
        assert runners.find_before("web1") is None
        hooks = HookSettings(before=shell("exit 1"), timeout=5.0)
        runners.configure([sync_with_hooks(hooks, "web2")])
        assert runners.find_before("web1") is None
        assert runners.find_before("web2") == HookCommand(shell("exit 1"), "www", 5.0)


def test_a_removed_hook_is_not_run_for_pending_notices(tmp_path: Path) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    text = f"echo >>{out}; until [ -e {gate} ]; do sleep 0.02; done"
    both = HookSettings(batch=shell(text), error=shell(text))
    with running_hooks(both) as runners:
        runners.report(notice())
        wait_until(out.exists)
        runners.report(notice(NoticeKind.ERROR))
        runners.configure([sync_with_hooks(HookSettings(batch=both.batch), "web1")])
        gate.touch()
    assert out.read_text() == "\n"


def test_a_hook_of_a_removed_destination_ends_with_the_stop(tmp_path: Path) -> None:
    text = f"trap '' TERM; >{tmp_path}/begun; while :; do sleep 1; done"
    started: list[SupervisedThread] = []
    runners = HookRunners(
        [sync_with_hooks(HookSettings(batch=shell(text)), "web1")], started.append
    )
    runners.report(notice())
    wait_until((tmp_path / "begun").exists)
    runners.configure([])
    assert started[0].is_alive()
    runners.stop(0.1)
    assert not started[0].is_alive()


def test_a_thread_counts_as_active_while_its_command_runs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = f">{tmp_path}/begun; until [ -e {gate} ]; do sleep 0.02; done"
    started: list[SupervisedThread] = []
    runners = HookRunners(
        [sync_with_hooks(HookSettings(batch=shell(text)), "web1")], started.append
    )
    runners.report(notice())
    wait_until((tmp_path / "begun").exists)
    assert started[0].activity.inactive_seconds == 0.0
    gate.touch()
    runners.stop(20)


class _RaisingText(str):
    """A text that cannot be made a variable of the environment."""

    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError("evil\n\x1b[31m")


def test_an_unexpected_error_in_a_hook_stops_no_later_hook(
    tmp_path: Path, messages: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    hooks = HookSettings(error=shell(f"echo error >>{out}"), recovery=shell(f"echo back >>{out}"))
    with running_hooks(hooks) as runners:
        runners.report(notice(NoticeKind.ERROR, reason=_RaisingText("x")))
        wait_until(messages)
        runners.report(notice(NoticeKind.RECOVERY))
        wait_until(out.exists)
        runners.report(notice(NoticeKind.ERROR, reason=_RaisingText("x")))
    assert out.read_text() == "back\n"
    (message,) = messages()
    assert message.startswith("[web1] An unexpected error in pylsyncd stopped a hook (ValueError: ")
    assert "Please report this." in message
    assert message.isprintable()
    assert caplog.text.count("Traceback") == 1


def test_the_pause_after_an_unexpected_error_does_not_delay_the_stop(
    tmp_path: Path, messages: Callable[[], list[str]]
) -> None:
    out = tmp_path / "out"
    hooks = HookSettings(error=shell("true"), recovery=shell(f"echo back >>{out}"))
    runners = HookRunners([sync_with_hooks(hooks, "web1")])
    for _ in range(4):
        runners.report(notice(NoticeKind.ERROR, reason=_RaisingText("x")))
    wait_until(messages)
    runners.report(notice(NoticeKind.RECOVERY))
    started = time.monotonic()
    runners.stop(90)
    assert time.monotonic() - started < 45
    assert out.read_text() == "back\n"
