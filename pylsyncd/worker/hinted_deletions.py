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
from pylsyncd.pipeline.optimizer import hints_about, is_included
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


def may_delete_everything(changeset: Changeset) -> bool:
    """Return True if the hint of a changeset includes all of its changes."""
    return all(is_included(path, scope, changeset.deletable) for path, scope in changeset)


def without_listed_deletions(request: TransferRequest) -> TransferRequest:
    """Return the request for a run that deletes nothing but what it names."""
    changeset, options = request.changeset, request.options
    is_running = options.delete_only is DeletionTime.RUNNING
    deletes_named = is_running and not request.is_full_sync
    named = MutableScopedPaths()
    if deletes_named:
        for path, _ in hints_about(changeset, changeset.deletable):
            if not _mode(request.root, path):
                named.add(path, Scope.ENTRY)
    options = replace(options, delete=False, deletes_named=deletes_named)
    return replace(request, options=options, named=named if is_running else None)


def listed_deletions(request: TransferRequest) -> TransferRequest | None:
    """Return a request for the deletions that are left after such a run, if there are any.

    A directory may have taken the place of another one, perhaps while the run was under way: what
    only the copy of the other one has is deleted, but not what other directories' copies have.
    After a full sync, all that a hint names is left.
    """
    changeset, options = request.changeset, request.options
    is_running = options.delete_only is DeletionTime.RUNNING
    hints = hints_about(changeset, changeset.deletable)
    left = MutableScopedPaths()
    for path, scope in hints:
        mode = _mode(request.root, path)
        is_listed = scope > Scope.ENTRY and stat.S_ISDIR(mode)
        if is_listed or request.is_full_sync or not (mode or is_running):
            left.add(path, scope)
    if not left:
        return None
    changes = Changeset(left.entries, left.listings, left.trees, deletable=left)
    left_request = replace(
        request, changeset=changes, only_deletes=True, size_limit=None, moved=CarriedMoves()
    )
    if request.is_full_sync and is_running:
        return left_request
    options = replace(options, delete=True, delete_only=None)
    return replace(left_request, options=options, named=left if is_running else None)


def _mode(root: int, path: bytes) -> int:
    """Return the mode of the entry at a path, 0 if there is none."""
    try:
        return os.lstat(path or b".", dir_fd=root).st_mode
    except OSError:
        return 0
