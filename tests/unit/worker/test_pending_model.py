"""Whatever is changed and whatever fails: what differs at the copy is pending. Without rsync.

The model of a copy is the set of the paths at which it differs. A run carries what its changes
include and what is not excluded from it, except for what it names as failed.
"""

import itertools
import random
from collections.abc import Callable, Sequence

from support.worker_setup import SHORT

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, union
from pylsyncd.model.scoped_paths import Scope, ScopedPaths, is_at_or_below
from pylsyncd.pipeline.optimizer import optimize, split_below
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.transfer_result import TransferResult

SEEDS = 40
STEPS = 50
NAMES = b"a", b"b"
PATHS = [
    paths.ROOT,
    *(b"/".join(names) for depth in (1, 2, 3) for names in itertools.product(NAMES, repeat=depth)),
]
SCOPES = [Scope.ENTRY, Scope.ENTRY, Scope.LISTING, Scope.TREE, Scope.TREE]


def included(some: ScopedPaths) -> set[bytes]:
    return {path for path in PATHS if some.includes_entry(path) or some.includes_tree(path)}


class Model:
    """What is pending for a copy, and the paths at which it differs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.work = PendingWork(LargeFileQueue(None, SHORT), SHORT)
        self.differing: set[bytes] = set()
        self.log: list[str] = []
        self.is_destination_good = False

    def change(self) -> None:
        """Change something."""
        changes = self._draw(PATHS)
        self.differing |= {path for path in included(changes) if self.random.random() < 0.7}
        self.log.append(f"changed: {[*changes]}")
        self.work.add(WorkItem(changes), is_reachable=True, extra_window=0.0)

    def run(self) -> None:
        """Try one part of what is pending."""
        work = self.work
        attempts: list[tuple[RetryQueue, Callable[[], None]]] = [
            (work.next_run, self._carry_next_run),
            (work.failed_paths, self._retry_failed_paths),
            (work.aborting_files, self._retry_aborting),
            (work.unexplained, self._retry_unexplained),
        ]
        if possible := [attempt for queue, attempt in attempts if queue.backlog]:
            self.random.choice(possible)()

    def find_lost(self) -> set[bytes]:
        """Return the paths that differ and are not pending."""
        queues = self.work.retry_queues
        return self.differing - included(union(*(queue.backlog.changes for queue in queues)))

    def _carry_next_run(self) -> None:
        changes = optimize(self.work.next_run.backlog.take())
        excluded = self.work.excluded_from(changes)
        self.work.finish_next_run(excluded, self._carry(changes, excluded))

    def _retry_failed_paths(self) -> None:
        queue = self.work.failed_paths
        changes = queue.backlog.take()
        excluded = self.work.excluded_from(changes)
        result = self._carry(changes, excluded)
        queue.backlog.add(result.pending)
        self.work.aborting_files.backlog.add(result.aborting)
        self.work.record_failures(excluded, result, None)

    def _retry_aborting(self) -> None:
        queue = self.work.aborting_files
        changes = queue.backlog.take()
        result = self._carry(changes, frozenset())
        queue.backlog.add(union(result.pending, result.aborting))
        if not (result.pending or result.aborting):
            self.work.record_failures(frozenset(), result, None)

    def _retry_unexplained(self) -> None:
        queue = self.work.unexplained
        changes, wider = queue.take_widened()
        excluded = self.work.excluded_from(wider)
        result = self._carry(wider, excluded)
        self.work.aborting_files.backlog.add(result.aborting)
        if result.pending:
            queue.add_failed(union(changes, result.pending), result.verdict)
        else:
            self.work.record_failures(excluded, result, None)

    def _carry(self, changes: Changeset, excluded: frozenset[bytes]) -> TransferResult:
        """Return what a run has left."""
        assert not any(is_at_or_below(change.path, excluded) for change in changes)
        touched = sorted(path for path in included(changes) if not is_at_or_below(path, excluded))
        kinds = ["done", "partial", "partial", "partial", "stopped", "aborted"]
        kind = "done" if self.is_destination_good or not touched else self.random.choice(kinds)
        pending = failed = aborting = NOTHING
        verdict = self.random.choice([Verdict.RETRY_NOW, Verdict.PARTIAL])
        if kind == "done":
            verdict = Verdict.DONE
        elif kind == "partial":
            failed = self._draw(touched)
        elif kind == "stopped":
            verdict = self.random.choice([*Verdict])
            pending = NOTHING if verdict is Verdict.DONE else changes
        else:
            aborting = MutableChangeset()
            aborting.add(self.random.choice(touched), Scope.TREE)
            _, pending = split_below(changes, aborting.trees)
        left = included(union(pending, failed, aborting))
        self.differing -= set(touched) - left
        self.log.append(f"{kind}: {[*changes]} without {sorted(excluded)}, failed {[*failed]}")
        return TransferResult(
            Outcome(verdict), pending=pending, failed=failed, aborting=aborting, carried=changes
        )

    def _draw(self, some: Sequence[bytes]) -> Changeset:
        changes = MutableChangeset()
        for _ in range(self.random.randrange(1, 3)):
            changes.add(self.random.choice(some), self.random.choice(SCOPES))
        return optimize(changes)


def test_what_differs_is_pending() -> None:
    first = random.SystemRandom().randrange(10**9)
    for seed in range(first, first + SEEDS):
        model = Model(seed)
        for number in range(STEPS):
            model.is_destination_good = number >= STEPS // 2
            if model.is_destination_good or model.random.random() < 0.6:
                model.run()
            else:
                model.change()
            shown = "\n".join(model.log)
            assert not model.find_lost(), f"seed {seed}: {model.find_lost()} is lost\n{shown}"
        assert not model.differing, f"seed {seed}: {model.differing} is not carried"
