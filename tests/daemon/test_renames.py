"""What is moved in the source is moved at the destinations, instead of sent again."""

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import operations as do
from support.destinations import Destination, local, make_destination, over_ssh
from support.fanotify import skip_without_fanotify
from support.replication import LONG_WINDOW, Replication
from support.servers import SshServer, Unavailable

SECONDS = 45.0
SIZE, COUNT = 100_000, 40
# Nanoseconds: the time of the first file.
FIRST_TIME = 1_000_000_007
# More than rsync sends for the lists of the files, and less than one of them.
LIST_BYTES = 40_000
KILLS = 5
OPTIONS = ("-v", "-i", "-w", LONG_WINDOW)


@pytest.fixture
def replication(tmp_path: Path) -> Replication:
    """Return a source with a directory of some MB, and attributes of every kind."""
    replication = Replication(tmp_path)
    photos = replication.source / "photos"
    (photos / "deep/er").mkdir(parents=True)
    for number in range(COUNT):
        path = photos / ("deep/er" if number % 2 else "") / f"{number}.jpg"
        path.write_bytes(random.randbytes(SIZE))
        os.utime(path, ns=(0, FIRST_TIME * (number + 1)))
        path.chmod(0o640 if number % 3 else 0o604)
    (photos / "link").symlink_to("deep/er/1.jpg")
    (photos / "empty").touch()
    (photos / "deep").chmod(0o750)
    os.utime(photos / "deep", ns=(0, 1_234_567_890_123_456_789))
    return replication


