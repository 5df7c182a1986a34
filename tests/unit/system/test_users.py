"""Users and groups by name or number, and what a process is after it has dropped root."""

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd.model.errors import UsageError
from pylsyncd.system import users

NOBODY = pwd.getpwnam("nobody")
UNKNOWN_ID = "3999999999"

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_without_a_user_and_a_group_the_process_stays_as_it_is() -> None:
    assert users.find_user(None, None) is None


@only_root
@pytest.mark.parametrize("text", ["nobody", str(NOBODY.pw_uid)])
def test_a_user_is_found_by_name_and_by_number_with_its_own_group(text: str) -> None:
    found = users.find_user(text, None)
    assert found == users.ProcessUser(NOBODY.pw_uid, NOBODY.pw_gid, "nobody", NOBODY.pw_dir)


@only_root
def test_a_group_replaces_that_of_the_user() -> None:
    found = users.find_user("nobody", "7")
    assert found is not None
    assert (found.uid, found.gid) == (NOBODY.pw_uid, 7)
    alone = users.find_user(None, "7")
    assert alone is not None
    assert (alone.uid, alone.gid) == (0, 7)


@only_root
def test_a_user_id_without_an_entry_needs_a_group() -> None:
    with pytest.raises(UsageError, match=r"--group"):
        users.find_user(UNKNOWN_ID, None)
    found = users.find_user(UNKNOWN_ID, "7")
    assert found == users.ProcessUser(int(UNKNOWN_ID), 7, "", "")


@pytest.mark.parametrize("text", ["no such", "-1", str((1 << 32) - 1), "\u0661"])
def test_a_user_or_a_group_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"There is no user .*--user"):
        users.find_user(text, None)
    with pytest.raises(UsageError, match=r"There is no group .*--group"):
        users.find_user(None, text)


def identity_after(user: str, group: str) -> str:
    """Return what a process of root's is, as it prints it after the switch."""
    program = (
        "import os, sys; from pylsyncd.system import users\n"
        "users.drop_privileges(users.find_user(*sys.argv[1:]))\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups(), os.environ['HOME'],\n"
        "      os.environ['USER'], os.environ['LOGNAME'], 'XDG_STATE_HOME' in os.environ)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, user, group],
        env=environment() | {"XDG_STATE_HOME": "/srv/state"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.strip()


@only_root
def test_root_s_ids_groups_and_environment_are_dropped() -> None:
    uid, groups = NOBODY.pw_uid, sorted({*os.getgrouplist("nobody", 7)})
    assert identity_after("nobody", "7") == (
        f"({uid}, {uid}, {uid}) (7, 7, 7) {groups} {NOBODY.pw_dir} nobody nobody False"
    )


@only_root
def test_a_user_without_an_entry_has_one_group_and_no_home() -> None:
    ids = ", ".join([UNKNOWN_ID] * 3)
    assert identity_after(UNKNOWN_ID, "7") == (
        f"({ids}) (7, 7, 7) [7] / {UNKNOWN_ID} {UNKNOWN_ID} False"
    )


def test_a_private_group_has_the_name_of_its_user_and_no_other_member() -> None:
    users_by_group: dict[int, list[pwd.struct_passwd]] = {}
    for user in pwd.getpwall():
        users_by_group.setdefault(user.pw_gid, []).append(user)
    for group in grp.getgrall():
        for user in users_by_group.get(group.gr_gid, []):
            expected = (
                user.pw_uid != 0
                and group.gr_name == user.pw_name
                and not set(group.gr_mem) - {user.pw_name}
            )
            assert users.is_private_group(group.gr_gid, user.pw_uid) is expected
    assert not users.is_private_group(0, 0)
    assert not users.is_private_group(0, 1)
    assert not users.is_private_group(1, 4_000_000_000)


@only_root
def test_the_kernel_checks_accesses_as_for_another_user_until_the_end(tmp_path: Path) -> None:
    user = users.find_user("nobody", "7")
    before = os.geteuid(), os.getegid(), os.getgroups()
    with users.acting_as(user):
        assert (os.geteuid(), os.getegid()) == (NOBODY.pw_uid, 7)
        assert not os.access(tmp_path, os.W_OK, effective_ids=True)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_acting_as_no_other_user_changes_nothing() -> None:
    before = os.geteuid(), os.getgroups()
    with users.acting_as(None):
        assert (os.geteuid(), os.getgroups()) == before


def test_a_user_id_has_a_name_or_is_shown_as_a_number() -> None:
    assert users.name_of(NOBODY.pw_uid) == "nobody"
    assert users.name_of(int(UNKNOWN_ID)) == UNKNOWN_ID
