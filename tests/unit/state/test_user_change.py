"""The state that root's pylsyncd has kept, given to the user that root switches to."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pylsyncd.model.errors import UsageError
from pylsyncd.state import lock_file
from pylsyncd.state.lock_file import LockRecord
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.state.user_change import UserState
from pylsyncd.system.users import ProcessUser

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

USER = ProcessUser(54321, 54321, "", "")
OTHER = 54322
KEY = lock_file.destination_key(b"/src", b"/dst")
OTHER_KEY = lock_file.destination_key(b"/src", b"/other")


def sync(location: bytes = b"/dst") -> Any:
    destination = SimpleNamespace(destination=SimpleNamespace(location=location))
    return SimpleNamespace(
        source=SimpleNamespace(path=b"/src"), destinations=[destination], delete=True
    )


def state_of(path: Path, default: Path | None = None) -> UserState:
    return UserState(os.fsencode(path), USER, os.fsencode(default or path.parent / "default"))


def owners(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in directory.iterdir()}


@contextmanager
def served(directory: Path, location: bytes = b"/dst") -> Iterator[None]:
    """Hold the lock of a destination, as a running pylsyncd does."""
    opened = StateDirectory(os.fsencode(directory))
    opened.acquire_lock(LockRecord(b"/src", location, is_deleting=True))
    try:
        yield
    finally:
        opened.close()


@pytest.fixture
def of_root(tmp_path: Path) -> Path:
    """Return a state directory in which a pylsyncd of root has served two destinations."""
    path = tmp_path / "state"
    opened = StateDirectory(os.fsencode(path))
    for key in (KEY, OTHER_KEY):
        opened.write(f"{key}.state", key.encode())
    opened.write(f"{KEY}.repair", b"")
    opened.close()
    with served(path):
        pass
    return path


def test_a_directory_of_root_becomes_the_user_s_with_all_that_is_in_it(of_root: Path) -> None:
    before = {path.name: path.read_bytes() for path in of_root.iterdir()}
    state_of(of_root).check()
    assert set(owners(of_root).values()) == {0}, "a check changes nothing"
    state_of(of_root).give([sync()])
    assert of_root.stat().st_uid == USER.uid
    assert owners(of_root) == dict.fromkeys({*before, "gate"}, USER.uid)
    assert {path.name: path.read_bytes() for path in of_root.iterdir()} == before
    state_of(of_root).give([sync()])


def test_a_missing_directory_is_created_for_the_user(tmp_path: Path) -> None:
    state_of(tmp_path / "new").check()
    state_of(tmp_path / "new").give([sync()])
    assert (tmp_path / "new").stat().st_uid == USER.uid


def test_what_an_interrupted_attempt_has_left_to_do_is_done(of_root: Path) -> None:
    os.chown(of_root / f"{KEY}.state", USER.uid, USER.gid)
    state_of(of_root).give([sync()])
    assert {of_root.stat().st_uid, *owners(of_root).values()} == {USER.uid}


def test_a_directory_below_that_of_root_gets_the_states_of_its_syncs_alone(of_root: Path) -> None:
    below = of_root / "www"
    assert of_root.stat().st_mode & 0o777 == 0o700
    state_of(below, of_root).check()
    state_of(below, of_root).give([sync()])
    assert owners(below) == {f"{KEY}.state": USER.uid, f"{KEY}.repair": USER.uid}
    assert (below / f"{KEY}.state").read_text() == KEY
    assert f"{OTHER_KEY}.state" in owners(of_root)
    assert f"{KEY}.state" not in owners(of_root)
    assert of_root.stat().st_uid == 0
    assert of_root.stat().st_mode & 0o777 == 0o711, "the user has to reach what is below"
    # Root's pylsyncd goes on using its own.
    with served(of_root, b"/other"):
        state_of(below, of_root).give([sync()])


def test_a_later_state_of_root_replaces_the_one_of_the_user(of_root: Path) -> None:
    below = of_root / "www"
    state_of(below, of_root).give([sync()])
    opened = StateDirectory(os.fsencode(of_root))
    opened.write(f"{KEY}.state", b"later")
    opened.close()
    state_of(below, of_root).give([sync()])
    assert (below / f"{KEY}.state").read_text() == "later"
    assert owners(below)[f"{KEY}.state"] == USER.uid


def test_the_directory_below_is_the_user_s_again_after_systemd_has_given_all_to_root(
    of_root: Path,
) -> None:
    below = of_root / "www"
    state_of(below, of_root).give([sync()])
    for path in (below, *below.iterdir()):
        os.chown(path, 0, 0)
    state_of(below, of_root).give([sync()])
    assert {below.stat().st_uid, *owners(below).values()} == {USER.uid}


@pytest.mark.parametrize("is_below", [False, True], ids=["the directory", "one below"])
def test_nothing_is_taken_from_a_running_pylsyncd_of_root(of_root: Path, *, is_below: bool) -> None:
    state = state_of(of_root / "www", of_root) if is_below else state_of(of_root)
    with served(of_root), pytest.raises(UsageError, match=rf"pid {os.getpid()}\) replicates /src"):
        state.give([sync()])
    assert owners(of_root)[f"{KEY}.state"] == 0


def test_a_directory_that_root_s_pylsyncd_uses_for_other_syncs_is_not_taken(of_root: Path) -> None:
    with served(of_root, b"/other"), pytest.raises(UsageError, match=r"to /other"):
        state_of(of_root).give([sync()])
    assert of_root.stat().st_uid == 0


@pytest.mark.parametrize("name", ["passwd", "0123456789abcdef.state.d", "gate/"])
def test_a_directory_of_root_with_anything_else_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "etc"
    (path / name).parent.mkdir()
    if name.endswith("/"):
        (path / name).mkdir()
    else:
        (path / name).touch()
    for attempt in (state_of(path).check, lambda: state_of(path).give([sync()])):
        with pytest.raises(UsageError, match=rf"something else in it \({name.strip('/')}\)"):
            attempt()
    assert {path.stat().st_uid, *owners(path).values()} == {0}


@pytest.mark.parametrize("kind", ["hard link", "symbolic link"])
def test_no_file_with_another_name_elsewhere_is_given_away(
    kind: str, of_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").touch()
    planted = of_root / f"{OTHER_KEY}.state"
    planted.unlink()
    if kind == "hard link":
        planted.hardlink_to(tmp_path / "secret")
    else:
        planted.symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match=r"several hard links|something else"):
        state_of(of_root).give([sync()])
    assert (tmp_path / "secret").stat().st_uid == 0
    assert of_root.stat().st_uid == 0


@pytest.mark.parametrize(("uid", "mode"), [(OTHER, 0o700), (0, 0o770), (0, 0o707)])
def test_a_directory_that_others_can_write_is_refused(uid: int, mode: int, of_root: Path) -> None:
    of_root.chmod(mode)
    os.chown(of_root, uid, -1)
    for attempt in (state_of(of_root).check, lambda: state_of(of_root).give([sync()])):
        with pytest.raises(UsageError, match=f"chown -R {USER.uid} {re.escape(str(of_root))}"):
            attempt()
    assert owners(of_root)[f"{KEY}.state"] == 0


def test_a_default_directory_of_a_third_user_is_refused_with_what_to_do(of_root: Path) -> None:
    os.chown(of_root, OTHER, -1)
    state = state_of(of_root / "www", of_root)
    for attempt in (state.check, lambda: state.give([sync()])):
        with pytest.raises(UsageError, match=rf"belongs to the user id {OTHER}.*run chown"):
            attempt()
