"""What a hook command receives: variables and a list of paths, for one or several notices. Pure."""

from dataclasses import replace

from pylsyncd.model.changes import Changeset
from pylsyncd.model.notices import Notice
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.pipeline.optimizer import optimize

_SCOPE_SUFFIXES = {Scope.ENTRY: b"", Scope.LISTING: b"/.", Scope.TREE: b"/"}


class HookEvent:
    """One or several notices of the same kind that wait for one run of a hook."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self._runs = 1
        self._backlog = Backlog()
        self._backlog.add(notice.changeset)

    def merge(self, later: Notice) -> None:
        """Add a later notice: amounts add up, all other fields are those of the later one."""
        earlier = self.notice
        self._runs += 1
        self._backlog.add(later.changeset)
        self.notice = replace(
            later,
            files=earlier.files + later.files,
            deleted=earlier.deleted + later.deleted,
            bytes_sent=earlier.bytes_sent + later.bytes_sent,
            seconds=earlier.seconds + later.seconds,
            moved_files=earlier.moved_files + later.moved_files,
            moved_bytes=earlier.moved_bytes + later.moved_bytes,
        )

    def changeset(self) -> Changeset:
        """Take and return what all of the runs had to transfer."""
        was_merged = self._backlog.is_merged
        changes = self._backlog.take()
        return optimize(changes) if was_merged else changes

    def variables(self, sync: str, path_count: int) -> dict[bytes, bytes]:
        """Return the environment variables for the command."""
        notice = self.notice
        values = {
            "EVENT": notice.kind.value, "SYNC": sync, "DESTINATION": notice.name,
            "TARGET": notice.target, "REASON": notice.reason, "MESSAGE": notice.message,
            "EXIT": notice.code, "FILES": notice.files, "DELETED": notice.deleted,
            "BYTES": notice.bytes_sent, "SECONDS": f"{notice.seconds:.3f}", "RUNS": self._runs,
            "MOVED": notice.moved_files, "UNSENT": notice.moved_bytes,
            "PATHS": path_count,
        }  # fmt: skip
        variables = {
            f"PYLSYNCD_{name}".encode(): encode_text(str(value)) for name, value in values.items()
        }
        return {**variables, b"PYLSYNCD_SOURCE": notice.source}


def encode_text(text: str) -> bytes:
    """Return a text as an argument or as the value of a variable, in any locale."""
    # surrogateescape restores bytes that were not UTF-8. execve(2) ends a string at a NUL.
    return text.replace("\0", "").encode("utf-8", "surrogateescape")


def encode_paths(changeset: Changeset) -> bytes:
    """Return the paths of a changeset as a command reads them on its standard input."""
    entries = [
        (b"./" + path if path else b".") + _SCOPE_SUFFIXES[scope] + b"\0"
        for path, scope in changeset
    ]
    return b"".join(sorted(entries))
