"""A full sync in parts equals one that is not divided, whatever becomes of the parts."""

import os
import shlex
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.faults import exit_with, hang, print_error_and_exit, wait_for_file
from support.mounts import Mounts, can_mount
from support.servers import LOOPBACK, RsyncDaemon, SshServer
from support.trees import compare, differences, snapshot
from support.waiting import wait_until
from support.worker_setup import WorkerSetup, changed_paths, entries

from pylsyncd.model.changes import ALL_NEW, EVERYTHING
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.pipeline import tree_parts
from pylsyncd.pipeline.tree_parts import ENTRY_WEIGHT
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.rsync.ssh_sharing import SshSharing
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.worker.publisher import Publisher, TransferConditions
from pylsyncd.worker.resources import RunSlots, SharedResources
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer_result import TransferResult

MakeSetup = Callable[..., WorkerSetup]
ANYTHING = "true"
FILES = 40


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_parts, "MIN_PART_WEIGHT", 10 * ENTRY_WEIGHT)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeSetup]:
    """Return a function that makes a source with a tree, and keeps the commands of all runs."""
    made: list[WorkerSetup] = []

    def make(parallel: int = 3, **options: object) -> WorkerSetup:
        prelude = f'echo "$*" >>{shlex.quote(str(tmp_path / "commands"))}; exec'
        setup = WorkerSetup(tmp_path, parallel=parallel, prelude=prelude, **options)  # type: ignore[arg-type]
        setup.write(*(f"{number % 7}/{number % 3}/{number}" for number in range(FILES)))
        made.append(setup)
        return setup

    yield make
    for each in made:
        each.close()


def full_sync(
    setup: WorkerSetup, session: RsyncSession | None = None, **options: object
) -> TransferResult:
    transfer = setup.transfer(session or setup.session())
    return transfer.carry(EVERYTHING, **options)  # type: ignore[arg-type]


def commands(setup: WorkerSetup) -> list[str]:
    return (setup.source.parent / "commands").read_text().splitlines()


def are_parts(setup: WorkerSetup) -> list[bool]:
    """Return for each run whether it has carried a part, or made the root."""
    # With --force, the run of a list is one that deletes nothing.
    return [
        "--ignore-missing-args" in command and "--force" not in command
        for command in commands(setup)
    ]


def assert_equal(setup: WorkerSetup) -> None:
    assert differences(os.fsencode(setup.source), os.fsencode(setup.copy)) == []


def test_the_parts_are_carried_by_several_runs_and_the_last_run_is_the_usual_one(
    make: MakeSetup,
) -> None:
    setup = make()
    session = setup.session()
    result = full_sync(setup, session)
    assert (result.verdict, bool(result.pending)) == (Verdict.DONE, False)
    assert_equal(setup)
    parts = are_parts(setup)
    assert len(parts) > 4
    assert parts == [True] * (len(parts) - 1) + [False]
    assert not [command for command in commands(setup)[:-1] if "--delete" in command]
    assert " --delete " in commands(setup)[-1]
    # They count as one.
    counts = session.statistics.counts()
    assert (counts.outcomes, counts.codes) == ({"done": 1}, {0: 1})
    directories = sum(path.is_dir() for path in setup.source.rglob("*"))
    assert result.run is not None
    assert counts.files == result.run.result.files >= FILES + directories
    assert result.run.result.transferred == FILES


