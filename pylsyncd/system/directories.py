"""Where a daemon keeps its files, where nobody has said so."""

import os
from collections.abc import Mapping
from contextlib import suppress

from pylsyncd.model.errors import UsageError

SYSTEM_RUNTIME_DIRECTORY = "/run/pylsyncd"


def state_directory(environ: Mapping[str, str], uid: int) -> str:
    """Return the state directory of a user: systemd's, root's, or by the XDG specification.

    Raises UsageError when there is none.
    """
    given = environ.get("STATE_DIRECTORY", "").split(":", 1)[0]
    if given.startswith("/"):
        return given
    if uid == 0:
        return "/var/lib/pylsyncd"
    for variable, below in (("XDG_STATE_HOME", ""), ("HOME", ".local/state")):
        # The XDG specification has a relative path ignored.
        if environ.get(variable, "").startswith("/"):
            return os.path.join(environ[variable], below, "pylsyncd")
    raise UsageError(
        "There is no place to keep state in: none of STATE_DIRECTORY, XDG_STATE_HOME and HOME "
        "is set to an absolute path. Name a directory with --state-dir."
    )


def runtime_directory(environ: Mapping[str, str], uid: int, becomes: str = "") -> str:
    """Return the directory for the sockets of a user: systemd's, root's, the login's, or the state.

    ``becomes`` is the user that root's process will be. Raises UsageError when there is none.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").split(":", 1)[0]
    if uid == 0:
        top = given if given.startswith("/") else SYSTEM_RUNTIME_DIRECTORY
        # Root's own is not for others to write in.
        return os.path.join(top, becomes) if becomes else top
    if given.startswith("/"):
        return given
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return os.path.join(environ["XDG_RUNTIME_DIR"], "pylsyncd")
    try:
        return state_directory(environ, uid)
    except UsageError:
        raise UsageError(
            "There is no place for the control socket: none of RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, "
            "STATE_DIRECTORY, XDG_STATE_HOME and HOME is set to an absolute path. Name a socket "
            "with --control."
        ) from None


def socket_directories(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return where the sockets may be of the daemons that a user may command.

    Each may have directories of single instances below it.
    """
    given = [path for path in environ.get("RUNTIME_DIRECTORY", "").split(":") if path[:1] == "/"]
    if given:
        return given
    found = [SYSTEM_RUNTIME_DIRECTORY]
    if uid:
        # A daemon that cron has started knows nothing of the login's directory.
        bare = {name: value for name, value in environ.items() if name != "XDG_RUNTIME_DIR"}
        for environment in (environ, bare):
            with suppress(UsageError):
                found.append(runtime_directory(environment, uid))
    return list(dict.fromkeys(found))
