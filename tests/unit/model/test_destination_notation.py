"""The parts of a destination's notation, and the notations that are refused."""

import re

import pytest

from pylsyncd.model.destination_notation import (
    ParsedDestination,
    Transport,
    absolute_path,
    parse_destination,
    path_offset,
)
from pylsyncd.model.errors import UsageError

CWD = b"/home/me"


def parse(text: bytes) -> ParsedDestination:
    return parse_destination(text, CWD, lambda _path: False)


@pytest.mark.parametrize(
    ("text", "transport", "prefix", "host", "path", "port"),
    [
        (b"./dst", Transport.LOCAL, b"", b"", b"/home/me/dst", 873),
        (b"me@host:x", Transport.SHELL, b"me@host:", b"host", b"x", 873),
        (b"[::1]::m/x", Transport.DAEMON, b"[::1]::", b"::1", b"m/x", 873),
        (b"rsync://h:8730/m", Transport.DAEMON, b"rsync://h:8730/", b"h", b"m", 8730),
    ],
)
def test_a_destination_has_a_transport_a_prefix_a_host_and_a_path(
    text: bytes, transport: Transport, prefix: bytes, host: bytes, path: bytes, port: int
) -> None:
    assert parse(text) == ParsedDestination(text, transport, prefix, host, path, port)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a//b/.", b"/a/b"),
        (b"x", b"/home/me/x"),
        (b"../x", b"/home/x"),
        (b"../../../x", b"/x"),
        (b"link/../x", b"/home/me/link/../x"),
    ],
)
def test_only_a_leading_parent_is_resolved_in_an_absolute_path(
    path: bytes, expected: bytes
) -> None:
    assert absolute_path(path, CWD) == expected


@pytest.mark.parametrize(
    "argument", [b"host:PATH", b"me@[::1]:PATH", b"host::PATH", b"rsync://h:1/PATH"]
)
def test_the_path_in_an_argument_is_found_by_its_offset(argument: bytes) -> None:
    assert argument[path_offset(argument) :].lstrip(b":") == b"PATH"


BRACKET = r"needs brackets.*write \[{}\]\."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"/a\0b", "NUL"),
        (b"ho\0st:/x", "NUL"),
        (b":path", "has no host"),
        (b":", "has no host"),
        (b"::module", "has no host"),
        (b"user@:/x", "has no host"),
        (b"[]:/x", "has no host"),
        (b"rsync:///module", "has no host"),
        (b"@host:/x", "no user before the @"),
        (b"-oProxyCommand=x:/y", "begins with a dash"),
        (b"me@-oProxyCommand=x:/y", "begins with a dash"),
        (b"-x@host:/y", "begins with a dash"),
        (b"[-x]:/y", "begins with a dash"),
        (b"-host", "begins with a dash"),
        (b"rsync://-x/module", "begins with a dash"),
        (b"ho\nst:/x", "line break"),
        (b"u\nx@host::module", "line break"),
        (b"my directory", "has a blank"),
        (b"me@ho st::module", "has a blank"),
        (b"host::", "names no module"),
        (b"host::/path", "names no module"),
        (b"host::a\nb", "names no module"),
        (b"rsync://host", "names no module"),
        (b"rsync://host/", "names no module"),
        (b"rsync://host//module", "names no module"),
        (b"rsync://host:0/m", "not a number from 1 to 65535"),
        (b"rsync://host:65536/m", "not a number from 1 to 65535"),
        (b"rsync://host:" + b"9" * 9999 + b"/m", "not a number from 1 to 65535"),
        (b"rsync://host:-1/m", "not a number from 1 to 65535"),
        (b"rsync://host:/m", "not a number from 1 to 65535"),
        (b"rsync://host:ssh/m", "not a number from 1 to 65535"),
        (b"::1", BRACKET.format("::1")),
        (b"user@fe80::1", BRACKET.format("fe80::1")),
        (b"fe80::1:/path", BRACKET.format("fe80::1")),
        (b"fe80::1%eth0:/path", BRACKET.format("fe80::1%eth0")),
        (b"2001:db8::1::module/x", BRACKET.format("2001:db8::1")),
        (b"1:2:3:4:5:6:7:8:x", BRACKET.format("1:2:3:4:5:6:7:8")),
        (b"rsync://::1/module", BRACKET.format("::1")),
        (b"rsync://2001:db8::1:8730/module", BRACKET.format("2001:db8::1:8730")),
        (b"[::1", "brackets that do not enclose a host"),
        (b"[::1]x:/path", "brackets that do not enclose a host"),
        (b"x[::1]:/path", "brackets that do not enclose a host"),
        (b"rsync://[::1/module", "brackets that do not enclose a host"),
        (b"ssh://host/path", "no ssh:// URLs: write HOST:/path"),
        (b"SFTP://host/path", "no SFTP:// URLs"),
    ],
)
def test_an_invalid_destination_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refusal:
        parse(text)
    assert str(refusal.value).endswith((".", ".)"))


@pytest.mark.parametrize(
    "url",
    [
        b"rsync://me:secret@host/module",
        b"rsync://me:sec/ret@host/module",
        b"rsync://me:sec@ret@host/module",
        b"rsync://m@e:sec/ret@host/module",
        b"rsync://me[:secret@host/module",
        b"rsync://me:secret@::1/module",
        b"rsync://me:123secret@host:99999/module",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url: bytes) -> None:
    with pytest.raises(UsageError, match="password") as refusal:
        parse(url)
    assert not re.search("sec|ret|123", str(refusal.value))
