"""How each part of what is pending is carried, and that retries end or get rarer.

However a destination answers, a good answer heals everything.
"""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import FaultyRsync, exit_with, print_error_and_exit
from support.mounts import Mounts, can_mount
from support.moving import SIZE, moved_changes
from support.trees import equal_within
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerParts, WorkerSetup, copied, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.widening import widened
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules import excludes, filters
from pylsyncd.system import clock
from pylsyncd.worker.pending_attempts import PendingAttempts
from pylsyncd.worker.publisher import MAX_WAIT_FOR_FAILED_PATHS
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.worker import Worker

DENIED = "Permission denied (13)"
# Of `d/a`, `d/b`, `e` and `gone`, some are carried by each run; `other` is not.
SAID = [
    "",
    "what is this?",
    'file has vanished: "/somewhere/else"',
    'file has vanished: "/proc/self/cwd/d/a"',
    'file has vanished: "/proc/self/cwd/other"',
    f'rsync: [sender] send_files failed to open "/proc/self/cwd/d/b": {DENIED}',
    f'rsync: [sender] opendir "/proc/self/cwd/d" failed: {DENIED}',
    f'rsync: [receiver] mkstemp "{{copy}}/d/.a.Y7sFkQ" failed: {DENIED}',
    f'rsync: [generator] recv_generator: mkdir "{{copy}}/d" failed: {DENIED}',
    f"rsync: [generator] delete_file: unlink(gone) failed: {DENIED}",
    "cannot delete non-empty directory: gone",
    'rsync: [receiver] chown "{copy}/d/.a.Y7sFkQ" failed: Invalid argument (22)',
    f'rsync: [generator] failed to set times on "{{copy}}/.": {DENIED}',
    'rsync: [receiver] write failed on "{copy}/d/a": No space left on device (28)',
    'rsync: [receiver] write failed on "{copy}/e": File too large (27)',
    "rsync: connection unexpectedly closed (17 bytes received so far) [sender]",
    "IO error encountered -- skipping file deletion",
]
PARTIAL, BROKEN = (23, 24), (2, 11, 12, 14, 20, 30, 255, 3)
answers = st.tuples(
    st.booleans(),
    st.lists(st.sampled_from(SAID), max_size=3).map(tuple),
    st.sampled_from((*PARTIAL, *BROKEN)),
)


def tree(path: bytes, scope: Scope) -> Changeset:
    changes = MutableChangeset()
    changes.add(path, scope)
    return changes


CHANGES: list[Changeset] = [
    entries(b"d/a"),
    entries(b"d/a", b"d/b", b"e", b"gone"),
    tree(b"d", Scope.LISTING),
    tree(b"d", Scope.TREE),
    EVERYTHING,
]

# No run is repeated at once more often: at a file that does not fit, after changes of the source.
MAX_RUNS = 30


def script(place: WorkerSetup, answer: tuple[bool, tuple[str, ...], int]) -> str:
    """Return a piece of shell script that works or not, prints messages and exits."""
    works, said, exit_status = answer
    lines = "\n".join(said).format(source=place.source, copy=place.copy)
    work = f'{place.faulty.real_rsync} "$@" >/dev/null 2>&1; ' if works else ""
    return f"echo >>'{place.source}-runs'; {work}cat <<'X' >&2\n{lines}\nX\nexit {exit_status}"


def is_quiet(worker: Worker) -> bool:
    """Return True if the worker does nothing until the end of a long pause."""
    due_at, is_empty = worker._work.due_at, worker._queue.empty()  # noqa: SLF001
    is_paused = due_at is None or due_at > time.monotonic() + 300
    return is_empty and is_paused and worker._queue.is_idle  # noqa: SLF001


