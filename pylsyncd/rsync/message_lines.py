"""Tells rsync's own messages from other text in its output. Pure.

The lines of one rsync hold names of files, which users choose, and text of other programs: the
greeting of an rsync daemon, the banner and warnings of ssh, the output of a login script. A message
is recognized by its fixed beginning, and names in it are cut out before its words are interpreted.
All else is noise.

rsync 3.1.3 to 3.5.0 prints three kinds of messages. A failed system call ends in its reason::

    rsync: [receiver] mkstemp "/dst/.a.2H4tpH" (in module) failed: Permission denied (13)

Older ones omit the role in brackets. Other messages have a fixed beginning, perhaps before a name,
and the last line is a summary with the exit status.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

# Characters of a line that are interpreted: its beginning and, because a reason follows its name,
# its end. What is between them is part of a name.
MAX_MATCHED: Final = 1_000
_MAX_MATCHED_END: Final = 200


class MessageOrigin(Enum):
    """The writer of a line."""

    RSYNC = "rsync"
    """rsync, here or at the destination."""
    DAEMON = "daemon"
    """An rsync daemon that refuses the connection."""
    SHELL = "shell"
    """The remote shell: ssh, the shell that it starts, or another program in rsync's place."""
    NOISE = "noise"
    """Another program, or an unknown one."""


@dataclass(frozen=True, slots=True)
class MessageLine:
    """One line of rsync's output."""

    origin: MessageOrigin
    words: str
    """Its fixed words: ``...`` stands for names. Empty for noise."""


def parse_message(line: str) -> MessageLine:
    """Return the writer of a line and its fixed words."""
    # rsync without a terminal asks for a password on its standard error.
    text = shortened(line).removeprefix("Password: ")
    if text.startswith("@ERROR"):
        return MessageLine(MessageOrigin.DAEMON, text)
    if _FAILED_VERIFICATION.search(text):
        return MessageLine(MessageOrigin.RSYNC, "ERROR: ... failed verification")
    # Before rsync's own: csh prints "rsync: Command not found."
    prefix = UNKNOWN_OPTION if _UNKNOWN_OPTION.match(text) else ""
    if prefix or _SHELL.match(text):
        return MessageLine(MessageOrigin.SHELL, prefix + text)
    if text.startswith("rsync: "):
        return MessageLine(MessageOrigin.RSYNC, _without_names(text))
    if found := _BEGINNING.match(text):
        return MessageLine(MessageOrigin.RSYNC, found[0])
    return MessageLine(MessageOrigin.NOISE, "")


def is_noise(line: str) -> bool:
    """Return True if a line is no message of rsync, and holds none: it names no failed path.

    rsync's processes share a pipe, so a message may follow other text in the same line.
    """
    return parse_message(line).origin not in _RSYNC_OR_DAEMON and _ROLE not in line


def is_meaningless(line: str) -> bool:
    """Return True if a line is noise, and no message of the remote shell either."""
    return parse_message(line).origin is MessageOrigin.NOISE and _ROLE not in line


def shortened(line: str) -> str:
    """Return a line without the middle of a long one."""
    if len(line) <= MAX_MATCHED:
        return line
    return line[: MAX_MATCHED - _MAX_MATCHED_END] + line[-_MAX_MATCHED_END:]


_RSYNC_OR_DAEMON = frozenset([MessageOrigin.RSYNC, MessageOrigin.DAEMON])
_ROLE = "rsync: ["


def _without_names(text: str) -> str:
    """Return what failed and why, without the names between them.

    A name is in quotes or parentheses, or follows one that is. The reason contains no colon.
    """
    name = _NAME.search(text)
    if name is None:
        return text
    is_quoted = name[0] == '"'
    reason = text.rfind(": ", text.rfind('"') if is_quoted else name.start())
    if reason >= 0:
        return f"{text[: name.start()]}...{text[reason:]}"
    return f"{text[: name.start()]}..." if is_quoted else text


_NAME = re.compile(r'["(]')

# The name precedes it.
_FAILED_VERIFICATION = re.compile(
    r" failed verification -- update [a-z -]{1,40}(?: \(will try again\))?\.?\Z"
)


def _any_of(alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives.strip("\n").split("\n")))


# What openrsync (OpenBSD, macOS) and other programs called rsync print when they do not know an
# option. The words are those of getopt_long(3) in BSD, glibc and musl, and of the parsers of Go and
# Rust. rsync itself names the option first: "rsync: --x: unknown option".
_UNKNOWN_OPTION = re.compile(
    r"(?:[^ ]{0,200}/)?[\w.-]{0,30}rsync[\w.-]{0,30}: (?:error: )?(?:"
    r"(?:unrecogni[sz]ed|unknown|undefined|invalid|illegal|ambiguous|unsupported) "
    r"(?:long |short |shorthand |command[- ]line )?(?:option|flag|switch|argument)\b.*"
    r"|(?:unexpected|found) argument .*"
    r"|option ['`]?-?-?[\w-]{0,60}'? ?(?:requires|doesn't|does not|is not|is un).*"
    r"|flag provided but not defined.*)"
    r"|usage: (?:[^ ]{0,200}/)?[\w.-]{0,30}rsync \[.*",
    re.IGNORECASE,
)
UNKNOWN_OPTION: Final = "another rsync: "
"""The beginning of the words of such a message."""

