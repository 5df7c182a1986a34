"""Sources and destinations, and where a real rsync copies to."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import processes
from support.rsync_features import installed_version
from support.servers import free_port
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source, parse_destinations, parse_source
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync import quoting

CWD = b"/home/me"
DEADLINE_SECONDS = 45
RSYNC = shutil.which("rsync") or "rsync"


def no_directory(_path: bytes) -> bool:
    return False


def parse(source: bytes, *texts: bytes, names: Sequence[str] = ()) -> tuple[Destination, ...]:
    """Parse without a disk: no directory of any name, no symbolic links."""
    return parse_destinations(
        texts,
        parse_source(source, cwd=CWD),
        cwd=CWD,
        is_directory=no_directory,
        resolve=os.path.normpath,
        names=names,
    )


def target(source: bytes, text: bytes) -> bytes:
    (destination,) = parse(source, text)
    return destination.target


def names(*texts: bytes) -> list[str]:
    return [destination.name for destination in parse(b"/src/./", *texts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"/var/www", Source(b"/var/www", b"var/www", is_full_path=True)),
        (b"/var/www/", Source(b"/var/www", b"var/www", is_full_path=True)),
        (b"//var///www", Source(b"/var/www", b"var/www", is_full_path=True)),
        (b"/tmp/foo/./bar/baz", Source(b"/tmp/foo/bar/baz", b"bar/baz", is_full_path=False)),
        (b"/tmp/foo/./bar/./baz/", Source(b"/tmp/foo/bar/baz", b"bar/baz", is_full_path=False)),
        (b"/tmp/foo/././bar", Source(b"/tmp/foo/bar", b"bar", is_full_path=False)),
        (b"/tmp/source/./", Source(b"/tmp/source", b"", is_full_path=False)),
        (b"/tmp/source/.", Source(b"/tmp/source", b"", is_full_path=False)),
        (b"/./tmp", Source(b"/tmp", b"tmp", is_full_path=False)),
        (b"/", Source(b"/", b"", is_full_path=True)),
        (b"/.", Source(b"/", b"", is_full_path=False)),
        (b".", Source(b"/home/me", b"", is_full_path=False)),
        (b"./", Source(b"/home/me", b"", is_full_path=False)),
        (b"./.", Source(b"/home/me", b"", is_full_path=False)),
        (b"foo", Source(b"/home/me/foo", b"foo", is_full_path=False)),
        (b"./foo", Source(b"/home/me/foo", b"foo", is_full_path=False)),
        (b"./foo/./bar", Source(b"/home/me/foo/bar", b"bar", is_full_path=False)),
        (b"../foo/./bar", Source(b"/home/foo/bar", b"bar", is_full_path=False)),
        (b"../../../foo/./", Source(b"/foo", b"", is_full_path=False)),
        (b"/tmp/link/../foo/./bar", Source(b"/tmp/link/../foo/bar", b"bar", is_full_path=False)),
        (b"/tmp/.../.x/./.y", Source(b"/tmp/.../.x/.y", b".y", is_full_path=False)),
        (b"/tmp/\xff\n/./a:b -", Source(b"/tmp/\xff\n/a:b -", b"a:b -", is_full_path=False)),
    ],
)
def test_a_source_has_a_path_and_a_path_relative_to_its_virtual_root(
    text: bytes, expected: Source
) -> None:
    assert parse_source(text, cwd=CWD) == expected


@pytest.mark.parametrize("text", [b"..", b"../foo", b"/var/../www", b"/a/./b/../c", b"foo/.."])
def test_a_parent_below_the_virtual_root_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match=r"mark the virtual root with /\./"):
        parse_source(text, cwd=CWD)


@pytest.mark.parametrize(("text", "reason"), [(b"", "is empty"), (b"/a\0b", "NUL")])
def test_a_source_that_cannot_be_a_path_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_source(text, cwd=CWD)


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        # The examples in the manual.
        (b"/tmp/foo/./bar/baz", b"/tmp/destination", b"/tmp/destination/bar/baz/"),
        (b"/tmp/source/./", b"/tmp/destination", b"/tmp/destination/"),
        (b".", b"srv2.example.com", b"srv2.example.com:./"),
        (b"/var/www", b"www-data@srv2.example.com", b"www-data@srv2.example.com:/var/www/"),
        (b"/var/www", b"host:/backup", b"host:/backup/var/www/"),
        (b"/var/www/./", b"host:/var/cluster/www", b"host:/var/cluster/www/"),
        (b"/var/www/./", b"srv2.example.com::webdata", b"srv2.example.com::webdata/"),
        (b"/src/./", b"rsync://host/module", b"rsync://host/module/"),
        (b"/src/./", b"rsync://me@host:8730/module/p", b"rsync://me@host:8730/module/p/"),
        # Local directories.
        (b"/var/www", b"/backup", b"/backup/var/www/"),
        (b"/var/www", b"/backup//", b"/backup/var/www/"),
        (b"/src/./", b"/tmp/dst/", b"/tmp/dst/"),
        (b"/src/./", b"./dst", b"/home/me/dst/"),
        (b"/src/./", b"dst/", b"/home/me/dst/"),
        (b"/src/./", b".", b"/home/me/"),
        (b"/src/./", b"..", b"/home/"),
        (b"/src/./", b"../dst", b"/home/dst/"),
        (b"/src/./", b"./missing/../dst", b"/home/me/dst/"),
        (b"/src/./", b"./a:b", b"/home/me/a:b/"),
        (b"/src/./", b"/a/host::x", b"/a/host::x/"),
        (b"/src/./", b"./rsync://x", b"/home/me/rsync:/x/"),
        (b"/src/./a", b"/", b"/a/"),
        (b"/src/./\xff\n", b"/\xfe *", b"/\xfe */\xff\n/"),
        # Remote shells: the bare host.
        (b"/var/www", b"host", b"host:/var/www/"),
        (b"/var/www", b"host:", b"host:/var/www/"),
        (b"/", b"host", b"host:/"),
        (b"foo", b"host", b"host:foo/"),
        (b"./foo/bar", b"me@host", b"me@host:foo/bar/"),
        (b"/tmp/foo/./bar", b"host", b"host:bar/"),
        (b"/tmp/source/./", b"host:", b"host:./"),
        (b"/tmp/./-x", b"host", b"host:./-x/"),
        (b"/tmp/./~root", b"host", b"host:./~root/"),
        (b"/tmp/./:x", b"host", b"host:./:x/"),
        # Remote shells: with a path.
        (b"/src/./", b"host:backup", b"host:backup/"),
        (b"/src/./a", b"host:~/backup/", b"host:~/backup/a/"),
        (b"/src/./a", b"host:~", b"host:~/a/"),
        (b"/src/./a", b"host:/", b"host:/a/"),
        (b"/src/./", b"host:/", b"host:/"),
        (b"/src/./", b"host:-x", b"host:./-x/"),
        (b"/src/./", b"host:.", b"host:./"),
        (b"/src/./", b"a@b@host:x@y:z", b"a@b@host:x@y:z/"),
        (b"/src/./a", b"host:/x/.//./y/.", b"host:/x/y/a/"),
        (b"/src/./", b"host:././~x", b"host:./~x/"),
        (b"/src/./\xff", b"host:/\xfe", b"host:/\xfe/\xff/"),
        # Daemons.
        (b"/var/www", b"host::module", b"host::module/var/www/"),
        (b"/var/www", b"host::module/", b"host::module/var/www/"),
        (b"/src/./a", b"me@host::module/p q/", b"me@host::module/p q/a/"),
        (b"/src/./-x", b"host::module", b"host::module/./-x/"),
        (b"/src/./", b"host::module/-x", b"host::module/./-x/"),
        (b"/src/./", b"host::module/.//-x//y", b"host::module/./-x/y/"),
        (b"/src/./-x", b"rsync://host/module", b"rsync://host/module/./-x/"),
        (b"/src/./", b"RSYNC://host/module", b"rsync://host/module/"),
        (b"/src/./", b"rsync://host:1/module/a@b:c", b"rsync://host:1/module/a@b:c/"),
        # IPv6 addresses.
        (b"/src/./", b"[::1]:/path", b"[::1]:/path/"),
        (b"/src/./", b"user@[fe80::1%eth0]:/path", b"user@[fe80::1%eth0]:/path/"),
        (b"/src/./", b"[::1]", b"[::1]:./"),
        (b"/var/www", b"user@[::1]", b"user@[::1]:/var/www/"),
        (b"/src/./", b"[::1]::module", b"[::1]::module/"),
        (b"/src/./", b"rsync://[::1]:8730/module", b"rsync://[::1]:8730/module/"),
        (b"/src/./", b"rsync://u@[::1]/module/a@b", b"rsync://u@[::1]/module/a@b/"),
    ],
)
def test_the_target_is_rsyncs_argument_for_the_root_of_the_source(
    source: bytes, text: bytes, expected: bytes
) -> None:
    assert target(source, text) == expected


@pytest.mark.parametrize(
    ("text", "transport", "host"),
    [
        (b"/dst", Transport.LOCAL, None),
        (b".", Transport.LOCAL, None),
        (b"srv2", Transport.SHELL, "srv2"),
        (b"me@srv2:/x", Transport.SHELL, "srv2"),
        (b"me@[::1]:x", Transport.SHELL, "::1"),
        (b"\xff:x", Transport.SHELL, "\udcff"),
        (b"srv2::module", Transport.DAEMON, "srv2"),
        (b"rsync://me@[::1]:8730/module", Transport.DAEMON, "::1"),
    ],
)
def test_a_destination_has_a_transport_and_a_host(
    text: bytes, transport: Transport, host: str | None
) -> None:
    (destination,) = parse(b"/src/./", text)
    assert (destination.transport, destination.host) == (transport, host)


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        (b"srv2", b"/home/me/srv2"),
        (b"me@srv2", b"/home/me/me@srv2"),
        (b"[::1]", b"/home/me/[::1]"),
    ],
)
def test_a_bare_name_of_an_existing_directory_is_ambiguous(text: bytes, directory: bytes) -> None:
    def parse_beside_directory(written: bytes) -> bytes:
        source = parse_source(b"/src/./", cwd=CWD)
        (destination,) = parse_destinations(
            [written],
            source,
            cwd=CWD,
            is_directory=lambda path: path == directory,
            resolve=os.path.normpath,
        )
        return destination.target

    name = text.decode()
    with pytest.raises(UsageError) as refusal:
        parse_beside_directory(text)
    assert f"./{name} for the directory or {name}: for the host" in str(refusal.value)
    assert parse_beside_directory(b"./" + text) == directory + b"/"
    assert parse_beside_directory(text + b":") == text + b":./"


@pytest.mark.parametrize(
    ("source", "text", "reason"),
    [
        ("src/./", "src", "is the source itself"),
        ("src/./", "link", "is the source itself"),
        ("link/./", "src/", "is the source itself"),
        ("src/./sub", "src", "is the source itself"),
        ("src/./", "src/sub", "lies inside the source"),
        ("src/./", "src/new/er", "lies inside the source"),
        ("src/./", "link/new", "lies inside the source"),
        ("src/./", "loop/../new", "lies inside the source"),
        ("src/./", ".", "contains the source"),
        ("src/sub/./", "src", "contains the source"),
        ("src/sub/./", "link", "contains the source"),
        ("src/./", "/", "contains the source"),
    ],
)
def test_a_local_destination_that_overlaps_the_source_is_refused(
    tmp_path: Path, source: str, text: str, reason: str
) -> None:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("src")
    (tmp_path / "loop").symlink_to("src/sub")
    cwd = os.fsencode(tmp_path)
    with pytest.raises(UsageError, match=reason):
        parse_destinations(
            [os.fsencode(os.path.join(tmp_path, text))],
            parse_source(
                os.fsencode(tmp_path / source.partition("/./")[0])
                + b"/./"
                + os.fsencode(source.partition("/./")[2]),
                cwd=cwd,
            ),
            cwd=cwd,
            is_directory=os.path.isdir,
            resolve=os.path.realpath,
        )


@pytest.mark.parametrize("text", [b"/src-2", b"/sr", b"/dst/src", b"/other"])
def test_a_local_destination_beside_the_source_is_accepted(text: bytes) -> None:
    assert target(b"/src/./", text) == text + b"/"


def test_a_mirror_below_a_directory_above_the_source_is_accepted() -> None:
    assert target(b"/var/www", b"/var") == b"/var/var/www/"


def test_every_local_destination_is_inside_the_root_directory() -> None:
    with pytest.raises(UsageError, match="lies inside the source /,"):
        parse(b"/", b"/backup")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"/dst", b"/dst/"),
        (b"./dst", b"/home/me/dst"),
        (b"host", b"host:"),
        (b"host", b"host:."),
        (b"host:x", b"host:./x/"),
        (b"host::module", b"rsync://host/module/"),
        (b"host::module", b"rsync://host:873/module"),
        (b"me@host::module", b"host::module"),
        (b"host:/x", b"host://./x//"),
        (b"host::module/x", b"host::module/.//x"),
        (b"me@host:/x", b"me@HOST:/x"),
        (b"host::module", b"rsync://HOST/module"),
        (b"[host]:/x", b"host:/x"),
        (b"host:~/x", b"host:x"),
    ],
)
def test_two_notations_of_the_same_directory_are_refused(one: bytes, other: bytes) -> None:
    with pytest.raises(UsageError, match="are the same directory"):
        parse(b"/src/./", one, b"/between", other)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (b"/dst", b"/dst/x"),
        (b"host", b"host:x"),
        (b"host:/", b"host:/x"),
        (b"host:/x", b"host://x/y"),
        (b"host::module", b"rsync://host/module/x"),
    ],
)
def test_a_destination_inside_another_is_refused(outer: bytes, inner: bytes) -> None:
    sentence = f"{inner.decode()} lies inside the destination {outer.decode()},"
    for texts in ((outer, inner), (inner, outer)):
        with pytest.raises(UsageError, match=sentence):
            parse(b"/src/./", *texts)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((b"/tmp/dst/", b"srv2", b"me@srv3:/x"), ["dst", "srv2", "srv3"]),
        ((b".", b"[::1]:/x"), ["me", "::1"]),
        ((b"host::module", b"rsync://u@other:8730/m/p"), ["host", "other"]),
        ((b"/a/dst", b"/b/dst", b"/c"), ["dst", "/b/dst", "c"]),
        ((b"host:/a", b"host:/b"), ["host", "host:/b"]),
        ((b"host", b"host:/b"), ["host", "host:/b"]),
        ((b"host::a", b"rsync://host/b/c"), ["host", "host::b/c"]),
        ((b"[::1]:/a", b"[::1]::a"), ["::1", "[::1]::a"]),
        ((b"a@host", b"b@host"), ["host", "b@host"]),
        ((b"a@host:/x", b"b@host:/x", b"host:/y"), ["host", "b@host:/x", "host:/y"]),
        ((b"rsync://h:1/m", b"rsync://h:2/m"), ["h", "rsync://h:2/m"]),
        ((b"host", b"/dst/host"), ["host", "/dst/host"]),
        ((b"/a\x1b/\xff\n", b"h\xe9"), ["\\xff\\n", "h\\xe9"]),
    ],
)
def test_names_are_short_and_unique(texts: tuple[bytes, ...], expected: list[str]) -> None:
    assert names(*texts) == expected


@pytest.mark.parametrize("given", [("", ""), ("one", ""), ("", "one"), ("one", "two")])
@pytest.mark.parametrize("added", [b"host", b"host:/c", b"host::host", b"/host", b"/b"])
@pytest.mark.parametrize("name", ["", "three"])
def test_a_destination_that_is_added_changes_no_name(
    given: tuple[str, ...], added: bytes, name: str
) -> None:
    texts = (b"host:/a", b"/d/host")
    before = [each.name for each in parse(b"/src/./", *texts, names=given)]
    after = [each.name for each in parse(b"/src/./", *texts, added, names=(*given, name))]
    assert after[:2] == before
    assert len(set(after)) == 3
    assert [known for known in given if known] == [known for known in before if known in given]


def test_a_given_name_is_the_only_one_and_leaves_the_short_name_to_others() -> None:
    one, two = parse(b"/src/./", b"host:/a", b"host:/b", names=("one", ""))
    assert (one.name, one.aliases) == ("one", ("host:/a",))
    assert (two.name, two.aliases) == ("host", ("host:/b",))


def test_an_alias_stands_for_one_destination_alone() -> None:
    a, b, other = parse(b"/src/./", b"a@host:/x", b"b@host:/x", b"/c/other/")
    assert (a.name, a.aliases) == ("host", ("a@host:/x",))
    assert (b.name, b.aliases) == ("b@host:/x", ())
    assert (other.name, other.aliases) == ("other", ("/c/other", "/c/other/"))


@pytest.mark.parametrize("given", [("one", "one"), ("", "host")])
def test_a_given_name_that_another_has_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"already has the name {given[1]}: choose another name"):
        parse(b"/src/./", b"host:/a", b"/b", names=given)


def test_the_root_directory_has_a_name() -> None:
    assert parse(b"/src/./a", b"/")[0].name == "/"


def test_the_notation_is_printable() -> None:
    assert parse(b"/src/./", b"/d\x1b\xffst/")[0].notation == "/d\\x1b\\xffst/"


PIECES = [b"a", b"host", b"/", b":", b"::", b"@", b"[", b"]", b"rsync://", b".", b"..", b"-", b"~"]
PIECES += [b"/./", b"\xff", b"\n", b"\0", b"1", b"fe80", b"%"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map(b"".join)


@given(source=TEXTS, texts=st.lists(TEXTS, max_size=3))
@example(source=b"/", texts=[b"::", b":::"])
def test_every_text_is_a_safe_argument_or_is_refused(source: bytes, texts: list[bytes]) -> None:
    try:
        destinations = parse(source, *texts)
    except UsageError as error:
        refusal = str(error)
    else:
        refusal = ""
        check_arguments(destinations, len(texts))
    assert refusal.isprintable()


def check_arguments(destinations: tuple[Destination, ...], count: int) -> None:
    assert len({destination.name for destination in destinations}) == count
    for destination in destinations:
        argument = destination.target
        is_local = destination.transport is Transport.LOCAL
        assert argument.endswith(b"/")
        assert not argument.startswith(b"-")
        assert argument.startswith(b"/") == is_local
        assert (destination.host is None) == is_local
        assert destination.name.isprintable()
        assert destination.name


# -- with a real rsync ----------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Return a directory with one file, in place of the source."""
    directory = tmp_path / "original"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


