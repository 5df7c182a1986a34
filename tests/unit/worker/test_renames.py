"""Renames at a local destination and over ssh: what is carried, and what a destination may do."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.mounts import Mounts, can_mount, can_mount_sshfs
from support.moving import SIZE, MovingSetup
from support.operations import exchange_paths
from support.servers import SshServer, free_port
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.moves import Move
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.remote_rename import MAX_STEPS, encode_steps, parse_answer, remote_program
from pylsyncd.rsync.rename_order import RenameStep
from pylsyncd.system import renames as system_renames
from pylsyncd.worker import renames
from pylsyncd.worker.renames import RenameResult, Renames
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import RsyncSession

HEADER = "pylsyncd-renames"
ODD_NAMES = [
    b"-n",
    b"a\nb",
    b" ",
    b"'\"$(id)`id`*",
    b"\\0101",
    b"\xff\x81\xc3",
    b"~",
    b"x\n",
    b"%=",
]

# A flag of renameat2(2) that no kernel has.
UNKNOWN_FLAG = 1 << 30

# Renames that an exchange makes fail, and those that succeed beside exchanges.
MIN_SWAPS = 20

# After these the exchanges have shown what they can, on a machine that is busy.
SECONDS_OF_SWAPS = 60.0


class Copy:
    """A destination, and the session that renames there; files have their names as content."""

    def __init__(self, top: Path, rsh: str = "", path: str = "", **options: object) -> None:
        self.top, self.outside = top / "copy", top / "outside"
        self.top.mkdir()
        self.outside.mkdir()
        target, transport = os.fsencode(path or f"{self.top}/"), Transport.LOCAL
        if rsh:
            target, transport = b"localhost:" + target, Transport.SHELL
        destination = Destination("copy", "copy", transport, "localhost", target)
        options = {"share_ssh": False, **options}
        self._resources = SharedResources()
        self.session = RsyncSession(
            destination, RsyncOptions("rsync", (3, 2, 7), rsh=rsh, **options),  # type: ignore[arg-type]
            resources=self._resources,
        )  # fmt: skip
        self.renames = Renames(self.session)
        self.root = os.open(top, os.O_RDONLY)

    def write(self, *names: str | bytes) -> None:
        for name in names:
            path = os.path.join(os.fsencode(self.top), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(os.fsencode(name))

    def carry(self, pairs: Mapping[str | bytes, str | bytes]) -> RenameResult:
        """Carry moves; an old path that ends with a slash is a directory."""
        moves = {}
        for new, old in pairs.items():
            path = os.fsencode(old)
            moves[os.fsencode(new)] = Move(path.rstrip(b"/"), path.endswith(b"/"), True)  # noqa: FBT003
        return self.renames.carry(moves, self.root)

    def carried(self, pairs: Mapping[str | bytes, str | bytes]) -> list[str]:
        result = self.carry(pairs)
        assert result.is_available
        assert not result.is_unreachable
        return sorted(os.fsdecode(path) for path in result.carried)

    def contents(self) -> dict[str, str]:
        """Return what each file contains: the name that it had at first."""
        return {
            str(path.relative_to(self.top)): os.fsdecode(path.read_bytes())
            for path in sorted(self.top.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    def close(self) -> None:
        self.session.close()
        self._resources.ssh_sharing.close()
        os.close(self.root)


Make = Callable[..., Copy]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes a destination behind a remote shell, or a local one."""
    made: list[Copy] = []

    def make(rsh: str = "", **options: object) -> Copy:
        made.append(Copy(tmp_path, rsh, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that makes a remote shell of a script, in which ``$2`` is the command."""

    def shell(script: str) -> str:
        path = tmp_path / "shell"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return shell


HERE = 'cd; exec sh -c "$2"'
"""A remote shell on this machine."""


@pytest.fixture(scope="module", params=["local", "ssh"])
def rsh(request: pytest.FixtureRequest) -> str:
    """Return the remote shell, which is empty for a local destination."""
    if request.param == "local":
        return ""
    server: SshServer = request.getfixturevalue("ssh_server")
    return server.rsh


@pytest.fixture
def copy(rsh: str, make: Make) -> Copy:
    return make(rsh)


# What is carried, on both transports


def test_files_and_directories_are_renamed(copy: Copy) -> None:
    copy.write("f", "d/g", "d/e/h")
    assert copy.carried({"f.1": "f", "new/place/d": "d/"}) == ["f.1", "new/place/d"]
    assert copy.contents() == {
        "f.1": "f", "new/place/d/g": "d/g", "new/place/d/e/h": "d/e/h",
    }  # fmt: skip
    assert (copy.top / "new").stat().st_mode & 0o777 == 0o700
    assert not (copy.top / "d").exists()


def test_a_chain_is_renamed_from_its_end(copy: Copy) -> None:
    copy.write("log", "log.1", "log.2")
    pairs: dict[str | bytes, str | bytes] = {
        "log.1": "log", "log.2": "log.1", "old/log.3": "log.2",
    }  # fmt: skip
    assert copy.carried(pairs) == ["log.1", "log.2", "old/log.3"]
    assert copy.contents() == {"log.1": "log", "log.2": "log.1", "old/log.3": "log.2"}


def test_a_file_of_a_renamed_directory_is_found_at_its_new_place(copy: Copy) -> None:
    copy.write("d/f", "d/g")
    assert copy.carried({"e": "d/", "e/h": "d/f"}) == ["e", "e/h"]
    assert copy.contents() == {"e/h": "d/f", "e/g": "d/g"}


def test_what_a_failed_rename_has_not_brought_is_not_taken(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is another one: at its place stands what was not renamed."""
    monkeypatch.setattr(system_renames, "_RENAME_EXCHANGE", UNKNOWN_FLAG)
    copy.write("d/f", "e/f", "x")
    assert copy.carried({"e": "d/", "g": "d/f", "y": "x"}) == ["y"]
    assert copy.contents() == {"d/f": "d/f", "e/f": "e/f", "y": "x"}


def test_exchanged_names_are_left_to_rsync(copy: Copy) -> None:
    copy.write("a", "b", "c")
    assert copy.carried({"a": "b", "b": "a", "d": "c"}) == ["d"]
    assert copy.contents() == {"a": "a", "b": "b", "d": "c"}


def test_rotated_logs_take_the_name_of_the_oldest(copy: Copy) -> None:
    """Which has no other name in the source any more."""
    copy.write("log", "log.1", "log.2", "log.3")
    pairs: dict[str | bytes, str | bytes] = {
        "log.1": "log", "log.2": "log.1", "log.3": "log.2",
    }  # fmt: skip
    assert copy.carried(pairs) == ["log.1", "log.2", "log.3"]
    assert copy.contents() == {"log.1": "log", "log.2": "log.1", "log.3": "log.2"}


def test_a_directory_takes_the_place_of_an_empty_one(copy: Copy) -> None:
    copy.write("d/f", "e/g")
    assert copy.carried({"e": "d/", "h": "e/g"}) == ["e", "h"]
    assert copy.contents() == {"e/f": "d/f", "h": "e/g"}


def test_rotated_directories_leave_the_oldest_at_the_last_name(make: Make) -> None:
    copy = make()
    copy.write("d.0/f", "d.1/f", "d.2/f", "d.3/f", "d.3/old")
    pairs: dict[str | bytes, str | bytes] = {"d.1": "d.0/", "d.2": "d.1/", "d.3": "d.2/"}
    result = copy.carry(pairs)
    assert result.carried == {b"d.1", b"d.2", b"d.3"}
    assert result.displaced == {b"d.0"}
    assert copy.contents() == {
        "d.0/f": "d.3/f", "d.0/old": "d.3/old",
        "d.1/f": "d.0/f", "d.2/f": "d.1/f", "d.3/f": "d.2/f",
    }  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_an_interrupted_rotation_has_displaced_is_known(
    make: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The steps after the failure go on from there."""
    copy, rename, calls = make(), renames.rename_below, []

    def fail_once(root: int, old: bytes, new: bytes, *, is_directory: bool) -> bool:
        calls.append(new)
        if len(calls) == number:
            raise OSError(errno.EIO, "an error")
        return rename(root, old, new, is_directory=is_directory)

    monkeypatch.setattr(renames, "rename_below", fail_once)
    before = ["d.0/f", "d.1/f", "d.2/f", "d.3/f"]
    copy.write(*before)
    pairs: dict[str | bytes, str | bytes] = {"d.1": "d.0/", "d.2": "d.1/", "d.3": "d.2/"}
    result = copy.carry(pairs)
    assert len(result.carried) == 2
    contents = copy.contents()
    assert sorted(contents.values()) == before
    for path, content in contents.items():
        new = path[: -len("/f")]
        if new.encode() in result.carried:
            assert content == f"{pairs[new]!s}f"
        else:
            assert content == path or new.encode() in result.displaced


def test_nothing_but_a_file_is_replaced_and_nothing_is_invented(copy: Copy) -> None:
    copy.write("f", "g", "d/h", "e/i")
    (copy.top / "link").symlink_to("missing")
    os.mkfifo(copy.top / "fifo")
    pairs: dict[str | bytes, str | bytes] = {
        "fifo": "f", "d": "f", "f": "d/", "e": "d/", "n1": "missing", "n2": "missing/",
        "n3/x": "f/x", "f/y": "g", "link": "g", "n4": "link", "n5": "link/", "n6": "d", "n7": "f/",
    }  # fmt: skip
    before = copy.contents()
    assert copy.carried(pairs) == []
    assert copy.contents() == before
    assert not [name for name in os.listdir(copy.top) if name.startswith("n")]


@pytest.mark.parametrize("target", ["{outside}", "real"])
def test_no_symlink_is_followed(copy: Copy, target: str) -> None:
    copy.write("f", "real/f", "real/d/g")
    (copy.outside / "f").write_text("outside")
    (copy.outside / "d").mkdir()
    (copy.top / "link").symlink_to(target.format(outside=copy.outside))
    (copy.top / "real/link").symlink_to("..")
    pairs: dict[str | bytes, str | bytes] = {
        "new1": "link/f", "new2": "link/d/", "link/new3": "f", "link/d/new4": "f",
        "real/link/new5": "f",
    }  # fmt: skip
    assert copy.carried(pairs) == []
    assert copy.contents() == {"f": "f", "real/f": "real/f", "real/d/g": "real/d/g"}
    assert sorted(os.listdir(copy.outside)) == ["d", "f"]
    assert os.listdir(copy.outside / "d") == []


def test_all_names_are_taken_as_they_are(copy: Copy) -> None:
    copy.write(*ODD_NAMES)
    bytes_of_names = bytes(sorted(set(range(1, 256)) - set(b"/")))
    names = [*ODD_NAMES, bytes_of_names[:128], bytes_of_names[128:]]
    copy.write(*names[-2:])
    pairs = {b"%d/%b/%b" % (number, name, name): name for number, name in enumerate(names)}
    assert copy.carried(pairs) == sorted(map(os.fsdecode, pairs))
    found = {
        os.path.relpath(os.path.join(directory, name), os.fsencode(copy.top))
        for directory, _, names in os.walk(os.fsencode(copy.top)) for name in names
    }  # fmt: skip
    assert found == pairs.keys()


def test_a_missing_destination_has_nothing_to_rename(copy: Copy) -> None:
    shutil.rmtree(copy.top)
    assert copy.carried({"g": "f"}) == []
    assert not copy.top.exists()


def test_nothing_is_renamed_by_a_session_that_is_stopped(copy: Copy) -> None:
    copy.write("f")
    copy.session.is_aborted = True
    assert copy.carry({"g": "f"}).carried == frozenset()
    assert copy.contents() == {"f": "f"}


# Locally


def test_a_file_system_that_cannot_is_tried_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_renames, "_find_renameat2", lambda: None)
    copy = make()
    copy.write("f", "h")
    assert copy.carry({"g": "f", "i": "h"}) == RenameResult(is_available=False)
    monkeypatch.undo()
    assert copy.carry({"g": "f"}) == RenameResult(is_available=False)
    assert copy.contents() == {"f": "f", "h": "h"}


@pytest.mark.skipif(not can_mount_sshfs(), reason="sshfs cannot be mounted here")
def test_a_file_system_in_user_space_that_cannot_is_told_apart(make: Make) -> None:
    copy = make()
    copy.write("f")
    with Mounts() as mounts:
        mounted = copy.top.parent / "mounted"
        mounted.mkdir()
        mounts.mount_sshfs(copy.top, mounted)
        target = os.fsencode(mounted)
        copy.session.destination = replace(copy.session.destination, target=target)
        assert copy.carry({"g": "f"}) == RenameResult(is_available=False)
    assert copy.contents() == {"f": "f"}


@pytest.mark.skipif(not can_mount(), reason="this process may not mount")
def test_what_a_mount_does_not_permit_is_left_to_rsync(copy: Copy) -> None:
    """Another file system below the destination, a mount point, and one that is read-only."""
    (copy.top / "m").mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(copy.top / "m")
        copy.write("f", "d/e", "m/g", "h")
        pairs: dict[str | bytes, str | bytes] = {
            "m/f": "f", "m/x/d": "d/", "g": "m/g", "i": "h",
        }  # fmt: skip
        assert copy.carried(pairs) == ["i"]
        assert copy.carried({"n": "m/"}) == []
        assert copy.contents() == {"f": "f", "d/e": "d/e", "m/g": "m/g", "i": "h"}
        mounts.remount(copy.top / "m", "ro")
        assert copy.carried({"m/j": "m/g", "m/y/k": "i"}) == []
        assert copy.contents()["m/g"] == "m/g"


# Over a remote shell


def path_with(directory: Path, programs: Mapping[str, str]) -> str:
    """Return a directory for PATH with links to programs."""
    directory.mkdir()
    for name, program in programs.items():
        (directory / name).symlink_to(program)
    return str(directory)


@pytest.mark.parametrize("program", ["dash", "bash", "busybox"])
def test_each_shell_and_its_tools_will_do(
    make: Make, shell: Callable[[str], str], tmp_path: Path, program: str
) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    tools = ("mv", "stat", "mkdir", "printf", "date")
    programs = {"sh": found}
    for name in tools:
        tool = found if program == "busybox" else shutil.which(name)
        assert tool is not None
        programs[name] = tool
    directory = path_with(tmp_path / "programs", programs)
    copy = make(shell(f'PATH={directory}; exec sh -c "$2"'))
    test_files_and_directories_are_renamed(copy)
    shutil.rmtree(copy.top)
    test_all_names_are_taken_as_they_are(copy)


def test_a_path_is_relative_to_the_home_directory(
    make: Make, shell: Callable[[str], str], tmp_path: Path
) -> None:
    copy = make(shell(f'CDPATH=/; export CDPATH; cd {tmp_path}; exec sh -c "$2"'), path="copy/")
    copy.write("f")
    assert copy.carried({"g": "f"}) == ["g"]


def test_at_most_so_many_renames_are_made_at_once(make: Make, shell: Callable[[str], str]) -> None:
    copy = make(shell(HERE))
    pairs: dict[str | bytes, str | bytes] = {
        f"n{number}": f"o{number}" for number in range(MAX_STEPS)
    }
    copy.write("f", "o999")
    assert copy.carried({**pairs, "last": "f"}) == ["n999"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param('SSH_ORIGINAL_COMMAND="$2" exec rrsync /', "does not run rsync", id="rrsync"),
        pytest.param("exec rsync --server --daemon . <&0", "exit status", id="an rsync daemon"),
        pytest.param("echo Only sftp is allowed. >&2; exit 1", "Only sftp", id="a forced command"),
        pytest.param("exec cat", "exit status", id="an echo"),
        pytest.param("exec cat /dev/urandom", "permits no renames", id="endless garbage"),
        pytest.param(f"echo {HEADER}; exec yes 1", HEADER, id="an endless answer"),
        pytest.param(f"echo {HEADER}; echo .1.1", HEADER, id="more than was asked"),
        pytest.param(f"echo {HEADER}; echo .7", HEADER, id="another digit"),
        pytest.param(f"echo Welcome; echo {HEADER}; echo .1", "Welcome", id="another first line"),
        pytest.param(
            'PATH={programs}:$PATH; exec /bin/sh -c "$2"', "exit status 1", id="an old mv"
        ),
        pytest.param("exit 127", "exit status 127", id="no shell"),
    ],
)
def test_a_destination_that_permits_no_renames_is_asked_once(
    make: Make, shell: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture,
    script: str, message: str,
) -> None:  # fmt: skip
    if "rrsync" in script and shutil.which("rrsync") is None:
        pytest.skip("rrsync is not installed")
    mv = tmp_path / "mv"
    mv.write_text("#!/bin/sh\necho 'BusyBox v1.30 (UTC)\nUsage: mv [-fi] SOURCE DEST' >&2")
    mv.chmod(0o755)
    programs = path_with(tmp_path / "programs", {"mv": str(mv)})
    copy = make(shell(f"echo >>{tmp_path}/asked; " + script.replace("{programs}", programs)))
    copy.write("f")
    caplog.set_level("INFO", logger=renames.__name__)
    for _ in range(2):
        assert copy.carry({"g": "f"}) == RenameResult(is_available=False)
    assert (tmp_path / "asked").read_text() == "\n"
    assert copy.contents() == {"f": "f"}
    (record,) = caplog.records
    assert "permits no renames" in record.message
    assert message in record.message or message == "exit status"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exit 255", id="a Perl script that dies"),
        pytest.param("exec sleep 600", id="no answer"),
        pytest.param(f"echo {HEADER}; exec sleep 600", id="no end"),
        pytest.param("trap : TERM; sleep 600; exit 255", id="an ssh that is stopped"),
    ],
)
def test_a_destination_where_only_rsync_can_be_run_is_known_after_three_times(
    make: Make, shell: Callable[[str], str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, script: str,
) -> None:  # fmt: skip
    """A lost connection looks like that once, or several times before rsync runs again."""
    monkeypatch.setattr(renames, "_TIMEOUT_OVER_SSH", 0.1)
    caplog.set_level("INFO", logger=renames.__name__)
    copy = make(shell(script))
    lost = RenameResult(is_unreachable=True)
    assert [copy.carry({"g": "f"}) for _ in range(4)] == [lost] * 4
    copy.session.successful_runs += 1
    assert [copy.carry({"g": "f"}) for _ in range(2)] == [lost] * 2
    assert not caplog.records
    copy.session.successful_runs += 1
    assert copy.carry({"g": "f"}) == RenameResult(is_available=False)
    assert len(caplog.records) == 1


def test_an_answer_ends_a_row_of_failures(
    make: Make, shell: Callable[[str], str], tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    copy = make(shell(f"[ ! -e {fault} ] || exit 255; {HERE}"))
    copy.write("f")
    for _ in range(2):
        fault.touch()
        for _ in range(2):
            assert copy.carry({"g": "f"}).is_unreachable
            copy.session.successful_runs += 1
        fault.unlink()
        assert copy.carried({"g": "missing"}) == []
    assert copy.carried({"g": "f"}) == ["g"]


def test_no_rename_begins_after_the_end_of_the_connection(copies: Path) -> None:
    """The run that comes next compares what it finds: later nothing may change."""
    steps = [RenameStep(b"%d" % n, b"new%d" % n, is_directory=False) for n in range(5)]
    lines = encode_steps(os.fsencode(copies), steps).splitlines(keepends=True)
    command = (b"sh", b"-c", remote_program())
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(lines[:2]))
        answer = b""
        while not answer.endswith(b"1"):
            answer += process.stdout.read(1)
        process.stdout.close()
        process.stdin.write(b"".join(lines[2:]))
    assert sorted(os.listdir(copies)) == ["1", "2", "3", "4", "new0"]


def test_no_rename_begins_when_the_time_is_up(
    copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on by 25 seconds whenever it is read."""
    now = tmp_path / "now"
    now.write_text("100")
    clock = tmp_path / "bin" / "date"
    clock.parent.mkdir()
    clock.write_text(f"#!/bin/sh\nread n <{now}\necho $n\necho $((n+25)) >{now}\n")
    clock.chmod(0o755)
    monkeypatch.setenv("PATH", f"{clock.parent}:{os.environ['PATH']}")
    steps = [RenameStep(b"%d" % n, b"new%d" % n, is_directory=False) for n in range(5)]
    assert rename_here(copies, steps) == {0}
    assert sorted(os.listdir(copies)) == ["1", "2", "3", "4", "new0"]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Return a directory with five files."""
    top = tmp_path / "copy"
    top.mkdir()
    for number in range(5):
        (top / str(number)).touch()
    return top


@pytest.mark.parametrize("is_directory", [False, True])
def test_what_cannot_be_renamed_is_not_copied(
    make: Make, shell: Callable[[str], str], tmp_path: Path, *, is_directory: bool
) -> None:
    """An old mv copies what it cannot rename, such as the lower part of an overlay."""
    old, new = ("d/", "n/d") if is_directory else ("d/f", "n/f")
    mv = tmp_path / "bin" / "mv"
    mv.parent.mkdir()
    mv.write_text(
        '#!/bin/sh\n[ "$1" = --help ] && { echo " -T, "; exit; }\n'
        'cp -r "$2" "$3" || exit 1\nrm -r "$2"\n'
    )
    mv.chmod(0o755)
    copy = make(shell(f'PATH={mv.parent}:$PATH; exec sh -c "$2"'))
    copy.write("d/f")
    assert copy.carried({new: old}) == []
    assert copy.contents()["d/f"] == "d/f"


def test_what_was_renamed_before_the_stop_is_carried(
    make: Make, shell: Callable[[str], str], tmp_path: Path
) -> None:
    printed = tmp_path / "printed"
    copy = make(shell(f"echo {HEADER}; printf .1; : >{printed}; exec sleep 600"))

    def stop() -> None:
        wait_until(printed.exists)
        copy.session.abort(signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert copy.carry({"g": "f", "i": "h"}) == RenameResult(frozenset([b"g"]))
    stopper.join()


def test_what_was_renamed_before_the_connection_broke_is_carried(
    make: Make, shell: Callable[[str], str]
) -> None:
    copy = make(shell(f"echo {HEADER}; printf .1; exit 255"))
    expected = RenameResult(frozenset([b"g"]), is_unreachable=True)
    assert copy.carry({"g": "f", "i": "h"}) == expected


def test_a_refused_connection_says_nothing_of_the_destination(make: Make) -> None:
    copy = make(f"ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=9 -p {free_port()}")
    for _ in range(2):
        assert copy.carry({"g": "f"}) == RenameResult(is_unreachable=True)


@pytest.mark.parametrize("rsh", ["/no/such/program", "ssh 'without an end"])
def test_a_remote_shell_that_cannot_be_run_is_left_to_the_run_of_rsync(
    make: Make, rsh: str
) -> None:
    assert make(rsh).carry({"g": "f"}) == RenameResult(is_unreachable=True)


@pytest.mark.parametrize(
    ("path", "extra_options"),
    [("~/copy/", ()), ("", ("--rsync-path=sudo rsync",)), ("/x`*/", ())],
)
def test_a_place_that_only_rsync_finds_is_not_looked_for(
    make: Make, shell: Callable[[str], str], tmp_path: Path, path: str,
    extra_options: tuple[str, ...],
) -> None:  # fmt: skip
    copy = make(shell(f"echo >>{tmp_path}/asked"), path=path, extra_options=extra_options)
    assert copy.carry({"g": "f"}) == RenameResult(is_available=False)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("content", [b"", bytes(SIZE)], ids=["nothing", "another"])
def test_a_rename_that_is_only_claimed_is_found_by_the_run(
    tmp_path: Path, shell: Callable[[str], str], content: bytes
) -> None:
    rsh = shell(
        f'case $2 in *{HEADER}*) echo {HEADER}; echo .1 ;; *) shift; cd; exec sh -c "$*" ;; esac'
    )
    servers = {"ssh_server": SimpleNamespace(rsh=rsh)}
    request = SimpleNamespace(getfixturevalue=servers.get)
    place = MovingSetup(tmp_path, "ssh", request)  # type: ignore[arg-type]
    try:
        place.write("old/f", "old/d/g")
        place.make_equal()
        place.move("old", "new")
        if content:
            (place.copy / "new").mkdir()
            (place.copy / "new/f").write_bytes(content)
        result = place.transfer.carry(place.moved({"new": "old"}), unsettled=frozenset())
        assert result.verdict is Verdict.DONE
        assert place.moved_counts == (2, 2 * SIZE)
        assert place.differences() == []
    finally:
        place.close()


def test_the_connection_is_that_of_the_runs(make: Make, ssh_server: SshServer) -> None:
    copy = make(ssh_server.rsh, share_ssh=True)
    copy.write("f", "h")
    assert copy.carried({"g": "f"}) == ["g"]
    rsh = copy.session.with_shared_ssh(copy.session.options).rsh
    (socket_path,) = re.findall(r"ControlPath=(\S+)", rsh)
    assert Path(socket_path).is_socket()
    assert copy.carried({"i": "h"}) == ["i"]


def test_directories_exchanged_for_links_lead_no_remote_rename_out(tmp_path: Path) -> None:
    """Both parents are exchanged for links to a directory outside, at many moments."""
    top, outside = tmp_path / "copy", tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    for name in ("old", "new"):
        (top / name / "d").mkdir(parents=True)
        (top / f"{name}-link").symlink_to(outside)
    old = os.open(top / "old", os.O_RDONLY)
    stopped = threading.Event()

    def exchange() -> None:
        while not stopped.wait(random.choice([0.0, 0.0, 0.001, 0.01])):
            for name in ("old", "new"):
                path = os.fsencode(top / name)
                exchange_paths(path, path + b"-link")

    swapper = threading.Thread(target=exchange)
    swapper.start()
    done = failed = 0
    deadline = time.monotonic() + SECONDS_OF_SWAPS
    try:
        while (done < MIN_SWAPS or failed < MIN_SWAPS) and time.monotonic() < deadline:
            steps = []
            for number in range(done + failed, done + failed + 50):
                step = RenameStep(b"old/%d" % number, b"new/d/%d" % number, is_directory=False)
                steps.append(step)
                os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=old))
                # This one must stay there.
                (outside / f"{number}").touch()
            found = rename_here(top, steps)
            done += len(found)
            failed += len(steps) - len(found)
            assert len(os.listdir(outside)) == done + failed + 1
    finally:
        stopped.set()
        swapper.join()
        os.close(old)
    assert os.listdir(outside / "d") == []


def rename_here(top: Path, steps: Sequence[RenameStep]) -> frozenset[int]:
    command, data = (b"sh", b"-c", remote_program()), encode_steps(os.fsencode(top), steps)
    run = subprocess.run(command, input=data, capture_output=True, check=True)
    found = parse_answer(run.stdout, len(steps))
    assert found is not None
    return found
