"""A real rsync daemon and a real sshd on free ports of the loopback, each in its own directory."""

import contextlib
import errno
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

LOOPBACK = "127.0.0.1"
S = TypeVar("S", bound="Server")
START_SECONDS, STOP_SECONDS = 10.0, 5.0


class Unavailable(Exception):  # noqa: N818 - it is a fact about the machine, not an error
    """The machine lacks the program, or does not let us run it; the sentence says which."""


def free_port(address: str = LOOPBACK) -> int:
    """Return a port that nobody had a moment ago; OSError where there is no such address.

    It is none of those that the kernel gives to connections (ip_local_port_range, from 32,768 on):
    one of the many that tests open could have it before the server, or reach itself there.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_768)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
            try:
                listener.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


class Server:
    """A server in the foreground, as a child: it can be stopped and started on the same port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it is stopped."""
        return self._process.pid if self._process else 0

    def command(self) -> Sequence[str]:
        """Return what to run; it must stay in the foreground."""
        raise NotImplementedError

    def __enter__(self: S) -> S:  # noqa: PYI019 - typing.Self is younger than Python 3.10
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and return when its port answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"{self.command()[0]} did not start: {self.log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and the connections that it serves: asked first, killed when it stays."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
            return True
        return False


class RsyncDaemon(Server):
    """``rsync --daemon`` with a module for each directory.

    Only root can have it use chroot. Without, rsync cuts off what leads a symlink's target out of
    the module (rsyncd.conf(5), munge symlinks), and ``ignore`` says so to the comparison of trees.
    """

    ignore: frozenset[str] = frozenset({"symlink target"} if os.geteuid() else ())

    def __init__(
        self,
        directory: Path,
        modules: Mapping[str, Path],
        options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Prepare modules of these names; ``options`` has what else goes into a module."""
        super().__init__(directory)
        self.modules = dict(modules)
        self._program = _program("rsync")
        self._configuration = directory / "rsyncd.conf"
        self.configure(options or {})

    def configure(self, options: Mapping[str, Mapping[str, str]]) -> None:
        """Have modules with these options; rsync reads its file anew for each connection."""
        sections = {"": self._global_options()}
        for name, path in self.modules.items():
            sections[f"[{name}]"] = {"path": str(path), **options.get(name, {})}
        self._configuration.write_text(
            "".join(
                f"{title}\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
                for title, section in sections.items()
            )
        )

    def command(self) -> Sequence[str]:
        """Return what to run."""
        return (self._program, "--daemon", "--no-detach", f"--config={self._configuration}")

    def url(self, module: str, path: str = "") -> str:
        """Return the destination for a path in a module."""
        return f"rsync://{LOOPBACK}:{self.port}/{module}/{path}"

    def _global_options(self) -> dict[str, str]:
        common = {
            "port": str(self.port),
            "address": LOOPBACK,
            "log file": str(self.log),
            "read only": "no",
            "munge symlinks": "no",
            "socket options": "TCP_NODELAY",
        }
        if os.geteuid():
            return common | {"use chroot": "no"}
        # Without uid and gid a daemon that root runs becomes nobody.
        return common | {"use chroot": "yes", "uid": "0", "gid": "0"}


class SshServer(Server):
    """``sshd`` that lets the runner of the tests log in with a key made for it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._program = _program("sshd", "/usr/sbin", "/usr/local/sbin")
        self._client = directory / "ssh_config"
        self._server = directory / "sshd_config"
        _program("ssh")
        if os.geteuid() == 0:
            # Where Debian's sshd drops its privileges to; its init script makes it at boot.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for key in ("host_key", "user_key"):
            make = (_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", directory / key)
            subprocess.run(make, check=True)
        self._write_client()
        self._write_server()

    @property
    def rsh(self) -> str:
        """The remote shell, for ``-e``: every host name leads to this server."""
        return f"{_program('ssh')} -F {self._client}"

    def command(self) -> Sequence[str]:
        """Return what to run."""
        return (self._program, "-D", "-e", "-f", str(self._server))

    def start(self) -> None:
        """Start it, and return when a login has succeeded."""
        super().start()
        login = subprocess.run(
            (*self.rsh.split(), "localhost", "true"), check=False, capture_output=True
        )
        if login.returncode:
            self.stop()
            raise Unavailable(f"sshd refuses to log us in: {login.stderr!r}")

    def _write_client(self) -> None:
        host_key = (self.directory / "host_key.pub").read_text()
        known = self.directory / "known_hosts"
        known.write_text(f"tests {host_key}")
        self._client.write_text(
            f"Host *\n HostName {LOOPBACK}\n Port {self.port}\n User {getpass.getuser()}\n"
            f" IdentityFile {self.directory}/user_key\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n"
            " HostKeyAlias tests\n StrictHostKeyChecking yes\n BatchMode yes\n"
            " ConnectTimeout 10\n LogLevel ERROR\n"
        )

    def _write_server(self) -> None:
        common = (
            f"Port {self.port}\nListenAddress {LOOPBACK}\nHostKey {self.directory}/host_key\n"
            f"AuthorizedKeysFile {self.directory}/user_key.pub\nPidFile none\nUseDNS no\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPubkeyAuthentication yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "MaxStartups 200\nMaxSessions 200\nPrintMotd no\nPermitUserRC no\n"
        )
        # OpenSSH 9.8 and later locks out an address whose connections fail, as some tests do.
        self._server.write_text(common + "PerSourcePenalties no\n")
        check = (self._program, "-t", "-f", str(self._server))
        if b"PerSourcePenalties" in subprocess.run(check, check=False, capture_output=True).stderr:
            self._server.write_text(common)


def _program(name: str, *more_directories: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *more_directories])
    found = shutil.which(name, path=path)
    if not found:
        raise Unavailable(f"{name} is not installed")
    return found
