"""bench/run.py without the programs to compare: the rows are printed whatever is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def run_bench(directory: Path, *arguments: str) -> str:
    programs = directory / "programs"
    programs.mkdir()
    for name in ("rsync", "rm", "false"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--dir", directory, "--pylsyncd", "false", *arguments],
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "measures"),
    [
        ("storm", ("fanotify: last event to equal", "inotify: scans after lost events")),
        ("arm-marked", ("memory per directory",)),
    ],
)
def test_a_row_is_printed_without_the_programs(
    tmp_path: Path, name: str, measures: tuple[str, ...]
) -> None:
    table = run_bench(tmp_path, "--size", "0.001", name)
    for measure in measures:
        assert any(line.startswith(name) and measure in line for line in table.splitlines())


def test_one_in_fifty_files_of_a_storm_stays(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"d{number}").mkdir()
    script = BENCH / "storm_writer.py"
    subprocess.run([sys.executable, script, tmp_path, "10", "200", "w"], check=True)
    kept = sorted(path.name for path in tmp_path.glob("*/*"))
    assert kept == ["w0", "w100", "w150", "w50"]
