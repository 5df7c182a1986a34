"""However a destination answers, retries end or get rarer, and a good answer heals everything."""

import contextlib
import tempfile
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import FaultyRsync
from support.trees import equal_within
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system import clock
from pylsyncd.worker.worker import Worker

DENIED = "Permission denied (13)"
# Of `d/a`, `d/b`, `e` and `gone`, some are carried by each run; `other` is not.
SAID = [
    "",
    "what is this?",
    'file has vanished: "/somewhere/else"',
    'file has vanished: "{source}/d/a"',
    'file has vanished: "{source}/other"',
    f'rsync: [sender] send_files failed to open "{{source}}/d/b": {DENIED}',
    f'rsync: [sender] opendir "{{source}}/d" failed: {DENIED}',
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
