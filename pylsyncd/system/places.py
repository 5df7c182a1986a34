"""Where a daemon keeps its files, where nobody has said so."""

import os
from collections.abc import Mapping

from pylsyncd.model.errors import UsageError


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
