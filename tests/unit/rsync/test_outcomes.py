"""The meaning of exit statuses and messages; the messages are real ones of rsync 3.5.0 and ssh."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.servers import RsyncDaemon

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import outcomes
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import (
    MissingCapability,
    Verdict,
    has_failed_in_file,
    interpret,
    may_leave_temporary_files,
    summary,
)
from pylsyncd.rsync.runner import Runner, RunResult

CASES = [
    (1, "ERROR: module is read only", Verdict.HELD),
    (1, "rsync: --no-such-option: unknown option", Verdict.HELD),
    (1, "rsync: --mkpath: unknown option", MissingCapability.MKPATH),
    (2, "invalid file mode 00 for x [Receiver]", MissingCapability.DELETE_MISSING_ARGS),
    (2, "ABORTING due to invalid path from sender: d/f", Verdict.RETRY_NOW),
    (2, "File-list index 0 not in 0 - -1 (read_ndx_and_attrs) [sender]", Verdict.RETRY_NOW),
    (2, "protocol version mismatch -- is your shell clean?", Verdict.HELD),
    (2, "protocol incompatibility", Verdict.RETRY_LATER),
    (
        23,
        'rsync: [receiver] rsync_xal_set: fsetxattr("/d/a","user.x") failed: No space left (28)',
        Verdict.PARTIAL,
    ),
    (
        3,
        'rsync: [sender] change_dir "/s" failed: No such file or directory (2)',
        Verdict.RETRY_LATER,
    ),
    (3, "rsync: [Receiver] getcwd(): No such file or directory (2)", Verdict.RETRY_LATER),
    (3, "rsync cannot start in the source: Permission denied", Verdict.RETRY_LATER),
    (3, "ERROR: destination path is not a directory", Verdict.HELD),
    (3, 'rsync: [Receiver] change_dir#3 "/d" failed: Permission denied (13)', Verdict.HELD),
    (
        3,
        'rsync: [Receiver] change_dir#1 "/d/" failed: Too many levels of symbolic links (40)',
        Verdict.HELD,
    ),
    (
        4,
        "rsync: The server is configured to refuse --delete-missing-args",
        MissingCapability.DELETE_MISSING_ARGS,
    ),
    (4, "rsync: The server is configured to refuse --delete", Verdict.HELD),
    (4, "ERROR: the -x option conflicts with the -y option", Verdict.HELD),
    (5, "@ERROR: Unknown module 'x'", Verdict.HELD),
    (5, "@ERROR: auth failed on module m", Verdict.HELD),
    (5, "@ERROR: access denied to m from localhost (127.0.0.1)", Verdict.HELD),
    (5, "@ERROR: chroot failed", Verdict.RETRY_LATER),
    (5, "@ERROR: invalid uid nobody", Verdict.HELD),
    (5, "@ERROR: max connections (1) reached -- try again later", Verdict.RETRY_LATER),
    (10, "rsync: [sender] failed to connect to h: Connection refused (111)", Verdict.RETRY_LATER),
    (10, "rsync: [sender] getaddrinfo: h 873: Name or service not known", Verdict.RETRY_LATER),
    (10, "rsync: [sender] read error: Connection reset by peer (104)", Verdict.RETRY_LATER),
    (
        11,
        'rsync: [receiver] write failed on "F": No space left on device (28)',
        Verdict.RETRY_LATER,
    ),
    (11, 'rsync: [receiver] write failed on "F": Disk quota exceeded (122)', Verdict.RETRY_LATER),
    (11, 'rsync: [receiver] write failed on "F": Input/output error (5)', Verdict.RETRY_LATER),
    (11, 'rsync: [Receiver] mkdir "/a/b" failed: No such file or directory (2)', Verdict.HELD),
    (11, 'rsync: [Receiver] mkdir "/a" failed: Permission denied (13)', Verdict.HELD),
    (11, "rsync: [sender] pipe failed: Too many open files (24)", Verdict.RETRY_LATER),
    (11, "what is this?", Verdict.RETRY_LATER),
    (12, "rsync: connection unexpectedly closed (0 bytes received so far)", Verdict.RETRY_LATER),
    (12, "rsync: connection unexpectedly closed (42 bytes received so far)", Verdict.RETRY_LATER),
    (12, "rsync: [sender] Failed to exec no-such-ssh: No such file or directory (2)", Verdict.HELD),
    (14, "rsync: [sender] Failed to exec no-such-ssh: No such file or directory (2)", Verdict.HELD),
    (255, "Can't open user config file x/ssh_config: No such file or directory", Verdict.HELD),
    (12, "rsync: on remote machine: --mkpath: unknown option", MissingCapability.MKPATH),
    (12, "rsync: on remote machine: -@-1: unknown option", Verdict.HELD),
    (12, "rsync: unrecognized option `--delete-missing-args'", Verdict.HELD),
    (14, "rsync cannot be run: Cannot allocate memory", Verdict.RETRY_LATER),
    (19, "", Verdict.RETRY_LATER),
    (
        20,
        "rsync error: received SIGINT, SIGTERM, or SIGHUP (code 20) at main.c(1)",
        Verdict.RETRY_LATER,
    ),
    (21, "rsync error: waitpid() failed (code 21) at main.c(1)", Verdict.RETRY_LATER),
    (22, "out of memory in flist_expand", Verdict.RETRY_LATER),
    (
        23,
        'rsync: [receiver] mkstemp "/d/.f.x" failed: Read-only file system (30)',
        Verdict.RETRY_LATER,
    ),
    (23, 'rsync: [generator] mkdir "/d" failed: No space left on device (28)', Verdict.RETRY_LATER),
    (23, 'rsync: [receiver] mkstemp "/d/.f.x" failed: Permission denied (13)', Verdict.PARTIAL),
    (
        23,
        'rsync: [receiver] mkstemp "/d/.f.x" failed: No such file or directory (2)',
        Verdict.PARTIAL,
    ),
    (23, 'rsync: [sender] opendir "/s/d" failed: Permission denied (13)', Verdict.PARTIAL),
    (23, 'rsync: [sender] read errors mapping "/s/f": No data available (61)', Verdict.RETRY_NOW),
    (23, 'rsync: [sender] read errors mapping "/s/f": Input/output error (5)', Verdict.PARTIAL),
    (
        23,
        'rsync: [sender] send_files failed to open "/s/f": Too many levels of symbolic links (40)',
        Verdict.RETRY_NOW,
    ),
    (
        23,
        'rsync: [sender] send_files failed to open "/s/d/f": Not a directory (20)',
        Verdict.RETRY_NOW,
    ),
    (23, 'ERROR: daemon refused to receive file "x"', Verdict.PARTIAL),
    (
        23,
        "rsync: [generator] delete_file: rmdir(m) failed: Device or resource busy (16)",
        Verdict.PARTIAL,
    ),
    (23, "filename overflows max-path len by 1: x/y", Verdict.PARTIAL),
    (23, "[sender] cannot convert filename: x (Invalid)", Verdict.PARTIAL),
    (23, "what is this?", Verdict.PARTIAL),
    (24, 'file has vanished: "/s/f"', Verdict.RETRY_NOW),
    (0, "Deletions stopped due to --max-delete limit (4 skipped)", Verdict.HELD),
    (23, "Deletions stopped due to --max-delete limit (4 skipped)", Verdict.HELD),
    (0, 'skipping non-regular file ".pylsyncd-probe"', MissingCapability.DELETE_MISSING_ARGS),
    (
        25,
        "rsync error: the --max-delete limit stopped deletions (code 25) at main.c(1)",
        Verdict.HELD,
    ),
    (30, "[sender] io timeout after 600 seconds -- exiting", Verdict.RETRY_LATER),
    (
        35,
        "rsync error: timeout waiting for daemon connection (code 35) at main.c(1)",
        Verdict.RETRY_LATER,
    ),
    (126, "bash: /usr/bin/rsync: Permission denied", Verdict.HELD),
    (127, "bash: rsync: command not found", Verdict.HELD),
    (255, "ssh: connect to host h port 22: Connection refused", Verdict.RETRY_LATER),
    (255, "ssh: Could not resolve hostname h: Name or service not known", Verdict.RETRY_LATER),
    (255, "user@h: Permission denied (publickey).", Verdict.HELD),
    (255, "Host key verification failed.", Verdict.HELD),
    (255, "command-line: line 0: Bad configuration option: x", Verdict.HELD),
    (-9, "", Verdict.RETRY_LATER),
]


@pytest.mark.parametrize(("code", "message", "verdict"), CASES)
def test_each_exit_has_a_verdict_and_a_reason(
    code: int, message: str, verdict: Verdict | MissingCapability
) -> None:
    outcome = interpret(code, [message])
    assert (outcome.missing_capability or outcome.verdict) is verdict
    assert outcome.reason


def test_every_row_of_the_table_is_used_by_a_case() -> None:
    met = {replace(interpret(code, [message]), message="") for code, message, _ in CASES}
    assert [row for row in outcomes._TABLE if row.outcome not in met] == []  # noqa: SLF001 - the rows are counted


@pytest.mark.parametrize(
    ("code", "message"), [case[:2] for case in CASES if case[0] in {126, 127, 255}]
)
def test_messages_of_a_remote_shell_count_even_if_its_exit_status_came_too_late(
    code: int, message: str
) -> None:
    closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
    assert interpret(12, [message, closed]) == interpret(code, [message, closed])


def test_a_connection_that_breaks_after_a_refused_path_is_not_a_refused_login() -> None:
    refused = 'rsync: [receiver] mkstemp "/d/.f.x" failed: Permission denied (13)'
    broken = "rsync: connection unexpectedly closed (42 bytes received so far) [sender]"
    assert interpret(12, [refused, broken]).verdict is Verdict.RETRY_LATER


MISLEADING_NAMES = [
    "quota.txt",
    "Quota",
    "rsync: [x",
    "rsync: [receiver] mkstemp",
    "Deletions stopped due to --max-delete limit (4 skipped)",
    "Read-only file system (30)",
    "--mkpath",
    "invalid file mode 00",
    "x: No space left on device (28)",
    ": Permission denied (13)",
    "n" * 4000 + ": No space left on device (28)",
]
NAMING_MESSAGES = [
    (23, 'rsync: [sender] send_files failed to open "/src/%s": Permission denied (13)'),
    (23, 'rsync: [sender] read errors mapping "/src/%s": Input/output error (5)'),
    (23, 'rsync: [receiver] mkstemp "/dst/.%s.2H4tpH" (in m) failed: Permission denied (13)'),
    (23, 'rsync: [receiver] rename "/dst/.%s.2H4tpH" -> "%s": Device or resource busy (16)'),
    (23, 'rsync: [receiver] mkstemp "/dst/.%s.2H4tpH" failed: No space left on device (28)'),
    (23, "rsync: [generator] delete_file: unlink(%s) failed: Permission denied (13)"),
    (23, 'rsync: [generator] link "/dst/%s" => %s failed: Operation not permitted (1)'),
    (23, "ERROR: %s failed verification -- update discarded."),
    (23, "could not make way for new directory: %s"),
    (23, "cannot delete non-empty directory: %s"),
    (23, "cannot delete mount point: %s"),
    (23, 'ERROR: daemon refused to receive file "%s"'),
    (23, "[sender] cannot convert filename: %s (Invalid or incomplete multibyte)"),
    (24, 'file has vanished: "/src/%s"'),
    (2, "invalid file mode 0100 for %s [Receiver]"),
    (2, "ABORTING due to invalid path from sender: %s"),
    (2, "got a block match with no basis file for %s [Receiver]"),
    (11, 'rsync: [receiver] write failed on "/dst/%s": Input/output error (5)'),
    (11, 'rsync: [Receiver] mkdir "/dst/%s" failed: No such file or directory (2)'),
    (0, 'skipping non-regular file "%s"'),
]


@pytest.mark.parametrize(("code", "message"), NAMING_MESSAGES)
@pytest.mark.parametrize("name", MISLEADING_NAMES)
def test_the_name_of_a_file_does_not_change_the_outcome(code: int, message: str, name: str) -> None:
    expected = interpret(code, [message.replace("%s", "a")])
    outcome = interpret(code, [message.replace("%s", name)])
    assert replace(outcome, message="") == replace(expected, message="")


# What ssh of OpenSSH 10.1 prints for a server without such an algorithm.
POST_QUANTUM_WARNING = [
    "** WARNING: connection is not using a post-quantum key exchange algorithm.",
    '** This session may be vulnerable to "store now, decrypt later" attacks.',
    "** The server may need to be upgraded. See https://openssh.com/pq.html",
]
NOISE = [
    "Quota for all users: 20 GB. No space left on device? Call us.",
    "rsync is the way: Read-only file system.",
    "Permission denied to all but members of the club.",
    "max connections: 1. Unknown module? access denied? chroot failed?",
    "Please do not use --mkpath, unknown option or invalid file mode 00.",
    "Host key verification failed for many last week.",
    "/etc/profile: 3: fortune: not found",
    "/home/u/.bashrc: line 3: fortune: command not found",
    "/home/u/.bashrc: line 4: /usr/games/fortune: Permission denied",
    "Warning: Deletions stopped due to --max-delete limit (4 skipped)",
    "Could not resolve your problem? Name or service not known? Call us.",
    "mkdir home: No such file or directory",
    "quota: /home/www/big.iso: Disk quota exceeded",
    "/srv/quota/report.txt: over quota, no space left on device",
    'Last failed login from "/dst/a": Permission denied (13)',
    "Usage: rsync only to /backup, please",
    "Invalid option? Unknown option -- call us",
    *POST_QUANTUM_WARNING,
]


@pytest.mark.parametrize(("code", "message", "verdict"), CASES)
@pytest.mark.parametrize("noise", NOISE)
def test_noise_does_not_change_the_outcome_nor_the_message(
    code: int, message: str, verdict: Verdict | MissingCapability, noise: str
) -> None:
    is_noise_alone = message in {"", "what is this?"} or message.startswith("rsync error: ")
    before, after = interpret(code, [noise, message]), interpret(code, [message, noise])
    alone = interpret(code, [message])
    assert verdict is (before.missing_capability or before.verdict)
    assert replace(before, message="") == replace(after, message="") == replace(alone, message="")
    if not is_noise_alone:
        assert before.message == after.message == alone.message


def test_noise_is_the_message_if_there_is_no_other() -> None:
    assert interpret(255, ["Welcome", "You are denied."]).message == "You are denied."
    assert interpret(255, ["Welcome"]).message == "Welcome"


def test_the_remote_shell_does_not_decide_once_the_remote_rsync_has_started() -> None:
    broken = "rsync: connection unexpectedly closed (42 bytes received so far) [sender]"
    for code, message, _ in CASES:
        if code in {126, 127, 255}:
            assert interpret(12, [message, broken]) == replace(
                interpret(12, [broken]), message=interpret(12, [message, broken]).message
            )


@pytest.mark.parametrize(
    "message",
    ["rsync: Command not found.", "zsh:1: command not found: rsync", "sh: 1: rsync: not found",
     "bash: line 1: rsync: command not found"],
)  # fmt: skip
def test_each_shell_has_its_words_for_a_missing_rsync(message: str) -> None:
    closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
    outcome = replace(interpret(12, [message, closed]), message="")
    assert outcome == replace(interpret(127, []), message="")


@pytest.mark.parametrize(
    "message",
    [
        "rsync: unrecognized option `--delete-missing-args'",
        "rsync: unrecognized option '--info=stats2'",
        "/usr/bin/rsync: unrecognized option: info",
        "openrsync: unknown option -- mkpath",
        "rsync: illegal option -- D",
        "rsync.openrsync: invalid option -- 'U'",
        "rsync: option `--modify-window' requires an argument",
        "rsync: option '--delete' doesn't allow an argument",
        "rsync: ambiguous option -- info",
        "gokr-rsync: unknown flag: --info",
        "rsync: flag provided but not defined: -info",
        "oc-rsync: error: unexpected argument '--info' found",
        "usage: rsync [-46abCcDdEFgHhIiJKklLmNnOoPpqRrtuVvWxz] [-e program]",
        "Usage: /usr/bin/openrsync [-aDglnoprtvx] [-e program]",
    ],
)
@pytest.mark.parametrize("code", [1, 12])
def test_another_rsync_is_held_with_what_to_install(message: str, code: int) -> None:
    closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
    outcome = interpret(code, [message, closed])
    assert outcome.verdict is Verdict.HELD
    assert "another rsync, such as openrsync: install" in outcome.reason
    # A rsync that has started knew all its options.
    broken = "rsync: connection unexpectedly closed (42 bytes received so far) [sender]"
    assert interpret(12, [message, broken]).verdict is Verdict.RETRY_LATER


def test_options_that_a_remote_rsync_refuses_are_held() -> None:
    closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
    last = "rsync error: syntax or usage error (code 1) at main.c(1795) [server=3.2.7]"
    assert interpret(12, [closed, last]).verdict is Verdict.HELD


@pytest.mark.parametrize(
    "message",
    [
        "refusing to follow a symlink owned by an untrusted user; use --insecure-links locally",
        'rsync: [Receiver] change_dir#3 "/d" failed: Too many levels of symbolic links (40)',
    ],
)
def test_a_link_of_another_user_has_a_reason_of_its_own(message: str) -> None:
    assert "symbolic link of another user" in interpret(3, [message]).reason


def test_a_reason_behind_the_longest_path_counts() -> None:
    path = "/dst/" + "\\#303" * 4000
    message = f'rsync: [receiver] mkstemp "{path}" failed: No space left on device (28)'
    assert "full" in interpret(23, [message]).reason


def test_a_daemon_that_asks_for_a_password_refuses_the_login() -> None:
    assert "login" in interpret(5, ["Password: @ERROR: auth failed on module a"]).reason


def test_exit_status_zero_is_success_with_any_message() -> None:
    assert interpret(0, ["Permission denied"]).verdict is Verdict.DONE
    assert interpret(0, ['skipping non-regular file "d/fifo"']).verdict is Verdict.DONE


@pytest.mark.parametrize("code", [*range(1, 256), *range(-64, 0)])
def test_only_exit_status_zero_is_success(code: int) -> None:
    assert interpret(code, []).verdict is not Verdict.DONE


@pytest.mark.parametrize("code", [99, 200, -100])
def test_a_run_with_an_unknown_exit_status_is_retried(code: int) -> None:
    outcome = interpret(code, ["what is this?"])
    assert outcome.verdict is Verdict.RETRY_LATER
    assert str(code) in outcome.reason


@pytest.mark.parametrize("code", [0, 20, 23, -15, -9])
def test_a_stalled_run_is_retried_later_with_any_exit_status(code: int) -> None:
    outcome = interpret(code, ["Permission denied"], "it made no progress for 900 s")
    assert outcome.verdict is Verdict.RETRY_LATER
    assert outcome.reason == "rsync was stopped: it made no progress for 900 s"


def test_a_run_that_stalled_in_a_fifo_is_retried_at_once() -> None:
    assert interpret(20, [], outcomes.STALLED_IN_FIFO).verdict is Verdict.RETRY_NOW


def test_the_summary_is_the_first_error() -> None:
    messages = [
        "Welcome to host",
        'rsync: [sender] link_stat "/x" failed: No such file or directory (2)',
        "rsync error: some files/attrs were not transferred (code 23) at main.c(1336)",
    ]
    assert summary(messages).startswith("rsync: [sender] link_stat")
    assert not summary([])


@pytest.mark.parametrize(
    "cause",
    [
        "ssh: connect to host srv2 port 22: Connection timed out",
        "ssh: connect to host srv2 port 22: No route to host",
        "Timeout, server srv2 not responding.",
        "kex_exchange_identification: Connection closed by remote host",
    ],
)
def test_the_summary_is_the_cause_of_a_closed_connection(cause: str) -> None:
    closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"
    ended = "rsync error: unexplained error (code 255) at io.c(232) [sender=3.2.7]"
    assert summary(["Welcome to srv2", cause, closed, ended]) == cause
    assert summary(["Welcome to srv2", closed, ended]) == closed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(
            "\x1b]0;owned\x07\x1b[2Jdenied", r"\x1b]0;owned\x07\x1b[2Jdenied", id="escape"
        ),
        pytest.param("denied\r2026 [a] synced", r"denied\r2026 [a] synced", id="carriage return"),
        pytest.param("denied\v\f\x85\u2028x", r"denied\x0b\x0c\x85\u2028x", id="line ends"),
        pytest.param("denied\x7f\x08\x9b2J", r"denied\x7f\x08\x9b2J", id="DEL, BS and a C1 CSI"),
        pytest.param("denied \u202etxt.exe\u2066", r"denied \u202etxt.exe\u2066", id="bidi"),
        pytest.param(
            "denied: \u00e9 \\#012 \u65e5\r", "denied: \u00e9 \\#012 \u65e5", id="letters"
        ),
    ],
)
def test_the_summary_has_no_control_characters(text: str, shown: str) -> None:
    assert summary([text]) == shown


# Real runs, by a root without the privileges of root.

MEEK = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
RSYNC = RsyncOptions("rsync", (3, 2, 7), itemize=True)


@pytest.fixture
def misnamed(tmp_path: Path) -> Path:
    """Return a source of files that are named like messages of rsync."""
    source = tmp_path / "src"
    source.mkdir()
    for name in MISLEADING_NAMES:
        (source / name[:200]).write_text(name)
    return source


def run(source: Path, to: Destination, *, without: bytes = b"") -> RunResult:
    command = RSYNC.full_sync_command(os.fsencode(source), to, RsyncCapabilities())
    words = [word for word in command if word != without]
    return Runner().run([*map(os.fsencode, MEEK), *words], b"", lambda _: None)


def local(replica: Path) -> Destination:
    return Destination("d", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")


def test_unreadable_files_named_like_messages_are_unreadable_files(
    misnamed: Path, tmp_path: Path
) -> None:
    for path in misnamed.iterdir():
        path.chmod(0)
    done = run(misnamed, local(tmp_path / "dst"))
    outcome = interpret(done.exit_status, done.messages)
    assert done.exit_status == 23
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.reason.startswith("some paths of the source cannot be read")


def test_unwritable_files_named_like_messages_are_unwritable_files(
    misnamed: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("rsync makes a directory of its own user writable")
    replica = tmp_path / "dst"
    replica.mkdir(mode=0o555)
    # It may not make the directory writable.
    misnamed.chmod(0o555)
    done = run(misnamed, local(replica))
    outcome = interpret(done.exit_status, done.messages)
    assert done.exit_status == 23
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.reason.startswith("some paths cannot be written")


@pytest.mark.parametrize("named", ["", "rsync: [x"])
def test_a_name_of_an_excluded_path_does_not_hide_that_the_daemon_excludes_it(
    tmp_path: Path, named: str
) -> None:
    source, module = tmp_path / "src", tmp_path / "module"
    for directory in (source, module):
        directory.mkdir()
    (source / f"x{named}").touch()
    with RsyncDaemon(tmp_path, {"m": module}, {"m": {"exclude": "x*"}}) as server:
        done = run(source, Destination("d", "", Transport.DAEMON, None, server.url("m").encode()))
    outcome = interpret(done.exit_status, done.messages)
    assert outcome.reason.startswith("the rsync daemon excludes some paths")


GREETING = """Quota for all users: 20 GB. No space left on device? Call us.
Permission denied to all but members of the club. max connections: 1
"""
LINES_OF_RSYNC = """Deletions stopped due to --max-delete limit (4 skipped)
Number of deleted files: 99999
rsync: [x
"""


@pytest.mark.parametrize("is_readable", [True, False])
@pytest.mark.parametrize("with_greeting", [True, False])
def test_the_greeting_of_a_daemon_does_not_change_the_outcome(
    misnamed: Path, tmp_path: Path, *, is_readable: bool, with_greeting: bool
) -> None:
    module, motd = tmp_path / "module", tmp_path / "motd"
    module.mkdir()
    # What is exactly a line of rsync can only be kept out by --no-motd.
    motd.write_text(GREETING if with_greeting else GREETING + LINES_OF_RSYNC)
    if not is_readable:
        (misnamed / "quota.txt").chmod(0)

    class GreetingDaemon(RsyncDaemon):
        def _global_options(self) -> dict[str, str]:
            return {**super()._global_options(), "motd file": str(motd)}

    with GreetingDaemon(tmp_path, {"m": module}) as server:
        to = Destination("d", "", Transport.DAEMON, None, server.url("m").encode())
        done = run(misnamed, to, without=b"--no-motd" if with_greeting else b"")
    outcome = interpret(done.exit_status, done.messages)
    assert any("Quota" in line for line in done.messages) is with_greeting
    assert with_greeting or done.deleted == 0
    if is_readable:
        assert outcome.verdict is Verdict.DONE
    else:
        assert outcome.verdict is Verdict.PARTIAL
        assert outcome.reason.startswith("some paths of the source cannot be read")
        assert "quota.txt" in outcome.message


@pytest.mark.parametrize(
    ("exit_status", "line", "expected"),
    [
        (-9, "", True),
        (12, "rsync: connection unexpectedly closed (17 bytes received so far) [sender]", True),
        (12, "rsync: [sender] connection unexpectedly closed (17 bytes received so far)", True),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far) [sender]", False),
        (10, "rsync: [sender] write error: Broken pipe (32)", True),
        (10, "rsync: [sender] read error: Connection reset by peer (104)", True),
        (10, "rsync: [sender] failed to connect to h (1.2.3.4): Connection refused (111)", False),
        (20, "rsync error: received SIGUSR1 (code 19) at main.c(1622) [server=3.5.0]", True),
        (30, "[sender] io timeout after 3 seconds -- exiting", True),
        (255, "ssh: connect to host h port 22: Connection refused", False),
        (0, "rsync: [sender] write error: Broken pipe (32)", False),
        (5, "@ERROR: Unknown module 'm'", False),
    ],
)
def test_only_a_run_that_broke_off_leaves_temporary_files(
    exit_status: int, line: str, *, expected: bool
) -> None:
    assert may_leave_temporary_files(exit_status, ["another line", line]) is expected


@pytest.mark.parametrize(
    ("exit_status", "line", "expected"),
    [
        (11, "rsync: [sender] write error: Broken pipe (32)", True),
        (12, "rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]", True),
        (12, "rsync error: error in socket IO (code 10) at io.c(949) [sender=3.5.0]", False),
        (23, "rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]", False),
    ],
)
def test_a_run_that_ended_in_a_file_is_known_by_the_receivers_exit_status(
    exit_status: int, line: str, *, expected: bool
) -> None:
    assert has_failed_in_file(exit_status, ["another line", line]) is expected
