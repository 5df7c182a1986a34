"""What hooks are told: of several things that happened as of one, in variables and a list. Pure."""

from dataclasses import replace

from pylsyncd.model.changes import Changeset, Scope
from pylsyncd.model.notices import Notice
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.pipeline.optimizer import optimize

_MARKS = {Scope.ENTRY: b"", Scope.LISTING: b"/.", Scope.TREE: b"/"}


class HookEvent:
    """What has happened, perhaps several times, and was not told yet."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self._runs = 1
        self._debt = Backlog()
        self._debt.add(notice.changeset)

    def merge(self, later: Notice) -> None:
        """Tell of the later one with it: amounts add up, and its words count."""
        earlier = self.notice
        self._runs += 1
        self._debt.add(later.changeset)
        self.notice = replace(
            later,
            files=earlier.files + later.files,
            deleted=earlier.deleted + later.deleted,
            bytes_sent=earlier.bytes_sent + later.bytes_sent,
            seconds=earlier.seconds + later.seconds,
        )

    def changeset(self) -> Changeset:
        """Return what all of the runs were to carry."""
        was_merged = self._debt.is_merged
        owed = self._debt.take()
        return optimize(owed) if was_merged else owed

    def variables(self, sync: str, count: int) -> dict[bytes, bytes]:
        """Return the variables for the command, ``count`` being how many paths it is given."""
        notice = self.notice
        words = {
            "EVENT": notice.kind.value, "SYNC": sync, "DESTINATION": notice.name,
            "TARGET": notice.target, "REASON": notice.reason, "MESSAGE": notice.message,
            "EXIT": notice.code, "FILES": notice.files, "DELETED": notice.deleted,
            "BYTES": notice.bytes_sent, "SECONDS": f"{notice.seconds:.3f}", "RUNS": self._runs,
            "PATHS": count,
        }  # fmt: skip
        variables = {
            f"PYLSYNCD_{name}".encode(): encode_text(str(word)) for name, word in words.items()
        }
        return {**variables, b"PYLSYNCD_SOURCE": notice.source}


def encode_text(word: str) -> bytes:
    """Return a word as an argument or as a variable's value, whatever the locale is."""
    # What is not UTF-8 was decoded so; and nothing can stand behind a NUL.
    return word.replace("\0", "").encode("utf-8", "surrogateescape")


def encode_paths(changeset: Changeset) -> bytes:
    """Return the paths of a changeset as a command reads them on its standard input."""
    entries = [
        (b"./" + path if path else b".") + _MARKS[scope] + b"\0" for path, scope in changeset
    ]
    return b"".join(sorted(entries))
