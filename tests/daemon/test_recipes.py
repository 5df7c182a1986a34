"""The recipes of docs/recipes.rst do what they promise: each is read from there, and run."""

import contextlib
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.ctl import Pylsyncctl
from support.daemon import REPOSITORY, Pylsyncd
from support.servers import (
    LOOPBACK,
    RsyncDaemon,
    SshServer,
    Unavailable,
    answers_at,
    free_port,
)
from support.trees import equal_within
from support.waiting import wait_until

CONFIGURATION = "/etc/pylsyncd.conf"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def _read_recipes() -> dict[str, dict[str, str]]:
    """Return the files of each recipe, by its title and their names."""
    page = (REPOSITORY / "docs/recipes.rst").read_text()
    _, *parts = re.split(r"^(.+)\n=+\n\n", page, flags=re.MULTILINE)
    file = re.compile(r"\*(\S[^*]*)\*::\n\n((?:    .*\n|\n(?=    ))+)")
    return {
        title: {
            name: re.sub(r"^    ", "", text, flags=re.MULTILINE)
            for name, text in file.findall(body)
        }
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


RECIPES = _read_recipes()
del RECIPES["Recipes"]


class Recipe:
    """The files of one recipe, with other paths and machines, and what runs them."""

    def __init__(self, title: str, top: Path, replaced: Mapping[str, str]) -> None:
        """Replace texts in all files: each of them is in one."""
        files = RECIPES[title]
        assert [text for text in replaced if text not in "\n".join(files.values())] == []
        longest_first = sorted(map(re.escape, replaced), key=len, reverse=True)
        pattern = re.compile("|".join(longest_first))
        self.files = {
            name: pattern.sub(lambda match: replaced[match[0]], text)
            for name, text in files.items()
        }
        self._top = top
        self._ctl = Pylsyncctl(top / "sockets")
        self._ctl.directory.mkdir()
        self._programs = top / "programs"
        self._programs.mkdir()
        self.add_program("pylsyncctl", f'exec {" ".join(self._ctl.command())} "$@"')

    def add_program(self, name: str, line: str) -> None:
        """Add a shell script that the scripts of the recipe find before others."""
        (self._programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (self._programs / name).chmod(0o755)

    def daemon(self, *, more: Sequence[str] = ()) -> Pylsyncd:
        """Return the daemon of all configurations in one file, with a short window."""
        texts = (text for name, text in self.files.items() if CONFIGURATION in name)
        text = re.sub(r"^window = .*\n", "", "\n".join(texts), flags=re.MULTILINE)
        lines = "\n".join(["initial_sync = yes", "window = 0.1", *more])
        path = self._top / "pylsyncd.conf"
        path.write_text(text.replace("initial_sync = yes", lines))
        path.chmod(0o600)
        return Pylsyncd("-v", "-c", path, extra_environment=self._environment())

    def run(self, name: str) -> None:
        """Run a script in the directory of the test."""
        command = ("sh", "-e", "-c", self.files[name])
        subprocess.run(command, cwd=self._top, env=self._environment(), check=True)

    def _environment(self) -> dict[str, str]:
        environment = self._ctl.environment()
        path = f"{self._programs}{os.pathsep}{environment['PATH']}"
        return environment | {"PATH": path}


def wait_ready(daemon: Pylsyncd, *names: str) -> None:
    """Wait until destinations are equal."""
    for name in names:
        daemon.wait_for(rf"\[{re.escape(name)}\] initial sync complete")


def expect_equal(source: Path, copy: Path, ignore: frozenset[str] = frozenset()) -> None:
    """Wait until a copy equals its source."""
    assert equal_within(os.fsencode(source), os.fsencode(copy), 45, ignore=ignore) == []


@contextlib.contextmanager
def ssh_server(directory: Path) -> Iterator[SshServer]:
    """Run an ssh server of the test's own; skip the test where that is not possible."""
    directory.mkdir()
    try:
        with SshServer(directory) as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


@contextlib.contextmanager
def child(*command: str | Path, port: int) -> Iterator[None]:
    """Run a program that listens on a port; kill it in the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers_at(port))
        yield
    finally:
        process.kill()
        process.wait()


def has_attributes(directory: Path, name: str, value: bytes) -> bool:
    """Return True if a file in a directory can have an extended attribute."""
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, name, value)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def test_every_recipe_is_run_by_a_test() -> None:
    text = Path(__file__).read_text()
    assert [title for title in RECIPES if f'"{title}"' not in text] == []
    assert all(RECIPES.values())


def test_a_deployment_returns_when_every_server_has_the_release(tmp_path: Path) -> None:
    recipe = Recipe(
        "A web farm with a deployment", tmp_path,
        {
            "www-data@web1:/var/www/": f"{tmp_path}/web1/",
            "www-data@web2:/var/www/": f"{tmp_path}/web2/",
            "/var/www/": f"{tmp_path}/source/",
        },
    )  # fmt: skip
    (tmp_path / "source/releases").mkdir(parents=True)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/page").write_text("new")
    with recipe.daemon() as daemon:
        wait_ready(daemon, "www/web1", "www/web2")
        recipe.run("/usr/local/bin/deploy")
        for server in ("web1", "web2"):
            assert (tmp_path / server / "current/page").read_text() == "new"


def test_what_is_deleted_is_kept_by_its_date_and_for_a_time(tmp_path: Path) -> None:
    recipe = Recipe(
        "Keeping what is deleted", tmp_path,
        {
            "backup@vault:/backup/": f"{tmp_path}/backup/",
            "/backup/": f"{tmp_path}/backup/",
            "/home/": f"{tmp_path}/source/",
        },
    )  # fmt: skip
    source, copy, kept = tmp_path / "source", tmp_path / "backup/home", tmp_path / "backup/deleted"
    for name in ("gone", "changed", "d/gone"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("old")
    for name, days in (("2001-01-01", 31), ("2001-01-02", 1)):
        (kept / name / "d").mkdir(parents=True)
        age = os.stat(kept).st_mtime - days * 86400
        os.utime(kept / name, (age, age))
    with recipe.daemon() as daemon:
        wait_ready(daemon, "home/home")
        # In one window: a second run would keep what the first one has sent, too.
        with daemon.paused():
            (source / "gone").unlink()
            shutil.rmtree(source / "d")
            (source / "changed").write_text("newer")
        expect_equal(source, copy)
    found = {str(path.relative_to(kept / "today")) for path in (kept / "today").rglob("*")}
    assert found == {"gone", "changed", "d", "d/gone"}
    assert (kept / "today/changed").read_text() == "old"
    recipe.run("/etc/cron.daily/keep-deleted")
    older, dated = sorted(os.listdir(kept))
    assert older == "2001-01-02"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", dated)
    assert (kept / dated / "gone").exists()


def test_an_index_names_only_what_is_there(tmp_path: Path) -> None:
    recipe = Recipe(
        "An index after what it names", tmp_path,
        {"/srv/repository/./": f"{tmp_path}/source/./", "mirror:/srv/": f"{tmp_path}/mirror/"},
    )  # fmt: skip
    source, copy = tmp_path / "source", tmp_path / "mirror/repository"
    (tmp_path / "mirror").mkdir()

    def publish(version: int) -> None:
        (source / f"blob{version}").write_text(str(version))
        (source / "index.new").write_text(f"blob{version}")
        (source / "index.new").rename(source / "index.json")
        (source / f"blob{version - 1}").unlink(missing_ok=True)

    def has_arrived(version: int) -> bool:
        """Check the copy; a name in it is followed again if the index has changed meanwhile."""
        named = (copy / "index.json").read_text()
        while not (copy / named).exists():
            before, named = named, (copy / "index.json").read_text()
            assert named != before
        return named == f"blob{version}"

    source.mkdir()
    publish(0)
    with recipe.daemon() as daemon:
        wait_ready(daemon, "repository/repository")
        for version in (1, 2):
            publish(version)
            wait_until(lambda version=version: has_arrived(version))  # type: ignore[misc]
        expect_equal(source, copy)


def test_the_holes_of_an_image_stay_holes(tmp_path: Path) -> None:
    recipe = Recipe(
        "Sparse images", tmp_path,
        {"/var/lib/images/./": f"{tmp_path}/source/./", "vault:/srv/": f"{tmp_path}/vault/"},
    )  # fmt: skip
    (tmp_path / "source").mkdir()
    (tmp_path / "vault").mkdir()
    with (tmp_path / "source/image").open("wb") as image:
        image.truncate(16 << 20)
        image.seek(8 << 20)
        image.write(b"content")
    with recipe.daemon() as daemon:
        wait_ready(daemon, "images/images")
    copied = (tmp_path / "vault/images/image").stat()
    assert copied.st_size == 16 << 20
    assert copied.st_blocks * 512 < 1 << 20


def test_access_control_lists_and_attributes_are_copied_when_they_change(tmp_path: Path) -> None:
    recipe = Recipe(
        "ACLs and extended attributes", tmp_path,
        {"/srv/data/./": f"{tmp_path}/source/./", "root@vault:/srv/": f"{tmp_path}/vault/"},
    )  # fmt: skip
    # The owner, a user with a number, the group, the mask, and others: read and write, or read.
    entries = ((1, 6, -1), (2, 4, 1234), (4, 4, -1), (16, 4, -1), (32, 4, -1))
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    attributes = {"system.posix_acl_access": struct.pack("<I", 2) + packed, "user.note": b"x"}
    for name, value in attributes.items():
        if not has_attributes(tmp_path, name, value):
            pytest.skip(f"the file system has no {name}")
    rsync = shutil.which("rsync") or "rsync"
    version = subprocess.run((rsync, "--version"), capture_output=True, text=True, check=True)
    if "no ACLs" in version.stdout or "no xattrs" in version.stdout:
        pytest.skip("rsync has no ACLs or no extended attributes")
    (tmp_path / "vault").mkdir()
    (tmp_path / "source").mkdir()
    file, copy = tmp_path / "source/file", tmp_path / "vault/data/file"
    file.touch()
    with recipe.daemon() as daemon:
        wait_ready(daemon, "data/data")
        for name, value in attributes.items():
            os.setxattr(file, name, value)
        wait_until(lambda: set(attributes) <= set(os.listxattr(copy)))
    assert all(os.getxattr(copy, name) == value for name, value in attributes.items())


def test_a_tree_is_relayed_over_three_hops(tmp_path: Path) -> None:
    recipe = Recipe(
        "Relay trees", tmp_path,
        {
            "relay1:/srv/": f"{tmp_path}/srv/",
            "relay2:/srv/": f"{tmp_path}/srv/",
            "leaf:/srv/": f"{tmp_path}/srv/",
            "--temp-dir=/srv": f"--temp-dir={tmp_path}/srv",
            "/srv/": f"{tmp_path}/srv/",
        },
    )  # fmt: skip
    trees = [tmp_path / "srv" / name for name in ("tree", "tree1", "tree2", "tree3")]
    for tree in trees:
        tree.mkdir(parents=True)
    (trees[0] / "d").mkdir()
    (trees[0] / "d/gone").write_text("old")
    with recipe.daemon() as daemon:
        wait_ready(daemon, "first/tree1", "second/tree2", "third/tree3")
        wait_until((trees[3] / "d/gone").exists)
        (trees[0] / "d/gone").unlink()
        (trees[0] / "d").rename(trees[0] / "renamed")
        (trees[0] / "renamed/new").write_text("new")
        wait_until((trees[3] / "renamed/new").exists)
        for tree in trees[1:]:
            expect_equal(trees[0], tree)


@needs_root
def test_a_login_without_root_keeps_owners_and_gives_them_back(tmp_path: Path) -> None:
    if not has_attributes(tmp_path, "user.rsync.%stat", b"x"):
        pytest.skip("the file system has no attributes of users")
    source, copy = tmp_path / "source", tmp_path / "copies/data"
    source.mkdir()
    copy.mkdir(parents=True)
    (source / "file").touch()
    os.chown(source / "file", 1234, 1234)
    with ssh_server(tmp_path / "ssh") as server:
        recipe = Recipe(
            "A destination without root", tmp_path,
            {
                "backup@vault:/srv/copies/": f"localhost:{tmp_path}/copies/",
                "/srv/data/": f"{source}/",
                "rsync -a": f"rsync -e '{server.rsh}' -a",
            },
        )  # fmt: skip
        with recipe.daemon(more=[f"rsh = {server.rsh}"]) as daemon:
            wait_ready(daemon, "data/localhost")
        assert (copy / "file").stat().st_uid == os.geteuid()
        (source / "file").unlink()
        recipe.run("/usr/local/bin/restore")
    assert (source / "file").stat().st_uid == 1234


def test_a_key_for_rrsync_suffices(tmp_path: Path) -> None:
    if shutil.which("rrsync") is None:
        pytest.skip("rrsync is not installed")
    source, copy = tmp_path / "source", tmp_path / "copies/data"
    source.mkdir()
    copy.mkdir(parents=True)
    for name in ("gone", "renamed"):
        (source / name).write_text(name)
    with ssh_server(tmp_path / "ssh") as server:
        keys = server.directory / "user_key.pub"
        recipe = Recipe(
            "A login that can do nothing else", tmp_path,
            {
                "/srv/copies": f"{tmp_path}/copies",
                "ssh-ed25519 AAAA... pylsyncd": keys.read_text().strip(),
                "/srv/data/./": f"{source}/./",
                "backup@vault:": "localhost:",
            },
        )  # fmt: skip
        keys.write_text(recipe.files["~backup/.ssh/authorized_keys at the backup server"])
        with recipe.daemon(more=[f"rsh = {server.rsh}"]) as daemon:
            wait_ready(daemon, "data/localhost")
            (source / "gone").unlink()
            (source / "renamed").rename(source / "new")
            expect_equal(source, copy)


@contextlib.contextmanager
def rsync_daemon(tmp_path: Path) -> Iterator[RsyncDaemon]:
    """Run an rsync daemon with the module ``data``, which asks for a password."""
    for name in ("rsyncd", "copy", "source"):
        (tmp_path / name).mkdir()
    for name, text in (("secrets", "backup:secret\n"), ("password", "secret\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    options = {"auth users": "backup", "secrets file": f"{tmp_path}/secrets"}
    try:
        with RsyncDaemon(
            tmp_path / "rsyncd", {"data": tmp_path / "copy"}, {"data": options}
        ) as daemon:
            yield daemon
    except Unavailable as reason:
        pytest.skip(str(reason))


def expect_copies_by(recipe: Recipe, tmp_path: Path, ignore: frozenset[str]) -> None:
    """Expect that the configuration of the recipe copies through a tunnel."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    (source / "file").write_text("content")
    with recipe.daemon() as daemon:
        wait_ready(daemon, f"data/{LOOPBACK}")
        (source / "file").unlink()
        (source / "other").write_text("content")
        expect_equal(source, copy, ignore)


def through_tunnel(tmp_path: Path, port: int) -> dict[str, str]:
    """Return what is replaced in the configuration of a tunnel."""
    return {
        "/srv/data/./": f"{tmp_path}/source/./",
        "127.0.0.1:8730/data": f"127.0.0.1:{port}/data",
        "/etc/pylsyncd.vault.password": f"{tmp_path}/password",
    }


def test_an_rsync_daemon_is_reached_through_ssh(tmp_path: Path) -> None:
    port = free_port()
    with rsync_daemon(tmp_path) as daemon, ssh_server(tmp_path / "ssh") as server:
        recipe = Recipe(
            "An rsync daemon through ssh", tmp_path,
            {
                **through_tunnel(tmp_path, port),
                "ExecStart=ssh ": f"ExecStart={server.rsh} ",
                "127.0.0.1:8730:127.0.0.1:873 tunnel@vault": (
                    f"127.0.0.1:{port}:127.0.0.1:{daemon.port} localhost"
                ),
            },
        )  # fmt: skip
        unit = recipe.files["/etc/systemd/system/vault-tunnel.service"]
        command = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0].split()
        with child(*command, port=port):
            expect_copies_by(recipe, tmp_path, daemon.ignore)


def test_an_rsync_daemon_is_reached_through_stunnel(tmp_path: Path) -> None:
    stunnel, openssl = shutil.which("stunnel"), shutil.which("openssl")
    if stunnel is None or openssl is None:
        pytest.skip("stunnel or openssl is not installed")
    key, certificate = tmp_path / "vault.key", tmp_path / "vault.pem"
    subprocess.run(
        (openssl, "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=vault", "-addext",
         "subjectAltName=DNS:vault", "-keyout", key, "-out", certificate),
        check=True, capture_output=True,
    )  # fmt: skip
    near, far = free_port(), free_port()
    with rsync_daemon(tmp_path) as daemon:
        recipe = Recipe(
            "An rsync daemon through stunnel", tmp_path,
            {
                "accept = 127.0.0.1:8730": f"accept = 127.0.0.1:{near}",
                "connect = vault:8731": f"connect = 127.0.0.1:{far}",
                "accept = 8731": f"accept = 127.0.0.1:{far}",
                "connect = 127.0.0.1:873": f"connect = 127.0.0.1:{daemon.port}",
                "/etc/stunnel/vault.pem": str(certificate),
                "/etc/stunnel/vault.key": str(key),
            },
        )  # fmt: skip
        # The configuration of pylsyncd is that of the tunnel through ssh.
        text = RECIPES["An rsync daemon through ssh"][CONFIGURATION]
        for written, here in through_tunnel(tmp_path, near).items():
            text = text.replace(written, here)
        recipe.files[CONFIGURATION] = text
        with contextlib.ExitStack() as stack:
            for name, port in (("rsyncd", far), ("pylsyncd", near)):
                path = tmp_path / f"{name}.conf"
                text = recipe.files[f"/etc/stunnel/{name}.conf"]
                path.write_text(f"foreground = quiet\npid =\n{text}")
                stack.enter_context(child(stunnel, path, port=port))
            expect_copies_by(recipe, tmp_path, daemon.ignore)


def test_by_day_nothing_is_sent_and_at_night_everything(tmp_path: Path) -> None:
    recipe = Recipe(
        "Only at night", tmp_path,
        {"/srv/data/./": f"{tmp_path}/source/./", "vault:/srv/data/": f"{tmp_path}/vault/"},
    )  # fmt: skip
    script = "/usr/local/bin/only-at-night"
    assert recipe.files["/etc/cron.d/pylsyncd"].split()[-1] == script
    source, copy = tmp_path / "source", tmp_path / "vault"
    source.mkdir()
    with recipe.daemon() as daemon:
        wait_ready(daemon, "data/vault")
        recipe.add_program("date", "echo 12")
        recipe.run(script)
        (source / "file").touch()
        daemon.flush()
        recipe.run(script)
        assert not os.listdir(copy)
        recipe.add_program("date", "echo 23")
        recipe.run(script)
        wait_until((copy / "file").exists)