def runs(place: WorkerSetup) -> int:
    record = Path(f"{place.source}-runs")
    return len(record.read_text()) if record.exists() else 0


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2),
    st.lists(answers, max_size=6),
    answers,
)
def test_however_a_destination_answers_retries_end_and_a_good_answer_heals_all(
    changesets: list[Changeset],
    first: list[tuple[bool, tuple[str, ...], int]],
    last: tuple[bool, tuple[str, ...], int],
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pylsyncd-retries-") as top,
        contextlib.closing(WorkerSetup(Path(top))) as place,
    ):
        place.write("d/a", "d/b", "e")
        (place.copy / "gone").touch()
        for answer in first:
            place.faulty.add_fault(script(place, answer))
        place.faulty.add_rule("", script(place, last))
        with place.worker(LONG) as worker:
            for serial, changeset in enumerate(changesets, start=1):
                worker.put(WorkItem(changeset, clock.now(), serial=serial))
            expect_quiet(place, worker)
            for _ in range(5):
                worker.put(WorkItem(NOTHING, is_urgent=True))
                expect_quiet(place, worker)
            status = worker.status()
            if (
                status.last_run is not None
                and status.last_run.outcome in {"again", "partial"}
                and not status.owes_everything
            ):
                # It reaches the destination: nothing that is tried holds up anything else.
                assert worker.settlement.serial == len(changesets)
            heal(place.faulty)
            worker.put(WorkItem(EVERYTHING, clock.now(), serial=9))
            wait_until(lambda: is_quiet(worker))
            worker.put(WorkItem(NOTHING, is_urgent=True, serial=10))
            wait_until(lambda: worker.confirmed_serial == 10)
            assert worker.status().condition is Condition.IN_SYNC
        assert equal_within(bytes(place.source), bytes(place.copy), 0) == []


def expect_quiet(place: WorkerSetup, worker: Worker) -> None:
    before = runs(place)
    wait_until(lambda: is_quiet(worker) or runs(place) > before + MAX_RUNS)
    assert runs(place) <= before + MAX_RUNS


def heal(faulty: FaultyRsync) -> None:
    faulty.discard_faults()
    faulty.discard_rules()


def entry_failure(*names: str, first: str = "true") -> str:
    """Return a fault: do something, by default nothing, and fail for some names."""
    said = "\n".join(
        f'rsync: [sender] send_files failed to open "/proc/self/cwd/{name}": {DENIED}'
        for name in names
    )
    return f"{first}; {print_error_and_exit(said, 23)}"


def too_large(place: WorkerSetup, name: str) -> str:
    """Return a fault: break off at a file that does not fit."""
    said = f'rsync: [receiver] write failed on "{place.copy}/{name}": File too large (27)'
    return print_error_and_exit(said, 11)


def add(parts: WorkerParts, *items: WorkItem) -> None:
    for item in items:
        parts.attempts.add(item, 0.0)


def kinds(place: WorkerSetup) -> list[NoticeKind]:
    return [notice.kind for notice in place.notices if notice.kind is not NoticeKind.BATCH]


def paths_of(changes: Changeset) -> list[bytes]:
    return sorted(change.path for change in changes)


def test_a_next_run_carries_what_is_held_no_more(place: WorkerSetup) -> None:
    place.write("d/f")
    parts = place.parts()
    parts.work.held.add(tree(b"d", Scope.TREE))
    parts.pending_attempts.carry_next_run()
    assert (place.copy / "d/f").exists()
    assert not parts.work.held


def test_of_a_source_that_was_replaced_only_a_run_of_everything_is_saved(
    place: WorkerSetup,
) -> None:
    parts = place.parts()
    place.write("f")
    for changes in (entries(b"f"), entries(b"f"), EVERYTHING):
        add(parts, WorkItem(changes, clock.now()))
        parts.pending_attempts.carry_next_run()
        parts.checkpoint.save()
        state = place.state()
        assert state is not None
        is_of_present = not place.checkpoint().full_sync_reason(state)
        is_replaced = place.source.with_name("away").exists()
        assert is_of_present is (changes is EVERYTHING or not is_replaced)
        if not is_replaced:
            place.source.rename(place.source.with_name("away"))
            place.write("f")
            place.guard.accept()


def test_without_a_checkpoint_changes_are_carried_all_the_same(place: WorkerSetup) -> None:
    parts = place.parts()
    place.write("f")
    attempts = PendingAttempts(
        parts.attempts, parts.session, parts.transfer, parts.work, None, None
    )
    add(parts, WorkItem(EVERYTHING))
    attempts.carry_next_run()
    assert (place.copy / "f").exists()


def test_changes_that_others_cover_are_not_in_the_list(place: WorkerSetup) -> None:
    parts = place.parts()
    place.write("d/f", "d/g")
    place.faulty.add_rule("none", "true")
    add(parts, WorkItem(entries(b"d/f")), WorkItem(tree(b"d", Scope.LISTING)))
    parts.pending_attempts.carry_next_run()
    assert place.faulty.runs == [["d/"]]


