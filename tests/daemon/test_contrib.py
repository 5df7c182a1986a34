"""The files for administrators (systemd, init, logrotate, completion) work as shipped."""

import contextlib
import gzip
import importlib.util
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support import processes
from support.commands import RecordingCommands, destination, status
from support.daemon import ENVIRONMENT_MARK, REPOSITORY, environment
from support.waiting import wait_until

from pylsyncd.control.server import ControlServer
from pylsyncd.system.capabilities import DAC_READ_SEARCH, SYS_ADMIN

CONTRIB = REPOSITORY / "contrib"
UNITS = [CONTRIB / "systemd/pylsyncd.service", CONTRIB / "systemd/pylsyncd@.service"]
NO_DEVICES = CONTRIB / "systemd/pylsyncd-no-devices.conf"
FANOTIFY = CONTRIB / "systemd/pylsyncd-fanotify.conf"
INIT = CONTRIB / "init/pylsyncd.init"
DEFAULTS = CONTRIB / "init/pylsyncd.default"
WINDOW = "0.1"


def needs(program: str) -> pytest.MarkDecorator:
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return pytest.mark.skipif(
        shutil.which(program, path=path) is None, reason=f"{program} is not installed"
    )


def run(*words: str | Path, **extra: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return subprocess.run(
        words, env=environment({"PATH": path, **extra}), capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip


# -- systemd --------------------------------------------------------------------------------------


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_analyze_accepts_each_unit(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin/pylsyncd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name
    # systemd-analyze checks that the program exists.
    copy.write_text(re.sub("=pylsyncd (?=--)", f"={program} ", unit.read_text()))
    verified = run("systemd-analyze", "verify", "--man=no", copy)
    ours = [line for line in verified.stderr.splitlines() if "pylsyncd" in line]
    assert ours == []
    assert verified.returncode == 0, verified.stderr


@needs("systemd-analyze")
@pytest.mark.parametrize("drop_in", [NO_DEVICES, FANOTIFY], ids=lambda path: path.name)
def test_systemd_analyze_accepts_a_unit_with_each_drop_in(tmp_path: Path, drop_in: Path) -> None:
    program = tmp_path / "bin/pylsyncd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit, copy = tmp_path / UNITS[0].name, tmp_path / f"{UNITS[0].name}.d" / drop_in.name
    unit.write_text(re.sub("=pylsyncd (?=--)", f"={program} ", UNITS[0].read_text()))
    copy.parent.mkdir()
    copy.write_text(drop_in.read_text())
    verified = run("systemd-analyze", "verify", "--man=no", unit)
    assert [line for line in verified.stderr.splitlines() if "pylsyncd" in line] == []


def words_of(file: Path, option: str) -> list[str]:
    """Return the words of an option in all lines of a unit or drop-in."""
    return " ".join(re.findall(rf"^{option}=(.*)$", file.read_text(), re.MULTILINE)).split()


def test_a_drop_in_takes_two_capabilities_from_a_unit() -> None:
    removed = words_of(NO_DEVICES, "CapabilityBoundingSet")
    assert removed == ["~CAP_MKNOD", "CAP_SETFCAP"]
    assert {each.strip("~") for each in removed} <= set(words_of(UNITS[0], "CapabilityBoundingSet"))


def test_a_drop_in_gives_a_unit_what_fanotify_needs() -> None:
    granted, more = (words_of(file, "CapabilityBoundingSet") for file in (UNITS[0], FANOTIFY))
    assert more == [SYS_ADMIN]
    assert DAC_READ_SEARCH in granted
    assert SYS_ADMIN not in granted
    # What @system-service does not have.
    calls = words_of(FANOTIFY, "SystemCallFilter")
    assert {"fanotify_init", "fanotify_mark", "open_by_handle_at"} <= set(calls)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_limits_what_a_daemon_can_leak_or_exhaust(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert "LimitCORE=0" in lines
    assert "SystemCallFilter=~@keyring @memlock" in lines
    assert lines.index("SystemCallFilter=@system-service") < lines.index(
        "SystemCallFilter=~@keyring @memlock"
    )
    assert any(re.fullmatch(r"TasksMax=\d+", line) for line in lines)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_in_the_mount_namespace_of_the_machine(unit: Path) -> None:
    """Each of these options creates a mount namespace; see systemd.exec(5)."""
    names = {line.partition("=")[0] for line in unit.read_text().splitlines() if line[:1].isalpha()}
    namespacing = re.compile(
        r"Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|ControlGroups|Hostname)"
        r"|Private(Tmp|Devices|Mounts|Users)|MountFlags|ProcSubset|DynamicUser|RootDirectory"
        r"|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|TemporaryFileSystem"
    )
    assert not [name for name in names if namespacing.fullmatch(name)]
    # These two options would restrict the modes of copies.
    assert not names & {"RestrictSUIDSGID", "ProtectClock", "DevicePolicy", "DeviceAllow"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_command_of_a_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "pylsyncd.conf"
    (tmp_path / "src").mkdir()
    configuration.write_text(
        f"[sync one]\nsource = {tmp_path}/src/./\ndestinations = {tmp_path}/dst/\n"
    )
    text = unit.read_text()
    # Without a directory, so that systemd finds it in /usr/local/bin as well as in /usr/bin.
    started = re.findall(r"^Exec(?:Start|Reload)=pylsyncd (.*)$", text, re.MULTILINE)
    assert len(started) == 2
    for command in started:
        known = re.sub(r"/etc/pylsyncd\S*\.conf", str(configuration), command).split()
        known = [word for word in known if word != "$OPTIONS"]
        words = {"--check-config": None, **dict.fromkeys(known)}
        checked = run(sys.executable, "-m", "pylsyncd", *words)
        assert checked.returncode == 0, checked.stderr


def test_no_unit_has_the_runtime_directory_of_another_one() -> None:
    """Systemd removes the directory of a unit when the unit stops, with all that is in it."""
    lines = [unit.read_text().splitlines() for unit in UNITS]
    # %n is the name of the unit, with that of the instance.
    assert all("RuntimeDirectory=pylsyncd/%n" in each for each in lines)
    assert all("StateDirectory=pylsyncd" in each for each in lines)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_takes_more_options_from_the_file_of_the_init_script(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    defaults = lines.index("EnvironmentFile=-/etc/default/pylsyncd")
    assert lines[defaults - 1] == "Environment=OPTIONS="
    assigned = [line for line in DEFAULTS.read_text().splitlines() if line[:1] not in {"", " "}]
    assert all(re.fullmatch(r"# .*|#[A-Z_]+=\S*", line) for line in assigned)


# -- the init script ------------------------------------------------------------------------------


class Service:
    """An installed init script, with all of its files in one directory."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.source, self.destination = top / "src", top / "dst"
        self.pidfile, self.configuration = top / "pid", top / "pylsyncd.conf"
        self.program, self.defaults = top / "pylsyncd", top / "defaults"
        self.source.mkdir()
        self._mark = str(uuid.uuid4())
        self.install(f'exec {sys.executable} -m pylsyncd "$@"')
        self.configure(WINDOW)
        self.set_defaults()

    def install(self, body: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{body}\n")
        self.program.chmod(0o755)

    def configure(self, window: str) -> None:
        self.configuration.write_text(
            f"[pylsyncd]\nlogfile = {self.top}/log\nstate_dir = {self.top}/state\ncontrol = no\n"
            f"[sync one]\nsource = {self.source}/./\ndestinations = {self.destination}/\n"
            f"window = {window}\n"
        )

    def set_defaults(self, **more: str) -> None:
        settings = {
            "DAEMON": self.program, "CONFIG": self.configuration, "PIDFILE": self.pidfile, **more
        }  # fmt: skip
        lines = [f"{name}='{value}'\n" for name, value in settings.items()]
        self.defaults.write_text("".join(lines))

    def __call__(self, *verbs: str) -> int:
        """Run the script; return its exit status."""
        self.ran = run(
            "sh",
            INIT,
            *verbs,
            PYLSYNCD_DEFAULTS=str(self.defaults),
            **{ENVIRONMENT_MARK: self._mark},
        )
        return self.ran.returncode

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def kill(self) -> None:
        processes.kill_processes_with_environment(f"{ENVIRONMENT_MARK}={self._mark}")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.kill()


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_each_shell_parses_the_init_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert run(shell, "-n", INIT).stderr == ""
    assert os.access(INIT, os.X_OK)


@needs("shellcheck")
def test_shellcheck_accepts_the_init_script() -> None:
    checked = run("shellcheck", "--exclude=SC1090,SC2034", INIT)
    assert checked.stdout == ""


def test_the_init_script_starts_stops_and_reports_the_status(service: Service) -> None:
    assert service("status") == 3
    assert service("start") == 0, service.ran.stderr
    pid = service.pid
    assert service("status") == 0
    assert f"pid {pid}" in service.ran.stdout
    assert service("start") == 0
    assert service.pid == pid, "a second start changes nothing"
    (service.source / "f").touch()
    wait_until((service.destination / "f").exists)
    assert service("stop") == 0
    # It has ended, but process 1 may not have reaped it yet.
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert service("status") == 3
    assert service("stop") == 0


def test_restart_works_with_and_without_a_running_daemon(service: Service) -> None:
    assert service("restart") == 0
    pid = service.pid
    assert service("restart") == 0
    assert service.pid != pid
    assert service("try-restart") == 0
    assert service("stop") == 0
    assert service("try-restart") == 0
    assert service("status") == 3, "condrestart starts no daemon"


@pytest.mark.parametrize("verb", ["reload", "force-reload"])
def test_reload_applies_the_configuration(verb: str, service: Service) -> None:
    assert service(verb) == 7
    service.configure("3600")
    service("start")
    pid = service.pid
    (service.source / "f").touch()
    service.configure(WINDOW)
    assert service(verb) == 0
    wait_until((service.destination / "f").exists)
    assert service.pid == pid


@pytest.mark.parametrize("verb", ["restart", "reload", "try-restart"])
def test_a_configuration_with_errors_does_not_end_the_daemon(verb: str, service: Service) -> None:
    service("start")
    pid = service.pid
    service.configure("never")
    assert service(verb) == 6
    assert "never" in service.ran.stderr
    assert service("status") == 0
    assert service.pid == pid


def test_a_crashed_daemon_is_reported_and_can_be_started_and_stopped(service: Service) -> None:
    service("start")
    pid = service.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert service("status") == 1
    assert service("stop") == 0
    assert service("status") == 3, "what was stopped has not died"
    assert not service.pidfile.exists() or not shutil.which("flock")
    assert service("reload") == 7
    assert service("start") == 0
    assert service.pid != pid


def test_a_reused_pid_is_neither_reported_as_running_nor_killed(
    service: Service,
) -> None:
    with processes.running_process(["sleep", "600"]) as other:  # any that there is
        service.pidfile.write_text(f"{other.pid}\n")
        assert service("status") == 1
        assert service("stop") == 0
        assert service("reload") == 7
        assert other.poll() is None
        other.kill()
    assert service("start") == 0


@pytest.mark.parametrize("content", ["", "\n", "no number\n"])
def test_a_pid_file_without_a_pid_counts_as_not_running(content: str, service: Service) -> None:
    service.pidfile.write_text(content)
    assert service("status") == 3
    assert service("stop") == 0


def test_a_daemon_that_does_not_stop_is_killed(service: Service) -> None:
    service.set_defaults(STOP_TIMEOUT="1")
    service.install("trap '' TERM; while :; do sleep 0.1; done")
    with processes.running_process(["sh", str(service.program)]) as stubborn:  # any
        service.pidfile.write_text(f"{stubborn.pid}\n")
        wait_until(lambda: b"pylsyncd" in Path(f"/proc/{stubborn.pid}/cmdline").read_bytes())
        assert service("stop") == 0
        assert "killed" in service.ran.stdout
        assert service("status") == 3
        assert stubborn.wait(45) == -signal.SIGKILL


def test_a_failed_start_has_the_exit_status_of_the_linux_standard_base(service: Service) -> None:
    service.set_defaults(OPTIONS="--max-runs 0")
    assert service("start") == 6
    assert "--max-runs" in service.ran.stderr
    service.set_defaults()
    service.install("exit 1")
    assert service("start") == 1
    service.program.unlink()
    assert service("start") == 5
    service.install("exit 0")
    service.configuration.unlink()
    assert service("start") == 6
    assert str(service.configuration) in service.ran.stderr


@pytest.mark.parametrize("verbs", [(), ("dance",)])
def test_an_unknown_verb_is_wrong_usage(verbs: tuple[str, ...], service: Service) -> None:
    assert service(*verbs) == 2
    assert "Usage" in service.ran.stderr


def test_the_variables_of_the_init_script_can_come_from_the_environment(tmp_path: Path) -> None:
    extra = {"PYLSYNCD_DEFAULTS": str(tmp_path / "none"), "DAEMON": str(tmp_path / "no-program")}
    ran = run("sh", INIT, "start", PIDFILE=str(tmp_path / "pid"), **extra)
    assert ran.returncode == 5
    assert "no-program is not installed" in ran.stderr


# -- logrotate and sysctl -------------------------------------------------------------------------


@needs("logrotate")
def test_logrotate_rotates_the_log_of_a_running_daemon(service: Service) -> None:
    log = service.top / "log"
    rotation, state = service.top / "logrotate.conf", service.top / "logrotate.state"
    text = (CONTRIB / "pylsyncd.logrotate").read_text()
    rotation.write_text(re.sub(r"^/var/log/.*\{", f"{log} {{", text, flags=re.MULTILINE))
    # logrotate refuses a file that other users can write.
    rotation.chmod(0o644)
    service.top.chmod(0o755)
    service("start")
    for number in range(2):
        rotated = run("logrotate", "--force", "--state", state, rotation)
        assert (rotated.returncode, rotated.stderr) == (0, "")
        (service.source / f"f{number}").touch()
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: log.stat().st_size)
    assert log.stat().st_mode & 0o777 == 0o640
    with gzip.open(f"{log}.2.gz", "rt") as oldest:
        assert "watching" in oldest.read()
    assert service("stop") == 0
    assert "stopped" in log.read_text()


def test_the_kernel_knows_the_limits_in_the_sysctl_file() -> None:
    lines = (CONTRIB / "pylsyncd.sysctl").read_text().splitlines()
    settings = dict(line.split(" = ") for line in lines if line and not line.startswith("#"))
    known = {f"fs.inotify.{path.name}" for path in Path("/proc/sys/fs/inotify").iterdir()}
    assert set(settings) == known | {"fs.fanotify.max_user_groups"}
    assert all(int(value) > 0 for value in settings.values())


# -- completion -----------------------------------------------------------------------------------

COMPLETION = CONTRIB / "completion"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", COMPLETION / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["pylsyncd.bash", "_pylsyncd"])
def test_the_completion_is_up_to_date_with_the_options(name: str) -> None:
    made = _generator().FILES[name]()
    # To update it, run: python contrib/completion/generate.py
    assert (COMPLETION / name).read_text() == made


def in_bash(*words: str, **variables: str) -> list[str]:
    """Return the completions of bash for the last word."""
    script = (
        f'source {COMPLETION}/pylsyncd.bash; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); '
        "_$1; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    completed = run("bash", "-c", script, "bash", *words, **variables)
    assert completed.stderr == ""
    return completed.stdout.splitlines()


@needs("bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("pylsyncd", "--pidf"), ["--pidfile"]),
        (("pylsyncd", "--log-level", "de"), ["debug"]),
        (("pylsyncd", "--log-level", "=", "no"), ["notice"]),
        (("pylsyncd", "--log-level", "="), ["error", "warning", "notice", "info", "debug"]),
        (("pylsyncd", "--window", ""), [""]),
        (("pylsyncd", "--user", "nobod"), ["nobody"]),
        (("pylsyncctl", "rel"), ["release", "reload"]),
        (("pylsyncctl", "--sock"), ["--socket"]),
        (("pylsyncctl", "-S", "/x", "status", "--max"), ["--max-lag"]),
        (("pylsyncctl", "log-level", "war"), ["warning"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert sorted(in_bash(*words)) == sorted(offered)


@needs("bash")
def test_bash_completes_names_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a directory").mkdir()
    assert sorted(in_bash("pylsyncd", "-c", f"{tmp_path}/a")) == [
        f"{tmp_path}/a directory", f"{tmp_path}/a file"
    ]  # fmt: skip
    assert in_bash("pylsyncd", f"{tmp_path}/a") == [f"{tmp_path}/a directory"]


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """Return the environment in which a pylsyncctl finds destinations."""
    with tempfile.TemporaryDirectory(prefix="pylsyncd-names-") as directory:
        found = status(destination("web/srv2"), destination("web/a b"))
        control = ControlServer(f"{directory}/", RecordingCommands(found), print)
        control.start()
        program = Path(directory, "pylsyncctl")
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pylsyncd.ctl "$@"\n')
        program.chmod(0o700)
        path = f"{directory}:{os.environ['PATH']}"
        yield {"PATH": path, "RUNTIME_DIRECTORY": directory}
        control.stop()


@needs("bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("status", ""), ["web", "web/srv2", r"web/a\ b"]),
        (("release", "web/s"), ["web/srv2"]),
        (("wait", "web/srv2", "x"), [""]),
        (("-S", "/none", "flush", ""), [""]),
        (("flush", "--socket", "=", "/none", ""), [""]),
        (("reload", "w"), [""]),
    ],
)
def test_bash_completes_destinations(
    names: dict[str, str], words: tuple[str, ...], offered: list[str]
) -> None:
    assert sorted(in_bash("pylsyncctl", *words, **names)) == sorted(offered)


class Zsh:
    """An interactive zsh in a pseudo-terminal."""

    def __init__(self, **variables: str) -> None:
        self._terminal, slave = pty.openpty()
        self._process = subprocess.Popen(
            ("zsh", "-f", "-i"),  # noqa: S607  # the one that is installed
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=environment({"TERM": "xterm", **variables}),
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self._terminal, False)  # its name
        self._seen = ""

    def type(self, text: str, until: str) -> str:
        """Type a text and wait for a response; return the output."""
        self._seen = ""
        os.write(self._terminal, text.encode())
        wait_until(lambda: until in self._read())
        return self._seen

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read(self) -> str:
        with contextlib.suppress(BlockingIOError):
            # Escape sequences may be between any two letters.
            shown = os.read(self._terminal, 65536).decode(errors="replace")
            self._seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x08\r]", "", shown)
        return self._seen


@pytest.fixture
def zsh(names: dict[str, str]) -> Iterator[Zsh]:
    made = Zsh(**names)
    yield made
    made.close()


@needs("zsh")
def test_zsh_completes(zsh: Zsh) -> None:
    set_up = f"PROMPT='> '; fpath=({COMPLETION} $fpath); autoload -Uz compinit; compinit -u -D\n"
    zsh.type(f"{set_up}print re''ady\n", "ready")
    zsh.type("pylsyncd --pidf\t", "--pidfile=")
    zsh.type("\x15pylsyncd --log-level=deb\t", "--log-level=debug")
    zsh.type("\x15pylsyncd --no-\t", "--no-delete")
    zsh.type("\x15pylsyncctl log-l\t", "log-level")
    zsh.type("\x15pylsyncctl log-level warn\t", "warning")
    zsh.type("\x15pylsyncctl status --max\t", "--max-lag=")
    zsh.type("\x15pylsyncctl status web/s\t", "web/srv2 ")
    zsh.type("\x15pylsyncctl wait web/a\t", "web/a\\ b ")
