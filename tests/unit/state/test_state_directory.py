"""The state directory: atomic files, locks that end with their process, no file of others."""

import contextlib
import errno
import fcntl
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import pylsyncd
from pylsyncd.model.errors import StateError, UsageError
from pylsyncd.state import lock_file
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system.private_files import MAX_FILE_SIZE

RECORD = LockRecord(b"/some/source", b"/some/copy", is_deleting=True)
LOCK = lock_file.destination_key(RECORD.source, RECORD.destination) + ".lock"
TEMPORARY = "state.0123456789abcdef.tmp"
NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[StateDirectory]:
    with contextlib.closing(StateDirectory(os.fsencode(path))) as directory:
        yield directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    with opened(tmp_path / "state") as directory:
        yield directory


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class Program:
    """Python in a process of its own, spoken with line by line."""

    def __init__(self, text: str, *arguments: str | bytes | Path) -> None:
        repository = str(Path(pylsyncd.__file__).parent.parent)
        self.process = subprocess.Popen(
            # Without site-packages, for a start in no time.
            [sys.executable, "-S", "-c", text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": repository},
        )

    def __enter__(self) -> "Program":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return os.fsdecode(self.process.stdout.readline()).strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


LOCKER = """
import os, sys
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.model.errors import UsageError
from pylsyncd.state.state_directory import StateDirectory
path, source, destination = map(os.fsencode, sys.argv[1:])
while sys.stdin.readline():
    directory = StateDirectory(path)
    try:
        directory.acquire_lock(LockRecord(source, destination, is_deleting=True))
        print("locked", flush=True)
    except UsageError as error:
        print(error, flush=True)
    sys.stdin.readline()
    directory.close()
    print("released", flush=True)
"""


def locker(path: Path, record: LockRecord = RECORD) -> Program:
    return Program(LOCKER, path / "state", record.source, record.destination)


# Opening it


def test_content_is_read_after_the_directory_is_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as directory:
        assert directory.read("a") is None
        directory.write("a", b"content")
    with opened(tmp_path / "state/./") as directory:
        assert directory.read("a") == b"content"


def test_only_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    kept = {"notes.tmp", "Cargo.lock", "0123.tmp"}
    for name in (*kept, TEMPORARY, "state"):
        (state / name).touch(mode=0o600)
    (state / TEMPORARY).rename(state / TEMPORARY.replace("0", "f"))
    with (state / TEMPORARY).open("wb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        with opened(state):
            assert set(os.listdir(state)) == {*kept, TEMPORARY, "state"}
    with opened(state) as directory:
        directory.acquire_lock(RECORD)
    assert set(os.listdir(state)) == {*kept, "state", "gate", LOCK}


OPENER = """
import os, sys
from pylsyncd.state.state_directory import StateDirectory
print("ready", flush=True)
while True:
    StateDirectory(os.fsencode(sys.argv[1])).close()
"""


def test_opening_the_directory_does_not_disturb_a_writer(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with opened(state) as directory, Program(OPENER, state) as opener:
        assert opener.hear() == "ready"
        for number in range(100):
            directory.write("state", b"%02d" % number + bytes(1 << 20))
        assert opener.process.poll() is None
        assert directory.read("state") == b"99" + bytes(1 << 20)
        assert os.listdir(state) == ["state"]


# Its files


@pytest.mark.parametrize("mask", [0, 0o777])
def test_files_are_for_their_owner_alone_whatever_the_umask(
    tmp_path: Path, directory: StateDirectory, mask: int
) -> None:
    with umask(mask):
        directory.write("state", b"")
        directory.acquire_lock(RECORD)
    found = {path.name: mode(path) for path in (tmp_path / "state").iterdir()}
    assert found == {"state": 0o600, LOCK: 0o600, "gate": 0o600}


def test_a_symlink_is_neither_read_nor_written_through(
    tmp_path: Path, directory: StateDirectory
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("state", LOCK, TEMPORARY):
        (tmp_path / "state" / name).symlink_to(victim)
    with pytest.raises(StateError, match=r"/state is a symbolic link: remove it"):
        directory.read("state")
    with pytest.raises(UsageError, match=rf"/{LOCK} is a symbolic link: remove it"):
        directory.acquire_lock(RECORD)
    directory.write("state", b"new")
    assert directory.read("state") == b"new"
    with opened(tmp_path / "state"):
        assert victim.read_text() == "precious"


def test_a_symlink_at_the_gate_is_not_followed(tmp_path: Path, directory: StateDirectory) -> None:
    (tmp_path / "state/gate").symlink_to(tmp_path / "made")
    with pytest.raises(UsageError, match="symbolic link"):
        directory.acquire_lock(RECORD)
    assert not (tmp_path / "made").exists()


def make_hard_link(path: Path) -> None:
    (path.parent / "other").write_text("x")
    os.link(path.parent / "other", path)


def make_foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path.write_text("x")
    os.chown(path, NOBODY, NOBODY)


def make_unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.touch(mode=0)


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, MAX_FILE_SIZE + 1)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, make_hard_link, make_foreign, make_unreadable, make_huge]
)
def test_a_file_that_pylsyncd_cannot_have_created_is_not_read(
    tmp_path: Path, directory: StateDirectory, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "state/state")
    with pytest.raises(StateError, match=r"/state/state (is|has|cannot)"):
        directory.read("state")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_hard_link, make_foreign])
