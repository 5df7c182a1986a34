"""Mutation testing: small faults in what decides about confirmation and deletion.

Each mutant of the modules is run against the unit tests that reach its line. One that no test
notices lives: a test is missing, or the fault makes no difference. ``make mutation`` runs all of
them, ``make mutation SAMPLE=200`` some that the seed chooses. Results are kept, so that another run
goes on where this one ended; with ``--again``, those that lived are tried once more.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from mutation.child import REPOSITORY, ChosenTests, apply_mutant, import_all, in_child, run_pytest
from mutation.mutants import Mutant, find_mutants
from mutation.reach import Reach, find_reach

# What decides about confirmation and deletion.
PATTERNS = (
    "watcher/*.py", "pipeline/*.py", "flusher.py", "worker/*.py", "state/*.py",
    "rsync/file_list.py", "rsync/outcomes.py", "rsync/failed_paths.py", "rsync/carried_paths.py",
)  # fmt: skip
MAX_TESTS, MAX_TEST_SECONDS = 200, 60.0
# How much longer the tests may take with a mutant before it counts as an endless loop.
TIME_FACTOR, MORE_SECONDS = 5.0, 40.0
KILLED, LIVED, TIMED_OUT, UNREACHED, BROKEN = "killed", "lived", "timeout", "unreached", "broken"
EXIT_STATUS = {0: LIVED, 1: KILLED, 2: KILLED, 5: UNREACHED, None: TIMED_OUT}
BROKEN_STATUS = 99


def try_mutant(mutant: Mutant, tests: Sequence[str], seconds: float) -> str:
    """Return what became of a mutant."""
    if not tests:
        return UNREACHED
    status = in_child(lambda: _run_tests(mutant, tests), seconds * TIME_FACTOR + MORE_SECONDS)
    # A signal, or an exit that a mutant has caused, is noticed as well.
    return BROKEN if status == BROKEN_STATUS else EXIT_STATUS.get(status, KILLED)


def _run_tests(mutant: Mutant, tests: Sequence[str]) -> int:
    try:
        apply_mutant(mutant)
    except (AssertionError, SyntaxError, ValueError):
        return BROKEN_STATUS
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return run_pytest(list(files), ChosenTests(tests), "-x")


def choose_tests(reach: Reach, mutant: Mutant) -> list[str]:
    """Return the tests to run on a mutant, those that are likely to notice it first."""
    chosen: list[str] = []
    seconds = 0.0
    for test in reach.tests_of(mutant.path, mutant.line, mutant.last_line)[:MAX_TESTS]:
        seconds += reach.seconds[test]
        if seconds > MAX_TEST_SECONDS and chosen:
            break
        chosen.append(test)
    return chosen


class Results:
    """The results of all runs, in a file with a line for each mutant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.by_key: dict[str, str] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, result = json.loads(line)
                self.by_key[key] = result

    def add(self, mutant: Mutant, result: str) -> None:
        """Keep a result at once, so that an interrupted run goes on after it."""
        self.by_key[mutant.key] = result
        with self._path.open("a") as file:
            file.write(json.dumps([mutant.key, result]) + "\n")


def report(mutant: Mutant, result: str) -> str:
    """Return what a person needs to judge a mutant that lived."""
    lines = [f"{mutant.path}:{mutant.line}: {result}, in {mutant.function}"]
    lines += [f"  - {line}" for line in mutant.before.splitlines()]
    return "\n".join([*lines, f"  + {mutant.after}"])


def main(arguments: Sequence[str]) -> int:
    """Try the mutants; return the exit status, which is 1 if one lives."""
    options = _parse(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    modules = [
        path
        for pattern in options.modules
        for path in sorted((REPOSITORY / "pylsyncd").glob(pattern))
        if path.name != "__init__.py"
    ]
    mutants = [
        mutant
        for path in modules
        for mutant in find_mutants(str(path.relative_to(REPOSITORY)), path.read_text())
    ]
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    results = Results(options.cache / "results")
    import_all()
    begin = time.monotonic()
    todo = [mutant for mutant in mutants if _is_to_try(results.by_key.get(mutant.key), options)]
    print(f"{len(mutants)} mutants of {len(modules)} modules, {len(todo)} to try", flush=True)  # noqa: T201
    if todo:
        _try_all(todo, find_reach(options.cache, _all_modules(), options.jobs), results, options)
    print(*_summary(mutants, results), sep="\n")  # noqa: T201
    print(f"{time.monotonic() - begin:.0f} s")  # noqa: T201
    return 0 if all(results.by_key[mutant.key] in {KILLED, TIMED_OUT} for mutant in mutants) else 1


def _all_modules() -> list[Path]:
    found = [each for pattern in PATTERNS for each in (REPOSITORY / "pylsyncd").glob(pattern)]
    return [path for path in sorted(found) if path.name != "__init__.py"]


def _is_to_try(result: str | None, options: argparse.Namespace) -> bool:
    return result is None or (options.again and result not in {KILLED, TIMED_OUT})


def _try_all(
    mutants: Sequence[Mutant], reach: Reach, results: Results, options: argparse.Namespace
) -> None:
    with ProcessPoolExecutor(options.jobs) as executor:
        futures = {}
        for mutant in mutants:
            tests = choose_tests(reach, mutant)
            seconds = sum(reach.seconds[test] for test in tests)
            futures[executor.submit(try_mutant, mutant, tests, seconds)] = mutant
        for number, future in enumerate(as_completed(futures), 1):
            mutant, result = futures[future], future.result()
            results.add(mutant, result)
            if result not in {KILLED, TIMED_OUT}:
                print(f"{number} of {len(mutants)}: {report(mutant, result)}", flush=True)  # noqa: T201


def _summary(mutants: Sequence[Mutant], results: Results) -> Iterator[str]:
    by_module: dict[str, Counter[str]] = {}
    for mutant in mutants:
        by_module.setdefault(mutant.path, Counter())[results.by_key[mutant.key]] += 1
    for mutant in sorted(mutants):
        if results.by_key[mutant.key] not in {KILLED, TIMED_OUT}:
            yield report(mutant, results.by_key[mutant.key])
    total: Counter[str] = Counter()
    for path, counts in sorted(by_module.items()):
        total += counts
        yield f"{_ratio(counts)}  {path}"
    yield f"{_ratio(total)}  all"


def _ratio(counts: Counter[str]) -> str:
    noticed = counts[KILLED] + counts[TIMED_OUT]
    return f"{noticed:5} of {counts.total():5} noticed, {100 * noticed / counts.total():5.1f} %"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=PATTERNS, help="below pylsyncd/; globs")
    parser.add_argument("--sample", type=int, default=0, help="so many; 0 are all of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--again", action="store_true", help="try again those that lived")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/pylsyncd").expanduser())
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