def copy(original: Path, argument: bytes, *options: str, home: Path | None = None) -> None:
    environment = os.environ | {"LC_ALL": "C"} | ({"HOME": str(home)} if home else {})
    run = subprocess.run(
        [RSYNC, "-r", "--mkpath", *options, "--", f"{original}/", os.fsdecode(argument)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert run.returncode == 0, run.stderr.decode(errors="replace")


def files_below(directory: Path) -> list[bytes]:
    top = os.fsencode(directory)
    return [
        os.path.relpath(os.path.join(parent, name), top)
        for parent, _, names_there in os.walk(top)
        for name in names_there
    ]


@pytest.mark.parametrize(
    ("source", "text", "expected_path"),
    [
        (b"/var/www", b"./backup", b"backup/var/www"),
        (b"/var/./www", b"backup/", b"backup/www"),
        (b"/var/www/./", b"./a:b \xff\n", b"a:b \xff\n"),
        (b"/var/./-x", b".", b"-x"),
    ],
)
def test_rsync_copies_to_a_local_target(
    tmp_path: Path, original: Path, source: bytes, text: bytes, expected_path: bytes
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (destination,) = parse_destinations(
        [text],
        parse_source(source, cwd=CWD),
        cwd=os.fsencode(here),
        is_directory=os.path.isdir,
        resolve=os.path.realpath,
    )
    copy(original, destination.target)
    assert files_below(here) == [expected_path + b"/file"]


SHELL_ROWS = [
    (b"/var/./www", b"host", b"www"),
    (b"foo", b"host", b"foo"),
    (b".", b"srv2.example.com", b""),
    (b"/var/./-x", b"host", b"-x"),
    (b"/var/./~root", b"host", b"~root"),
    (b"/var/./:x", b"host", b":x"),
    (b"/var/www", b"me@host:backup", b"backup/var/www"),
    (b"/var/./www", b"host:~/backup", b"backup/www"),
    (b"/var/./www", b"host:~", b"www"),
    (b"/var/www/./", b"host:-x", b"-x"),
    (b"/var/www/./", b"[::1]:six", b"six"),
    (b"/var/www/./", b"me@[fe80::1%eth0]:six", b"six"),
    (b"/var/./www", b"[::1]", b"www"),
    (b"/var/./www", b"host:~/back`tick", b"back`tick/www"),
    (b"/var/./$(x) 'q* \"[1]", b"host:\xff\\;", b"\xff\\;/$(x) 'q* \"[1]"),
]


class Login(NamedTuple):
    """A remote shell, and the home directory where its commands start."""

    shell: str
    home: Path


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """Return a remote shell that runs commands in HOME, as the one of rsync's own tests does."""
    home = tmp_path / "home"
    home.mkdir()
    program = tmp_path / "rsh"
    program.write_text('#!/bin/sh\n[ "$1" = -l ] && shift 2\nshift\ncd && exec sh -c "$*"\n')
    program.chmod(0o755)
    return Login(str(program), home)


def copy_by_shell(original: Path, destinations: tuple[Destination, ...], login: Login) -> None:
    """Copy with the options that the installed rsync needs."""
    (destination,) = destinations
    options = ["-s"] if quoting.needs_secluded_args(destination, installed_version()) else []
    argument = quoting.target_argument(destination, installed_version())
    copy(original, argument, "-e", login.shell, *options, home=login.home)


@pytest.mark.parametrize(("source", "text", "expected_path"), SHELL_ROWS)
def test_rsync_copies_to_a_target_through_a_shell(
    original: Path, login: Login, source: bytes, text: bytes, expected_path: bytes
) -> None:
    copy_by_shell(original, parse(source, text), login)
    assert files_below(login.home) == [os.path.join(expected_path, b"file")]


def test_a_source_with_a_full_path_is_copied_to_that_path_on_a_bare_host(
    tmp_path: Path, original: Path, login: Login
) -> None:
    there = tmp_path / "there"
    copy_by_shell(original, parse(os.fsencode(there), b"host"), login)
    assert files_below(there) == [b"file"]
    assert files_below(login.home) == []


def listens(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex((address, port)) == 0


class ModuleServer(NamedTuple):
    """An rsync daemon: its host in a notation, its port, the directory of its module "files"."""

    host: str
    port: int
    module: Path


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def running_daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleServer]:
    """Run one rsync daemon for all tests, because stopping one takes 0.4 s."""
    address = request.param
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        port = free_port(address)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    module = tmp_path_factory.mktemp("module")
    configuration = tmp_path_factory.mktemp("rsyncd") / "rsyncd.conf"
    as_root = "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"use chroot = no\nread only = no\n{as_root}[files]\npath = {module}\n", encoding="utf-8"
    )
    command = [RSYNC, "--daemon", "--no-detach", f"--config={configuration}"]
    command += [f"--address={address}", f"--port={port}"]
    with processes.running_process(command) as process:
        try:
            wait_until(
                lambda: process.poll() is not None or listens(family, address, port),
                DEADLINE_SECONDS,
                f"the rsync daemon listens at {address} port {port}",
            )
            assert process.poll() is None, "the rsync daemon ended at once"
            yield ModuleServer(f"[{address}]" if ":" in address else address, port, module)
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


@pytest.fixture
def daemon(running_daemon: ModuleServer) -> ModuleServer:
    """Return a daemon with an empty module."""
    shutil.rmtree(os.fsencode(running_daemon.module))
    running_daemon.module.mkdir()
    return running_daemon


@pytest.mark.parametrize(
    ("source", "text", "expected_path"),
    [
        (b"/var/www", b"HOST::files", b"var/www"),
        (b"/var/./www", b"me@HOST::files/deep/er/", b"deep/er/www"),
        (b"/var/www/./", b"HOST::files", b""),
        (b"/var/./-x", b"HOST::files", b"-x"),
        (b"/var/./-x", b"rsync://HOST:PORT/files", b"-x"),
        (b"/var/www/./", b"rsync://me@HOST:PORT/files/-x/y", b"-x/y"),
        (b"/var/./$(x) 'q* [1]", b"rsync://HOST:PORT/files/a@b:c", b"a@b:c/$(x) 'q* [1]"),
        (b"/var/./\xff", b"HOST::files/\xfe", b"\xfe/\xff"),
    ],
)
def test_rsync_copies_to_a_target_on_an_rsync_daemon(
    daemon: ModuleServer, original: Path, source: bytes, text: bytes, expected_path: bytes
) -> None:
    text = text.replace(b"HOST", daemon.host.encode()).replace(b"PORT", b"%d" % daemon.port)
    options = [] if text.startswith(b"rsync:") else [f"--port={daemon.port}"]
    copy(original, target(source, text), *options)
    assert files_below(daemon.module) == [os.path.join(expected_path, b"file")]