def test_a_release_ends_with_the_run_that_it_was_for(place: WorkerSetup) -> None:
    parts = place.parts(was_held=True)
    place.write("f")
    add(parts, WorkItem(entries(b"f"), is_release=True))
    assert parts.attempts.is_released
    place.faulty.add_fault(exit_with(30))
    for is_released in (True, False):
        parts.pending_attempts.carry_next_run()
        assert parts.attempts.is_released is is_released
        assert not parts.attempts.was_held


@pytest.mark.parametrize(
    ("fault", "is_reachable"),
    [
        (exit_with(30), False),
        (exit_with(24), True),
        (exit_with(23), True),
        ("echo '@ERROR: Unknown module' >&2; exit 5", False),
        ("true", True),
    ],
)
def test_a_destination_is_reachable_after_a_run_that_it_has_carried_out(
    place: WorkerSetup, fault: str, *, is_reachable: bool
) -> None:
    parts = place.parts()
    parts.attempts.is_reachable = not is_reachable
    place.write("f")
    place.faulty.add_fault(fault)
    add(parts, WorkItem(entries(b"f")))
    parts.pending_attempts.carry_next_run()
    assert parts.attempts.is_reachable is is_reachable


def test_a_source_that_is_not_there_says_nothing_about_the_destination(place: WorkerSetup) -> None:
    parts = place.parts()
    parts.attempts.is_reachable = False
    away = place.source.rename(place.source.with_name("away"))
    add(parts, WorkItem(entries(b"f")))
    parts.pending_attempts.carry_next_run()
    assert parts.attempts.is_reachable
    assert kinds(place) == [NoticeKind.HELD]
    away.rename(place.source)


@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_run_that_fails_is_reported_unless_it_was_aborted(
    place: WorkerSetup, *, is_aborted: bool
) -> None:
    parts = place.parts()
    until = clock.now()
    if is_aborted:
        parts.session.abort(signal.SIGTERM)
    place.faulty.add_fault(exit_with(30))
    parts.work.large_files.accepts_files = False
    add(parts, WorkItem(entries(b"f"), until))
    parts.pending_attempts.carry_next_run()
    assert kinds(place) == ([] if is_aborted else [NoticeKind.ERROR])
    assert place.state() is None
    assert not parts.work.large_files.accepts_files
    assert paths_of(parts.work.next_run.backlog.changes) == [b"f"]


def test_what_arrives_during_a_run_is_not_confirmed_by_it(place: WorkerSetup) -> None:
    earlier, later = clock.now(), replace(clock.now(), wall=time.time() + 1.0)
    parts = place.parts(
        resources=SharedResources(
            on_progress_end=lambda _: parts.work.add(
                WorkItem(NOTHING, later), is_reachable=True, extra_window=0.0
            )
        )
    )
    parts.work.large_files.accepts_files = False
    add(parts, WorkItem(entries(b"f"), earlier))
    parts.pending_attempts.carry_next_run()
    parts.checkpoint.save()
    state = place.state()
    assert state is not None
    assert state.confirmed == earlier
    # It carries large files again, because nothing else is pending.
    assert parts.work.large_files.accepts_files


@pytest.mark.parametrize(
    ("changes", "fault", "is_compared"),
    [
        (EVERYTHING, "true", True),
        (EVERYTHING, exit_with(30), False),
        (EVERYTHING, "failure of a path", False),
        (entries(b"f"), "true", False),
    ],
)
def test_a_full_sync_that_carries_all_has_compared_everything_since_its_start(
    place: WorkerSetup, changes: Changeset, fault: str, *, is_compared: bool
) -> None:
    parts = place.parts()
    place.write("f")
    is_of_path = fault == "failure of a path"
    place.faulty.add_fault(entry_failure("f", first='rsync "$@"') if is_of_path else fault)
    add(parts, WorkItem(changes))
    before = time.time()
    parts.pending_attempts.carry_next_run()
    since = parts.repairs.compared_since
    assert (since is not None) is is_compared
    assert since is None or before <= since <= time.time() - 0.001


