"""Hooks: what a command is told, that nobody waits for it, and that its failure is told once."""

import logging
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.config.settings import DestinationSettings, HookSettings, SyncSettings
from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.notation import Transport
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.report.hook_events import HookEvent, encode_paths, encode_text
from pylsyncd.report.hook_output import MAX_FIRST_LINES, MAX_LAST_LINES
from pylsyncd.report.hooks import HookRunners
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import SupervisedThread


def shell(text: str) -> tuple[str, ...]:
    return "sh", "-c", text


def never(name: str) -> None:
    raise AssertionError(f"{name} failed")


def syncing(hooks: HookSettings, *names: str) -> SyncSettings:
    """Return a sync with hooks and destinations of these names."""
    deliveries = (
        DestinationSettings(
            Destination(name, name, Transport.LOCAL, None, b"/x/"), RsyncOptions("rsync", (3, 2, 7))
        )
        for name in names
    )
    return SyncSettings(
        Source(b"/srv", b"", is_full_path=False), tuple(deliveries), name="www", hooks=hooks
    )


@contextmanager
def calling(hooks: HookSettings, seconds: float = 20) -> Iterator[HookRunners]:
    """Give what runs hooks, and at the end let it run what waits."""
    started: list[SupervisedThread] = []
    callers = HookRunners([syncing(hooks, "web1", "web2")], never, started.append)
    try:
        yield callers
    finally:
        callers.stop(seconds)
        assert not [part for part in started if part.is_alive()]


def notice(
    kind: NoticeKind = NoticeKind.BATCH,
    changeset: Changeset = EVERYTHING,
    name: str = "web1",
    **fields: object,
) -> Notice:
    return Notice(kind, name, "web1:/srv", b"/srv", changeset=changeset, **fields)  # type: ignore[arg-type]


