"""A hook runs before the runs for a destination, which wait for it and are put off if it fails."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import pytest
from support.waiting import wait_until
from support.worker_setup import LONG, WorkerParts, WorkerSetup, copied, entries

from pylsyncd.model.notices import NoticeKind
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.report.hook_process import HookCommand
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system.logs import NOTICE
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.worker import Worker

Make = Callable[..., WorkerSetup]


def with_hook(text: str, time_limit: float = 45.0) -> SharedResources:
    """Return the resources of a destination with this shell script as its hook."""
    hook = HookCommand(("sh", "-c", text), "www", time_limit)
    return SharedResources(find_before_hook=lambda name: hook if name == "copy" else None)


@contextlib.contextmanager
def running(place: WorkerSetup, resources: SharedResources) -> Iterator[Worker]:
    """Run a worker until the end of the test."""
    queue = WorkQueue()
    parts = place.parts(resources=resources, wake=queue.wake)
    worker = Worker(
        parts.session, parts.transfer, parts.work, queue,
        reporter=parts.reporter, checkpoint=None, on_failed=lambda _: None,
    )  # fmt: skip
    worker.start()
    try:
        yield worker
    finally:
        worker.request_stop()
        worker.join()


def attempt(parts: WorkerParts, *names: bytes) -> None:
    """Make one attempt to carry files."""
    if names:
        parts.attempts.add(WorkItem(entries(*names)), 0.0)
    parts.pending_attempts.carry_next_run()


def test_a_run_waits_for_the_hook_which_receives_what_it_carries(place: WorkerSetup) -> None:
    place.write("a")
    seen = place.source.with_name("seen")
    parts = place.parts(
        resources=with_hook(
            f"cat >{seen}; echo $PYLSYNCD_EVENT $PYLSYNCD_SYNC $PYLSYNCD_DESTINATION "
            f"$PYLSYNCD_SOURCE $PYLSYNCD_PATHS >>{seen}; ls {place.copy} >>{seen}"
        )
    )
    attempt(parts, b"a", b"gone")
    assert copied(place) == ["a"]
    assert seen.read_text() == f"./a\0./gone\0before www copy {place.source} 2\n"


@pytest.mark.parametrize(
    ("text", "time_limit", "reason"),
    [
        ("exit 3", 45.0, "sh ended with exit status 3"),
        ("kill -9 $$", 45.0, "sh was ended by SIGKILL"),
        ("exec sleep 600", 0.05, "sh exceeded hook_timeout (0.05 s) and was terminated"),
    ],
)
def test_a_hook_that_fails_puts_the_run_off_like_a_failed_attempt(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture,
    text: str, time_limit: float, reason: str,
) -> None:  # fmt: skip
    place.write("a")
    is_mended = place.source.with_name("mended")
    hook = with_hook(f"[ -e {is_mended} ] || {{ {text}; }}", time_limit)
    parts = place.parts(LONG, resources=hook)
    attempt(parts, b"a")
    next_run = parts.work.next_run
    assert (next_run.verdict, next_run.failure_count) == (Verdict.RETRY_LATER, 1)
    assert not next_run.is_due()
    assert not parts.attempts.is_reachable
    assert copied(place) == []
    assert parts.reporter.last_error == f"the hook before the run failed: {reason}."
    warning = (
        f"[copy] the hook before the run failed: {reason}. Pending: 1 change; next attempt in "
    )
    assert [message.startswith(warning) for message in caplog.messages] == [True]
    assert [each.kind for each in place.notices] == [NoticeKind.ERROR]
    # It is not said again, and rsync never ran.
    attempt(parts)
    assert len(caplog.messages) == 1
    assert next_run.failure_count == 2
    assert not parts.session.statistics.counts().codes
    is_mended.touch()
    attempt(parts)
    assert copied(place) == ["a"]
    assert [each.kind for each in place.notices[1:]] == [NoticeKind.BATCH, NoticeKind.RECOVERY]


def test_a_hook_that_cannot_be_run_puts_the_run_off(place: WorkerSetup) -> None:
    missing = f"{place.source}/missing"
    hook = HookCommand((missing,), "", 45.0)
    parts = place.parts(resources=SharedResources(find_before_hook=lambda _: hook))
    attempt(parts, b"a")
    expected = f"cannot run {missing}: No such file or directory."
    assert parts.reporter.last_error.endswith(expected)


def test_its_output_is_logged_and_bounded(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE)
    attempt(place.parts(resources=with_hook("seq 1000")), b"a")
    lines = [message for message in caplog.messages if "hook before: " in message]
    assert (lines[0], lines[-1]) == ("[copy] hook before: 1", "[copy] hook before: 1000")
    assert len(lines) == 101


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_no_hook_runs_while_the_source_is_held_or_in_a_dry_run(
    make: Make, *, is_dry_run: bool
) -> None:
    place = make(dry_run=is_dry_run)
    was_run = place.source.with_name("was-run")
    if not is_dry_run:
        place.source.rename(place.source.with_name("away"))
    attempt(place.parts(resources=with_hook(f"touch {was_run}")), b"a")
    assert not was_run.exists()


def test_an_idle_destination_with_a_hook_is_not_probed(make: Make) -> None:
    place = make(is_probed=False)
    place.faulty.add_rule("", "true")
    place.write("a")
    parts = place.parts(resources=with_hook("true"))
    parts.attempts.probe_while_idle()
    assert place.faulty.runs == []
    attempt(parts, b"a")
    assert place.faulty.runs == [[".pylsyncd-probe"], ["a"]]


def test_a_repair_waits_for_the_hook(place: WorkerSetup) -> None:
    place.write("a")
    parts = place.parts(resources=with_hook("exit 1"), repair_interval=1.0)
    parts.repair_attempts.carry_next()
    assert copied(place) == []


def test_a_batch_of_large_files_waits_for_the_hook(make: Make) -> None:
    place = make(size_limit=SizeLimit(0, preserves_hard_links=False))
    place.write("f")
    is_mended = place.source.with_name("mended")
    parts = place.parts(resources=with_hook(f"[ -e {is_mended} ] || exit 1"))
    large_files = parts.work.large_files
    large_files.start()
    try:
        for is_copied in (False, True):
            if is_copied:
                is_mended.touch()
            large_files.add(entries(b"f"))
            large_files.retry_queue.make_due()
            large_files.start_due_batch()
            assert large_files.worker is not None
            wait_until(lambda: not large_files.worker._results.empty())  # noqa: SLF001
            parts.attempts.take_finished_batch()
            assert copied(place) == (["f"] if is_copied else [])
    finally:
        large_files.stop()
    assert "failed: sh ended with exit status 1" in place.notices[0].reason


def test_a_destination_is_not_syncing_while_its_hook_runs(place: WorkerSetup) -> None:
    place.write("a")
    has_begun, may_end = place.source.with_name("begun"), place.source.with_name("end")
    text = f"touch {has_begun}; until [ -e {may_end} ]; do sleep 0.02; done"
    with running(place, with_hook(text)) as worker:
        worker.put(WorkItem(entries(b"a")))
        wait_until(has_begun.exists)
        status = worker.status()
        assert (status.condition, status.waiting) == (Condition.WAITING, 1)
        may_end.touch()
        wait_until(lambda: worker.status().condition is Condition.IN_SYNC)
    assert copied(place) == ["a"]


def test_an_abort_ends_the_hook_and_starts_no_run(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    has_begun = place.source.with_name("begun")
    with running(place, with_hook(f"touch {has_begun}; exec sleep 600")) as worker:
        worker.put(WorkItem(entries(b"a")))
        wait_until(has_begun.exists)
        worker.abort(signal.SIGTERM)
        wait_until(lambda: not worker.is_alive())
    assert {change.path for change in worker.take_unconfirmed().changeset} == {b"a"}
    assert copied(place) == caplog.messages == []
