"""What may be deleted at a destination that deletes at certain times only.

With ``delete = startup`` or ``running`` nothing is deleted but what the hint of a changeset names:
a full sync, a scan, a retry that looks at more, and the listing of a directory find more that only
the destination has, which stays there.
"""

import os
import stat
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.model.scoped_paths import NO_PATHS, MutableScopedPaths, Scope, ScopedPaths
from pylsyncd.pipeline.optimizer import common_paths, is_included
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.system import walk
from pylsyncd.worker.transfer_result import CarriedMoves, TransferRequest


def missing_entries(source: bytes, entries: Mapping[bytes, AbstractSet[bytes]]) -> ScopedPaths:
    """Return those of the entries that are missing in the source."""
    missing = MutableScopedPaths()
    try:
        with walk.opened_root(source) as root:
            for directory, names in entries.items():
                some = {name for name in names if not _mode(root, paths.join(directory, name))}
                missing.add_entries(directory, some)
    except OSError:
        # The source guard reports that.
        return NO_PATHS
    return missing


def split_deletions(request: TransferRequest) -> tuple[TransferRequest, TransferRequest | None]:
    """Return the request, and one for the deletions that its own run cannot make, if any.

    That is so for directories whose names had other directories before: what only their copies have
    is deleted, but not what only the copies of other directories have.
    """
    changeset, options = request.changeset, request.options
    is_running = options.delete_only is DeletionTime.RUNNING
    deleting = replace(options, delete=True)
    if all(is_included(path, scope, changeset.deletable) for path, scope in changeset):
        named = changeset.deletable if is_running else None
        return replace(request, options=deleting, named=named), None
    deletes_named = is_running and not request.is_full_sync
    names, apart = MutableScopedPaths(), MutableScopedPaths()
    for path, scope in common_paths(changeset, changeset.deletable):
        mode = _mode(request.root, path)
        if deletes_named and not mode:
            names.add(path, Scope.ENTRY)
        elif not mode or stat.S_ISDIR(mode):
            apart.add(path, scope)
    kept = replace(options, delete=False, deletes_named=deletes_named)
    own = replace(request, options=kept, named=names if is_running else None)
    if not (apart.listings or apart.trees or (apart.entries and request.is_full_sync)):
        return own, None
    changes = Changeset(apart.entries, apart.listings, apart.trees, deletable=apart)
    deletions = replace(
        request, changeset=changes, options=deleting, only_deletes=True, size_limit=None,
        moved=CarriedMoves(), named=apart if is_running else None,
    )  # fmt: skip
    return own, deletions


def _mode(root: int, path: bytes) -> int:
    """Return the mode of the entry at a path, 0 if there is none."""
    try:
        return os.lstat(path or b".", dir_fd=root).st_mode
    except OSError:
        return 0