@pytest.fixture(scope="module", params=["local", "ssh", "rsyncd"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of destination whose server is running."""
    servers = {"ssh": "ssh_server", "rsyncd": "rsync_daemon"}
    if request.param in servers:
        request.getfixturevalue(servers[request.param])
    return str(request.param)


@pytest.fixture
def to(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return a destination of each kind."""
    return make_destination(kind, tmp_path / f"{tmp_path.name}-replica", request)


local_and_ssh = pytest.mark.parametrize("kind", ["local", "ssh"], indirect=True, scope="module")


@contextlib.contextmanager
def own_ssh_server(directory: Path) -> Iterator[SshServer]:
    """Return a server that may be stopped; skip the test where there is none."""
    (directory / "sshd").mkdir()
    try:
        with SshServer(directory / "sshd") as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


class Window:
    """What the daemon has sent and moved for the changes of one window."""

    def __init__(self, replication: Replication, *operations: Callable[..., None]) -> None:
        """Make the changes, and wait until the trees are equal."""
        before = replication.counts()
        mark = replication.daemon.log_length()
        for operation in operations:
            operation(replication.area)
        replication.flush_and_wait()
        replication.expect_confirmed(SECONDS)
        replication.expect_equal(0)
        done = replication.counts()
        done.subtract(before)
        self.sent, self.files = done["bytes_sent"], done["moved_files"]
        self.bytes = done["moved_bytes"]
        self.lines = replication.daemon.log.splitlines()[mark:]

    def expect_moved(self, files: int, size: int) -> None:
        """Fail unless so many files were moved, and nothing of them was sent."""
        log = "\n".join(self.lines)
        assert (self.files, self.bytes) == (files, size), log
        assert self.sent < LIST_BYTES, log
        assert re.search(rf" moved {files:,} files? \(.+ not sent\), ", log), log


def test_a_renamed_directory_is_moved(replication: Replication, to: Destination) -> None:
    with replication.start(to, options=OPTIONS):
        Window(replication, do.rename("photos", "pictures")).expect_moved(COUNT + 1, COUNT * SIZE)
        moved = Window(
            replication,
            do.mkdir("archive"),
            do.rename("pictures", "archive/2025"),
            do.chmod("archive/2025/deep", 0o700),
        )
        moved.expect_moved(COUNT + 1, COUNT * SIZE)


def test_a_directory_renamed_in_a_marked_source_is_moved(
    replication: Replication, tmp_path: Path
) -> None:
    skip_without_fanotify(tmp_path)
    options = (*OPTIONS, "--watch", "fanotify")
    with replication.start(local(tmp_path / "copy"), options=options):
        window = Window(replication, do.rename("photos", "pictures"))
        window.expect_moved(COUNT + 1, COUNT * SIZE)


def test_of_a_renamed_directory_only_what_was_changed_is_sent(
    replication: Replication, to: Destination
) -> None:
    with replication.start(to, options=OPTIONS):
        window = Window(
            replication,
            do.rename("photos", "pictures"),
            do.write_at("pictures/0.jpg", b"x" * SIZE, FIRST_TIME),
            do.write("pictures/new", b"new"),
            do.remove("pictures/2.jpg"),
        )
    assert window.files >= COUNT - 4, window.lines
    assert window.sent < LIST_BYTES + SIZE, window.lines


@local_and_ssh
def test_rotated_logs_are_moved_and_only_the_new_one_is_sent(
    tmp_path: Path, to: Destination
) -> None:
    replication = Replication(tmp_path)
    for name in ("log", "log.1", "log.2"):
        (replication.source / name).write_bytes(random.randbytes(SIZE))
    with replication.start(to, options=OPTIONS):
        window = Window(
            replication,
            do.rename("log.2", "log.3"),
            do.rename("log.1", "log.2"),
            do.rename("log", "log.1"),
            do.write("log", b"new"),
        )
        window.expect_moved(3, 3 * SIZE)
        window = Window(
            replication,
            do.rename("log.2", "log.3"),
            do.rename("log.1", "log.2"),
            do.rename("log", "log.1"),
            do.remove("log.3"),
            do.write("log", b"newer"),
        )
        window.expect_moved(2, SIZE + len(b"new"))


def test_without_detect_renames_what_was_moved_is_sent_again(
    replication: Replication, tmp_path: Path
) -> None:
    with replication.start(local(tmp_path / "replica"), options=(*OPTIONS, "--no-detect-renames")):
        window = Window(replication, do.rename("photos", "pictures"))
    assert (window.files, window.bytes) == (0, 0)
    assert window.sent > COUNT * SIZE


# What damages a copy if a move is an order, and not a hint.


def test_what_is_newer_at_the_destination_does_not_survive_a_move_onto_it(
    replication: Replication, to: Destination
) -> None:
    with replication.start(to, options=OPTIONS):
        copy = Path(os.fsdecode(replication.destinations[0].path))
        (copy / "pictures/deep").mkdir(parents=True)
        (copy / "pictures/0.jpg").write_bytes(b"newer")
        (copy / "pictures/deep/other").write_bytes(b"newer")
        (copy / "file").write_bytes(b"newer")
        Window(replication, do.rename("photos/4.jpg", "file"), do.rename("photos", "pictures"))


def test_an_old_name_that_is_used_again_at_once_is_no_move_of_what_is_new(
    replication: Replication, to: Destination
) -> None:
    with replication.start(to, options=OPTIONS):
        Window(
            replication,
            do.rename("photos", "pictures"),
            do.mkdir("photos"),
            do.write_at("photos/0.jpg", b"y" * SIZE, FIRST_TIME),
            do.rename("pictures/2.jpg", "two"),
            do.write_at("pictures/2.jpg", b"z" * SIZE, 3 * FIRST_TIME),
        )
        Window(replication, do.exchange("photos", "pictures"))
        Window(replication, do.exchange("photos/4.jpg", "photos/6.jpg"), do.remove_tree("pictures"))


def move_while_away(replication: Replication, go: Callable[[], object]) -> None:
    """Move what was moved already, and have the destination come back."""
    mark = replication.daemon.log_length()
    do.rename("photos", "pictures")(replication.area)
    do.mkdir("photos")(replication.area)
    replication.daemon.flush()
    replication.daemon.wait_for(r"Held until|next attempt", after=mark)
    do.rename("pictures", "archive")(replication.area)
    do.write_at("archive/0.jpg", b"w" * SIZE, FIRST_TIME)(replication.area)
    go()
    replication.daemon.flush()
    replication.expect_confirmed(SECONDS)
    replication.expect_equal(0)


def test_a_move_that_comes_while_the_destination_is_away_is_carried_later(
    replication: Replication, to: Destination
) -> None:
    copy = Path(os.fsdecode(to.path))
    with replication.start(to, options=OPTIONS):
        away = copy.rename(copy.with_name(f"{copy.name}-away"))
        copy.write_bytes(b"so that it is not created again")

        def come_back() -> None:
            copy.unlink()
            away.rename(copy)
            replication.daemon.release()

        move_while_away(replication, come_back)


def test_a_move_that_comes_while_the_server_is_down_is_carried_later(
    replication: Replication, tmp_path: Path
) -> None:
    with own_ssh_server(tmp_path) as server:
        to = over_ssh(server, tmp_path / "replica")
        # A login that is shared would outlive the server.
        with replication.start(to, options=(*OPTIONS, "--no-share-ssh")):
            server.stop()
            move_while_away(replication, server.start)


def test_after_a_kill_at_any_moment_of_a_move_the_trees_become_equal(
    replication: Replication, to: Destination, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    chance = random.Random(seed)
    names = ["photos", "a", "b", "c/a", "c/photos"]
    (replication.source / "c").mkdir()
    for name in names[1:3]:
        # Of the same sizes and times as in the other directories: only the moves tell them apart.
        for number in range(COUNT):
            path = replication.source / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(random.randbytes(SIZE))
            os.utime(path, ns=(0, FIRST_TIME * (number + 1)))
    options = ("-i", "-v", "-w", "0.1", "--state-dir", str(tmp_path / "state"))
    for _ in range(KILLS):
        # A context that is left by an error kills the daemon.
        with contextlib.suppress(_KilledError), replication.start(to, options=options) as running:
            running.expect_confirmed(SECONDS)
            _move_at_random(replication, chance, names)
            time.sleep(chance.uniform(0.05, 0.4))  # the moment of the kill
            raise _KilledError
        _move_at_random(replication, chance, names)
        options = options[1:] if options[0] == "-i" else options
    with replication.start(to, options=options) as running:
        running.expect_confirmed(SECONDS)
        assert not running.find_differences(0), f"seed {seed}"


class _KilledError(Exception):
    """The daemon is to be killed."""


def _move_at_random(replication: Replication, chance: random.Random, names: list[str]) -> None:
    for _ in range(3):
        old, new = (replication.source / name for name in chance.sample(names, 2))
        if old.exists() and new.exists():
            do.exchange_paths(os.fsencode(old), os.fsencode(new))
        elif old.exists():
            old.rename(new)
