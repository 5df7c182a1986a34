"""The service in this process: what it runs to its end, and its reload and status."""

import gc
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import destination, status
from support.limits import no_more_threads
from support.services import ServiceDirectory
from support.waiting import DEADLINE, wait_until

from pylsyncd import supervisor
from pylsyncd.config.settings import Settings
from pylsyncd.control.status_file import read_status_file
from pylsyncd.model.errors import UsageError, WatchError
from pylsyncd.model.status import Condition
from pylsyncd.service import Service, status_line
from pylsyncd.system import descriptors
from pylsyncd.system.threads import ThreadLimitError

HANDLED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def directory(tmp_path: Path) -> ServiceDirectory:
    return ServiceDirectory(tmp_path)


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    # A service holds its pipes as long as the process lives, which here is not its own.
    gc.collect()


def run(
    settings: Settings,
    on_ready: Callable[[], None] = lambda: None,
    reload: Callable[[], Settings] | None = None,
) -> int:
    return Service(settings, reload).run(on_ready=on_ready)


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


def test_with_once_it_ends_when_all_syncs_are_done(directory: ServiceDirectory) -> None:
    directory.write("web", "f")
    directory.write("data", "g")
    settings = directory.settings({"web": ("one",), "data": ("two",)}, once=True)
    assert run(settings) == 0
    assert (directory.copy("one") / "f").exists()
    assert (directory.copy("two") / "g").exists()


def test_one_sync_that_fails_does_not_keep_the_others_from_being_done_once(
    directory: ServiceDirectory,
) -> None:
    directory.write("data", "g")
    settings = directory.settings({"web": ("one",), "data": ("two",)}, once=True)
    directory.copy("two").mkdir(parents=True)
    directory.copy("one").write_text("a file in the way")
    assert run(settings) == 1
    assert (directory.copy("two") / "g").exists()


def test_it_is_ready_when_every_source_is_watched_and_stops_when_told_to(
    directory: ServiceDirectory,
) -> None:
    directory.write("web", "f")
    assert run(directory.settings({"web": ("one",)}), stop) == 0
    assert (directory.copy("one") / "f").exists()


def test_a_source_that_cannot_be_watched_at_the_start_ends_it(
    directory: ServiceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other sync may be slow to stop, on a busy machine.
    monkeypatch.setattr(supervisor, "_STOP_TIMEOUT_AT_START", DEADLINE)
    settings = directory.settings({"web": ("one",), "data": ("two",)})
    directory.source("data").rmdir()
    with pytest.raises(WatchError, match="Cannot watch the source"):
        run(settings, lambda: pytest.fail("it is not ready"))


def test_a_hangup_applies_the_settings_of_the_file(directory: ServiceDirectory) -> None:
    settings = directory.settings({"web": ("one",)})
    directory.write("data", "g")

    def reload() -> Settings:
        signal.raise_signal(signal.SIGTERM)
        return directory.settings({"web": ("one",), "data": ("two",)})

    assert run(settings, lambda: signal.raise_signal(signal.SIGHUP), reload) == 0
    assert (directory.copy("two") / "g").exists()


def test_a_file_with_errors_changes_nothing(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    def reload() -> Settings:
        signal.raise_signal(signal.SIGTERM)
        raise UsageError("line 1: no\nline 2: no")

    settings = directory.settings({"web": ("one",)})
    assert run(settings, lambda: signal.raise_signal(signal.SIGHUP), reload) == 0
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [
        "The configuration has errors and was not applied:", "line 1: no", "line 2: no"
    ]  # fmt: skip


@pytest.mark.parametrize("error", ["", "line 1: no"], ids=["good", "faulty"])
def test_the_status_tells_when_the_configuration_was_read_again_and_why_that_failed(
    directory: ServiceDirectory, error: str
) -> None:
    file = directory.top / "status"
    settings = directory.settings({"web": ("one",)}, f"status_file = {file}")

    def reload() -> Settings:
        signal.raise_signal(signal.SIGTERM)
        if error:
            raise UsageError(f"{error}\nline 2: no")
        return settings

    def hang_up() -> None:
        wait_until(file.exists)
        assert read_status_file(str(file)).last_reload is None
        signal.raise_signal(signal.SIGHUP)

    assert run(settings, hang_up, reload) == 0
    found = read_status_file(str(file))
    assert found.last_reload is not None
    assert found.started <= found.last_reload <= found.time
    expected = f"The configuration has errors and was not applied: {error}; line 2: no"
    assert found.reload_error == (expected if error else "")
    assert found.status_file_written is not None
    assert found.started <= found.status_file_written <= found.time


def test_settings_that_need_a_restart_are_named(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    def reload() -> Settings:
        signal.raise_signal(signal.SIGTERM)
        return directory.settings({"web": ("one",)}, "umask = 027", "chdir = /", "max_runs = 3")

    settings = directory.settings({"web": ("one",)}, f"chdir = {directory.top}")
    run(settings, lambda: signal.raise_signal(signal.SIGHUP), reload)
    assert "These changes take effect after a restart: chdir, umask." in caplog.text


def test_without_a_configuration_file_a_hangup_is_a_full_sync(
    directory: ServiceDirectory,
) -> None:
    settings = directory.settings({"web": ("one",)})

    def damage_and_sync() -> None:
        directory.write("web", "f")
        signal.raise_signal(signal.SIGHUP)
        stop()

    assert run(settings, damage_and_sync) == 0
    assert (directory.copy("one") / "f").exists()


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        ([Condition.IN_SYNC], "1 destination, in sync"),
        ([Condition.IN_SYNC] * 2, "2 destinations, all in sync"),
        (
            [Condition.IN_SYNC, Condition.RETRYING],
            "2 destinations: 1 in sync, 1 retrying (srv1)",
        ),
        ([Condition.HELD] * 2, "2 destinations: 2 held (srv0, srv1)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_status_line_counts_the_destinations_and_names_those_not_in_sync(
    conditions: list[Condition], line: str
) -> None:
    destinations = [destination(f"srv{n}", each) for n, each in enumerate(conditions)]
    assert status_line(status(*destinations)) == line


def test_the_status_line_names_an_unverified_destination() -> None:
    found = status(destination("srv0"), destination("srv1", unverified="it was never compared"))
    assert status_line(found) == "2 destinations: 1 in sync, 1 unverified (srv1)"


def test_the_limit_of_open_files_is_raised_for_many_syncs(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    settings = directory.settings({"one": ("a",), "two": ("b", "c")}, once=True)
    try:
        assert run(settings) == 0
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    # 100, 6 for each sync, 2 for each destination, and 16 for each rsync.
    assert raised == (166, before[1])
    assert "open files" not in caplog.text
    needed: list[int] = []

    def refuse(count: int) -> int:
        needed.append(count)
        return 150

    monkeypatch.setattr(descriptors, "raise_limit", refuse)
    assert run(settings) == 0
    few = replace(settings, process=replace(settings.process, max_runs=1))
    assert run(few) == 0
    assert needed == [166, 134]
    assert "2 syncs to 3 destinations may need 166 open files" in caplog.text
    assert "LimitNOFILE=166" in caplog.text


def test_without_threads_it_ends_with_the_reason(directory: ServiceDirectory) -> None:
    settings = directory.settings({"web": ("one",), "data": ("two",)})
    service = Service(settings)
    with no_more_threads(), pytest.raises(ThreadLimitError, match="divide the syncs"):
        service._start_syncs()  # noqa: SLF001  # after threads of other kinds were started