def test_large_files_are_left_to_their_queue(with_large_files: WorkerSetup) -> None:
    place = with_large_files
    parts = place.parts()
    for name in ("large", "larger"):
        (place.source / name).write_bytes(bytes(2_000))
    place.write("small")
    files = entries(b"large", b"small")
    add(parts, WorkItem(files, since=5.0))
    parts.pending_attempts.carry_next_run()
    queue = parts.work.large_files.retry_queue
    assert (paths_of(queue.backlog.changes), queue.since) == ([b"large"], 5.0)
    assert copied(place) == ["small"]
    # One at which a run broke off may have become large since.
    parts.work.aborting_files.backlog.add(entries(b"larger"))
    parts.work.aborting_files.include_since(3.0)
    parts.pending_attempts.retry_aborting_file()
    assert (paths_of(queue.backlog.changes), queue.since) == ([b"large", b"larger"], 3.0)
    # If the queue accepts none, the worker carries them itself.
    parts.work.large_files.accepts_files = False
    parts.work.aborting_files.backlog.add(entries(b"larger"))
    parts.pending_attempts.retry_aborting_file()
    assert copied(place) == ["larger", "small"]
    add(parts, WorkItem(entries(b"large")))
    parts.pending_attempts.carry_next_run()
    assert copied(place) == ["large", "larger", "small"]


@pytest.fixture
def with_large_files(tmp_path: Path) -> Iterator[WorkerSetup]:
    limit = SizeLimit(1_000, preserves_hard_links=False)
    with contextlib.closing(WorkerSetup(tmp_path, size_limit=limit)) as made:
        yield made


@pytest.mark.parametrize("is_late", [True, False])
@pytest.mark.parametrize("has_failed", [True, False])
def test_the_last_files_wait_for_the_failed_paths_of_earlier_windows(
    tmp_path: Path, *, has_failed: bool, is_late: bool
) -> None:
    last = excludes.build_rules([filters.parse_exclude(b"/index")])
    with contextlib.closing(WorkerSetup(tmp_path, last=last)) as place:
        parts = place.parts()
        place.write("index", "f")
        if has_failed:
            parts.work.failed_paths.backlog.add(entries(b"bad"))
        if is_late:
            parts.attempts.paths_failed_at = time.monotonic() - MAX_WAIT_FOR_FAILED_PATHS
        add(parts, WorkItem(entries(b"index", b"f")))
        parts.pending_attempts.carry_next_run()
        is_waiting = has_failed and not is_late
        assert copied(place) == (["f"] if is_waiting else ["f", "index"])


def test_the_first_failure_of_a_path_is_remembered_until_none_fails(place: WorkerSetup) -> None:
    parts = place.parts()
    place.write("bad", "good")
    add(parts, WorkItem(entries(b"good")))
    parts.pending_attempts.carry_next_run()
    assert parts.attempts.paths_failed_at is None
    place.faulty.add_fault(entry_failure("bad"))
    add(parts, WorkItem(entries(b"bad")))
    before = time.monotonic()
    parts.pending_attempts.carry_next_run()
    failed_at = parts.attempts.paths_failed_at
    assert failed_at is not None
    assert before <= failed_at <= time.monotonic()
    add(parts, WorkItem(entries(b"good")))
    parts.pending_attempts.carry_next_run()
    assert parts.attempts.paths_failed_at == failed_at
    parts.pending_attempts.retry_failed_paths()
    assert parts.attempts.paths_failed_at is None
    assert kinds(place) == [NoticeKind.ERROR, NoticeKind.RECOVERY]


@contextlib.contextmanager
def new_mount(place: WorkerSetup) -> Iterator[None]:
    """Mount a file system with a file over a directory."""
    nested = place.source / "nested"
    nested.mkdir()
    place.guard.accept()
    with Mounts() as mounts:
        mounts.mount_tmpfs(nested)
        place.write("nested/f")
        yield


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_run_waits_until_the_copy_of_a_new_mount_was_looked_at(
    place: WorkerSetup, *, is_aborted: bool
) -> None:
    parts = place.parts()
    place.write("f")
    with new_mount(place):
        add(parts, WorkItem(entries(b"f")))
        place.faulty.add_fault(exit_with(30))
        if is_aborted:
            parts.session.abort(signal.SIGTERM)
        parts.pending_attempts.carry_next_run()
        assert copied(place) == []
        assert not parts.attempts.is_reachable
        assert parts.work.next_run.verdict is Verdict.RETRY_LATER
        assert not parts.work.next_run.is_due()
        assert kinds(place) == ([] if is_aborted else [NoticeKind.ERROR])
        assert parts.attempts.interrupted is None
        if not is_aborted:
            parts.pending_attempts.carry_next_run()
            assert copied(place) == ["f"]


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_look_at_a_copy_that_raises_has_taken_nothing_from_what_is_pending(
    place: WorkerSetup,
) -> None:
    def fail(_: str) -> None:
        raise LookupError

    parts = place.parts(resources=SharedResources(on_progress_end=fail))
    with new_mount(place):
        add(parts, WorkItem(entries(b"f")))
        with pytest.raises(LookupError):
            parts.pending_attempts.carry_next_run()
        assert parts.attempts.interrupted == NOTHING
        assert paths_of(parts.work.next_run.backlog.changes) == [b"f"]


