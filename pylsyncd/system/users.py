"""Who the process is: found by name or number, and become for good."""

import grp
import os
import pwd
from dataclasses import dataclass

from pylsyncd.model.errors import UsageError


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """A user and a group that a process may become."""

    uid: int
    gid: int
    name: str
    """Of the user; empty where it has none."""
    home: str
    """The user's; empty where it has none."""


def find_user(user: str | None, group: str | None) -> ProcessUser | None:
    """Return whom to become, from names or numbers; None when that is who this process is.

    The group is the user's own where none is given. Raises UsageError when there is no such user
    or group, or when only root could become that.
    """
    if user is None and group is None:
        return None
    entry = _user(user) if user is not None else _by_number(os.geteuid())
    uid = entry.pw_uid if entry else int(user) if user else os.geteuid()
    if group is not None:
        gid = _group(group)
    elif os.geteuid() != 0:
        gid = os.getegid()
    elif entry:
        gid = entry.pw_gid
    else:
        raise UsageError(f"The user {user} is not known here, nor its group: give it by --group.")
    if os.geteuid() != 0:
        _refuse_another(uid, gid, user, group)
        return None
    return ProcessUser(uid, gid, entry.pw_name if entry else "", entry.pw_dir if entry else "")


def drop_privileges(identity: ProcessUser) -> None:
    """Become a user and a group, with its other groups, for good. Only root can."""
    if identity.name:
        os.initgroups(identity.name, identity.gid)
    else:
        os.setgroups([identity.gid])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _take_environment(identity)


def _take_environment(identity: ProcessUser) -> None:
    """Let rsync, ssh and hooks find that user's files, and none of root's."""
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = identity.home or "/"
    for name in ("USER", "LOGNAME"):
        os.environ[name] = identity.name or str(identity.uid)


def _refuse_another(uid: int, gid: int, user: str | None, group: str | None) -> None:
    advice = "start it as root, or leave that out"
    if uid != os.geteuid():
        raise UsageError(f"Only root can have pylsyncd become the user {user}: {advice}.")
    if gid != os.getegid():
        raise UsageError(f"Only root can have pylsyncd become the group {group}: {advice}.")


def _user(text: str) -> pwd.struct_passwd | None:
    """Return a user's entry; None for a number that has none."""
    try:
        return pwd.getpwnam(text)
    except KeyError:
        pass
    if not _is_number(text):
        raise UsageError(f"There is no user {text!r}: create it, or correct --user.")
    return _by_number(int(text))


def _group(text: str) -> int:
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        pass
    if not _is_number(text):
        raise UsageError(f"There is no group {text!r}: create it, or correct --group.")
    return int(text)


def _is_number(text: str) -> bool:
    # The largest one stands for "none" (setresuid(2)).
    return text.isascii() and text.isdigit() and int(text) < (1 << 32) - 1


def _by_number(number: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(number)
    except KeyError:
        return None
