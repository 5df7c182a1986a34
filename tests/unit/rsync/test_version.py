"""The installed rsync, other programs in its place, and the environment that it runs in."""

from pathlib import Path

import pytest

from pylsyncd.model.errors import UsageError
from pylsyncd.rsync import version
from pylsyncd.rsync.runner import Runner, RunResult


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo 'rsync  version 3.1.3  protocol version 31'", "is rsync 3.1.3, too old: install"),
        ("echo 'rsync  version 3.2.2  protocol version 31'", "install rsync 3.2.3 or later"),
        ("echo 'something else'", "is not rsync: its answer to --version does not name"),
        (
            "echo 'openrsync: protocol version 29'; echo 'rsync version 2.6.9 compatible'",
            "is openrsync, which lacks options that pylsyncd needs. Install rsync",
        ),
        ("exec sleep 600", "cannot be run: it takes longer than 1 s. Install rsync, or name"),
    ],
)
def test_a_program_that_is_not_a_recent_rsync_is_refused(
    script: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "_VERSION_TIMEOUT", 1.0)
    program = tmp_path / "rsync"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(UsageError) as refused:
        version.rsync_version(str(program))
    assert str(refused.value).startswith(str(program))
    assert fault in str(refused.value)


def test_the_version_of_a_recent_rsync_is_returned(tmp_path: Path) -> None:
    program = tmp_path / "rsync"
    program.write_text("#!/bin/sh\necho 'rsync  version v3.4.1  protocol version 32'\n")
    program.chmod(0o755)
    assert version.rsync_version(str(program)) == (3, 4, 1)


def test_the_installed_rsync_is_accepted_and_another_program_refused() -> None:
    assert version.rsync_version("rsync") >= (3, 2, 3)
    with pytest.raises(UsageError, match="true is not rsync: its answer to --version"):
        version.rsync_version("true")


def shell(text: str) -> RunResult:
    return Runner().run([b"sh", b"-c", text.encode()], b"")


def test_the_environment_adds_no_options_and_no_translation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OLD_ARGS", "PROTECT_ARGS", "RSH", "ICONV", "PARTIAL_DIR", "PROXY"):
        monkeypatch.setenv(f"RSYNC_{name}", "1")
    monkeypatch.setenv("LC_ALL", "1")
    run = shell("env | grep -e ^RSYNC_ -e ^LC_ALL= | sort >&2")
    assert list(run.messages) == ["LC_ALL=C", "RSYNC_PROXY=1"]
