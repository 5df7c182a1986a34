"""The command ``pylsyncd``: what it prints, where, and its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment

from pylsyncd import __version__, cli

pytestmark = pytest.mark.usefixtures("sources")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    (tmp_path / "a/cache").mkdir()


def test_the_package_runs_as_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--version"], env=environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert __version__ in run.stdout


def test_wrong_usage_is_explained_and_has_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-w", "soon", "a/./", "c/"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first.startswith("pylsyncd: --window: ")
    assert last == "Try pylsyncd --help."


def test_each_error_of_a_file_has_a_line_and_options_are_translated_to_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("p.conf").write_text(
        "[pylsyncd]\nstate_dir = state\nmetrics_port = 0\n[sync x]\nsource = a/./\n"
        "destinations = c/\nwindow = soon\n"
    )
    assert cli.main(["-c", "p.conf"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("pylsyncd: ") for line in lines[:2])
    assert "Try pylsyncd --help." not in lines


def test_a_checked_configuration_is_described_with_its_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("p.conf").write_text(
        f"[sync x]\nsource = a/./\ndestinations = c/\nexclude = {os.getcwd()}/a/cache\n"
    )
    assert cli.main(["--check-config", "-c", "p.conf"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("warning: [x] ") for line in lines)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cache/", "excludes it"),
        ("a/cache", "excludes it"),
        ("f", ""),
        ("none", "(The path does not exist.)"),
    ],
)
def test_a_path_is_explained_relative_to_the_source_or_the_current_directory(
    path: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--explain", path, "-x", "/cache/", "a/./", "c/"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert expected in line
    assert ("is not synced" in line) is ("excludes" in expected)


def test_a_path_in_several_sources_is_explained_where_it_exists(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("p.conf").write_text(
        "[sync one]\nsource = a/./\ndestinations = c/\n"
        "[sync two]\nsource = b/./\ndestinations = d/\n"
    )
    assert cli.main(["--explain", "cache", "-c", "p.conf"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[one] ")
    assert cli.main(["--explain", "f", "-c", "p.conf"]) == 0
    assert [line[:6] for line in capsys.readouterr().out.splitlines()] == ["[one] ", "[two] "]


def test_a_path_in_no_source_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--explain", "/nowhere", "a/./", "c/"]) == 2
    assert f"/nowhere is in no source: {os.getcwd()}/a." in capsys.readouterr().err


def test_a_closed_pipe_ends_the_output_without_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pylsyncd", "--explain", "f", "a/./", "c/"]
    run = subprocess.run(
        command, env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert run.stderr == b""


def test_a_check_has_status_1_if_there_are_differences() -> None:
    command = [sys.executable, "-m", "pylsyncd", "--check", "a/./", "c/"]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout
    Path("c").mkdir()
    # With nanoseconds: else a directory made within the same second keeps its own time.
    copy = ["rsync", "-a", "--modify-window=-1", "a/", "c/"]
    subprocess.run(copy, check=True)
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")
