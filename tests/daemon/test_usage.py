"""Invalid input is refused with a message and exit status 2, before anything is changed."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.daemon import environment
from support.in_process import run_pylsyncd

import pylsyncd


def refused(arguments: Sequence[str], directory: Path) -> str:
    """Run pylsyncd, which must refuse these arguments; return its message."""
    run = run_pylsyncd(*arguments, directory=directory)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "src/inner").mkdir(parents=True)
    (tmp_path / "host").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "rules").write_text("*.tmp\n- \n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "dst/"], "none does not exist"),
        (["file", "dst/"], "file is not a directory"),
        (["src/./", "src/inner/"], "inside the source"),
        (["src/inner/./", "src/"], "source"),
        (["src/./", "host"], "./host"),
        (["src/./", "dst/", "dst/"], "dst"),
        (["src"], "DESTINATION"),
        ([], "SOURCE"),
        (["-w", "soon", "src/./", "dst/"], "Expected a time"),
        (["-w", "0", "src/./", "dst/"], "more than 0"),
        (["-w", "nan", "src/./", "dst/"], "Expected a time"),
        (["--max-changes", "-1", "src/./", "dst/"], "whole number"),
        (["--rsync", "./no-rsync", "src/./", "dst/"], "Install rsync"),
        (["--rsync", "true", "src/./", "dst/"], "true is not rsync"),
        (["--rsync-option", "--files-from=x", "src/./", "dst/"], "--files-from"),
        (["--rsync-option=-r", "src/./", "dst/"], "-r"),
        (["--no-delete", "--rsync-option=--delete-after", "src/./", "dst/"], "--delete-after"),
        (["--exclude-from", "none", "src/./", "dst/"], "Cannot read the exclude file none"),
        (["--exclude-from", "rules", "src/./", "dst/"], "exclude file rules, line 2: "),
        (["-x", "", "src/./", "dst/"], "no pattern"),
        (["-e", "no-such-shell -x", "src/./", "host:"], "no-such-shell is not installed"),
        (["-e", "ssh 'x", "src/./", "host:"], "Cannot split"),
        (["--syslog-facility", "nonsense", "src/./", "dst/"], "nonsense"),
        (["-d", "-q", "src/./", "dst/"], "not allowed with"),
        (["--no-such-option", "src/./", "dst/"], "--no-such-option"),
        (["-c", "none.conf"], "Cannot read the configuration file none.conf"),
        (["-c", "file", "src/./", "dst/"], "remove src/./ dst/"),
        (["-c", "file"], "file: There is no section [sync NAME]"),
        (["-c", "file", "--no-such-option"], "--no-such-option"),
        (["--windw=3", "src/./", "dst/"], "Did you mean --window?"),
        (["-c", "file", "--logfil=x"], "Did you mean --logfile?"),
        (["--daemon", "src/./", "dst/"], "needs a log"),
        (["--user", "nobody-of-that-name", "src/./", "dst/"], "nobody-of-that-name"),
        (["--explain", "/elsewhere", "src/./", "dst/"], "/elsewhere is in no source"),
        (["--filter", "merge x", "src/./", "dst/"], "makes rsync read further rules from a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_refused_with_a_message(
    arguments: list[str], message: str, place: Path
) -> None:
    assert message in refused(arguments, place)
    assert not (place / "dst").exists()


def test_an_rsync_that_is_too_old_is_refused(place: Path) -> None:
    program = place / "old-rsync"
    program.write_text("#!/bin/sh\necho 'rsync  version 3.1.3  protocol version 31'\n")
    program.chmod(0o755)
    assert "3.2.3 or later" in refused(["--rsync", str(program), "src/./", "dst/"], place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads whatever it wants")
def test_a_source_that_cannot_be_read_is_refused(place: Path) -> None:
    (place / "src").chmod(0)
    assert "is not readable" in refused(["src/./", "dst/"], place)


def test_control_characters_in_a_name_are_escaped(place: Path) -> None:
    message = refused(["no\x1b[31msuch", "dst/"], place)
    assert r"no\x1b[31msuch" in message
    assert "\x1b" not in message


def test_characters_that_the_terminal_lacks_are_escaped(place: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--check-config", "src/./", "./\u20ac"],
        cwd=place, env=environment({"PYTHONIOENCODING": "latin-1"}), capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, b"")
    assert rb"[\u20ac] ./\u20ac ->" in run.stdout


def test_closed_standard_streams_do_not_stop_a_sync(place: Path) -> None:
    itself = [sys.executable, "-m", "pylsyncd"]
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *itself]
    run = subprocess.run(
        [*command, "--state-dir", "state", "--once", "src/./", "dst/"],
        cwd=place, env=environment(), timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0
    assert (place / "dst/inner").is_dir()


def test_an_interrupt_during_the_start_ends_the_process_without_a_traceback(
    place: Path,
) -> None:
    program = place / "slow-rsync"
    program.write_text("#!/bin/sh\nkill -INT $PPID\nexec sleep 20\n")
    program.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--rsync", str(program), "src/./", "dst/"],
        cwd=place, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (130, "")


CONFIGURATION = """\
[pylsyncd]
exclude =
    *.tmp
    /x/src/cache

