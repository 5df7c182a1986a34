"""The output of rsync is split into lines, bounded messages, and progress."""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import PROGRESS_OPTION, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.output import (
    MAX_FIRST_LINES,
    MAX_LAST_LINES,
    LineSplitter,
    ProgressSplitter,
    RsyncMessages,
    RsyncProgress,
    continued_progress,
    summed_progress,
)
from pylsyncd.rsync.runner import Runner, RunResult

SLOW = ("--bwlimit=8000",)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source of 41 files in a directory, 4.1 MB, and no replica."""
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "d").mkdir(parents=True)
    for number in range(41):
        (source / "d" / f"f{number}").write_bytes(os.urandom(100_000))
    return source, replica


def command(source: Path, replica: Path, **options: object) -> list[bytes]:
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    rsync = RsyncOptions("rsync", (3, 2, 7), show_progress=True, **options)  # type: ignore[arg-type]
    return rsync.full_sync_command(os.fsencode(source), to, RsyncCapabilities())


def run(
    source: Path, replica: Path, show: Callable[[str], None] | None = None, **options: object
) -> tuple[RunResult, list[RsyncProgress]]:
    reported: list[RsyncProgress] = []
    arguments = command(source, replica, **options)
    return Runner().run(arguments, b"", show, on_progress=reported.append), reported


def read(chunks: list[bytes]) -> tuple[list[bytes], list[RsyncProgress]]:
    lines: list[bytes] = []
    reported: list[RsyncProgress] = []
    reader = ProgressSplitter(lines.append, reported.append)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return [line for line in lines if line.strip()], reported


# Progress lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b"\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)",
            RsyncProgress(4000000, 44, 2.96 * (1 << 20), 6, 25, 33, is_list_complete=True),
        ),
        (
            b"\r              0   0%    0.00kB/s    0:00:00 (xfr#0, ir-chk=1020/1062)",
            RsyncProgress(0, 0, 0.0, 0, 1020, 1062),
        ),
        (b"\r          32768   1%    1.50kB/s    0:00:00  ", RsyncProgress(32768, 1, 1536.0)),
        (b"\r          32768   1%    2.00GB/s   ??:??:??  ", RsyncProgress(32768, 1,
         float(2 << 30))),
        (b"\r       7200000  80%    1.00kB/s  123:00:02 (xfr#22, to-chk=9/33) ",
         RsyncProgress(7200000, 80, 1024.0, 22, 9, 33, is_list_complete=True)),
    ],
    ids=["a file done", "still listing", "within a file", "no estimate", "padded"],
)  # fmt: skip
def test_a_progress_line_is_parsed(text: bytes, expected: RsyncProgress) -> None:
    assert read([text]) == ([], [expected])


def test_a_field_missing_from_a_progress_line_keeps_its_value() -> None:
    _, reported = read([
        b"\r        4000000  44%    2.00MB/s    0:00:01 (xfr#6, to-chk=25/33)",
        b"\r        4100000  45%    1.00MB/s    0:00:01  ",
    ])  # fmt: skip
    assert reported[-1] == RsyncProgress(
        4100000, 45, float(1 << 20), 6, 25, 33, is_list_complete=True
    )


def test_text_directly_after_a_progress_line_is_a_line_of_its_own() -> None:
    text = (
        b"\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)file has vanished: x\n"
    )
    assert read([text])[0] == [b"file has vanished: x"]


def test_text_before_and_after_a_progress_line_is_two_lines() -> None:
    text = b"half\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)whole\n"
    assert read([text])[0] == [b"half", b"whole"]


@pytest.mark.parametrize(
    "text",
    [
        b"      1,234  45%  1.23MB/s    0:00:01 (xfr#5, to-chk=1/10)\n",
        b"        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)\n",
        b">f+++++++++ \\#015        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)\n",
        b"a message\r\n",
        b"\rnot 44% of what it was\n",
    ],
)
def test_lines_that_resemble_progress_are_passed_on(text: bytes) -> None:
    assert read([text]) == ([text[:-1]], [])


def test_output_may_arrive_in_chunks_of_any_size(trees: tuple[Path, Path]) -> None:
    arguments = command(*trees, extra_options=SLOW, itemize=True)
    output = subprocess.run(
        arguments, stdout=subprocess.PIPE, check=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout
    lines, reported = read([output])
    assert len(lines) > 50
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for pieces in (3, 30, 300):
        cuts = sorted(chance.randrange(len(output)) for _ in range(pieces))
        chunks = [output[a:b] for a, b in zip([0, *cuts], [*cuts, len(output)], strict=True)]
        assert read(chunks)[0] == lines, f"seed {seed}"
        assert read(chunks)[1][-1] == reported[-1], f"seed {seed}"
    assert read([bytes([byte]) for byte in output])[0] == lines


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        (RsyncProgress(), None),
        (RsyncProgress(10, 99, 1.0, 1, 1, 2), None),
        (RsyncProgress(10, 5, 1.0, 1, 10, 100, is_list_complete=True), 0.9),
        (RsyncProgress(10, 80, 1.0, 1, 90, 100, is_list_complete=True), 0.8),
        (RsyncProgress(10, 100, 1.0, 1, 0, 100, is_list_complete=True), 1.0),
    ],
    ids=["begun", "still listing", "most was there", "large files first", "done"],
)
def test_the_done_fraction_is_known_once_the_file_list_is_complete(
    progress: RsyncProgress, fraction: float | None
) -> None:
    assert progress.fraction_done == fraction


# Progress of a real rsync


def test_the_progress_of_several_runs_is_summed() -> None:
    one = RsyncProgress(1000, 50, 10.0, 3, 7, 10, is_list_complete=True)
    other = RsyncProgress(500, 20, 5.0, 1, 2, 4)
    total = summed_progress([one, other, RsyncProgress()])
    assert total == RsyncProgress(1500, 0, 15.0, 4, 9, 14)
    assert total.fraction_done is None


def test_a_run_after_others_continues_their_progress() -> None:
    before = RsyncProgress(1000, 0, 0.0, 8, 0, 10)
    looks_at = partial(RsyncProgress, 20, 1, 5.0, 1)
    assert continued_progress(before, RsyncProgress()) == before
    early = continued_progress(before, looks_at(4, 5))
    assert (early.bytes_done, early.files_sent, early.entries_left) == (1020, 9, 0)
    late = continued_progress(before, looks_at(3, 14, is_list_complete=True))
    assert (late.entries_left, late.entries_total) == (3, 14)
    assert late.fraction_done == pytest.approx(11 / 14)


def test_a_run_reports_its_progress(trees: tuple[Path, Path]) -> None:
    done, reported = run(*trees, extra_options=SLOW)
    assert (done.exit_status, done.files, list(done.messages)) == (0, 42, [])
    # Also before the end; how often depends on the speed of the machine.
    assert len(reported) > 1
    assert [step.bytes_done for step in reported] == sorted(step.bytes_done for step in reported)
    last = reported[-1]
    assert (last.bytes_done, last.percent, last.files_sent, last.entries_left) == (
        4_100_000,
        100,
        41,
        0,
    )
    assert last.fraction_done == 1.0
    assert any(step.bytes_per_second > 0 for step in reported)


def test_progress_is_separated_from_item_lines(trees: tuple[Path, Path]) -> None:
    source, replica = trees
    odd = (
        "        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)",
        "\r        9999999  44%    2.96MB/s    0:00:01 (xfr#99, to-chk=25/33)",
        "\n\r        9999999  44%    2.96MB/s    0:00:01  ",
    )
    for name in odd:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shown: list[str] = []
    done, reported = run(source, replica, shown.append, extra_options=SLOW, itemize=True)
    assert (done.exit_status, list(done.messages)) == (0, [])
    assert len([line for line in shown if line.startswith(">f")]) == 44
    assert all(re.match(r"\S{11} ", line) for line in shown)
    assert sum(line.endswith(odd[0]) for line in shown) == 1
    assert max(step.bytes_done for step in reported) == 4_100_000


def test_messages_between_progress_lines_stay_whole(trees: tuple[Path, Path]) -> None:
    source, replica = trees
    for number in (3, 20, 40):
        (replica / f"d/f{number}/full").mkdir(parents=True)
    arguments = [
        word
        for word in command(source, replica, extra_options=SLOW, delete=False)
        # So that rsync cannot replace the directories.
        if word != b"--force"
    ]
    reported: list[RsyncProgress] = []
    done = Runner().run(arguments, b"", on_progress=reported.append)
    assert done.exit_status == 23
    text = "\n".join(done.messages)
    assert "could not make way for new regular file: d/f20" in text
    assert "%" not in text
    assert reported[-1].files_sent == 38


def test_a_run_without_a_progress_callback_succeeds(trees: tuple[Path, Path]) -> None:
    done = Runner().run(command(*trees), b"")
    assert (done.exit_status, done.files, list(done.messages)) == (0, 42, [])


def test_only_full_syncs_are_run_with_the_progress_option(tmp_path: Path) -> None:
    to = Destination("replica", "", Transport.LOCAL, None, b"/replica/")
    with_progress, without = (
        RsyncOptions("rsync", (3, 2, 7), show_progress=True),
        RsyncOptions("rsync", (3, 2, 7)),
    )
    source = os.fsencode(tmp_path)
    assert PROGRESS_OPTION in with_progress.full_sync_command(source, to, RsyncCapabilities())
    assert PROGRESS_OPTION not in without.full_sync_command(source, to, RsyncCapabilities())
    for other in (
        with_progress.file_list_command(source, to, RsyncCapabilities(), create_parents=True),
        with_progress.probe_command(source, to, RsyncCapabilities()),
        with_progress.as_dry_run().full_sync_command(source, to, RsyncCapabilities()),
        with_progress.compare_command(source, to, RsyncCapabilities(), checksum=False),
    ):
        assert PROGRESS_OPTION not in other


def test_a_stalled_rsync_is_ended(trees: tuple[Path, Path]) -> None:
    stopped: list[int] = []
    reported: list[RsyncProgress] = []

    def stop_the_receiver(progress: RsyncProgress) -> None:
        reported.append(progress)
        if progress.files_sent and not stopped:
            for pid in _below(os.getpid()):
                # All but the process that is watched.
                if pid not in _children(os.getpid()):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)

    arguments = command(*trees, extra_options=("--bwlimit=200",))
    done = Runner().run(arguments, b"", stall_timeout=3.0, on_progress=stop_the_receiver)
    assert stopped
    assert "no progress" in done.stall_reason
    assert reported[-1].percent < 100
    # It prints nothing while it hangs: repeated lines would look like progress.
    assert len(reported) == len(set(reported))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found += map(int, text.split())
    return found


def _below(pid: int) -> list[int]:
    children = _children(pid)
    return children + [below for child in children for below in _below(child)]


# Messages


def shell(text: str) -> RunResult:
    return Runner().run([b"sh", b"-c", text.encode()], b"")


def test_the_first_and_the_last_of_very_many_messages_are_kept() -> None:
    run = shell("seq -f 'rsync: %.0f hurts' 200000 >&2; exit 23")
    kept = list(run.messages)
    assert run.exit_status == 23
    assert len(kept) == MAX_FIRST_LINES + MAX_LAST_LINES
    assert kept[0] == "rsync: 1 hurts"
    assert kept[-1] == "rsync: 200000 hurts"


def test_repeated_messages_are_kept_once_and_none_is_lost() -> None:
    run = shell("for i in 1 2 3; do seq -f 'rsync: %g' 300 >&2; done")
    assert list(run.messages) == [f"rsync: {number}" for number in range(1, 301)]


def test_very_many_messages_neither_block_rsync_nor_fill_the_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = shell(
        f"yes 'rsync: {'x' * 100}' | head -c 300000000 >&2; "
        "seq -f 'rsync: %.0f' 100000 >&2; exit 23"
    )
    assert run.exit_status == 23
    assert list(run.messages)[-1] == "rsync: 100000"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_no_amount_of_noise_displaces_a_message() -> None:
    run = shell(
        "for text in 'file has vanished: a' 'ssh: connect to h' 'rsync: failed'; "
        'do seq 20000 >&2; echo "$text" >&2; done; seq 20001 50000 >&2'
    )
    assert len(run.messages) == MAX_FIRST_LINES + 3
    assert list(run.messages)[MAX_FIRST_LINES:] == [
        "file has vanished: a",
        "ssh: connect to h",
        "rsync: failed",
    ]


def test_a_line_without_a_newline_does_not_fill_the_memory() -> None:
    run = shell("head -c 50000000 /dev/zero | tr '\\0' x >&2")
    assert sum(map(len, run.messages)) < 100_000


def test_a_message_with_the_longest_path_is_kept_whole() -> None:
    run = shell(f"echo 'file has vanished: \"{chr(92)}#012' >&2; printf '%020500d' 1 >&2")
    assert len(list(run.messages)[-1]) == 20_500


def test_a_line_may_arrive_in_pieces() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    for chunk in (b"one", b" line\n", b"two\nthree"):
        splitter.feed(chunk)
    assert lines == [b"one line", b"two"]
    splitter.finish()
    splitter.finish()
    assert lines == [b"one line", b"two", b"three"]


def test_blank_messages_are_dropped_and_odd_bytes_escaped() -> None:
    messages = RsyncMessages()
    for line in (b"", b"  ", b"a\xff"):
        messages.add(line)
    assert (list(messages), len(messages)) == (["a\\xff"], 1)


def test_each_message_is_reported_however_many_are_kept() -> None:
    reported: list[tuple[str, bool]] = []

    def record(line: str, *, is_cut: bool) -> None:
        reported.append((line, is_cut))

    text = "seq -f 'rsync: %.0f' 20000 >&2; head -c 50000 /dev/zero | tr '\\0' x >&2; exit 23"
    run = Runner().run([b"sh", b"-c", text.encode()], b"", on_message=record)
    assert len(run.messages) == MAX_FIRST_LINES + MAX_LAST_LINES
    assert reported[:-1] == [(f"rsync: {number}", False) for number in range(1, 20_001)]
    assert reported[-1][1]
    assert len(reported[-1][0]) < 50_000


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (b"/home/me", '"/home/me/d" and "/proc/self/cwd/e"'),
        (b"/", '"/d" and "/proc/self/cwd/e"'),
        (b"/a\n\\#012b", r'"/a\#012\#134#012b/d" and "/proc/self/cwd/e"'),
        (b"", '"/proc/self/cwd/d" and "/proc/self/cwd/e"'),
    ],
)
def test_a_message_names_the_source_by_its_path(source: bytes, shown: str) -> None:
    reported = []
    messages = RsyncMessages(
        on_message=lambda line, *, is_cut: reported.append((line, is_cut)), source=source
    )
    said = 'rsync: [sender] link_stat "/proc/self/cwd/d" and "/proc/self/cwd/e"'
    messages.add(said.encode())
    assert list(messages) == ["rsync: [sender] link_stat " + shown]
    assert reported == [(said, False)]
