"""The command of a hook has a time limit, can be sent a signal, and says how it failed."""

import signal
import threading
from pathlib import Path

import pytest
from support.notices import notice
from support.waiting import wait_until

from pylsyncd.report.hook_events import HookEvent
from pylsyncd.report.hook_process import HookCommand, HookProcess
from pylsyncd.system.threads import ActivityTimer


def command(text: str, time_limit: float = 45.0) -> HookCommand:
    return HookCommand(("sh", "-c", text), "www", time_limit)


@pytest.fixture
def process() -> HookProcess:
    return HookProcess("web1", ActivityTimer())


@pytest.mark.parametrize(
    ("hook", "failure"),
    [
        (command("exit 0"), ""),
        (command("exit 7"), "sh ended with exit status 7"),
        (command("kill -TERM $$"), "sh was ended by SIGTERM"),
        (command("kill -42 $$"), "sh was ended by signal 42"),
        (command("exec sleep 600", 0.05), "sh exceeded hook_timeout (0.05 s) and was terminated"),
        (HookCommand(("/dev/null/x",), "", 45.0), "cannot run /dev/null/x: Not a directory"),
    ],
)
def test_a_command_tells_how_it_failed(
    process: HookProcess, hook: HookCommand, failure: str
) -> None:
    assert process.run(hook, HookEvent(notice())) == failure


@pytest.mark.parametrize("is_stopped", [True, False])
def test_another_thread_ends_a_command(
    process: HookProcess, tmp_path: Path, *, is_stopped: bool
) -> None:
    hook = command(f"touch {tmp_path}/begun; exec sleep 600")
    failures: list[str | None] = []
    thread = threading.Thread(
        target=lambda: failures.append(process.run(hook, HookEvent(notice())))
    )
    # Nothing runs yet.
    process.send_signal(signal.SIGTERM)
    thread.start()
    wait_until((tmp_path / "begun").exists)
    if is_stopped:
        process.request_stop(45.0)
    else:
        process.send_signal(signal.SIGTERM)
    thread.join()
    assert failures == [None if is_stopped else "sh was ended by SIGTERM"]
    later = process.run(command("exit 5"), HookEvent(notice()))
    assert later == (None if is_stopped else "sh ended with exit status 5")
