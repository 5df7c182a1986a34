"""Workers get some time to end, and then they are stopped. With real rsyncs."""

from support.waiting import wait_until
from support.worker_setup import LONG, WorkerSetup, entries

from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.worker.worker_stop import stop_now, wait_for_end


def test_a_worker_that_ends_by_itself_carries_what_is_pending(place: WorkerSetup) -> None:
    place.write("f")
    with place.worker() as worker:
        worker.put(WorkItem(entries(b"f")))
        worker.request_stop()
        wait_for_end([worker], 600.0, lambda: False)
        assert not worker.is_alive()
    assert (place.copy / "f").exists()


def test_a_worker_that_does_not_end_is_stopped_after_the_grace_period_or_at_a_request(
    place: WorkerSetup,
) -> None:
    for grace, is_requested in ((0.0, False), (600.0, True)):
        place.faulty.add_fault("exec sleep 600")
        with place.worker(LONG) as worker:
            worker.put(WorkItem(entries(b"f")))
            wait_until(lambda: not place.faulty.pending_faults)
            worker.request_stop()
            wait_for_end([worker], grace, lambda is_requested=is_requested: is_requested)
            assert not worker.is_alive()
            assert worker.pending_count


def test_workers_that_have_ended_need_no_stop(place: WorkerSetup) -> None:
    with place.worker() as worker:
        worker.request_stop()
        worker.join()
        stop_now([worker])
        wait_for_end([worker], 600.0, lambda: False)
