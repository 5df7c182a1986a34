"""Bad input is refused with a sentence and exit status 2, before anything is touched."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.daemon import environment

import pylsyncd


def refused(arguments: Sequence[str], directory: Path, **extra: str) -> str:
    """Run pylsyncd, which has to refuse these arguments; return its sentence."""
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", *arguments],
        cwd=directory, env=environment(extra), capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
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
    ("arguments", "says"),
    [
        (["none", "dst/"], "none does not exist"),
        (["file", "dst/"], "file is not a directory"),
        (["src/./", "src/inner/"], "inside the source"),
        (["src/inner/./", "src/"], "source"),
        (["src/./", "host"], "./host"),
        (["src/./", "dst/", "dst/"], "dst"),
        (["src"], "DESTINATION"),
        ([], "SOURCE"),
        (["-w", "soon", "src/./", "dst/"], "number of seconds"),
        (["-w", "0", "src/./", "dst/"], "more than 0"),
        (["-w", "nan", "src/./", "dst/"], "more than 0"),
        (["--max-changes", "-1", "src/./", "dst/"], "whole number"),
        (["--rsync", "./no-rsync", "src/./", "dst/"], "Install rsync"),
        (["--rsync", "true", "src/./", "dst/"], "does not answer"),
        (["--rsync-option", "--files-from=x", "src/./", "dst/"], "--files-from"),
        (["--rsync-option=-r", "src/./", "dst/"], "-r"),
        (["--no-delete", "--rsync-option=--delete-after", "src/./", "dst/"], "--delete-after"),
        (["--exclude-from", "none", "src/./", "dst/"], "none cannot be read"),
        (["--exclude-from", "rules", "src/./", "dst/"], "The exclude file rules: "),
        (["-x", "", "src/./", "dst/"], "no pattern"),
        (["-e", "no-such-shell -x", "src/./", "host:"], "no-such-shell is not installed"),
        (["-e", "ssh 'x", "src/./", "host:"], "fault"),
        (["--syslog-facility", "nonsense", "src/./", "dst/"], "nonsense"),
        (["-d", "-q", "src/./", "dst/"], "not allowed with"),
        (["--no-such-option", "src/./", "dst/"], "--no-such-option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_refused_with_a_sentence(
    arguments: list[str], says: str, place: Path
) -> None:
    assert says in refused(arguments, place)
    assert not (place / "dst").exists()


def test_an_rsync_that_is_too_old_is_refused(place: Path) -> None:
    program = place / "old-rsync"
    program.write_text("#!/bin/sh\necho 'rsync  version 3.1.3  protocol version 31'\n")
    program.chmod(0o755)
    assert "3.2.3 or later" in refused(["--rsync", str(program), "src/./", "dst/"], place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads whatever it wants")
def test_a_source_that_cannot_be_read_is_refused(place: Path) -> None:
    (place / "src").chmod(0)
    assert "cannot be read" in refused(["src/./", "dst/"], place)


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(place: Path) -> None:
    says = refused(["no\x1b[31msuch", "dst/"], place)
    assert r"no\x1b[31msuch" in says
    assert "\x1b" not in says


def test_the_version_is_told() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--version"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == f"pylsyncd {pylsyncd.__version__}\n"