def test_everything_that_a_full_sync_mends_is_mended(make: MakeSetup) -> None:
    setup = make()
    full_sync(setup)
    source, copy = setup.source, setup.copy
    (source / "0/0/0").write_text("changed content")
    (source / "empty").mkdir()
    (source / "link").symlink_to("0")
    os.mkfifo(source / "1/fifo")
    (source / "2").chmod(0o700)
    (copy / "extra/deep").mkdir(parents=True)
    (copy / "extra/deep/file").touch()
    (copy / "3/extra").touch()
    # Each is something else there.
    (copy / "4/1/4").unlink()
    (copy / "4/1/4").mkdir()
    (copy / "4/1/4/inside").touch()
    os.rename(copy / "5", copy / "five")
    (copy / "5").symlink_to(source.parent / "elsewhere")
    (source.parent / "elsewhere").mkdir()
    os.utime(source / "6", (1, 1))
    os.utime(source, (2, 2))
    result = full_sync(setup)
    assert (result.verdict, bool(result.failed)) == (Verdict.DONE, False)
    assert_equal(setup)
    assert os.listdir(source.parent / "elsewhere") == []
    assert (copy / "6").stat().st_mtime == 1
    assert stat.S_ISFIFO((copy / "1/fifo").stat().st_mode)


def test_hard_links_are_made_across_parts_and_their_content_is_sent_once(
    make: MakeSetup,
) -> None:
    setup = make(extra_options=("-H",))
    (setup.source / "0/0/big").write_bytes(os.urandom(300_000))
    for number in range(1, 7):
        os.link(setup.source / "0/0/big", setup.source / f"{number}/link")
    result = full_sync(setup)
    assert result.verdict is Verdict.DONE
    assert_equal(setup)
    assert (setup.copy / "6/link").stat().st_nlink == 7
    assert result.run is not None
    assert 300_000 < result.run.result.bytes_sent < 400_000


def test_what_is_excluded_stays_as_it_is(make: MakeSetup) -> None:
    setup = make()
    setup.set_rules(build_rules([parse_exclude(b"/3/"), parse_exclude(b"*.o")]))
    setup.write("4/a.o", "5/1/b", "6/0/6")
    (setup.copy / "3").mkdir()
    (setup.copy / "3/own").touch()
    (setup.copy / "own.o").touch()
    result = full_sync(setup, excluded={b"5/1"}, in_flight=frozenset([b"6/0/6"]))
    assert result.verdict is Verdict.DONE
    assert sorted(os.listdir(setup.copy)) == ["0", "1", "2", "3", "4", "5", "6", "own.o"]
    assert os.listdir(setup.copy / "3") == ["own"]
    missing = ("4/a.o", "5/1", "6/0/6")
    assert [name for name in missing if (setup.copy / name).exists()] == []


@pytest.mark.parametrize(
    ("options", "everything"),
    [({"parallel": 1}, EVERYTHING), ({"dry_run": True}, EVERYTHING), ({}, ALL_NEW),
     ({"extra_options": ("--checksum",)}, EVERYTHING), ({}, entries(b"0/0/0"))],
    ids=["one run", "dry run", "all contents are compared", "with --checksum", "not everything"],
)  # fmt: skip
def test_some_syncs_are_not_divided(
    make: MakeSetup, options: dict[str, object], everything: object
) -> None:
    setup = make(**options)
    setup.transfer(setup.session()).carry(everything)  # type: ignore[arg-type]
    assert are_parts(setup) == [False]


def test_the_walk_waits_for_the_runs_if_too_much_waits_for_one(
    make: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_parts, "MAX_WAITING_PIECES", 1)
    setup = make(parallel=2)
    may_go, started = setup.source.parent / "may-go", setup.source.parent / "started"
    setup.faulty.add_fault(ANYTHING)  # the root
    for _ in range(2):
        setup.faulty.add_fault(f"touch {started}; {wait_for_file(may_go)}; exit 12")
    entered: list[bytes] = []
    add = tree_parts.TreeParts.add

    def count(parts: tree_parts.TreeParts, piece: tree_parts.Piece) -> None:
        entered.append(piece.directory)
        add(parts, piece)

    monkeypatch.setattr(tree_parts.TreeParts, "add", count)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(full_sync, setup)
        wait_until(started.exists)
        may_go.touch()
        assert future.result(45).verdict is Verdict.DONE
    # Both runs have failed, and the walk has ended with them: the last run carries everything.
    assert len(entered) < sum(path.is_dir() for path in setup.source.rglob("*"))
    assert_equal(setup)


