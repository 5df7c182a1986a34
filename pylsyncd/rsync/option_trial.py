"""Asks rsync whether it knows the options that an administrator passes through."""

import os
import re
import tempfile
from dataclasses import replace

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.formatting import printable
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.version import rsync_environment
from pylsyncd.system import processes

# What rsync says of these is about the destination, or they write or read a file.
_NOT_TRIED = re.compile(
    r"--(?:temp-dir|copy-as|log-file|early-input|password-file)(?:=|$)|-[^-B]*T"
)

# "Syntax or usage error" and "Requested action not supported", in rsync(1).
_REFUSALS = frozenset([1, 4])

_TIMEOUT = 60.0


def why_refused(options: RsyncOptions) -> str:
    """Return what rsync says against the options, in a dry run of two empty directories.

    Empty if rsync accepts them, or cannot be asked.
    """
    tried = tuple(each for each in options.extra_options if not _NOT_TRIED.match(each))
    options = replace(options.as_dry_run(), extra_options=tried, nice=0, ionice="")
    with tempfile.TemporaryDirectory(prefix="pylsyncd-") as directory:
        source, target = (os.fsencode(os.path.join(directory, name)) for name in ("from", "to"))
        os.mkdir(source)
        os.mkdir(target)
        destination = Destination("", "", Transport.LOCAL, None, target + b"/")
        command = options.full_sync_command(source, destination, RsyncCapabilities())
        try:
            ended = processes.run_briefly(command, rsync_environment(), _TIMEOUT)
        except OSError:
            return ""
    lines = ended.errors.decode("utf-8", "replace").splitlines()
    if ended.status not in _REFUSALS or not lines:
        return ""
    return printable(lines[0].strip().removeprefix("rsync: "))
