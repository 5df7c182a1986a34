"""Carries the parts of a full sync by several rsyncs at a time, before the run that completes it.

A single rsync to a distant host is bound by the window of its connection and by one processor. So
the runs of the parts send most of the files. They delete nothing and compare nothing else, and
nothing depends on them: the usual full sync follows, which finds most of the tree there, sends what
is missing, deletes, sets the times of the directories, links the files of several names, and whose
outcome is that of the whole.
"""

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.pipeline.tree_parts import Piece, TreePart, TreeParts
from pylsyncd.rsync.command import ContentComparison, RsyncOptions
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.output import RsyncProgress, summed_progress
from pylsyncd.rsync.runner import RunResult
from pylsyncd.system.processes import STOP_TIMEOUT, terminate
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.failure_analysis import PARTIAL_EXITS
from pylsyncd.worker.piece_walk import PieceWalk
from pylsyncd.worker.session import CarriedParts, RsyncSession, SessionRun
from pylsyncd.worker.transfer_commands import TransferCommands
from pylsyncd.worker.transfer_result import TransferRequest

log = logging.getLogger(__name__)

# Makes rsync create the destination, and nothing below it.
_ROOT_ALONE = Changeset({paths.ROOT: frozenset([b""])}, frozenset(), frozenset())

# The exit statuses of an rsync that the other side has refused; 255 is that of ssh.
_NOT_CONNECTED = frozenset([5, 35, 255])

# Seconds between two signals to runs that have to stop, and until they are left alone.
_SIGNAL_INTERVAL = 0.5
_GIVE_UP_AFTER = 7.0


class ParallelRuns:
    """The runs that carry parts of full syncs to one destination."""

    def __init__(
        self, session: RsyncSession, guard: SourceGuard, commands: TransferCommands
    ) -> None:
        self._session = session
        self._guard = guard
        self._commands = commands
        self._are_parts_there = False

    def divides(self, request: TransferRequest) -> bool:
        """Return True if a request is a full sync that may be divided.

        One that compares each file by content is not.
        """
        options = request.options
        is_timed = options.comparison is ContentComparison.TIMES and not options.compares_contents
        # With `last`, the second full sync only deletes.
        is_sending = not (options.dry_run or options.deletes_last)
        is_possible = options.parallel > 1 and is_timed and is_sending
        return request.is_full_sync and is_possible and not self._are_parts_there

    def carry(self, request: TransferRequest) -> CarriedParts | None:
        """Carry the parts of a full sync; return None if the tree is too small for that.

        That may take hours: what was checked before has to be checked again. Raises SourceHeldError
        if the source is not there any more.
        """
        parts = _PartRuns(self._session, self._guard, self._commands, request)
        started_at = time.monotonic()
        try:
            parts.carry()
        finally:
            parts.close()
            self._session.statistics.record_carried(time.time_ns())
        if not parts.has_started:
            return None
        self._are_parts_there = parts.are_all_carried
        parts.result.seconds = time.monotonic() - started_at
        return CarriedParts(parts.result, parts.progress.total())

    def record_end(self, outcome: Outcome) -> None:
        """Record how the run after the parts has ended: if it failed, they need not be repeated."""
        if outcome.verdict in {Verdict.DONE, Verdict.PARTIAL}:
            self._are_parts_there = False


