"""Moves copies at a destination to where their originals were moved, before a run would send them.

This only saves work: the files of a move that is not carried are sent. What is carried is compared
by the run that follows, like everything else.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.moves import Move
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.file_list import regular_files
from pylsyncd.rsync.moved_files import IsLeftOut, MovedFiles, find_moved_files
from pylsyncd.rsync.option_check import permits_moves
from pylsyncd.rules.excludes import Rules
from pylsyncd.worker.deletion_check import DeletionCheck
from pylsyncd.worker.linked_runs import LinkedFiles, LinkedRun, LinkedRuns, largest_first
from pylsyncd.worker.renames import MIN_BYTES_OVER_SSH, Renames
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer_commands import TransferCommands
from pylsyncd.worker.transfer_result import CarriedMoves, TransferRequest

log = logging.getLogger(__name__)

_NOTHING_MOVED = CarriedMoves()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A move that may be carried, and the files that it would keep from being sent."""

    new: bytes
    move: Move
    found: MovedFiles


class MoveRuns:
    """The runs that move copies at one destination. Used by the thread of the session."""

    def __init__(
        self, session: RsyncSession, commands: TransferCommands, deletions: DeletionCheck
    ) -> None:
        self._session = session
        self._commands = commands
        self._deletions = deletions
        self._renames = Renames(session)
        self._linked_runs = LinkedRuns(session)

    def carry(self, request: TransferRequest) -> CarriedMoves:
        """Move what the hints of a request name, if the result is certain to be right.

        It never fails: what it could not do is left to the request's own run.
        """
        moves = request.changeset.moves
        if not moves or not _permits(request):
            return _NOTHING_MOVED
        pairs = settled_pairs(moves.by_new_path, request.left_out | (request.unsettled or set()))
        candidates = _find_candidates(request, pairs)
        renamed, rest, displaced = self._rename(request, candidates)
        carried = {each.new for each in renamed}
        files = sum(each.found.count for each in renamed)
        size = sum(each.found.size for each in renamed)
        is_left_out = _left_out_test(request, pairs)
        groups = self._linkable(request, rest)
        for run in self._linked_runs.carry(request.root, request.options, groups, is_left_out):
            files += run.moved_files
            size += run.moved_bytes
            if any(_exists(request.root, pairs[new].old) for new in run.linked.new_paths):
                # Compared by content, the new copies are written again, and share nothing.
                continue
            carried |= run.linked.new_paths
            self._delete_old(request, run, pairs)
        if files:
            self._session.statistics.count_moved(files, size)
        for new in sorted(carried):
            old = paths.printable(pairs[new].old)
            log.debug(
                "[%s] moved %s to %s", self._session.destination.name, old, paths.printable(new)
            )
        return CarriedMoves(frozenset(carried), files, size, displaced)

    def _rename(
        self, request: TransferRequest, candidates: Sequence[_Candidate]
    ) -> tuple[list[_Candidate], list[_Candidate], frozenset[bytes]]:
        """Rename copies; return those that were renamed, and the others, if they may be linked.

        The third are the paths at which something is now that was at other ones.
        """
        transport, rules = self._session.destination.transport, request.options.rules
        whole = [each for each in candidates if _is_moved_whole(rules, each.new, each.move)]
        least = MIN_BYTES_OVER_SSH if transport is Transport.SHELL else 0
        if not whole or sum(each.found.size for each in whole) < least:
            whole = []
        result = self._renames.carry({each.new: each.move for each in whole}, request.root)
        renamed = [each for each in whole if each.new in result.carried]
        if result.is_unreachable:
            return renamed, [], result.displaced
        # Where renames work locally, a link would not save anything either.
        is_enough = transport is Transport.LOCAL and result.is_available
        tried = {each.new for each in (whole if is_enough else renamed)}
        rest = [each for each in candidates if each.new not in tried]
        return renamed, rest, result.displaced

    def _linkable(
        self, request: TransferRequest, candidates: Iterable[_Candidate]
    ) -> list[LinkedFiles]:
        """Return the groups of files to link, the largest first.

        Nothing may be at the old place in the source: as long as the old copy is not deleted, what
        happens to one of the two happens to the other.
        """
        if request.options.compares_contents:
            return []
        groups, files = [], defaultdict(list)
        for each in candidates:
            new, old = each.new, each.move.old
            if not each.move.is_new_name or _exists(request.root, old):
                continue
            if not self._linked_runs.permits(new, old):
                continue
            if each.move.is_directory:
                found = each.found
                groups.append(
                    LinkedFiles(old, new, None, frozenset([new]), found.count, found.size)
                )
            elif paths.split(new)[1] == paths.split(old)[1]:
                files[paths.split(old)[0], paths.split(new)[0]].append(each)
        for (old, new), some in files.items():
            groups.append(
                LinkedFiles(
                    old, new, tuple(paths.split(each.new)[1] for each in some),
                    frozenset(each.new for each in some), len(some),
                    sum(each.found.size for each in some),
                )
            )  # fmt: skip
        return largest_first(groups)

    def _delete_old(
        self, request: TransferRequest, run: LinkedRun, pairs: Mapping[bytes, Move]
    ) -> None:
        """Delete the old copies of what was moved, if their deletion would count.

        What is there under its new name is not lost. If they have more than that, their deletion
        counts like any other.
        """
        limit = run.found.entries
        if request.options.max_delete is None or not run.is_whole:
            return
        if not self._linked_runs.is_all_there(request.root, request.options, run.linked):
            return
        old = MutableChangeset()
        for path in run.linked.new_paths:
            old.add(pairs[path].old, Scope.ENTRY)
        options = replace(request.options, max_delete=limit)
        part = replace(
            request, changeset=old, options=options, only_deletes=True, size_limit=None
        )  # fmt: skip
        files = self._commands.build_list(part)
        if files and self._deletions.judge(part, self._deletions.dry_run(part, files)) is None:
            command = self._commands.command(options, part, files)
            self._session.run(part.root, command, files.encode(), is_optional=True)