def test_a_file_that_pylsyncd_cannot_have_created_is_not_locked(
    tmp_path: Path, directory: StateDirectory, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "state" / LOCK)
    with pytest.raises(UsageError):
        directory.acquire_lock(RECORD)


def test_a_hard_link_is_replaced_and_its_other_name_kept(
    tmp_path: Path, directory: StateDirectory
) -> None:
    make_hard_link(tmp_path / "state/state")
    directory.write("state", b"new")
    assert directory.read("state") == b"new"
    assert (tmp_path / "state/other").read_text() == "x"


def test_content_is_synced_before_the_rename_and_the_rename_before_the_return(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        order.append("directory" if is_directory else f"{os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def noted_rename(*paths: str, **places: int) -> None:
        order.append("rename")
        rename(*paths, **places)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    directory.write("state", b"12345")
    assert order == ["5 bytes", "rename", "directory"]


def test_a_write_beyond_the_limit_leaves_the_old_content(
    tmp_path: Path, directory: StateDirectory
) -> None:
    directory.write("state", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            directory.write("state", b"new" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert directory.read("state") == b"old"
    assert os.listdir(tmp_path / "state") == ["state"]


@only_root
def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", tmp_path / "full"],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {os.fsdecode(mounted.stderr)}")
    try:
        with opened(tmp_path / "full") as directory:
            directory.write("state", b"old" * 4096)
            with pytest.raises(OSError, match="No space left") as raised:
                directory.write("state", b"new" * 40960)
            assert raised.value.errno == errno.ENOSPC
            assert directory.read("state") == b"old" * 4096
            assert os.listdir(tmp_path / "full") == ["state"]
            directory.write("state", b"newer")
            assert directory.read("state") == b"newer"
    finally:
        subprocess.run(["/bin/umount", tmp_path / "full"], check=True)


WRITER = """
import os, sys
from pylsyncd.state.state_directory import StateDirectory
directory = StateDirectory(os.fsencode(sys.argv[1]))
print("ready", flush=True)
while True:
    for byte in range(256):
        directory.write("state", bytes([byte]) * (1000 * byte + 1))
"""


def test_a_writer_killed_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    with opened(tmp_path / "state") as directory:
        directory.write("state", b"\0")
    found_leftover = False
    for number in range(50):
        with Program(WRITER, tmp_path / "state") as writer:
            assert writer.hear() == "ready"
            time.sleep(chance.uniform(0.0, 0.03))
            writer.process.send_signal(signal.SIGKILL)
            writer.process.wait()
        found_leftover |= len(os.listdir(tmp_path / "state")) > 1
        with opened(tmp_path / "state") as directory:
            content = directory.read("state")
            assert content, f"seed {seed}, round {number}"
            assert content == content[:1] * (1000 * content[0] + 1), f"seed {seed}, round {number}"
            assert os.listdir(tmp_path / "state") == ["state"], f"seed {seed}, round {number}"
    assert found_leftover, f"seed {seed}: no writer was killed while it wrote"


def test_after_closing_nothing_is_read_or_written(tmp_path: Path) -> None:
    directory = StateDirectory(os.fsencode(tmp_path / "state"))
    directory.acquire_lock(RECORD)
    directory.close()
    directory.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        directory.write("state", b"")


# Its locks


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(
    tmp_path: Path, directory: StateDirectory
) -> None:
    directory.acquire_lock(RECORD)
    with locker(tmp_path) as other:
        other.tell()
        refusal = other.hear()
    assert refusal == (
        "/some/source cannot be replicated to /some/copy: another pylsyncd "
        f"(pid {os.getpid()}) replicates /some/source to /some/copy already. Stop it, or remove "
        "the destination here."
    )


def test_a_lock_ends_with_its_process_even_if_that_is_killed(
    tmp_path: Path, directory: StateDirectory
) -> None:
    with locker(tmp_path) as other:
        other.tell()
        assert other.hear() == "locked"
        with pytest.raises(UsageError, match=rf"\(pid {other.process.pid}\)"):
            directory.acquire_lock(RECORD)
        other.kill()
    directory.acquire_lock(RECORD)


def test_a_lock_ends_with_closing_its_directory(tmp_path: Path, directory: StateDirectory) -> None:
    with opened(tmp_path / "state") as first:
        first.acquire_lock(RECORD)
        with pytest.raises(UsageError):
            directory.acquire_lock(RECORD)
    directory.acquire_lock(RECORD)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_lock_is_released_although_a_program_that_starts_has_its_file_open(
    tmp_path: Path, directory: StateDirectory, *, is_closed: bool
) -> None:
    with contextlib.closing(StateDirectory(os.fsencode(tmp_path / "state"))) as other:
        directory.acquire_lock(RECORD)
        # As another thread has it, until the exec.
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        descriptors = tuple(directory._locks.values())  # noqa: SLF001
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=descriptors):
            if is_closed:
                directory.close()
            else:
                directory.release_lock(RECORD)
            other.acquire_lock(RECORD)


def test_a_refused_lock_can_be_acquired_later(tmp_path: Path, directory: StateDirectory) -> None:
    back = LockRecord(RECORD.destination, RECORD.source, is_deleting=False)
    with opened(tmp_path / "state") as first:
        first.acquire_lock(back)
        with pytest.raises(UsageError, match="copied back"):
            directory.acquire_lock(RECORD)
    with opened(tmp_path / "state") as second:
        second.acquire_lock(back)


def test_a_loop_over_two_daemons_is_refused(tmp_path: Path, directory: StateDirectory) -> None:
    directory.acquire_lock(RECORD)
    back = LockRecord(RECORD.destination + b"/below", RECORD.source, is_deleting=True)
    with locker(tmp_path, back) as other:
        other.tell()
        refusal = other.hear()
    assert f"(pid {os.getpid()}) replicates /some/source to /some/copy" in refusal
    assert "copied back" in refusal


def test_one_daemon_locks_several_destinations(tmp_path: Path, directory: StateDirectory) -> None:
    for name in (b"/one", b"/two", b"host:/three"):
        directory.acquire_lock(LockRecord(RECORD.source, name, is_deleting=True))
    assert len(os.listdir(tmp_path / "state")) == 4


def test_a_lock_file_without_content_is_reported(tmp_path: Path, directory: StateDirectory) -> None:
    foreign = tmp_path / "state" / LOCK
    foreign.touch(mode=0o600)
    with foreign.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(
            UsageError, match=rf"{LOCK} is locked, and it does not say which process"
        ):
            directory.acquire_lock(RECORD)
    directory.acquire_lock(RECORD)


DAEMON = """
import os, sys
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.state.state_directory import StateDirectory
path, source, destination = map(os.fsencode, sys.argv[1:])
directory = StateDirectory(path)
directory.acquire_lock(LockRecord(source, destination, is_deleting=True))
if os.fork():
    os._exit(0)
directory.acquire_lock(LockRecord(source, destination, is_deleting=True))
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


def test_a_fork_keeps_the_lock_and_writes_its_own_pid(
    tmp_path: Path, directory: StateDirectory
) -> None:
    with Program(DAEMON, tmp_path / "state", RECORD.source, RECORD.destination) as parent:
        child = int(parent.hear())
        assert child != parent.process.pid
        with pytest.raises(UsageError, match=rf"\(pid {child}\)"):
            directory.acquire_lock(RECORD)
        parent.tell()
        # Its end closes the pipe.
        assert parent.hear() == ""


def test_of_two_processes_exactly_one_wins(tmp_path: Path) -> None:
    with locker(tmp_path) as one, locker(tmp_path) as other:
        for _ in range(50):
            one.tell()
            other.tell()
            answers = {one: one.hear(), other: other.hear()}
            assert list(answers.values()).count("locked") == 1, answers
            for loser, winner in ((one, other), (other, one)):
                if answers[loser] != "locked":
                    assert f"(pid {winner.process.pid})" in answers[loser]
            one.tell()
            other.tell()
            assert one.hear() == other.hear() == "released"


def contended(path: Path, records: Sequence[LockRecord]) -> list[int]:
    """Let threads acquire locks at the same time, 50 times; return how many succeed each time."""
    barrier = threading.Barrier(len(records), timeout=60.0)
    won = [0] * 50

    def contend(record: LockRecord) -> None:
        for number in range(50):
            with opened(path) as directory:
                barrier.wait()
                with contextlib.suppress(UsageError):
                    directory.acquire_lock(record)
                    won[number] += 1
                barrier.wait()

    threads = [threading.Thread(target=contend, args=[record]) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_eight_threads_exactly_one_wins(tmp_path: Path) -> None:
    assert contended(tmp_path / "state", [RECORD] * 8) == [1] * 50


def test_of_threads_that_form_a_loop_exactly_one_wins(tmp_path: Path) -> None:
    back = LockRecord(RECORD.destination, RECORD.source, is_deleting=True)
    assert contended(tmp_path / "state", [RECORD, back]) == [1] * 50


def test_all_threads_without_a_conflict_win(tmp_path: Path) -> None:
    names = [b"/copy/%d" % number for number in range(8)]
    several = [LockRecord(RECORD.source, name, is_deleting=True) for name in names]
    assert contended(tmp_path / "state", several) == [8] * 50
