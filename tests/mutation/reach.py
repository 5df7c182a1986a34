"""Which unit tests reach which line, and how long each takes."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import coverage
from mutation.child import REPOSITORY, ChosenTests, in_child, run_pytest

UNIT_TESTS = REPOSITORY / "tests" / "unit"
MAX_SECONDS = 1800.0  # for a part of the unit tests
# These look at the text of the whole program, or take long for what they reach.
NO_UNIT_TESTS = {"test_layers.py", "test_words.py", "test_documents.py", "test_manual.py"}
Lines = dict[str, dict[str, list[str]]]


class Reach(NamedTuple):
    """The tests that reach each line of each module, and the seconds of each test."""

    lines: Lines
    seconds: dict[str, float]

    def tests_of(self, path: str, first: int, last: int) -> list[str]:
        """Return the tests that reach some lines: those of the module first, then by their time."""
        module = self.lines.get(path, {})
        found = {test for line in range(first, last + 1) for test in module.get(str(line), ())}
        own = f"test_{Path(path).name}"
        known = [test for test in found if test in self.seconds]
        return sorted(known, key=lambda test: (own not in test, self.seconds[test], test))


def find_reach(cache: Path, modules: Sequence[Path], jobs: int) -> Reach:
    """Return the reach of all unit tests, from the cache if nothing has changed since."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([*modules, *REPOSITORY.glob("tests/**/*.py")]):
        digest.update(path.read_bytes())
    stored = cache / f"reach-{digest.hexdigest()}.json"
    if stored.exists():
        return Reach(**json.loads(stored.read_text()))
    reach = _measure(modules, jobs)
    stored.write_text(json.dumps(reach._asdict()))
    return reach


def _measure(modules: Sequence[Path], jobs: int) -> Reach:
    files = [
        path for path in sorted(UNIT_TESTS.rglob("test_*.py")) if path.name not in NO_UNIT_TESTS
    ]
    # Side by side, and each of them its own part: tests of a folder take similar times.
    parts = [files[number :: jobs * 2] for number in range(jobs * 2)]
    reach = Reach({}, {})
    with ProcessPoolExecutor(jobs) as executor:
        for part in executor.map(_measure_part, parts, [modules] * len(parts)):
            reach.seconds.update(part.seconds)
            for path, lines in part.lines.items():
                for line, tests in lines.items():
                    reach.lines.setdefault(path, {}).setdefault(line, []).extend(tests)
    return reach


def _measure_part(files: Sequence[Path], modules: Sequence[Path]) -> Reach:
    with tempfile.NamedTemporaryFile("r") as result:
        in_child(lambda: _measure_here(files, modules, result.name), MAX_SECONDS)
        return Reach(**json.loads(result.read()))


def _measure_here(files: Sequence[Path], modules: Sequence[Path], result: str) -> int:
    names = [str(path) for path in modules]
    measured = coverage.Coverage(data_file=None, config_file=False, include=names)
    choice = ChosenTests()
    choice.on_test = measured.switch_context
    measured.start()
    status = run_pytest([str(path) for path in files], choice)
    measured.stop()
    lines = dict(_by_module(measured.get_data(), names))
    Path(result).write_text(json.dumps(Reach(lines, choice.seconds)._asdict()))
    return status


def _by_module(
    data: coverage.CoverageData, names: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, list[str]]]]:
    for name in names:
        lines = data.contexts_by_lineno(name)
        relative = str(Path(name).relative_to(REPOSITORY))
        yield relative, {str(line): [*filter(None, tests)] for line, tests in lines.items()}
