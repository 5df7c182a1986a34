"""What exit codes and messages mean. The messages are what rsync 3.5.0 and ssh really say."""

from collections import deque

import pytest

from pylsyncd.changes import Change, Scope
from pylsyncd.outcomes import Verdict, gist, interpret, vanished
from pylsyncd.retry import Pauses


@pytest.mark.parametrize(
    ("code", "message", "verdict"),
    [
        (0, "", Verdict.DONE),
        (1, "ERROR: module is read only", Verdict.HELD),
        (2, "invalid file mode 00 for x [Receiver]", Verdict.WITHOUT_MISSING_ARGS),
        (2, "ABORTING due to invalid path from sender: d/f", Verdict.AGAIN),
        (2, "protocol version mismatch -- is your shell clean?", Verdict.HELD),
        (3, 'change_dir "S" failed', Verdict.HELD),
        (4, "The server is configured to refuse --delete", Verdict.HELD),
        (4, "refuse --delete-missing-args", Verdict.WITHOUT_MISSING_ARGS),
        (5, "@ERROR: Unknown module 'x'", Verdict.HELD),
        (5, "@ERROR: max connections (1) reached -- try again later", Verdict.LATER),
        (10, "failed to connect to 127.0.0.1: Connection refused (111)", Verdict.LATER),
        (11, 'write failed on "F": No space left on device (28)', Verdict.LATER),
        (11, 'mkdir "/a/b" failed: No such file or directory (2)', Verdict.HELD),
        (12, "connection unexpectedly closed (0 bytes received so far)", Verdict.HELD),
        (12, "connection unexpectedly closed (42 bytes received so far)", Verdict.LATER),
        (12, "--mkpath: unknown option", Verdict.WITHOUT_MKPATH),
        (20, "received SIGINT, SIGTERM, or SIGHUP", Verdict.LATER),
        (23, 'mkstemp "/d/.f.x" failed: Read-only file system (30)', Verdict.LATER),
        (23, 'opendir "/s/d" failed: Permission denied (13)', Verdict.PARTIAL),
        (23, 'read errors mapping "/s/f": No data available (61)', Verdict.AGAIN),
        (
            23,
            'send_files failed to open "/s/f": Too many levels of symbolic links (40)',
            Verdict.AGAIN,
        ),
        (24, 'file has vanished: "/s/f"', Verdict.AGAIN),
        (25, "", Verdict.HELD),
        (30, "io timeout after 600 seconds", Verdict.LATER),
        (127, "bash: rsync: command not found", Verdict.HELD),
        (255, "ssh: connect to host h port 22: Connection refused", Verdict.LATER),
        (255, "user@h: Permission denied (publickey).", Verdict.HELD),
        (255, "Host key verification failed.", Verdict.HELD),
        (-9, "", Verdict.LATER),
        (99, "what is this?", Verdict.LATER),
    ],
)
def test_an_exit_has_its_verdict_and_a_reason(code: int, message: str, verdict: Verdict) -> None:
    outcome = interpret(code, [message])
    assert outcome.verdict is verdict
    assert bool(outcome.reason) is (code != 0)


@pytest.mark.parametrize("code", range(1, 256))
def test_no_exit_but_zero_is_taken_for_success(code: int) -> None:
    assert interpret(code, []).verdict is not Verdict.DONE


def test_the_gist_is_the_first_complaint() -> None:
    messages = [
        "Welcome to host",
        'rsync: [sender] link_stat "/x" failed: No such file or directory (2)',
        "rsync error: some files/attrs were not transferred (code 23) at main.c(1336)",
    ]
    assert gist(messages).startswith("rsync: [sender] link_stat")
    assert not gist([])


def test_only_what_vanished_is_owed_when_nothing_else_went_wrong() -> None:
    messages = deque(
        [
            'file has vanished: "/src/a/b\\#012c"',
            'directory has vanished: "/src/d"',
            "rsync warning: some files vanished before they could be transferred (code 24)",
        ],
        maxlen=9,
    )
    owed = vanished(24, messages, b"/src")
    assert owed is not None
    assert set(owed) == {Change(b"a/b\nc", Scope.TREE), Change(b"d", Scope.TREE)}


@pytest.mark.parametrize(
    ("code", "messages"),
    [
        (23, ['file has vanished: "/src/a"']),
        (24, ['file has vanished: "/elsewhere/a"']),
        (24, ['file has vanished: "/src/a"', "what is this?"]),
        (24, ['file has vanished: "/src/a"'] * 5),
    ],
    ids=["other code", "other source", "not understood", "maybe not all kept"],
)
def test_everything_is_owed_when_that_is_not_sure(code: int, messages: list[str]) -> None:
    assert vanished(code, deque(messages, maxlen=5), b"/src") is None


def test_pauses_double_up_to_the_longest_and_jitter_only_shortens() -> None:
    pauses = Pauses(first=1.0, longest=300.0)
    later = Verdict.LATER
    assert [pauses.after(later, failures, 0.0) for failures in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert pauses.after(later, 10_000, 0.0) == 300.0
    assert pauses.after(later, 10_000, 1.0) == 225.0


def test_a_source_that_changes_under_rsync_is_looked_at_again_at_once_but_not_endlessly() -> None:
    pauses = Pauses(first=1.0, again=4.0, at_once=3)
    failures = (1, 3, 4, 10_000)
    assert [pauses.after(Verdict.AGAIN, count, 0.0) for count in failures] == [0.0, 0.0, 4.0, 4.0]