class _PartRuns:
    """The runs that carry the parts of one full sync. Used by the thread of the session."""

    def __init__(
        self,
        session: RsyncSession,
        guard: SourceGuard,
        commands: TransferCommands,
        request: TransferRequest,
    ) -> None:
        self._session = session
        self._guard = guard
        self._commands = commands
        self._request = replace(request, is_part=True, size_limit=None)
        self._options = request.options.for_part()
        self._parts = TreeParts(request.options.parallel)
        self._limit = request.options.parallel
        self._free: list[RsyncSession] = []
        self._opened = 0
        self._running: dict[Future[SessionRun], tuple[RsyncSession, TreePart]] = {}
        self._has_lost_part = False
        self.has_started = False
        """Whether the tree was divided."""
        self.result = RunResult()
        """What all runs have done."""
        self.progress = _SharedProgress(session)

    @property
    def are_all_carried(self) -> bool:
        """Whether no part is missing at the destination, apart from single paths."""
        return not (self._has_lost_part or self._has_ended)

    def carry(self) -> None:
        """Walk the source, and carry its parts until all were tried or no run succeeds."""
        request = self._request
        pieces = PieceWalk(
            request.options.rules,
            request.left_out,
            preserves_links=request.options.preserves_hard_links,
            on_piece=self._add,
        )
        try:
            pieces.run(request.root)
        except (OSError, _NoRunLeftError):
            # The run that follows tells what is wrong.
            self._has_lost_part = True
        self._parts.finish()
        self._start_runs()
        while self._running:
            self._wait_for_run()
            self._start_runs()
        self._has_lost_part |= self._parts.has_part

    def close(self) -> None:
        """Stop the runs that an exception has left."""
        if self._running:
            terminate(
                self._session.cancel_parts, self._have_ended, kill_after=STOP_TIMEOUT,
                give_up_after=_GIVE_UP_AFTER, interval=_SIGNAL_INTERVAL,
            )  # fmt: skip
        self._session.close_parts()

    def _have_ended(self, seconds: float) -> bool:
        return not wait(self._running, timeout=seconds).not_done

    @property
    def _has_ended(self) -> bool:
        """Whether no further run may start."""
        return not self._limit or self._session.is_stopping

    def _add(self, piece: Piece) -> None:
        self._session.activity.mark_active()
        self._parts.add(piece)
        self._start_runs()
        while self._parts.is_full and self._running and not self._has_ended:
            self._wait_for_run()
            self._start_runs()
        if self._has_ended:
            raise _NoRunLeftError

    def _start_runs(self) -> None:
        for future in [each for each in self._running if each.done()]:
            self._take_result(future)
        while self._parts.has_part and not self._has_ended:
            session = self._free_session()
            if session is None:
                return
            if not self.has_started:
                self.has_started = True
                log.info(
                    "[%s] Dividing the sync: up to %d runs at a time, then one over everything.",
                    self._session.destination.name, self._limit,
                )  # fmt: skip
                if not self._create_root(session):
                    self._limit = 0
                    return
            self._start_run(session, self._parts.take())

    def _free_session(self) -> RsyncSession | None:
        if self._free:
            return self._free.pop()
        if len(self._running) >= self._limit:
            return None
        self._opened += 1
        return self._session.open_part(partial(self.progress.update, self._opened))

    def _create_root(self, session: RsyncSession) -> bool:
        """Create the destination; return False if that fails."""
        request = replace(self._request, changeset=_ROOT_ALONE)
        files = self._commands.build_list(request)
        command = self._commands.part_command(session, self._without_progress, request, files)
        with self._session.activity.waiting():
            run = session.run(request.root, command, files.encode())
        self.result.add(run.result)
        return _is_carried(run)

    @property
    def _without_progress(self) -> RsyncOptions:
        return replace(self._options, show_progress=False)

    def _start_run(self, session: RsyncSession, part: TreePart) -> None:
        request = replace(self._request, changeset=part.changes())
        self._guard.verify_unchanged(request.root)
        if not is_all_excluded(self._guard, request):
            self._limit = 0
            return
        files = self._commands.build_list(request)
        if not files:
            self._free.append(session)
            return
        command = self._commands.part_command(session, self._options, request, files)
        future: Future[SessionRun] = Future()
        thread = threading.Thread(
            target=_run, args=(future, session, request.root, command, files),
            name=f"{session.destination.name} (part of a sync)", daemon=True,
        )  # fmt: skip
        self._running[future] = session, part
        try:
            thread.start()
        except RuntimeError:
            # There are too many threads or processes.
            del self._running[future]
            self._end_session(part)

    def _wait_for_run(self) -> None:
        with self._session.activity.waiting():
            ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in ended:
            self._take_result(future)

    def _take_result(self, future: Future[SessionRun]) -> None:
        session, part = self._running.pop(future)
        run = future.result()
        self.result.add(run.result)
        if _is_carried(run):
            self._free.append(session)
            return
        if run.outcome.verdict is Verdict.HELD:
            # All others fail likewise.
            self._limit = 0
        self._end_session(
            part, run.outcome.reason, was_tried=run.result.exit_status not in _NOT_CONNECTED
        )

    def _end_session(self, part: TreePart, reason: str = "", *, was_tried: bool = False) -> None:
        """Go on with one run less: the other side may not permit so many."""
        self._limit = max(0, self._limit - 1)
        self._has_lost_part |= not self._parts.put_back(part, was_tried=was_tried)
        if not self._session.is_stopping:
            log.info(
                "[%s] One of the parallel runs has failed%s: continuing with %d.",
                self._session.destination.name, f" ({reason})" if reason else "", self._limit,
            )  # fmt: skip


def is_all_excluded(guard: SourceGuard, request: TransferRequest) -> bool:
    """Return True if a request leaves out all subtrees whose mounts have changed by now."""
    return guard.held_subtrees.keys() <= request.excluded


class _NoRunLeftError(Exception):
    """No run may start, or none succeeds."""


class _SharedProgress:
    """The progress of all runs together. Any thread may use it."""

    def __init__(self, session: RsyncSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._done = RsyncProgress()
        self._running: dict[int, RsyncProgress] = {}

    def update(self, number: int, progress: RsyncProgress) -> None:
        """Record the progress of the run of one session, ``RsyncProgress()`` at its start."""
        with self._lock:
            if progress == RsyncProgress():
                self._end(number)
            self._running[number] = progress
            self._session.report_progress(self._sum())

    def total(self) -> RsyncProgress:
        """Return what all runs have done, once they have ended."""
        with self._lock:
            for number in [*self._running]:
                self._end(number)
            return self._sum()

    def _end(self, number: int) -> None:
        ended = self._running.pop(number, RsyncProgress())
        self._done = replace(summed_progress([self._done, ended]), bytes_per_second=0.0)

    def _sum(self) -> RsyncProgress:
        return summed_progress([self._done, *self._running.values()])


def _is_carried(run: SessionRun) -> bool:
    """Return True if a run has come to all of its files; those that failed are tried again."""
    return run.result.exit_status in PARTIAL_EXITS or run.outcome.verdict is Verdict.DONE


def _run(
    future: "Future[SessionRun]",
    session: RsyncSession,
    root: int,
    command: list[bytes],
    files: FileList,
) -> None:
    try:
        future.set_result(session.run(root, command, files.encode()))
    except BaseException as error:  # noqa: BLE001  # the thread of the session raises it
        future.set_exception(error)