def failing_parts(place: WorkerSetup, *names: bytes) -> WorkerParts:
    parts = place.parts(GROWING)
    queue = parts.work.failed_paths
    queue.backlog.add(entries(*names))
    queue.include_since(5.0)
    queue.schedule_retry(Verdict.PARTIAL)
    return parts


GROWING = RetryPolicy(first_pause=600.0, max_pause=60_000.0, max_retry_now_pause=600.0)


@pytest.mark.parametrize(
    ("status", "verdict", "count"),
    [(30, Verdict.RETRY_LATER, 1), (24, Verdict.PARTIAL, 2), (23, Verdict.PARTIAL, 2)],
)
def test_failed_paths_stay_pending_after_a_run_that_explains_nothing(
    place: WorkerSetup, status: int, verdict: Verdict, count: int
) -> None:
    parts = failing_parts(place, b"f", b"g")
    place.write("f", "g")
    place.faulty.add_fault(exit_with(status))
    parts.pending_attempts.retry_failed_paths()
    queue = parts.work.failed_paths
    assert paths_of(queue.backlog.changes) == [b"f", b"g"]
    assert (queue.verdict, queue.failure_count, queue.since) == (verdict, count, 5.0)
    assert queue.due_at > time.monotonic() + 300.0
    assert kinds(place) == [NoticeKind.ERROR]


def test_failed_paths_that_fail_again_wait_longer_and_the_others_are_confirmed(
    place: WorkerSetup,
) -> None:
    parts = failing_parts(place, b"f", b"g")
    place.write("f", "g")
    place.faulty.add_fault(entry_failure("f", first='rsync "$@"'))
    queue = parts.work.failed_paths
    queue.schedule_retry(Verdict.PARTIAL)
    parts.pending_attempts.retry_failed_paths()
    assert paths_of(queue.backlog.changes) == [b"f"]
    assert (queue.verdict, queue.failure_count) == (Verdict.PARTIAL, 3)
    parts.pending_attempts.retry_failed_paths()
    assert not queue.backlog
    assert (queue.failure_count, queue.since) == (0, None)
    assert sum(parts.session.statistics.counts().lags) == 1


def test_a_file_that_does_not_fit_among_failed_paths_is_set_apart(place: WorkerSetup) -> None:
    parts = failing_parts(place, b"f", b"large")
    place.write("f", "large")
    place.faulty.add_fault(too_large(place, "large"))
    parts.pending_attempts.retry_failed_paths()
    assert paths_of(parts.work.aborting_files.backlog.changes) == [b"large"]
    assert paths_of(parts.work.failed_paths.backlog.changes) == [b"f"]


def test_failed_paths_are_deleted_with_the_listing_that_they_are_in(place: WorkerSetup) -> None:
    parts = failing_parts(place, b"d/gone")
    place.write("d/f")
    (place.copy / "d").mkdir()
    (place.copy / "d/gone").touch()
    place.faulty.add_rule("none", "true")
    parts.pending_attempts.retry_failed_paths()
    assert place.faulty.runs == [["d/"]]
    assert not (place.copy / "d/gone").exists()


def aborting_parts(place: WorkerSetup) -> WorkerParts:
    parts = place.parts(GROWING)
    queue = parts.work.aborting_files
    for name, size in (("small", 10), ("large", 1_000)):
        (place.source / name).write_bytes(bytes(size))
    queue.backlog.add(entries(b"large", b"small"))
    queue.include_since(time.monotonic())
    queue.schedule_retry(Verdict.PARTIAL)
    return parts