# The beginnings of rsync's messages up to a name, if there is one; the whole message where a name
# precedes its words or is of importance.
_BEGINNING = _any_of(r"""
rsync (?:error|warning): .*
(?:file|directory|symlink|link|special file|device) has vanished:
symlink has no referent:
WARNING: [A-Za-z -]+
NOTE: [A-Za-z -]+
ERROR: daemon refused to receive [a-z ]+(?=".*"\Z)
ERROR: [A-Za-z -]+
\[(?:sender|receiver|Receiver|generator)\] [A-Za-z -]+
Deletions stopped due to --max-delete limit
IO error encountered --
\*\*\* Skipping any contents
cannot delete (?:non-empty directory|mount point):
mount point, (?=.* pins parent)
could not make way for [a-z ]+:
skipping non-regular file "(?:[^"]*/)?\.pylsyncd-probe"\Z
skipping (?:non-regular file|directory|overly long name:|file with bogus|symlink with)
skipping socket \(
ignoring unsafe symlink
not backing up
keep_backup failed:
make_bak:
filename overflows max-path len by
cannot send file with empty name in
cannot add local filter rules
path too long:
temporary filename too long:
skipped diminished file:
found "\.\." dir in relative path:
ABORTING due to (?:unsafe pathname|invalid path) from sender:
invalid file mode 0\d*
hard-link reference out of range:
File-list index
received request to transfer
got (?:a block match with no basis file|transfer request)
[ug]id 4294967295
Unable to create partial-dir for
recv_files:
do_chmod:
default_perms_for_dir:
(?:un)?pack_smb_acl:
Missing abbreviated xattr value,
Corrupt \S+ xattr attached to
recv(?:eive_xattr|_acl_index|_acl_access):
(?:rsync: )?The server is configured to refuse [a-z-]+
The server does not support
Your options have been rejected
protocol version mismatch -- is your shell clean
protocol incompatibility
\(see the rsync manpage
unexpected tag \d
multiplexing overflow \d
wire (?:value|size)
invalid (?:multi-message|basis_dir index|token|len passed|read_size|message)
Invalid (?:packet|block|zero|checksum|remainder|literal|file index|dir index|flist)
connection unexpectedly closed \(
FATAL I/O ERROR:
out of memory in
(?:ACLs|extended attributes|hard-links|symlinks) are not supported on this
(?:/[^ ]{0,200}/)?rrsync(?:\.\w{1,3})?(?: error)?: .*
refusing to follow a symlink owned by an untrusted user
.{1,300} cannot (?:start in the source|be run):
""")

# The beginnings of messages of the shells and other programs that start the remote rsync.
_START = r"-?(?:(?:a|ba|c|da|fi|k|mk|pdk|r|rba|rk|tc|ya|z)?sh|rssh|sudo|doas|env|exec|busybox)"

_SHELL = _any_of(rf"""
ssh:
command-line:? line
[/~][^ ]{{1,300}}:? line \d{{1,6}}: (?:[Bb]ad|[Mm]issing|[Uu]nsupported|[Ii]nvalid)
[/~][^ ]{{1,300}}: terminating, \d{{1,6}} bad configuration options
(?:ssh|kex)_exchange_identification:
banner exchange:
Unable to negotiate with
(?:Received disconnect|Disconnected) from
Connection (?:closed|reset|timed out|to)\b
(?:client_loop|mux_client_[a-z_]+|muxclient):
ControlSocket
Timeout, server
Bad owner or permissions on
Host key verification failed\.\s*\Z
[A-Za-z0-9-]{{1,30}} host key for
No [A-Za-z0-9-]{{1,30}} host key is known
@ {{1,9}}WARNING: [A-Z ]+
Can't open user config file
[Nn]o such identity:
Too many authentication failures
(?:[^ ]{{1,300}}: )?illegal option\b
unknown option --
(?:[^ ]{{1,300}}: )?Permission denied(?: \([a-z][a-z0-9,@. -]*\)|, please try again)?\.?\s*\Z
{_START}: (?:line \d{{1,6}}: |\d{{1,6}}: )?[^ ]{{1,300}}: [A-Za-z :]+
{_START}:\d{{1,6}}: (?:command not found|permission denied):
[^ ]{{1,300}}: Command not found\.
""")