def test_a_small_tree_is_not_divided(make: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_parts, "MIN_PART_WEIGHT", 1 << 30)
    setup = make()
    assert full_sync(setup).verdict is Verdict.DONE
    assert are_parts(setup) == [False]
    assert_equal(setup)


def test_too_many_deletions_hold_the_sync_before_its_parts(make: MakeSetup) -> None:
    setup = make(max_delete=1)
    (setup.copy / "extra").mkdir()
    (setup.copy / "extra/file").touch()
    assert full_sync(setup).verdict is Verdict.HELD
    assert are_parts(setup) == [False]
    assert os.listdir(setup.copy) == ["extra"]


def test_each_run_over_ssh_has_a_connection_which_is_closed_with_it(
    make: MakeSetup, ssh_server: SshServer, open_directory: Path
) -> None:
    setup = make()
    target = os.fsencode(f"localhost:{setup.copy}/")
    setup.set_destination(
        Destination("h", "", Transport.SHELL, "localhost", target), ssh_server.rsh
    )
    before = ssh_server.log.read_bytes().count(b"Accepted publickey")
    sharing = SshSharing(str(open_directory))
    session = setup.session(SharedResources(ssh_sharing=sharing))
    try:
        assert full_sync(setup, session).verdict is Verdict.DONE
        (directory,) = open_directory.iterdir()
        wait_until(lambda: len(os.listdir(directory)) == 1)
    finally:
        session.close()
        sharing.close()
    logins = ssh_server.log.read_bytes().count(b"Accepted publickey") - before
    # One of the session, and up to three of the runs before its own.
    assert 2 <= logins <= 4
    assert_equal(setup)


def test_an_rsync_daemon_that_permits_few_connections_gets_everything(
    make: MakeSetup, tmp_path: Path
) -> None:
    setup = make(parallel=6)
    limits = {"max connections": "2", "lock file": str(tmp_path / "lock")}
    with RsyncDaemon(tmp_path, {"m": setup.copy}, {"m": limits}) as server:
        target = os.fsencode(server.url("m"))
        setup.set_destination(Destination("d", "", Transport.DAEMON, LOOPBACK, target))
        transfer = setup.transfer(setup.session())
        # The connection of a run may end after it.
        wait_until(lambda: transfer.carry(EVERYTHING).verdict is Verdict.DONE)
    assert_equal(setup)


def test_a_part_that_fails_is_carried_by_another_run(
    make: MakeSetup, caplog: pytest.LogCaptureFixture
) -> None:
    setup = make()
    caplog.set_level("INFO")
    setup.faulty.add_fault(ANYTHING)  # the root
    setup.faulty.add_fault(print_error_and_exit("@ERROR: max connections (2) reached", 5))
    result = full_sync(setup)
    assert result.verdict is Verdict.DONE
    assert result.run is not None
    # The last run has found everything there.
    assert result.run.result.transferred == FILES
    assert "continuing with 2" in caplog.text
    assert_equal(setup)


@pytest.mark.parametrize("first_fault", [0, 1], ids=["the root", "all parts"])
def test_if_no_part_succeeds_the_last_run_carries_everything(
    make: MakeSetup, first_fault: int
) -> None:
    setup = make()
    setup.faulty.add_fault(ANYTHING if first_fault else exit_with(12))
    for _ in range(3 * first_fault):
        setup.faulty.add_fault(exit_with(12))
    result = full_sync(setup)
    assert (result.verdict, bool(result.pending)) == (Verdict.DONE, False)
    assert setup.faulty.pending_faults == 0
    assert_equal(setup)


def test_a_path_that_fails_in_its_part_and_in_the_last_run_fails_once(make: MakeSetup) -> None:
    setup = make()
    # A directory that is not empty; in a part nothing may be deleted.
    (setup.copy / "0/0/0/inside").mkdir(parents=True)
    setup.faulty.add_fault(ANYTHING)
    assert full_sync(setup).verdict is Verdict.DONE
    assert_equal(setup)