def test_of_the_files_that_did_not_fit_the_smallest_is_retried_first(place: WorkerSetup) -> None:
    parts = aborting_parts(place)
    queue = parts.work.aborting_files
    place.faulty.add_fault(too_large(place, "small"))
    parts.pending_attempts.retry_aborting_file()
    assert paths_of(queue.backlog.changes) == [b"large", b"small"]
    assert (queue.failure_count, queue.is_due()) == (2, False)
    assert kinds(place) == [NoticeKind.ERROR]
    # When it fits, the next one may fit as well.
    parts.pending_attempts.retry_aborting_file()
    assert (copied(place), paths_of(queue.backlog.changes)) == (["small"], [b"large"])
    assert queue.is_due()
    parts.pending_attempts.retry_aborting_file()
    assert copied(place) == ["large", "small"]
    assert not queue.backlog
    assert kinds(place) == [NoticeKind.ERROR, NoticeKind.RECOVERY]
    # It is no other file's age.
    assert sum(parts.session.statistics.counts().lags) == 1


@pytest.mark.parametrize("status", [30, 24])
def test_a_file_that_did_not_fit_stays_pending_while_its_run_fails(
    place: WorkerSetup, status: int
) -> None:
    parts = aborting_parts(place)
    queue = parts.work.aborting_files
    place.faulty.add_fault(exit_with(status))
    parts.pending_attempts.retry_aborting_file()
    assert paths_of(queue.backlog.changes) == [b"large", b"small"]
    assert not queue.is_due()
    assert queue.failure_count == (1 if status == 30 else 2)


def test_a_file_that_fits_but_fails_is_a_failed_path(place: WorkerSetup) -> None:
    parts = aborting_parts(place)
    place.faulty.add_fault(entry_failure("small"))
    parts.pending_attempts.retry_aborting_file()
    assert paths_of(parts.work.aborting_files.backlog.changes) == [b"large"]
    assert paths_of(parts.work.failed_paths.backlog.changes) == [b"small"]


def unexplained_parts(place: WorkerSetup, *, steps: int) -> WorkerParts:
    """Return parts with an entry whose run has failed, and will look at so many steps more."""
    place.write("d/odd", "d/other")
    parts = place.parts(GROWING)
    queue = parts.work.unexplained
    for _ in range(steps):
        queue.add_failed(entries(b"d/odd"), Verdict.PARTIAL)
    if not steps:
        queue.add_failed(entries(b"d/odd"), Verdict.RETRY_LATER)
    queue.include_since(5.0)
    place.faulty.add_rule("none", "true")
    return parts


@pytest.mark.parametrize(
    ("steps", "listed"), [(0, ["d/odd"]), (1, ["d/"]), (2, ["./"]), (3, ["EVERYTHING"])]
)
def test_what_failed_without_a_name_is_confirmed_by_a_run_that_ends_well(
    place: WorkerSetup, steps: int, listed: list[str]
) -> None:
    parts = unexplained_parts(place, steps=steps)
    parts.pending_attempts.retry_unexplained()
    if steps != 2:
        assert place.faulty.runs == [listed]
    assert not parts.work.unexplained.backlog
    assert parts.work.unexplained.since is None
    assert (place.copy / "d/odd").exists()
    assert sum(parts.session.statistics.counts().lags) == 1


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize(("status", "more"), [(23, 1), (30, 0)])
def test_what_fails_again_without_a_name_stays_pending_itself(
    place: WorkerSetup, status: int, more: int, steps: int
) -> None:
    parts = unexplained_parts(place, steps=steps)
    place.faulty.add_rule("", exit_with(status))
    parts.pending_attempts.retry_unexplained()
    queue = parts.work.unexplained
    assert paths_of(queue.backlog.changes) == [b"d/odd"]
    assert queue.since == 5.0
    assert queue.due_at > time.monotonic() + 300.0
    assert kinds(place) == [NoticeKind.ERROR]
    changes, wider = queue.take_widened()
    assert set(wider) == set(widened(changes, steps + more))


def test_what_a_broken_run_adds_stays_pending_with_the_changes_themselves(
    place: WorkerSetup,
) -> None:
    parts = unexplained_parts(place, steps=0)
    # The directory in which the receiver was writing is listed once more.
    place.faulty.add_rule("", "kill -KILL $$")
    parts.pending_attempts.retry_unexplained()
    assert paths_of(parts.work.unexplained.backlog.changes) == [b"d", b"d/odd"]