def settled_pairs(pairs: Mapping[bytes, Move], unsettled: AbstractSet[bytes]) -> dict[bytes, Move]:
    """Return the moves of which neither name is, or is above or below, an unsettled path."""
    above = {directory for path in unsettled for directory in paths.ancestors(path)}
    taken = above | unsettled

    def is_settled(path: bytes) -> bool:
        return path not in taken and unsettled.isdisjoint(paths.ancestors(path))

    return {new: move for new, move in pairs.items() if is_settled(new) and is_settled(move.old)}


def _permits(request: TransferRequest) -> bool:
    """Return True if copies may be moved at all."""
    options = request.options
    return (
        request.unsettled is not None
        and options.detects_renames
        and options.delete
        and options.delete_only is None
        and not (options.dry_run or options.last or request.is_released or request.checks_only)
        and permits_moves(options.extra_options)
    )


def _find_candidates(request: TransferRequest, pairs: Mapping[bytes, Move]) -> list[_Candidate]:
    """Return the moves whose new paths are what they should be, those of most bytes first."""
    files = {new for new, move in pairs.items() if not move.is_directory}
    files = regular_files(request.root, files)
    is_left_out = _left_out_test(request, pairs)
    candidates = []
    for new, move in pairs.items():
        if not _are_included(request.options.rules, new, move):
            continue
        try:
            if move.is_directory:
                found = find_moved_files(request.root, new, is_left_out, with_names=False)
            elif new in files:
                found = MovedFiles(1, os.lstat(new, dir_fd=request.root).st_size)
            else:
                continue
        except OSError:
            continue
        candidates.append(_Candidate(new, move, found))
    return sorted(candidates, key=_size, reverse=True)


def _size(candidate: _Candidate) -> int:
    return candidate.found.size


def _left_out_test(request: TransferRequest, pairs: Mapping[bytes, Move]) -> IsLeftOut:
    """Return a test for the paths that the move of a directory above them does not move."""
    rules, left_out = request.options.rules, request.left_out | pairs.keys()
    has_rules = bool(rules)

    def is_left_out(path: bytes, is_directory: bool) -> bool:  # noqa: FBT001  # see IsLeftOut
        if path in left_out:
            return True
        if not has_rules:
            return False
        top = next(above for above in paths.ancestors(path) if above in pairs)
        old = pairs[top].old + path[len(top) :]
        return rules.matches(path, is_directory=is_directory) or _is_kept(rules, old, is_directory)

    return is_left_out


def _are_included(rules: Rules, new: bytes, move: Move) -> bool:
    """Return True if both names of a move are sent, and its old copy is deleted afterwards."""
    if not rules:
        return True
    if rules.excludes(new, is_directory=move.is_directory):
        return False
    above = [path for path in paths.ancestors(move.old) if path]
    return not (
        _is_kept(rules, move.old, is_directory=move.is_directory)
        or any(_is_kept(rules, path, is_directory=True) for path in above)
    )


def _is_kept(rules: Rules, old: bytes, is_directory: bool) -> bool:  # noqa: FBT001  # see IsLeftOut
    """Return True if the copy at an old path was not sent, or is not deleted afterwards."""
    return rules.matches(old, is_directory=is_directory) or rules.protects(
        old, is_directory=is_directory
    )


def _is_moved_whole(rules: Rules, new: bytes, move: Move) -> bool:
    """Return True if a rename of the copy takes nothing along that rules exclude or protect.

    These would be lost at the new place, or stay there for good, or be something else there.
    """
    return not (
        move.is_directory and (rules.may_exclude_below(move.old) or rules.may_exclude_below(new))
    )


def _exists(root: int, path: bytes) -> bool:
    """Return True unless there is certainly nothing at a path."""
    try:
        os.lstat(path, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