def test_after_a_failed_last_run_the_parts_are_not_repeated(make: MakeSetup) -> None:
    setup = make()
    session = setup.session()
    transfer = setup.transfer(session)
    # Every run but the last one has it among its options.
    fault = 'case "$*" in *--ignore-missing-args*) rsync "$@"; exit;; esac; exit 12'
    for _ in range(30):
        setup.faulty.add_fault(fault)
    result = transfer.carry(EVERYTHING)
    assert (result.verdict, result.pending.is_everything) == (Verdict.RETRY_LATER, True)
    setup.faulty.discard_faults()
    before = setup.source.parent / "commands"
    before.unlink(missing_ok=True)
    assert transfer.carry(EVERYTHING).verdict is Verdict.DONE
    assert are_parts(setup) == [False]
    # Once it has succeeded, they are.
    setup.write("new/file")
    assert transfer.carry(EVERYTHING).verdict is Verdict.DONE
    assert are_parts(setup).count(True) > 2
    assert_equal(setup)


@pytest.mark.parametrize("ignores_sigterm", [False, True], ids=["TERM", "KILL"])
def test_a_stop_ends_all_runs(make: MakeSetup, *, ignores_sigterm: bool) -> None:
    setup = make()
    session = setup.session()
    started = setup.source.parent / "started"
    started.mkdir()
    setup.faulty.add_fault(ANYTHING)
    for _ in range(3):
        begin = f"touch {shlex.quote(str(started))}/$$"
        setup.faulty.add_fault(f"{begin}; {hang(ignore_sigterm=ignores_sigterm)}")
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(full_sync, setup, session)
        wait_until(lambda: len(os.listdir(started)) == 3)
        session.abort(signal.SIGTERM)
        if ignores_sigterm:
            session.abort(signal.SIGKILL)
        result = future.result(45)
    assert (result.verdict, result.pending.is_everything) == (Verdict.RETRY_LATER, True)
    assert not any("--delete" in command for command in commands(setup))
    assert not [each for each in threading.enumerate() if "part of a sync" in each.name]


