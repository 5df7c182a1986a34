"""The default directories depend on the service manager, the user and the login."""

import os
from pathlib import Path

import pytest

from pylsyncd.model.errors import UsageError
from pylsyncd.system import directories
from pylsyncd.system.directories import state_directory


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 0, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a", "XDG_STATE_HOME": "/x"}, 1000, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/root"}, 0, "/var/lib/pylsyncd"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/u"}, 1000, "/x/pylsyncd"),
        ({"XDG_STATE_HOME": "x", "HOME": "/home/u"}, 1000, "/home/u/.local/state/pylsyncd"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/u"}, 1000, "/home/u/.local/state/pylsyncd"),
    ],
    ids=["systemd's first", "systemd's", "root's", "XDG", "XDG, relative", "home"],
)
def test_the_state_directory_is_systemd_s_or_root_s_or_the_user_s(
    environ: dict[str, str], uid: int, expected: str
) -> None:
    assert state_directory(environ, uid) == expected


@pytest.mark.parametrize("environ", [{}, {"HOME": "relative", "XDG_STATE_HOME": "./x"}])
def test_without_a_default_the_option_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--state-dir"):
        state_directory(environ, 1000)


@pytest.mark.parametrize(
    ("environ", "uid", "target_user", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, 0, "", "/run/a"),
        ({"RUNTIME_DIRECTORY": "/run/a"}, 7, "", "/run/a"),
        ({"RUNTIME_DIRECTORY": "/run/a"}, 0, "www", "/run/a/www"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "", "/run/pylsyncd"),
        ({}, 0, "www", "/run/pylsyncd/www"),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}, 7, "", "/run/user/7/pylsyncd"),
        ({"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, 7, "", "/h/.local/state/pylsyncd"),
    ],
)
def test_the_runtime_directory_is_systemd_s_or_root_s_or_the_login_s_or_the_state_s(
    environ: dict[str, str], uid: int, target_user: str, expected: str
) -> None:
    assert directories.runtime_directory(environ, uid, target_user) == expected


def test_without_a_runtime_directory_the_option_is_named() -> None:
    with pytest.raises(UsageError, match=r"no default for the control socket.*--control"):
        directories.runtime_directory({}, 7)


def test_a_client_searches_each_directory_that_a_daemon_of_its_user_may_use() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}
    assert directories.socket_directories(environ, 7) == [
        "/run/pylsyncd", "/run/user/7/pylsyncd", "/h/.local/state/pylsyncd",
    ]  # fmt: skip
    assert directories.socket_directories({}, 7) == ["/run/pylsyncd"]
    assert directories.socket_directories(environ, 0) == ["/run/pylsyncd"]
    assert directories.socket_directories({"RUNTIME_DIRECTORY": "/a:/b"}, 0) == ["/a", "/b"]


def test_a_user_that_root_switches_to_has_a_state_directory_below_that_of_root(
    tmp_path: Path,
) -> None:
    top = str(tmp_path)
    other = os.geteuid() + 1
    assert directories.state_directory_below(top, other, "www") == f"{top}/www"
    assert directories.state_directory_below(f"{top}/none", other, "www") == f"{top}/none/www"
    assert directories.state_directory_below(top, 0, "root") == top
    # As earlier releases have created it.
    assert directories.state_directory_below(top, tmp_path.stat().st_uid, "www") == top