def changes(*wanted: tuple[bytes, Scope]) -> MutableChangeset:
    found = MutableChangeset()
    for path, scope in wanted:
        found.add(path, scope)
    return found


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what tells the lines of the log that everybody sees."""
    caplog.set_level(logging.DEBUG, "pylsyncd")
    return lambda: [each.getMessage() for each in caplog.records if each.levelno >= NOTICE]


def test_a_command_is_told_everything_in_variables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with calling(HookSettings(held=shell(f"env -0 >{out}"))) as callers:
        callers.report(
            notice(
                NoticeKind.HELD, changes((b"a", Scope.ENTRY), (b"b", Scope.ENTRY)),
                reason="ssh is not let in", message=r"denied $(touch x) \x1b ä", code=255,
                files=1, deleted=2, bytes_sent=3, seconds=4.5678,
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
        b"PYLSYNCD_SECONDS": b"4.568",
        b"PYLSYNCD_RUNS": b"1",
        b"PYLSYNCD_PATHS": b"2",
    }


def test_its_environment_is_the_daemons_but_for_the_words_with_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "LC_ALL", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PYLSYNCD_REASON", "an older one")
    with calling(HookSettings(batch=shell(f"env >{tmp_path}/out"))) as callers:
        callers.report(notice())
    found = (tmp_path / "out").read_text().splitlines()
    assert {"PYTHONPATH=x", "LC_ALL=x", "PYLSYNCD_REASON="} <= set(found)
    assert not [line for line in found if line.startswith(("NOTIFY_", "WATCHDOG_"))]


def test_the_paths_are_on_its_standard_input(tmp_path: Path) -> None:
    odd = b"-rf \n$(x) \xff"
    given = changes(
        (odd, Scope.ENTRY), (b"d/e", Scope.LISTING), (b"d/t", Scope.TREE), (b"d/f", Scope.ENTRY)
    )
    with calling(HookSettings(batch=shell(f"cat >{tmp_path}/out"))) as callers:
        callers.report(notice(changeset=given))
    lines = (tmp_path / "out").read_bytes().split(b"\0")
    assert lines == [b"./" + odd, b"./d/e/.", b"./d/f", b"./d/t/", b""]


@pytest.mark.parametrize(
    ("scope", "line"),
    [(Scope.ENTRY, b".\0"), (Scope.LISTING, b"./.\0"), (Scope.TREE, b"./\0")],
    ids=["entry", "listing", "everything"],
)
def test_the_source_itself_is_a_path_too(scope: Scope, line: bytes) -> None:
    assert encode_paths(changes((b"", scope))) == line


def test_each_kind_has_its_command_and_held_that_for_errors_if_it_has_none(
    tmp_path: Path,
) -> None:
    def tell(word: str) -> tuple[str, ...]:
        return shell(f"echo {word} $PYLSYNCD_EVENT >>{tmp_path}/out")

    with calling(HookSettings(batch=tell("b"), error=tell("e"), recovery=tell("r"))) as callers:
        for kind in (NoticeKind.ERROR, NoticeKind.HELD, NoticeKind.RECOVERY, NoticeKind.BATCH):
            callers.report(notice(kind))
    with calling(HookSettings(error=tell("e"), held=tell("h"))) as callers:
        for kind in (NoticeKind.HELD, NoticeKind.BATCH, NoticeKind.RECOVERY, NoticeKind.ERROR):
            callers.report(notice(kind))
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == ["e error", "e held", "r recovery", "b batch", "h held", "e error"]


def test_nobody_waits_for_a_command_and_what_happens_meanwhile_is_told_at_once(
    tmp_path: Path,
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    text = (
        f"echo $PYLSYNCD_RUNS $PYLSYNCD_FILES $PYLSYNCD_BYTES $PYLSYNCD_REASON >>{log}; "
        f"tr '\\0' '\\n' >>{log}; until [ -e {gate} ]; do sleep 0.02; done"
    )
    with calling(HookSettings(batch=shell(text))) as callers:
        callers.report(notice(changeset=changes((b"first", Scope.ENTRY)), files=1))
        wait_until(lambda: log.exists() and "./first" in log.read_text())
        started = time.monotonic()
        for number in range(200):
            path = b"%d" % (number % 2)
            callers.report(notice(changeset=changes((path, Scope.ENTRY)), files=1, bytes_sent=10))
        callers.report(notice(changeset=changes((b"0", Scope.TREE)), reason="last"))
        assert time.monotonic() - started < 5
        gate.touch()
    assert log.read_text().splitlines() == ["1 1 0", "./first", "201 200 2000 last", "./0/", "./1"]


def test_what_contradicts_what_waits_is_told_in_the_end(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    text = f"echo $PYLSYNCD_EVENT >>{log}; until [ -e {gate} ]; do sleep 0.02; done"
    hooks = HookSettings(batch=shell(text), error=shell(text), recovery=shell(text))
    with calling(hooks) as callers:
        callers.report(notice(NoticeKind.BATCH))
        wait_until(log.exists)
        for kind in (
            NoticeKind.ERROR,
            NoticeKind.RECOVERY,
            NoticeKind.ERROR,
            NoticeKind.RECOVERY,
            NoticeKind.ERROR,
        ):
            callers.report(notice(kind))
        gate.touch()
    assert log.read_text().split() == ["batch", "recovery", "error"]


def test_what_waits_is_bounded_and_forgets_no_path() -> None:
    occasion = HookEvent(notice(changeset=changes((b"d/f", Scope.ENTRY))))
    for number in range(4):
        many = MutableChangeset()
        many.entries[b"d%d" % number] = {b"%d" % name for name in range(MAX_PENDING_CHANGES // 2)}
        occasion.merge(notice(changeset=many))
    lines = encode_paths(occasion.changeset()).split(b"\0")
    assert len(lines) < MAX_PENDING_CHANGES + 2
    for number in range(4):
        assert {b"./d%d/." % number, b"./d%d/77" % number} & set(lines)


def test_what_it_says_goes_to_the_log_in_lines_that_no_terminal_obeys(
    said: Callable[[], list[str]],
) -> None:
    text = r"printf 'one\n\n\033[2Jtwo\302\233\r\n\377' >&2; head -c 5000 /dev/zero | tr '\0' x"
    with calling(HookSettings(batch=shell(text))) as callers:
        callers.report(notice())
    long = "\\xff" + 999 * "x"
    assert said() == [
        "[web1] hook batch: one",
        r"[web1] hook batch: \x1b[2Jtwo\x9b",
        f"[web1] hook batch: {long} ...",
    ]


def test_of_a_flood_the_first_and_the_last_lines_are_logged(said: Callable[[], list[str]]) -> None:
    with calling(HookSettings(batch=shell("seq 100000"))) as callers:
        callers.report(notice())
    numbers = [line.removeprefix("[web1] hook batch: ") for line in said()]
    first = [str(number) for number in range(1, MAX_FIRST_LINES + 1)]
    last = [str(number) for number in range(100_000 - MAX_LAST_LINES + 1, 100_001)]
    left_out = 100_000 - MAX_FIRST_LINES - MAX_LAST_LINES
    assert numbers == [*first, f"({left_out} lines more)", *last]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (shell("exit 3"), "sh ended with exit status 3"),
        (shell("kill -9 $$"), "sh was ended by SIGKILL"),
        (shell("sleep 600"), "sh exceeded hook_timeout (1 s) and was terminated"),
        (("/no/such/program", "x"), "cannot run /no/such/program: No such file or directory"),
        (("/etc/passwd",), "cannot run /etc/passwd: Permission denied"),
    ],
    ids=["exit status", "signal", "time", "missing", "no program"],
)
def test_its_failure_is_a_sentence_in_the_log(
    command: tuple[str, ...], sentence: str, said: Callable[[], list[str]]
) -> None:
    with calling(HookSettings(error=command, timeout=1.0)) as callers:
        callers.report(notice(NoticeKind.ERROR))
    assert said() == [f"[web1] hook error failed: {sentence}."]


def test_a_failure_is_told_once_and_that_it_works_again(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    runs, mended = tmp_path / "runs", tmp_path / "mended"
    command = shell(f"echo >>{runs}; [ -e {mended} ] || exit 1")
    with calling(HookSettings(batch=command)) as callers:
        for count in range(1, 5):
            if count == 4:
                mended.touch()
            callers.report(notice())
            wait_until(lambda count=count: runs.exists() and runs.stat().st_size == count)  # type: ignore[misc]
    assert said() == [
        "[web1] hook batch failed: sh ended with exit status 1.",
        "[web1] hook batch works again.",
    ]


def test_its_words_are_words_and_no_shell_sees_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("sh", "-c", f'printf "%s|" "$@" >{shlex.quote(str(out))}', "x", "$(id) *", "\udcff")
    with calling(HookSettings(batch=words)) as callers:
        callers.report(notice())
    assert out.read_bytes() == b"$(id) *|\xff|"


def test_a_stop_waits_for_what_waits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with calling(HookSettings(batch=shell(f"echo >>{out}; sleep 0.3"))) as callers:
        callers.report(notice())
        wait_until(out.exists)
        callers.report(notice())
    assert out.read_text() == "\n\n"


def test_a_stop_does_not_wait_for_ever_and_says_what_was_not_run(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    begun = tmp_path / "begun"
    text = f"trap '' TERM; >{begun}; while :; do sleep 1; done"
    with calling(HookSettings(batch=shell(text), error=("true",)), seconds=0.5) as callers:
        callers.report(notice())
        wait_until(begun.exists)
        callers.report(notice(NoticeKind.ERROR))
        started = time.monotonic()
    assert 0.5 <= time.monotonic() - started < 10
    assert said() == ["[web1] stopped before 2 hooks finished: batch, error."]


def test_what_is_told_after_a_stop_is_not_run(tmp_path: Path) -> None:
    callers = HookRunners([syncing(HookSettings(batch=shell(f">{tmp_path}/out")), "web1")], never)
    callers.stop(1.0)
    callers.report(notice())
    assert not (tmp_path / "out").exists()


def test_without_a_command_there_is_no_thread() -> None:
    started: list[SupervisedThread] = []
    callers = HookRunners([syncing(HookSettings(), "web1")], never, started.append)
    callers.report(notice())
    callers.stop(1.0)
    assert started == []


def test_the_hooks_of_one_destination_do_not_wait_for_those_of_another(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = (
        f"[ $PYLSYNCD_DESTINATION = web2 ] || until [ -e {gate} ]; do sleep 0.02; done; "
        f"echo $PYLSYNCD_DESTINATION >>{tmp_path}/out"
    )
    with calling(HookSettings(batch=shell(text))) as callers:
        callers.report(notice())
        callers.report(notice(name="web2"))
        wait_until((tmp_path / "out").exists)
        gate.touch()
    assert (tmp_path / "out").read_text().split() == ["web2", "web1"]


def test_other_hooks_count_for_what_happens_later_and_those_of_a_dropped_destination_end(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    started: list[SupervisedThread] = []

    def tell(word: str) -> HookSettings:
        return HookSettings(batch=shell(f"echo {word} >>{out}"))

    callers = HookRunners([syncing(tell("1"), "web1", "web2")], never, started.append)
    for name in ("web1", "web2"):
        callers.report(notice(name=name))
    wait_until(lambda: out.exists() and out.read_text() == "1\n1\n")
    callers.configure([syncing(tell("2"), "web1")])
    started[1].join(20)
    assert [part.is_alive() for part in started] == [True, False]
    callers.report(notice())
    callers.stop(20)
    assert out.read_text() == "1\n1\n2\n"
    assert not started[0].is_alive()


def test_a_hook_that_was_dropped_is_not_run_for_what_waits(tmp_path: Path) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    text = f"echo >>{out}; until [ -e {gate} ]; do sleep 0.02; done"
    both = HookSettings(batch=shell(text), error=shell(text))
    with calling(both) as callers:
        callers.report(notice())
        wait_until(out.exists)
        callers.report(notice(NoticeKind.ERROR))
        callers.configure([syncing(HookSettings(batch=both.batch), "web1")])
        gate.touch()
    assert out.read_text() == "\n"


def test_a_dropped_destination_does_not_run_on_after_the_stop(tmp_path: Path) -> None:
    text = f"trap '' TERM; >{tmp_path}/begun; while :; do sleep 1; done"
    started: list[SupervisedThread] = []
    callers = HookRunners([syncing(HookSettings(batch=shell(text)), "web1")], never, started.append)
    callers.report(notice())
    wait_until((tmp_path / "begun").exists)
    callers.configure([])
    assert started[0].is_alive()
    callers.stop(0.1)
    assert not started[0].is_alive()


def test_that_a_command_runs_is_no_silence_of_its_thread(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = f">{tmp_path}/begun; until [ -e {gate} ]; do sleep 0.02; done"
    started: list[SupervisedThread] = []
    callers = HookRunners([syncing(HookSettings(batch=shell(text)), "web1")], never, started.append)
    callers.report(notice())
    wait_until((tmp_path / "begun").exists)
    assert started[0].activity.inactive_seconds == 0.0
    gate.touch()
    callers.stop(20)


def test_hooks_are_true_when_there_are_any() -> None:
    assert not HookSettings(timeout=3.0)
    assert all(
        (
            HookSettings(batch=("x",)),
            HookSettings(error=("x",)),
            HookSettings(held=("x",)),
            HookSettings(recovery=("x",)),
        )
    )


def test_words_are_the_same_in_every_locale() -> None:
    # As they were decoded; no variable can have a NUL in it.
    assert encode_text("\N{RIGHT SINGLE QUOTATION MARK}\udcff\0") == b"\xe2\x80\x99\xff"
