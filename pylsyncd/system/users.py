"""Users and groups by name or number, and dropping root's privileges."""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pylsyncd.model.errors import UsageError


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """The user and the group that the process will run as."""

    uid: int
    gid: int
    name: str
    """The user's name; empty if the user id has none."""
    home: str
    """The user's home directory; empty if there is none."""


def find_user(user: str | None, group: str | None) -> ProcessUser | None:
    """Return the user to run as, from names or numbers; None to stay as it is.

    Without ``group``, it is the user's own. Raises UsageError when there is no such user or group,
    or when only root could switch to it.
    """
    if user is None and group is None:
        return None
    entry = _user_entry(user) if user is not None else _entry_of_uid(os.geteuid())
    uid = entry.pw_uid if entry else int(user) if user else os.geteuid()
    if group is not None:
        gid = _group_id(group)
    elif os.geteuid() != 0:
        gid = os.getegid()
    elif entry:
        gid = entry.pw_gid
    else:
        raise UsageError(f"The user id {user} has no password entry: name its group with --group.")
    if os.geteuid() != 0:
        _refuse_switch(uid, gid, user, group)
        return None
    return ProcessUser(uid, gid, entry.pw_name if entry else "", entry.pw_dir if entry else "")


def resolve(user: str) -> tuple[int, str]:
    """Return the id and the name of a user, from either; raises UsageError if there is none."""
    entry = _user_entry(user)
    return (entry.pw_uid, entry.pw_name) if entry else (int(user), str(int(user)))


def name_of(uid: int) -> str:
    """Return the name of a user, or the number if there is none."""
    entry = _entry_of_uid(uid)
    return entry.pw_name if entry else str(uid)


def drop_privileges(user: ProcessUser) -> None:
    """Run as ``user`` from now on, with its supplementary groups. Only root can."""
    if user.name:
        os.initgroups(user.name, user.gid)
    else:
        os.setgroups([user.gid])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    _set_environment(user)


@contextmanager
def acting_as(user: ProcessUser | None) -> Iterator[None]:
    """Have the kernel check accesses to files as for another user, until the context ends.

    For a process with one thread. Only root can; None stands for the present user.
    """
    if user is None:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    try:
        if user.name:
            os.initgroups(user.name, user.gid)
        else:
            os.setgroups([user.gid])
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


def is_private_group(gid: int, uid: int) -> bool:
    """Return True if a group is the one that only this user, if not root, belongs to.

    Such a group has the name of its user (Debian and Fedora create one for each user).
    """
    entry = _entry_of_uid(uid)
    if uid == 0 or entry is None or entry.pw_gid != gid:
        return False
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == entry.pw_name and set(group.gr_mem) <= {entry.pw_name}


def _set_environment(user: ProcessUser) -> None:
    """Let rsync, ssh and hooks find the files of the user instead of root's."""
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = user.home or "/"
    for name in ("USER", "LOGNAME"):
        os.environ[name] = user.name or str(user.uid)


def _refuse_switch(uid: int, gid: int, user: str | None, group: str | None) -> None:
    if uid != os.geteuid():
        raise UsageError(
            f"Only root can switch to the user {user}: start pylsyncd as root, or remove --user."
        )
    if gid != os.getegid():
        raise UsageError(
            f"Only root can switch to the group {group}: start pylsyncd as root, or remove --group."
        )


def _user_entry(text: str) -> pwd.struct_passwd | None:
    """Return a user's password entry; None for a number without one."""
    try:
        return pwd.getpwnam(text)
    except KeyError:
        pass
    if not _is_id(text):
        raise UsageError(f"There is no user {text!r}: create it, or correct --user.")
    return _entry_of_uid(int(text))


def _group_id(text: str) -> int:
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        pass
    if not _is_id(text):
        raise UsageError(f"There is no group {text!r}: create it, or correct --group.")
    return int(text)


def _is_id(text: str) -> bool:
    # The largest 32-bit number means "unchanged" to setresuid(2).
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(1 << 32))
    return is_number and int(text) < (1 << 32) - 1


def _entry_of_uid(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None