def test_an_error_of_the_program_ends_all_runs(
    make: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make()
    session = setup.session()
    setup.faulty.add_fault(ANYTHING)
    for _ in range(2):
        setup.faulty.add_fault(hang())
    setup.faulty.add_fault(ANYTHING)
    run = RsyncSession.run
    calls = iter(range(100))

    def fail_fourth(self: RsyncSession, *arguments: object, **options: object) -> object:
        if next(calls) == 3:
            raise MemoryError
        return run(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(RsyncSession, "run", fail_fourth)
    with pytest.raises(MemoryError):
        full_sync(setup, session)
    assert not [each for each in threading.enumerate() if "part of a sync" in each.name]


def test_the_slots_limit_the_runs_of_parts(make: MakeSetup) -> None:
    setup = make()
    session = setup.session(SharedResources(RunSlots(1)))
    lock = setup.source.parent / "lock"
    for _ in range(30):
        # Fails if another run is under way.
        setup.faulty.add_fault(f'mkdir {lock} || exit 12; rsync "$@"; rmdir {lock}; exit 0')
    result = full_sync(setup, session)
    setup.faulty.discard_faults()
    assert result.verdict is Verdict.DONE
    assert_equal(setup)


def test_several_runs_are_under_way_at_the_same_time_and_share_the_bandwidth(
    make: MakeSetup,
) -> None:
    setup = make(extra_options=("--bwlimit=30m",))
    started, may_go = setup.source.parent / "started", setup.source.parent / "may-go"
    started.mkdir()
    setup.faulty.add_fault(ANYTHING)
    for _ in range(3):
        setup.faulty.add_fault(f"touch {shlex.quote(str(started))}/$$; {wait_for_file(may_go)}")
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(full_sync, setup)
        wait_until(lambda: len(os.listdir(started)) == 3)
        may_go.touch()
        assert future.result(45).verdict is Verdict.DONE
    *parts, last = commands(setup)
    assert all(f"--bwlimit={10 << 20}b" in command for command in parts)
    assert "--bwlimit=30m" in last


def test_the_progress_of_all_runs_is_reported_as_one(make: MakeSetup) -> None:
    setup = make()
    found: list[RsyncProgress] = []
    resources = SharedResources(on_progress=lambda _, progress: found.append(progress))
    session = setup.session(resources)
    session.options = replace(session.options, show_progress=True)
    transfer = setup.transfer(session)
    assert transfer.carry(EVERYTHING).verdict is Verdict.DONE
    sent = [progress.files_sent for progress in found]
    assert sent == sorted(sent)
    assert sent[-1] == FILES
    assert found[-1].bytes_done == sum(
        path.stat().st_size for path in setup.source.rglob("*") if path.is_file()
    )
    looked_at = [progress.entries_total - progress.entries_left for progress in found]
    assert looked_at == sorted(looked_at)
    assert found[-1].fraction_done == 1.0


def test_a_failed_walk_leaves_everything_to_the_last_run(
    make: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make()

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("pylsyncd.system.walk.descend", fail)
    assert full_sync(setup).verdict is Verdict.DONE
    assert changed_paths(full_sync(setup).pending) == []
    assert_equal(setup)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("mv {source} {source}.old; mkdir {source}", Verdict.SOURCE_UNSAFE),
        ("mv {source} {source}.old", Verdict.SOURCE_UNSAFE),
        ("cp -a {source} {source}.new; mv {source} {source}.old; mv {source}.new {source}",
         Verdict.SOURCE_UNSAFE),
        ("rm -rf {source}/*", Verdict.SOURCE_UNSAFE),
        ("rm -rf {source}/[3-6]", Verdict.HELD),
        ("mv {copy} {copy}.old; mkdir {copy}", Verdict.SOURCE_UNSAFE),
    ],
    ids=["replaced", "gone", "another directory", "emptied", "many deletions", "other destination"],
)  # fmt: skip
def test_what_becomes_of_the_source_while_the_parts_are_carried_deletes_nothing(
    make: MakeSetup, change: str, verdict: Verdict
) -> None:
    setup = make(max_delete=5 if verdict is Verdict.HELD else None)
    shown: list[bool] = []
    resources = SharedResources(
        on_progress=lambda *_: shown.append(True), on_progress_end=lambda _: shown.append(False)
    )
    session = setup.session(resources)
    transfer = setup.transfer(session)
    transfer.options = replace(transfer.options, show_progress=True)
    assert transfer.carry(EVERYTHING).verdict is Verdict.DONE
    wanted = snapshot(os.fsencode(setup.copy))
    (setup.source.parent / "commands").unlink()
    if verdict is Verdict.HELD:
        setup.faulty.add_fault(ANYTHING)  # the dry run
    setup.faulty.add_fault(ANYTHING)  # the root
    setup.faulty.add_fault(f"cd /; {change.format(source=setup.source, copy=setup.copy)}; exit 12")
    result = transfer.carry(EVERYTHING)
    assert (result.verdict, result.pending.is_everything) == (verdict, True)
    assert shown[-1] is False
    deleting = [each for each in commands(setup) if "--delete" in each and "--dry-run" not in each]
    assert deleting == []
    moved = Path(f"{setup.copy}.old")
    kept = moved if moved.exists() else setup.copy
    assert compare(wanted, snapshot(os.fsencode(kept)), ignore=["mtime_ns"]) == []


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
@pytest.mark.parametrize("is_last", [False, True], ids=["before other parts", "with the last part"])
def test_a_file_system_that_is_unmounted_while_the_parts_are_carried_deletes_nothing(
    make: MakeSetup, tmp_path: Path, *, is_last: bool
) -> None:
    setup = make(parallel=2)
    with Mounts() as mounts:
        disk = setup.source / "disk"
        disk.mkdir()
        mounts.mount_tmpfs(disk, "1m")
        (disk / "file").write_text("on the disk")
        setup.guard.accept()
        transfer = setup.transfer(setup.session())
        assert transfer.carry(EVERYTHING).verdict is Verdict.DONE
        (setup.source.parent / "commands").unlink()
        started, may_go = tmp_path / "started", tmp_path / "may-go"
        wait = f"touch {shlex.quote(str(started))}; {wait_for_file(may_go)}; exit 12"
        # Two failed runs leave no other one.
        for fault in (ANYTHING, *([exit_with(12)] if is_last else ()), wait):
            setup.faulty.add_fault(fault)
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(transfer.carry, EVERYTHING)
            wait_until(started.exists)
            mounts.unmount(disk, lazy=True)
            may_go.touch()
            result = future.result(45)
        assert (result.verdict, result.pending.is_everything) == (Verdict.RETRY_NOW, True)
        assert not any("--delete" in command for command in commands(setup))
        result = transfer.carry(EVERYTHING)
        assert (result.verdict, changed_paths(result.held)) == (Verdict.DONE, [b"disk"])
        assert (setup.copy / "disk/file").read_text() == "on the disk"


def test_a_destination_without_nanoseconds_receives_each_file_once(make: MakeSetup) -> None:
    setup = make()
    # What is sent has the time of a whole second.
    coarse = f'rsync "$@"; find {setup.copy} -exec touch -hd @1000000000 {{}} +; exit 0'
    for path in setup.source.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + 123_456_789))
    for _ in range(30):
        setup.faulty.add_fault(
            f'case "$*" in *--ignore-missing-args*) {coarse};; esac; exec rsync "$@"'
        )
    # A file that has just changed tells nothing.
    written_ns = time.time_ns()
    wait_until(lambda: time.time_ns() > written_ns + 30_000_000)
    session = setup.session()
    transfer = setup.transfer(session)
    result = transfer.carry(EVERYTHING)
    setup.faulty.discard_faults()
    assert result.verdict is Verdict.DONE
    assert transfer.options.modify_window == 0
    assert result.run is not None
    assert result.run.result.transferred == FILES


