"""A real rsync daemon and a real sshd on free loopback ports, each in a directory of its own."""

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
ServerType = TypeVar("ServerType", bound="Server")
START_SECONDS, STOP_SECONDS = 45.0, 5.0


class Unavailable(Exception):  # noqa: N818 - not an error of the test
    """The machine lacks a program or forbids to run it; the text is the reason."""


def free_port(address: str = LOOPBACK) -> int:
    """Return an unused port; raises OSError if the machine has no such address.

    It is below the ports that the kernel assigns to connections (ip_local_port_range, from 32,768
    on): a connection of another test could take such a port first, or connect to itself.
    """
    rng = random.SystemRandom()
    while True:
        port = rng.randrange(20_000, 32_768)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
            try:
                listener.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port


def answers_at(port: int) -> bool:
    """Return True if a port of this machine accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


class Server:
    """A server as a child process, which can be stopped and restarted on the same port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """True from start to stop."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id; 0 while the server is stopped."""
        return self._process.pid if self._process else 0

    def command(self) -> Sequence[str]:
        """Return the command, which must stay in the foreground."""
        raise NotImplementedError

    def __enter__(self: ServerType) -> ServerType:  # noqa: PYI019 - typing.Self is younger than Python 3.10
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
        """Start the server, and wait until its port accepts connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers_at(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"{self.command()[0]} did not start: {self.log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server and its connections: by SIGTERM, after a timeout by SIGKILL."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class RsyncDaemon(Server):
    """``rsync --daemon`` with a module for each directory.

    Only root can use chroot. Without it, rsync changes the targets of symlinks that lead out of
    the module (rsyncd.conf(5), munge symlinks), so ``ignore`` excludes targets from comparisons.
    """

    ignore: frozenset[str] = frozenset({"symlink target"} if os.geteuid() else ())

    def __init__(
        self,
        directory: Path,
        modules: Mapping[str, Path],
        options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Configure the modules; ``options`` has more options for a module by its name."""
        super().__init__(directory)
        self.modules = dict(modules)
        self._program = _program("rsync")
        self._configuration = directory / "rsyncd.conf"
        self.configure(options or {})

    def configure(self, options: Mapping[str, Mapping[str, str]]) -> None:
        """Set the options of the modules; rsync reads the file for each connection."""
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
        """Return the command."""
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
        # Without uid and gid, root's daemon switches to the user nobody.
        return common | {"use chroot": "yes", "uid": "0", "gid": "0"}


class SshServer(Server):
    """``sshd`` with a new key for the user that runs the tests."""

    def __init__(self, directory: Path, programs: Path | None = None) -> None:
        """Create the keys; remote commands find the programs of a directory before others."""
        super().__init__(directory)
        self._programs = programs
        self._program = _program("sshd", "/usr/sbin", "/usr/local/sbin")
        self._client = directory / "ssh_config"
        self._server = directory / "sshd_config"
        _program("ssh")
        if os.geteuid() == 0:
            # Debian's sshd needs this directory, which its init script creates at boot.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for key in ("host_key", "user_key"):
            make = (_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", directory / key)
            made = subprocess.run(make, check=False, capture_output=True)
            if made.returncode:
                # It needs the name of its user.
                raise Unavailable(f"ssh-keygen makes no key: {made.stderr!r}")
        self._write_client()
        self._write_server()

    @property
    def rsh(self) -> str:
        """The remote shell for ``-e``, which connects to this server for every host name."""
        return f"{_program('ssh')} -F {self._client}"

    def command(self) -> Sequence[str]:
        """Return the command."""
        return (self._program, "-D", "-e", "-f", str(self._server))

    def start(self) -> None:
        """Start the server, and log in once."""
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
        if self._programs is not None:
            common += (
                f"SetEnv PATH={self._programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}\n"
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
