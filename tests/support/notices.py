"""Notices of what happened to a destination, for hooks."""

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.model.scoped_paths import Scope


def notice(
    kind: NoticeKind = NoticeKind.BATCH,
    changeset: Changeset = EVERYTHING,
    name: str = "web1",
    **fields: object,
) -> Notice:
    """Return a notice of the destination ``name``."""
    return Notice(kind, name, "web1:/srv", b"/srv", changeset=changeset, **fields)  # type: ignore[arg-type]


def changes(*entries: tuple[bytes, Scope]) -> MutableChangeset:
    """Return a changeset of these paths and scopes."""
    found = MutableChangeset()
    for path, scope in entries:
        found.add(path, scope)
    return found
