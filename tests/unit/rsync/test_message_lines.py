"""rsync's own messages are told from the text of others, and names in them are cut out."""

import pytest

from pylsyncd.rsync.message_lines import (
    MAX_MATCHED,
    MessageLine,
    MessageOrigin,
    is_noise,
    parse_message,
)

RSYNC, _, SHELL, NOISE = MessageOrigin

NOISE_LINES = [
    "Quota for all users: 20 GB. No space left? Call us.",
    "Permission denied to all but members of the club.",
    "*** Welcome! Deletions stopped due to --max-delete limit ***",
    "Disk quotas for user www (uid 33): none",
    "Warning: Permanently added 'srv2' (ED25519) to the list of known hosts.",
    "** WARNING: connection is not using a post-quantum key exchange algorithm.",
    "/home/www/.bashrc: line 3: fortune: no such thing",
    '** This session may be vulnerable to "store now, decrypt later" attacks.',
    "** The server may need to be upgraded. See https://openssh.com/pq.html",
    "quota: /home/www/big.iso: Disk quota exceeded",
    "Usage: rsync only to /backup, please",
    "rsync: unrecognized option `--delete-missing-args'",
    "mkdir " * 200,
    "read errors mapping " * 1000,
    "[sender] " * 10,
    "rsynca: [sender] no space left on device",
    "\x1b[2J\x1b]0;title\x07",
    "\0" * 100,
    "\\#012",
]


@pytest.mark.parametrize("line", NOISE_LINES)
def test_the_text_of_another_program_is_noise(line: str) -> None:
    assert is_noise(line)
    assert parse_message(line).origin in {NOISE, SHELL}


# All messages with which rsync 3.1.3 to 3.5.0 may report that a path was not copied.
COMPLAINTS = [
    'file has vanished: "/src/a"',
    'directory has vanished: "/src/d"',
    "WARNING: parent dir is absent in the file list: d",
    'rsync: [sender] opendir "/src/u" failed: Permission denied (13)',
    'rsync: mkdir "/dst/old" failed: Permission denied (13)',
    "rsync: [generator] delete_file: unlink(d/x) failed: Permission denied (13)",
    "ERROR: a failed verification -- update discarded.",
    "WARNING: a failed verification -- update discarded (will try again).",
    "could not make way for new regular file: a",
    "cannot delete non-empty directory: d",
    "cannot delete mount point: m",
    "mount point, d, pins parent directory",
    'ERROR: daemon refused to receive file "x"',
    'skipping socket (creation unsupported here): "/dst/s"',
    'skipping non-regular file "fifo"',
    'ignoring unsafe symlink "a" -> "../b"',
    "filename overflows max-path len by 1: x/y",
    "[sender] cannot convert filename: x (Invalid or incomplete multibyte or wide character)",
    "skipping overly long name: x",
    "skipping file with bogus (zero) st_mode: x",
    "path too long: x",
    "cannot send file with empty name in d",
    "Unable to create partial-dir for x -- discarding partial file.",
    "IO error encountered -- skipping file deletion",
    "*** Skipping any contents from this failed directory ***",
    "Deletions stopped due to --max-delete limit (4 skipped)",
    "rsync error: some files/attrs were not transferred (code 23) at main.c(1394) [sender=3.5.0]",
    "rsync warning: some files vanished before they could be transferred (code 24) at main.c(1)",
]


@pytest.mark.parametrize("line", COMPLAINTS)
def test_a_message_of_rsync_is_no_noise(line: str) -> None:
    assert parse_message(line).origin is RSYNC
    assert not is_noise(line)


def test_a_message_behind_other_text_is_no_noise() -> None:
    assert not is_noise('Welcome!rsync: [receiver] mkstemp "/dst/.a.2H4tpH" failed: x (13)')


@pytest.mark.parametrize(
    "line",
    [
        "Host key verification failed.",
        "user@h: Permission denied (publickey,gssapi-keyex,password).",
        "Permission denied, please try again.",
        "ssh: connect to host h port 22: Connection refused\r",
        "ssh: Could not resolve hostname h: Name or service not known\r",
        "command-line: line 0: Bad configuration option: x",
        "/home/u/.ssh/config: line 3: Bad configuration option: x",
        "Can't open user config file /nope: No such file or directory\r",
        "unknown option -- 8\r",
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
        "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures",
        "bash: line 1: rsync: command not found",
        "sh: 1: norsync: not found",
        "zsh:1: command not found: rsync",
        "rsync: Command not found.",
        "sh: 1: /usr/bin/rsync: Permission denied",
    ],
)
def test_a_message_of_the_remote_shell_is_recognized(line: str) -> None:
    assert parse_message(line) == MessageLine(SHELL, line)
    assert is_noise(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'rsync: [receiver] mkstemp "/d/.%s.2H4tpH" (in m) failed: Permission denied (13)',
            "rsync: [receiver] mkstemp ...: Permission denied (13)",
        ),
        (
            'rsync: [receiver] rename "/d/.%s.L43IDo" -> "%s": Permission denied (13)',
            "rsync: [receiver] rename ...: Permission denied (13)",
        ),
        (
            'rsync: [generator] link "/d/%s" => %s failed: Permission denied (13)',
            "rsync: [generator] link ...: Permission denied (13)",
        ),
        (
            'rsync: [receiver] rename failed for "/d/%s" (from d/.~tmp~/%s): Is a directory (21)',
            "rsync: [receiver] rename failed for ...: Is a directory (21)",
        ),
        (
            "rsync: [generator] delete_file: unlink(%s) failed: Permission denied (13)",
            "rsync: [generator] delete_file: unlink...: Permission denied (13)",
        ),
        (
            "rsync: [generator] set_acl: xacl_set(%s, ACL_TYPE_ACCESS): Permission denied (13)",
            "rsync: [generator] set_acl: xacl_set...: Permission denied (13)",
        ),
        ("ERROR: %s failed verification -- update discarded.", "ERROR: ... failed verification"),
        ("could not make way for new regular file: %s", "could not make way for new regular file:"),
        ("cannot delete non-empty directory: %s", "cannot delete non-empty directory:"),
        ('file has vanished: "/src/%s"', "file has vanished:"),
        ('ERROR: daemon refused to receive file "%s"', "ERROR: daemon refused to receive file "),
        ("invalid file mode 00 for %s [Receiver]", "invalid file mode 00"),
        ('skipping non-regular file "%s"', "skipping non-regular file"),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "a",
        "quota.txt",
        "rsync: [x",
        "x: No space left on device (28)",
        'x" failed: Disk quota exceeded (122)',
        "Deletions stopped due to --max-delete limit (4 skipped)",
        "x failed verification -- update discarded.",
        "n" * 5000,
        ") failed: Read-only file system (30)",
    ],
)
def test_names_are_cut_out_of_a_message(line: str, words: str, name: str) -> None:
    shown = line.replace("%s", name)
    parsed = parse_message(shown)
    # A name at the end of a line may look like the other message that ends with fixed words.
    is_like_another = line.endswith(": %s") and name.endswith("update discarded.")
    assert parsed == MessageLine(
        RSYNC, "ERROR: ... failed verification" if is_like_another else words
    )


def test_no_more_than_the_beginning_and_the_end_of_a_line_are_interpreted() -> None:
    assert len(parse_message("rsync: " + "x" * 20_000).words) <= MAX_MATCHED