def test_what_a_wider_run_names_is_a_failed_path(place: WorkerSetup) -> None:
    parts = unexplained_parts(place, steps=1)
    place.faulty.add_rule("", entry_failure("d/odd"))
    parts.pending_attempts.retry_unexplained()
    assert not parts.work.unexplained.backlog
    assert paths_of(parts.work.failed_paths.backlog.changes) == [b"d/odd"]


def test_a_file_that_does_not_fit_among_unexplained_ones_is_set_apart(place: WorkerSetup) -> None:
    parts = unexplained_parts(place, steps=1)
    place.faulty.add_rule("", too_large(place, "d/other"))
    parts.pending_attempts.retry_unexplained()
    assert paths_of(parts.work.aborting_files.backlog.changes) == [b"d/other"]


@pytest.mark.parametrize("steps", [0, 1])
def test_only_the_changes_themselves_are_held(tmp_path: Path, steps: int) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, max_delete=0)) as place:
        parts = unexplained_parts(place, steps=steps)
        (place.copy / "d").mkdir()
        (place.copy / "d/foreign").touch()
        if not steps:
            (place.source / "d/odd").unlink()
            (place.copy / "d/odd").touch()
        parts.pending_attempts.retry_unexplained()
        queue = parts.work.unexplained
        assert paths_of(queue.backlog.changes) == [b"d/odd"]
        assert queue.verdict is (Verdict.PARTIAL if steps else Verdict.HELD)
        assert (place.copy / "d/foreign").exists()
        if steps:
            # From now on, nothing else is looked at.
            assert queue.take_widened()[1].entries


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_release_applies_to_changes_whose_retries_would_be_wider(
    place: WorkerSetup, attempts: int
) -> None:
    place.write("f", "d/a")
    parts = place.parts()
    add(parts, WorkItem(entries(b"f"), clock.now()))
    parts.pending_attempts.carry_next_run()
    for _ in range(attempts):
        place.faulty.add_fault(print_error_and_exit("unexpected", 23))
    add(parts, WorkItem(entries(b"d/a"), clock.now()))
    parts.pending_attempts.carry_next_run()
    for _ in range(attempts - 1):
        parts.pending_attempts.retry_unexplained()
    place.copy.rename(place.copy.with_name("away"))
    place.copy.mkdir()
    parts.pending_attempts.retry_unexplained()
    assert parts.work.unexplained.verdict is Verdict.SOURCE_UNSAFE
    add(parts, WorkItem(NOTHING, is_urgent=True, is_release=True))
    parts.pending_attempts.retry_unexplained()
    assert (place.copy / "d/a").exists()
    assert not parts.work.pending_count


@pytest.mark.parametrize("is_verified", [True, False])
def test_what_was_moved_is_moved_at_a_destination_that_was_compared_as_a_whole(
    place: WorkerSetup, *, is_verified: bool
) -> None:
    for name in ("old/f", "old/g"):
        (place.source / name).parent.mkdir(exist_ok=True)
        (place.source / name).write_bytes(os.urandom(SIZE))
    with place.worker() as worker:
        changes = EVERYTHING if is_verified else entries(b"old", b"old/f", b"old/g")
        worker.put(WorkItem(changes, clock.now()))
        wait_until(lambda: place.saved_changes() == set())
        (place.source / "old").rename(place.source / "new")
        worker.put(WorkItem(moved_changes(place.source, {"new": "old"}), clock.now()))
        wait_until(lambda: copied(place) == ["new"] and not worker.pending_count)
        assert worker.status().counts.moved_files == (2 if is_verified else 0)


def test_nothing_is_moved_while_changes_are_held(make: Callable[..., WorkerSetup]) -> None:
    place = make(max_delete=0)
    for name in ("old/f", "old/g", "gone"):
        (place.source / name).parent.mkdir(exist_ok=True)
        (place.source / name).write_bytes(os.urandom(SIZE))
    with place.worker(LONG) as worker:
        worker.put(WorkItem(EVERYTHING, clock.now()))
        wait_until(lambda: place.saved_changes() == set())
        (place.source / "gone").unlink()
        worker.put(WorkItem(entries(b"gone"), clock.now()))
        wait_until(lambda: worker.status().condition is Condition.HELD)
        (place.source / "old").rename(place.source / "new")
        moved = moved_changes(place.source, {"new": "old"})
        worker.put(WorkItem(moved, clock.now(), is_urgent=True, is_release=True))
        wait_until(lambda: copied(place) == ["new"] and not worker.pending_count)
        assert worker.status().counts.moved_files == 0
