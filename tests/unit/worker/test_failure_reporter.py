"""Each failure is reported loudly once, until the destination works again."""

import logging
import time

import pytest

from pylsyncd.model.changes import EVERYTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.outcomes import RELEASE_COMMAND, UNRESOLVED, Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.runner import RunResult
from pylsyncd.worker.destination_guard import RELEASE_HINT
from pylsyncd.worker.failure_reporter import FailureReporter, addressed, describe_failure
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer_result import TransferResult

UNREACHABLE = Outcome(Verdict.RETRY_LATER, "the connection failed", "ssh: no route to host")
HELD = Outcome(Verdict.HELD, "the path cannot be created")


class Report:
    """A reporter, its notices, and a queue whose next attempt is due much later."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        destination = Destination("copy", "host:/copy", Transport.SHELL, "host", b"host:/copy")
        self.reporter = FailureReporter(destination, b"/source", self.notices.append)
        self.attempts = RetryQueue(RetryPolicy(first_pause=600.0, max_pause=600.0))
        self.attempts.backlog.add(EVERYTHING)

    def fail(
        self, outcome: Outcome, *paths: bytes, code: int = 0, is_stopping: bool = False
    ) -> None:
        failed = MutableChangeset()
        for path in paths:
            failed.add(path, Scope.ENTRY)
        run = SessionRun(outcome, RunResult(code))
        self.attempts.schedule_retry(outcome.verdict)
        self.reporter.report_failure(
            TransferResult(outcome, pending=EVERYTHING, failed=failed, run=run), self.attempts,
            is_stopping=is_stopping,
        )  # fmt: skip

    @property
    def kinds(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.notices]


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("dst", "check its spelling, and DNS. If dst is a directory, write ./dst"),
        ("dst:", "check its spelling, and DNS"),
        ("me@dst", "check its spelling, and DNS"),
    ],
)
def test_a_directory_that_was_taken_for_a_host_is_suspected(notation: str, expected: str) -> None:
    host = Destination("dst", notation, Transport.SHELL, "dst", b"dst:/copy")
    outcome = addressed(Outcome(Verdict.RETRY_LATER, UNRESOLVED), host)
    assert outcome.reason.endswith(expected)


def test_a_command_to_type_names_the_destination(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.fail(Outcome(Verdict.HELD, f"first run {RELEASE_COMMAND}", f"or {RELEASE_COMMAND}"))
    assert "first run pylsyncctl release copy (or pylsyncctl release copy)." in caplog.text
    assert report.notices[0].reason == "first run pylsyncctl release copy"
    blank = Destination("a b", "./a b", Transport.LOCAL, None, b"/a b/")
    outcome = addressed(Outcome(Verdict.HELD, "held", RELEASE_HINT), blank)
    assert "run pylsyncctl release 'a b', or" in outcome.message


@pytest.fixture
def report(caplog: pytest.LogCaptureFixture) -> Report:
    caplog.set_level(logging.INFO)
    return Report()


def test_a_failure_is_a_warning_and_a_notice_with_reason_message_and_exit_status(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.fail(UNREACHABLE, code=255)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith(
        "[copy] the connection failed (ssh: no route to host). Pending: every"
    )
    assert "; next attempt in " in message
    (notice,) = report.notices
    assert (notice.kind, notice.code) == (NoticeKind.ERROR, 255)
    assert (notice.reason, notice.message) == (UNREACHABLE.reason, UNREACHABLE.message)
    assert (notice.name, notice.target, notice.source) == ("copy", "host:/copy", b"/source")
    assert notice.changeset.is_everything


def test_the_same_failure_is_a_warning_once(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        report.fail(UNREACHABLE)
    assert [record.levelno for record in caplog.records] == [
        logging.WARNING,
        logging.INFO,
        logging.INFO,
    ]
    assert report.kinds == [NoticeKind.ERROR]


def test_the_same_reason_for_other_paths_is_news(report: Report) -> None:
    partial = Outcome(Verdict.PARTIAL, "some paths cannot be read")
    for path in (b"a", b"b", b"a"):
        report.fail(partial, path)
    assert report.kinds == [NoticeKind.ERROR, NoticeKind.ERROR]


def test_a_failure_that_is_retried_at_once_is_no_news(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.fail(Outcome(Verdict.RETRY_NOW, "files changed"))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert not report.notices


@pytest.mark.parametrize("verdict", [Verdict.HELD, Verdict.SOURCE_UNSAFE])
def test_a_failure_that_needs_a_person_is_a_notice_of_its_own_kind(
    report: Report, verdict: Verdict
) -> None:
    report.fail(Outcome(verdict, "a reason"))
    assert report.kinds == [NoticeKind.HELD]


def test_a_held_failure_asks_a_person_to_act(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.fail(HELD)
    assert "Held until you act. Pending: everything" in caplog.text


def test_a_stopping_worker_announces_no_next_attempt(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.fail(UNREACHABLE, is_stopping=True)
    assert "next attempt" not in caplog.text


def test_a_recovery_is_reported_once_and_makes_failures_news_again(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report.reporter.report_recovery()
    report.fail(UNREACHABLE)
    assert report.reporter.last_error == "the connection failed (ssh: no route to host)."
    for _ in range(2):
        report.reporter.report_recovery()
    assert report.reporter.last_error == ""
    report.fail(UNREACHABLE)
    assert report.kinds == [NoticeKind.ERROR, NoticeKind.RECOVERY, NoticeKind.ERROR]
    assert caplog.text.count("[copy] works again.") == 1


def test_the_time_of_the_first_failure_is_kept_until_the_recovery(report: Report) -> None:
    reporter = report.reporter
    assert reporter.failing_since is None
    before = time.time()
    report.fail(UNREACHABLE)
    first = reporter.failing_since
    assert first is not None
    assert before <= first <= time.time()
    report.fail(HELD)
    assert reporter.failing_since == first
    successor = Report().reporter
    successor.continue_after(reporter)
    assert successor.failing_since == first
    reporter.report_recovery()
    assert reporter.failing_since is None


def test_no_failure_is_not_reported(report: Report, caplog: pytest.LogCaptureFixture) -> None:
    report.fail(Outcome(Verdict.DONE))
    assert not caplog.records
    assert not report.notices


def test_only_a_run_that_succeeded_is_reported_as_a_batch(report: Report) -> None:
    done = SessionRun(Outcome(Verdict.DONE), RunResult(files=3, deleted=1, bytes_sent=7))
    report.reporter.report_run(EVERYTHING, done)
    report.reporter.report_run(EVERYTHING, SessionRun(UNREACHABLE, RunResult(255)))
    report.reporter.report_run(EVERYTHING, None)
    (notice,) = report.notices
    assert (notice.kind, notice.files, notice.deleted, notice.bytes_sent) == (
        NoticeKind.BATCH, 3, 1, 7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (UNREACHABLE, "the connection failed (ssh: no route to host)."),
        (HELD, "the path cannot be created."),
    ],
)
def test_a_failure_is_described_by_its_reason_and_the_message(
    outcome: Outcome, expected: str
) -> None:
    to = Destination("dst", "dst:", Transport.SHELL, "dst", b"dst:/copy")
    assert describe_failure(outcome, to) == expected
