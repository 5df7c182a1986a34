"""Everything that parses text from outside, each with what must hold for any text.

A parser may refuse a text with an error of ours. It must not raise another one, return a path that
is not below the source, or need more time than in proportion to the size of the text.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from pylsyncd.config.config_file import ConfigFileReader
from pylsyncd.config.ini_parser import parse_ini
from pylsyncd.config.raw_options import ErrorCollector
from pylsyncd.control import nagios, protocol, table, web_pages
from pylsyncd.control.protocol import ProtocolError
from pylsyncd.model import destination_notation, paths, status_json
from pylsyncd.model.changes import Changeset, union
from pylsyncd.model.errors import StateError, UsageError
from pylsyncd.model.moves import NO_MOVES
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Status
from pylsyncd.report.hook_output import HookOutput
from pylsyncd.rsync import failed_paths, message_lines, outcomes, runner
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.output import RsyncMessages, RsyncProgress
from pylsyncd.rules import explain, filters, mistakes
from pylsyncd.rules.excludes import build_rules
from pylsyncd.state import destination_state, lock_file
from pylsyncd.watcher import mounts

SOURCE, TARGET = b"/src", b"/dst"

# What a run may have carried: a full sync, or these entries of a list.
ENTRIES = (b"...abcdef", b"a", b"d/", b"d/secret.txt", b"x/y")
RULES = build_rules([filters.parse_exclude(b"/secret/")])


@dataclass(frozen=True)
class Parser:
    """A parser with its check, and pieces of the texts that it is made for."""

    check: Callable[[bytes], None]
    """Parse a text, and assert what holds for the result."""
    pieces: tuple[bytes, ...]
    max_bytes: int = 60_000
    """The size of a text whose cost is measured."""
    starts: tuple[bytes, ...] = ()
    """Beginnings of texts whose cost is measured, beside the first pieces."""


def _assert_below_source(path: bytes) -> None:
    assert b"\0" not in path
    assert not path.startswith(b"/")
    assert not path or {b"", b".", b".."}.isdisjoint(path.split(b"/")), path


def _assert_paths_below_source(changeset: Changeset) -> None:
    for path, scope in changeset:
        assert isinstance(scope, Scope)
        _assert_below_source(path)


def _assert_one_line(text: str) -> None:
    assert text.isprintable()


def _messages(text: bytes) -> RsyncMessages:
    messages = RsyncMessages()
    for line in text.split(b"\n"):
        messages.add(line)
    return messages


def check_complaints(text: bytes) -> None:
    """Find the failed paths in messages."""
    messages = _messages(text)
    for entries in (None, ENTRIES):
        carried = CarriedPaths(entries, RULES, frozenset([b"excluded"]))
        failed = failed_paths.FailedPaths(SOURCE, TARGET, carried)
        for line in messages:
            failed.add(line)
        if not failed.are_known:
            continue
        found = union(failed.content, failed.attributes)
        _assert_paths_below_source(found)
        for path, _ in found:
            assert not RULES.excludes(path, is_directory=True) or path in ENTRIES
            assert not paths.covers(b"excluded", path)


_EXIT_STATUSES = (0, 1, 2, 3, 4, 5, 10, 11, 12, 14, 20, 23, 24, 25, 30, 35, 126, 127, 255, -9, 199)


def check_outcomes(text: bytes) -> None:
    """Interpret messages with some exit statuses; texts of other sizes with others."""
    messages = _messages(text)
    for line in messages:
        parsed = message_lines.parse_message(line)
        assert len(parsed.words) <= message_lines.MAX_MATCHED + len("...")
        assert bool(parsed.words) or parsed.origin is message_lines.MessageOrigin.NOISE
    for exit_status in _EXIT_STATUSES[len(text) % 5 :: 5]:
        outcome = outcomes.interpret(exit_status, messages)
        assert outcome.reason or outcome.verdict is outcomes.Verdict.DONE
        _assert_one_line(outcome.reason)
        _assert_one_line(outcome.message)


def check_output(text: bytes) -> None:
    """Read the items, counters and progress of a run, cut at any place."""

    def use(progress: RsyncProgress) -> None:
        assert progress.fraction_done is None or 0.0 <= progress.fraction_done <= 1.0
        assert 0 <= progress.bytes_done < 1 << 64

    for size in (len(text) or 1, 7, 4096):
        result = runner.RunResult()
        parser = runner._OutputParser(result, _assert_one_line, use)  # noqa: SLF001 - no process
        splitter = parser.splitter()
        # Chunks of seven bytes of a long text would only measure the number of chunks.
        for start in range(0, min(len(text), 2_000 * size), size):
            splitter.feed(text[start : start + size])
        splitter.finish()
        assert min(result.files, result.deleted, result.bytes_sent) >= 0


def check_control_request(text: bytes) -> None:
    """Decode a request."""
    try:
        request = protocol.decode_request(text)
    except ProtocolError:
        return
    assert request.command in protocol.COMMANDS
    assert 0.0 <= request.timeout <= protocol.MAX_WAIT_SECONDS


def check_control_answer(text: bytes) -> None:
    """Decode an answer, and show the status in it."""
    try:
        answer = protocol.decode_answer(text)
        status = status_json.decode_status(answer.get("status"))
    except (ProtocolError, StateError):
        return
    _show(status)


def check_status_file(text: bytes) -> None:
    """Read a status, and show it."""
    try:
        status = status_json.parse_status(text)
    except StateError:
        return
    status_json.format_status(status)
    _show(status)


def _show(status: Status) -> None:
    for line in table.format_table(status, age=1.0):
        _assert_one_line(line)
    table.summary(status)
    _, line = nagios.evaluate([status], nagios.Thresholds(60.0, 600.0))
    _assert_one_line(line)


def check_state_file(text: bytes) -> None:
    """Decode a state whose checksum is right."""
    checksum = hashlib.sha256(text).hexdigest().encode()
    for content in (text, checksum + b"\n" + text):
        try:
            state = destination_state.decode(content)
        except StateError:
            continue
        _assert_paths_below_source(state.pending)
        for path in state.nested_mounts:
            _assert_below_source(path)
        for path, move in (state.pending.moves or NO_MOVES).by_new_path.items():
            _assert_below_source(path)
            _assert_below_source(move.old)
            assert path
            assert move.old
        encoded = destination_state.encode(state)
        assert destination_state.encode(destination_state.decode(encoded)) == encoded


OUR_LOCK = lock_file.LockRecord(b"/srv/www", b"/mnt/copy", is_deleting=True)


def check_lock_file(text: bytes) -> None:
    """Decode a lock, and compare it with another."""
    try:
        pid, record = lock_file.decode(text)
    except StateError:
        return
    _assert_one_line(lock_file.conflict_message(OUR_LOCK, record, pid))


def check_configuration(text: bytes) -> None:
    """Read a configuration file up to the values of its options."""
    errors = ErrorCollector()
    decoded = os.fsdecode(text)
    parse_ini(decoded)
    ConfigFileReader("p.conf", "/etc", errors).read(decoded, ())


_SAMPLE_PATHS = (
    b"a",
    b"a/b/c",
    b"secret/key",
    b"x.tmp",
    b"\xff/[*?",
    b"a" * 200 + b"/" + b"b" * 200,
)


def check_rules(text: bytes) -> None:
    """Read lines of patterns and of filters, and apply them."""
    for parse in (_parse_filters, filters.parse_exclude_lines, filters.parse_include_lines):
        try:
            rules = build_rules([parse(text)])
        except UsageError:
            continue
        for path in _SAMPLE_PATHS:
            for is_directory in (False, True):
                rules.excludes(path, is_directory=is_directory)
                rules.protects(path, is_directory=is_directory)
        explain.explain(rules, b"a/b/c", is_directory=False)
        mistakes.find_never_matching_rules(rules, SOURCE)
        rules.arguments()


def _parse_filters(text: bytes) -> Iterable[filters.RuleStep]:
    return [step for line in text.split(b"\n") for step in filters.parse_filter(line)]


def check_mountinfo(text: bytes) -> None:
    """Parse a table of mounts."""
    found = mounts.parse_mountinfo(text)
    mounts.mount_of(SOURCE, found)
    mounts.mounts_below(SOURCE, found)


def check_destination(text: bytes) -> None:
    """Parse a destination."""
    try:
        parsed = destination_notation.parse_destination(text, b"/cwd", lambda _: False)
    except UsageError:
        return
    assert b"\0" not in parsed.path
    _assert_one_line(paths.printable(parsed.path))


def check_hook_output(text: bytes) -> None:
    """Log the output of a hook."""
    output = HookOutput("hook")
    for start in range(0, len(text), 4096):
        output.add(text[start : start + 4096])
    output.log_remaining()


def check_health_query(text: bytes) -> None:
    """Ask for the health with a query."""
    # As http.server decodes it.
    response = _PAGES["/healthz"](text.decode("iso-8859-1"))
    assert response.status in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}
    _assert_one_line(response.content.decode().removesuffix("\n"))


_PAGES = web_pages.make_pages(lambda: Status("1", 1, 1.0, 1.0, 1), "host")

_JSON = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"true", b"1e400", b"-1", b"9" * 400,
    b"9" * 5000, b"NaN", b"Infinity", b"\\ud800", b"\\u0000", b"..", b"/", b"0.5", b"\xff",
)  # fmt: skip
_ROLES = (b"rsync: [sender] ", b"rsync: [receiver] ", b"rsync: [generator] ", b"rsync: ")
_ODD = (
    b"\n", b"\r", b"\0", b"\x1b[2J", b"\xff", b"\xe2\x80\xae", b"\\#000", b"\\#012", b"\\#056",
    b"\\#057", b"\\#999", b"..", b".", b"/", b"//", b"../", b"a", b"secret", b'"', b" ",
    b"9" * 5000,
    b"...abcdef", b".a.2H4tpH", b"x" * 300,
)  # fmt: skip
_MESSAGES = (
    *_ROLES, *_ODD,
    b'mkstemp "/dst/', b'opendir "/src/', b'" failed: ', b"Permission denied (13)", b'" -> "',
    b'" => ', b'","', b'" (in ', b" (from ", b" failed verification -- update discarded.", b"): ",
    b"file has vanished: ", b"cannot delete non-empty directory: ", b"ERROR: ", b"WARNING: ",
    b"could not make way for new regular file: ", b'rename "/dst/', b"No space left on device (28)",
    b"delete_file: unlink(", b'fsetxattr("/dst/', b'",x)', b"set_acl: xacl_set(", b"[sender] ",
    b"cannot convert filename: ", b"Deletions stopped due to --max-delete limit", b"@ERROR: ",
    b"ssh: ", b"mkdir ", b"read errors mapping ", b"skipping non-regular file ", b": ", b"(13)",
    b"Host key verification failed.", b"bash: line 1: rsync: command not found", b"--mkpath",
    b"link ", b"symlink ", b"rename failed for ", b"sh: ", b"line 1: ",
)  # fmt: skip

PARSERS = {
    "complaints": Parser(
        check_complaints, _MESSAGES,
        max_bytes=20_000,  # A longer line is cut.
        starts=(
            b'file has vanished: "', b'rsync: [sender] x: lgetxattr("',
            b'rsync: [sender] opendir "',
            b'rsync: [generator] x: lsetxattr("', b'rsync: [receiver] mkstemp "', b"ERROR: ",
            b'rsync: [receiver] rename "', b'rsync: [generator] symlink "',
            b'rsync: [generator] link "', b'rsync: [receiver] rename failed for "',
            b"rsync: [generator] set_acl: x(", b"rsync: [generator] delete_file: unlink(",
            b"could not make way for new directory: ", b"filename overflows max-path len by 1: ",
            b"[sender] cannot convert filename: ", b'ERROR: daemon refused to receive file "',
            b"rsync: [generator] chown ", b"rsync: [generator] failed to set times on ",
        ),
    ),
    "outcomes": Parser(check_outcomes, _MESSAGES),
    "output": Parser(
        check_output,
        (*_ODD, b"Number of deleted files: ", b"Number of created files: ", b" (reg: ", b"-1",
         b"Number of regular files transferred: ", b"Total bytes sent: ", b">f+++++++++ ",
         b"*deleting   ", b"deleting ",
         b"\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-",
         b"chk=25/33)", b"\r", b" 44%", b"0:00:00", b"??:??:??", b"  ", b"(xfr#", b"chk=", b"kB/s"),
    ),
    "control-request": Parser(
        check_control_request,
        (*_JSON, b'{"version": 1, "command": "', b'"names": [', b'"timeout": ', b'"level": ',
         b"status", b"wait"),
    ),
    "control-answer": Parser(
        check_control_answer,
        (*_JSON, b'{"version": 1, "status": {', b'"error": ', b'"syncs": [', b'"destinations": [',
         b'"time": ', b'"name": "', b'"condition": "in sync"', b'"behind": '),
    ),
    "status-file": Parser(
        check_status_file,
        (*_JSON, b'{"version": "1", "pid": 1', b'"syncs": [', b'"destinations": [', b'"time": ',
         b'"behind": ', b'"condition": "'),
    ),
    "state-file": Parser(
        check_state_file,
        (*_JSON, b'{"version": 1', b'"debt": {', b'"entries": {', b'"listings": [', b'"trees": [',
         b'"mounts": {', b'"wall": ', b'"source": [', b'"moves": {', b'"moved": [',
         b'["n", "o", true, true, false], ',
         b'"written": {'),
    ),
    "lock-file": Parser(
        check_lock_file,
        (*_JSON, b'{"pid": ', b'"source": "/srv', b'"destination": "', b'"is_deleting": '),
    ),
    "configuration": Parser(
        check_configuration,
        (*_ODD, b"[pylsyncd]", b"[sync www]", b"[destination srv2]", b"source = ", b"= ", b"window",
         b"destinations =", b"\n  ", b"#", b";", b"[", b"]", b"[sync ", b"exclude = ",
         b"\xef\xbb\xbf",
         b"windwo = 3", b"yes", b"-", b"_"),
        max_bytes=20_000,
    ),
    "rules": Parser(
        check_rules,
        (*_ODD, b"*", b"**", b"?", b"[", b"]", b"[!", b"[a-z]", b"[[:alpha:]]", b"\\", b"+ ", b"- ",
         b"!", b"P ", b"H ", b"R ", b"S ", b"merge ", b". ", b"-s,", b"-!r ", b"***", b"#", b";",
         b"/a/", b"exclude ", b"clear", b"_"),
        max_bytes=8_000,
    ),
    "mountinfo": Parser(
        check_mountinfo,
        (*_ODD, b"36 35 98:0 / /src rw,noatime master:1 - ext4 /dev/sda rw\n", b" - ", b":", b"36 ",
         b"\\040", b"\\777", b"99999999999999999999 ", b"99999999999999999999:1 ", b"/src/x ",
         b"-1 "),
    ),
    "destination": Parser(
        check_destination,
        (*_ODD, b"rsync://", b"host", b":", b"::", b"@", b"[", b"]", b"[::1]", b"user@",
         b"/./", b"~",
         b"873", b"http://", b"%41"),
        max_bytes=20_000,
    ),
    "hook-output": Parser(check_hook_output, _ODD),
    "health-query": Parser(
        check_health_query,
        (*_ODD, b"max_lag=", b"60", b"&", b"=", b";", b"%6d", b"%", b"+", b"1e400", b"nan", b"inf",
         b"9" * 5000, b"1_0", b"-1"),
    ),
}  # fmt: skip
