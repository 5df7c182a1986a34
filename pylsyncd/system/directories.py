"""The default state directory, and the default directories of the control socket."""

import os
from collections.abc import Mapping
from contextlib import suppress

from pylsyncd.model.errors import UsageError

SYSTEM_RUNTIME_DIRECTORY = "/run/pylsyncd"


def state_directory_below(top: str, uid: int, name: str) -> str:
    """Return the state directory of a user that root switches to, below that of root.

    It is ``top`` itself where that belongs to the user, as earlier releases have created it.
    """
    try:
        is_own = uid == 0 or os.stat(top).st_uid == uid
    except OSError:
        is_own = False
    return top if is_own else os.path.join(top, name)


def state_directory(environ: Mapping[str, str], uid: int) -> str:
    """Return the state directory of a user: systemd's, root's, or by the XDG specification.

    Raises UsageError when there is none.
    """
    from_systemd = environ.get("STATE_DIRECTORY", "").split(":", 1)[0]
    if from_systemd.startswith("/"):
        return from_systemd
    if uid == 0:
        return "/var/lib/pylsyncd"
    for variable, below in (("XDG_STATE_HOME", ""), ("HOME", ".local/state")):
        # The XDG specification says that a relative path is ignored.
        if environ.get(variable, "").startswith("/"):
            return os.path.join(environ[variable], below, "pylsyncd")
    raise UsageError(
        "There is no default for the state directory: none of STATE_DIRECTORY, XDG_STATE_HOME and "
        "HOME is set to an absolute path. Choose a directory with --state-dir."
    )


def runtime_directory(environ: Mapping[str, str], uid: int, target_user: str = "") -> str:
    """Return the directory of a user's sockets: systemd's, root's, the login's, or the state's.

    ``target_user`` is the user that root switches to. Raises UsageError when there is none.
    """
    from_systemd = environ.get("RUNTIME_DIRECTORY", "").split(":", 1)[0]
    if uid == 0:
        top = from_systemd if from_systemd.startswith("/") else SYSTEM_RUNTIME_DIRECTORY
        # Other users must not write to root's own directory.
        return os.path.join(top, target_user) if target_user else top
    if from_systemd.startswith("/"):
        return from_systemd
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return os.path.join(environ["XDG_RUNTIME_DIR"], "pylsyncd")
    try:
        return state_directory(environ, uid)
    except UsageError:
        raise UsageError(
            "There is no default for the control socket: none of RUNTIME_DIRECTORY, "
            "XDG_RUNTIME_DIR, STATE_DIRECTORY, XDG_STATE_HOME and HOME is set to an absolute path. "
            "Choose a socket with --control."
        ) from None


def socket_directories(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return where the sockets may be of the daemons that a user may control.

    Each directory may have subdirectories for users or instances.
    """
    given = [path for path in environ.get("RUNTIME_DIRECTORY", "").split(":") if path[:1] == "/"]
    if given:
        return given
    found = [SYSTEM_RUNTIME_DIRECTORY]
    if uid:
        # A daemon started by cron has no XDG_RUNTIME_DIR.
        without_login = {name: text for name, text in environ.items() if name != "XDG_RUNTIME_DIR"}
        for environment in (environ, without_login):
            with suppress(UsageError):
                found.append(runtime_directory(environment, uid))
    return list(dict.fromkeys(found))