def test_the_files_that_go_last_are_in_no_part_and_the_sync_that_deletes_is_not_divided(
    make: MakeSetup,
) -> None:
    setup = make(last=build_rules([parse_exclude(b"/0/0/0")]))
    (setup.copy / "extra").touch()
    present = setup.source.parent / "present"
    seen = f"[ ! -e {setup.copy}/0/0/0 ] || touch {present}"
    run = f'{setup.faulty.real_rsync} "$@"; {seen}; exit 0'
    for _ in range(30):
        setup.faulty.add_fault(f'case "$*" in *--ignore-missing-args*--mkpath*) {run};; esac')
    transfer = setup.transfer(setup.session())
    result = Publisher(transfer).carry(EVERYTHING, TransferConditions())
    setup.faulty.discard_faults()
    assert (result.verdict, bool(result.pending)) == (Verdict.DONE, False)
    assert not present.exists()
    # The data, the last file, the deletions.
    parts = are_parts(setup)
    assert parts == [True] * (len(parts) - 3) + [False] * 3
    assert len(parts) > 5
    assert_equal(setup)


@pytest.mark.parametrize("deletion", DeletionTime)
def test_only_what_may_be_deleted_is_deleted(make: MakeSetup, deletion: DeletionTime) -> None:
    setup = make(delete_only=deletion)
    for name in ("gone", "kept"):
        (setup.copy / name).touch()
    deletable = MutableScopedPaths()
    deletable.add(b"gone", Scope.ENTRY)
    everything = EVERYTHING.with_deletable(deletable)
    result = setup.transfer(setup.session()).carry(everything)
    assert result.verdict is Verdict.DONE
    assert are_parts(setup).count(True) > 2
    assert not (setup.copy / "gone").exists()
    (setup.source / "kept").touch()
    assert full_sync(setup).verdict is Verdict.DONE
    assert_equal(setup)