[sync one]
source = src/./
destinations = one/

[sync two]
source = host/./
destinations = two/
"""


def output_lines(arguments: Sequence[str], directory: Path) -> list[str]:
    """Run pylsyncd, which must only print something; return its lines."""
    run = run_pylsyncd(*arguments, directory=directory)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


def test_check_config_describes_a_file_and_changes_nothing(place: Path) -> None:
    (place / "my.conf").write_text(CONFIGURATION.replace("/x/", f"{place}/"))
    lines = output_lines(["--check-config", "-c", "my.conf"], place)
    assert lines[0] == f"sync one: {place}/src, window 60 s"
    assert f"    [two/two] two/ -> {place}/two/" in lines
    warning = f"warning: [one] The pattern of the rule '- {place}/src/cache' (my.conf:4: "
    assert any(line.startswith(warning) for line in lines)
    assert not (place / "one").exists()
    more = output_lines(["--check-config", "-v", "-c", "my.conf"], place)
    assert any("--files-from=-" in line for line in more)
    assert not any("--files-from=-" in line for line in lines)


def test_check_config_describes_a_command_line_and_changes_nothing(place: Path) -> None:
    lines = output_lines(["--check-config", "-w", "3", "src/./", "dst/"], place)
    assert lines == [f"{place}/src, window 3 s", f"    [dst] dst/ -> {place}/dst/"]
    assert not (place / "dst").exists()


def test_all_errors_in_a_file_are_printed_one_per_line(place: Path) -> None:
    (place / "my.conf").write_text(CONFIGURATION + "windwo = 1\nmodify = perhaps\n")
    message = refused(["-c", "my.conf"], place).splitlines()
    assert message == [
        "pylsyncd: my.conf:13: [sync two] windwo: Unknown option. Did you mean window?",
        "pylsyncd: my.conf:14: [sync two] modify: Expected yes or no, not 'perhaps'.",
    ]


@pytest.mark.parametrize(
    ("path", "syncs"),
    [
        ("{place}/src/inner/a.tmp", ["one"]),
        ("{place}/other/a.tmp", ["one"]),
        ("inner/b", ["one"]),
        ("nowhere.tmp", ["one", "two"]),
        ("src/inner/b", ["one"]),
        ("{place}/host", ["two"]),
    ],
)
def test_explain_names_the_rule_that_decides(path: str, syncs: list[str], place: Path) -> None:
    (place / "other").symlink_to("src")
    (place / "src/inner/b").touch()
    (place / "my.conf").write_text(CONFIGURATION)
    lines = output_lines(["-c", "my.conf", "--explain", path.replace("{place}", str(place))], place)
    assert [line[: line.index("]") + 1] for line in lines] == [f"[{name}]" for name in syncs]
    for line in lines:
        assert ("is not synced: the rule '- *.tmp' (my.conf:3: " in line) is path.endswith(".tmp")


def test_version_prints_the_version() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--version"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == f"pylsyncd {pylsyncd.__version__}\n"
