"""A user exchanges directories for symbolic links while a daemon of root runs: nothing leaks.

Each test has a directory that only root may read, and a process of another user that exchanges a
directory of that user for a link to it, many times a second and at longer intervals.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Pylsyncd, environment
from support.rsync_features import installed_version
from support.trees import equal_within
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can read for a user what that user must not read"
)

USER = 65534
SECONDS = 60.0 if os.environ.get("PYLSYNCD_LONG_TESTS") else 8.0
SECRET = "only root may read this"  # noqa: S105  # no password
MIN_EXCHANGES = 50

# The first rsync that is not led away by an exchange within the trees that it copies.
SAFE_RSYNC = (3, 5, 0)

# Arguments: the user id, the least number of exchanges, the directory, the link. It starts in their
# parent directory, as root.
SWAPPER = """
import os, random, signal, sys, time
from support.operations import exchange_paths

user, least, directory, link = *map(int, sys.argv[1:3]), *map(os.fsencode, sys.argv[3:])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
print("ready", flush=True)
count = 0
while not stopped or count < least:
    for _ in range(random.choice([1, 1, 2, 50])):
        exchange_paths(directory, link)
        count += 1
        if random.random() < 0.1:
            with open(os.path.join(b"real", b"%d" % count), "w") as file:
                file.write("of the user")
        time.sleep(random.choice([0, 0.0001, 0.001, 0.01]))
    time.sleep(random.choice([0, 0.01, 0.1, 0.5]))
if os.path.islink(directory):
    exchange_paths(directory, link)
print(count, flush=True)
"""


class Home:
    """A directory of a user, and one that only root may read."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.home, self.secret = top / "home", top / "secret"
        self.home.mkdir()
        for below in ("", "public"):
            (self.secret / below).mkdir(mode=0o700)
            (self.secret / below / "key").write_text(SECRET)
            (self.secret / below / "f").write_text(SECRET)

    def fill(self, directory: Path) -> None:
        """Make a directory of the user's, with files of the same names as the secret ones."""
        for below in ("", "public"):
            (directory / below).mkdir(parents=True)
            (directory / below / "f").write_text("of the user")
        for path in (self.home, directory, *directory.rglob("*")):
            os.chown(path, USER, USER)

    @contextlib.contextmanager
    def exchanging(self, directory: Path) -> Iterator[None]:
        """Let the user exchange a directory for a link; at the end it is the directory again."""
        link = directory.with_name("link")
        link.symlink_to(os.path.relpath(self.secret, directory.parent))
        real = directory.with_name("real")
        real.mkdir()
        for path in (link, real):
            os.chown(path, USER, USER, follow_symlinks=False)
        swapper = subprocess.Popen(
            [
                *(sys.executable, "-c", SWAPPER, str(USER), str(MIN_EXCHANGES)),
                *(directory.name, link.name),
            ],
            cwd=directory.parent, stdout=subprocess.PIPE, text=True,
            env=environment({"PYTHONPATH": os.pathsep.join(sys.path)}),
        )  # fmt: skip
        assert swapper.stdout is not None
        try:
            assert swapper.stdout.readline() == "ready\n"
            yield
            swapper.send_signal(signal.SIGTERM)
            assert int(swapper.stdout.readline()) >= MIN_EXCHANGES
            assert swapper.wait(45) == 0
        finally:
            swapper.kill()
            swapper.wait()
            swapper.stdout.close()
        link.unlink()

    def contents_of_secret(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.secret)): path.read_text()
            for path in self.secret.rglob("*")
            if path.is_file()
        }


def leaks(top: Path) -> list[str]:
    """Return the files with the secret in a tree in which the user exchanges nothing."""
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(OSError):
                descriptor = os.open(Path(directory, name), os.O_RDONLY | os.O_NOFOLLOW)
                with open(descriptor, "rb") as file:
                    if file.read() == SECRET.encode():
                        found.append(os.path.join(directory, name))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def run_for_a_while(daemon: Pylsyncd, copy: Path) -> None:
    """Have the daemon look at everything again and again."""
    deadline = time.monotonic() + SECONDS
    for number in range(1 << 30):
        if time.monotonic() > deadline:
            break
        assert leaks(copy) == [], daemon.log_tail
        if number % 2:
            daemon.full_sync()
        daemon.flush()
        time.sleep(0.1)
    assert daemon.is_running, daemon.log_tail
    assert leaks(copy) == [], daemon.log_tail


@pytest.mark.usefixtures("watched_by")
@pytest.mark.parametrize("below", ["", "public"], ids=["the source", "a directory above it"])
def test_a_source_exchanged_for_a_link_sends_nothing_of_its_target(home: Home, below: str) -> None:
    site, copy = home.home / "site", home.top / "copy"
    home.fill(site)
    with Pylsyncd("-i", "-w", "0.1", f"{site / below}/./", f"{copy}/", names=["copy"]) as daemon:
        daemon.wait_ready()
        with home.exchanging(site):
            run_for_a_while(daemon, copy)
        (site / below / "after").touch()
        wait_until((copy / "after").exists, message=lambda: daemon.log_tail)
        assert equal_within(os.fsencode(site / below), os.fsencode(copy), 45) == []
    assert leaks(copy) == []


@pytest.mark.skipif(installed_version() < SAFE_RSYNC, reason="this rsync loses the race")
def test_a_directory_in_the_source_exchanged_for_a_link_sends_nothing_of_its_target(
    home: Home,
) -> None:
    source, copy = home.home / "source", home.top / "copy"
    home.fill(source / "site")
    os.chown(source, USER, USER)
    with Pylsyncd("-i", "-w", "0.1", f"{source}/./", f"{copy}/", names=["copy"]) as daemon:
        daemon.wait_ready()
        with home.exchanging(source / "site"):
            run_for_a_while(daemon, copy)
        assert equal_within(os.fsencode(source), os.fsencode(copy), 45) == []
    assert leaks(copy) == []


def test_a_local_destination_exchanged_for_a_link_leaves_its_target_as_it_is(home: Home) -> None:
    source, copy = home.top / "source", home.home / "copy"
    source.mkdir()
    (source / "f").write_text("of root")
    home.fill(copy)
    before = home.contents_of_secret()
    with Pylsyncd("-i", "-w", "0.1", f"{source}/./", f"{copy}/", names=["copy"]) as daemon:
        daemon.wait_ready()
        with home.exchanging(copy):
            run_for_a_while(daemon, source)
            daemon.release()
            run_for_a_while(daemon, source)
        if installed_version() >= SAFE_RSYNC:
            assert home.contents_of_secret() == before
        daemon.release()
        assert equal_within(os.fsencode(source), os.fsencode(copy), 45) == []
    assert leaks(home.home) == []
