"""--check-config finds what else a start, or the first run, would fail with."""

import os
import pwd
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.configuration import load_file, sync_section

from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.system import users

SYNC = sync_section("www", "src/./", "dst/")
NOBODY = pwd.getpwnam("nobody")

pytestmark = pytest.mark.usefixtures("place")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a directory with the source src that other users can search.

    Those of pytest they cannot.
    """
    with tempfile.TemporaryDirectory(prefix="pylsyncd-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        (path / "src").mkdir(mode=0o755)
        with users.acting_as(users.find_user("nobody", None)):
            is_reached = os.access(path, os.R_OK | os.X_OK, effective_ids=True)
        if not is_reached:
            pytest.skip("other users cannot search the directory for temporary files")
        monkeypatch.chdir(path)
        yield path
        monkeypatch.chdir(place)


def check(content: str) -> list[str]:
    """Return the errors that --check-config finds."""
    try:
        load_file(content, "--check-config")
    except ConfigurationError as error:
        return list(error.messages)
    return []


def warnings(content: str) -> list[str]:
    """Return what --check-config finds although a start goes on in spite of it."""
    return list(load_file(content, "--check-config").tolerated)


def process(*lines: str, sync: str = SYNC) -> str:
    return "\n".join(["[pylsyncd]", *lines, sync])


def test_a_source_that_a_start_waits_for_is_no_error(place: Path) -> None:
    (found,) = warnings(process(sync=SYNC.replace("src", "later")))
    assert f"The source {place}/later does not exist. Its sync starts when it is there." in found


def test_a_configuration_that_can_be_started_has_no_errors(place: Path) -> None:
    lines = ("metrics_port = 9000", "status_file = status", "pidfile = pid", "logfile = log",
             "state_dir = new/state", "rsync_option = --compress")  # fmt: skip
    before = sorted(os.listdir(place))
    assert check(process(*lines)) == []
    # Nothing was created.
    assert sorted(os.listdir(place)) == sorted([*before, "p.conf"])


def test_an_option_that_rsync_does_not_know_is_an_error_where_it_stands() -> None:
    content = sync_section("one", "a/./", "dst/", "srv:/x", more="rsync_option = --compress")
    content += "[destination one/srv]\nrsync_option =\n --checksum\n --no-such-option\n"
    (error,) = check(content)
    assert error.startswith("p.conf:10: [destination one/srv] rsync_option: rsync refuses these")
    assert error.endswith(": --no-such-option: unknown option.")


def test_metrics_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "prometheus_client":
                raise ModuleNotFoundError(name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    first, second = check(process("metrics_port = 9000", "metrics_file = m.prom"))
    assert first.startswith("p.conf:2: [pylsyncd] metrics_port: Metrics need the Prometheus client")
    assert "apt install python3-prometheus-client" in second


@only_root
@pytest.mark.parametrize("key", ["status_file", "metrics_file"])
def test_the_user_must_be_able_to_replace_a_file(open_place: Path, key: str) -> None:
    lines = ("user = nobody", f"{key} = there/file")
    (open_place / "there").mkdir(mode=0o755)
    denied = f"The user nobody cannot write in the directory {open_place}/there."
    assert check(process(*lines)) == [f"p.conf:3: [pylsyncd] {key}: {denied}"]
    os.chown(open_place / "there", NOBODY.pw_uid, NOBODY.pw_gid)
    assert check(process(*lines)) == []
    (open_place / "there").chmod(0o1777)
    os.chown(open_place / "there", 0, 0)
    assert check(process(*lines)) == []
    (open_place / "there/file").touch()
    (error,) = check(process(*lines))
    assert "only that user can replace it" in error
    assert os.geteuid() == 0


@only_root
def test_the_user_must_be_able_to_use_its_state_directory(open_place: Path) -> None:
    lines = ("user = nobody", "state_dir = there")
    # Root creates a missing one.
    assert check(process(*lines)) == []
    (open_place / "there").mkdir(mode=0o500)
    os.chown(open_place / "there", NOBODY.pw_uid, NOBODY.pw_gid)
    (error,) = check(process(*lines))
    assert error.endswith(f"The user nobody cannot write in the directory {open_place}/there.")
    (open_place / "there").chmod(0o770)
    (error,) = check(process(*lines))
    assert "is writable by other users" in error
    (open_place / "there").chmod(0o700)
    assert check(process(*lines)) == []


@only_root
def test_the_user_must_be_able_to_use_the_directory_of_its_socket(open_place: Path) -> None:
    lines = ("user = nobody", "control = there/sock")
    (open_place / "there").mkdir(mode=0o755)
    (error,) = check(process(*lines))
    assert "p.conf:3: [pylsyncd] control: The directory of the control socket" in error
    assert "belongs to the user id 0" in error
    os.chown(open_place / "there", NOBODY.pw_uid, NOBODY.pw_gid)
    assert check(process(*lines)) == []


@only_root
def test_the_user_must_be_able_to_read_its_sources_and_passwords(open_place: Path) -> None:
    sync = sync_section("www", "src/./", "srv::module", more="password_file = password")
    (open_place / "password").write_text("secret\n")
    (open_place / "password").chmod(0o600)
    (open_place / "src").chmod(0o700)
    of_source, of_password = warnings(process("user = nobody", sync=sync))
    denied = f"For the user nobody, the source {open_place}/src is not readable"
    assert of_source.startswith(f"p.conf:4: [sync www] source: {denied}")
    denied = f"The user nobody cannot read {open_place}/password."
    assert of_password == f"p.conf:7: [sync www] password_file: {denied}"
    assert warnings(process(sync=sync)) == []


@only_root
def test_a_source_behind_a_link_of_another_user_is_a_warning(place: Path) -> None:
    (place / "theirs").symlink_to("src")
    os.chown(place / "theirs", NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    (error,) = warnings(process(sync=sync_section("www", "theirs/./", "dst/")))
    assert "is a symbolic link that other users may change" in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("line", ["logfile = there/x", "pidfile = there/x", "state_dir = there/x"])
def test_a_file_that_this_user_cannot_create_is_an_error(place: Path, line: str) -> None:
    (place / "there").mkdir(mode=0o500)
    (error,) = check(process(line))
    assert f"cannot write in the directory {place}/there." in error
