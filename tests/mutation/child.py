"""Runs chosen tests in a child process, on a mutant or to see which test reaches which line."""

import contextlib
import gc
import importlib
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import hypothesis.configuration
import pytest
from mutation.mutants import Mutant

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_MEMORY = 4 << 30  # bytes
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class ChosenTests:
    """A plugin that runs chosen tests in their order, and times those that pass."""

    def __init__(self, wanted: Sequence[str] | None = None) -> None:
        self._wanted = wanted
        self.seconds: dict[str, float] = {}
        self.on_test: Callable[[str], object] = lambda _: None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen tests."""
        if self._wanted is not None:
            found = {item.nodeid: item for item in items}
            items[:] = [found[name] for name in self._wanted if name in found]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Tell which test runs."""
        self.on_test(item.nodeid)
        result = yield
        self.on_test("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the time of a test."""
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = report.duration


def import_all() -> None:
    """Import the whole program, so that the children need not."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    package = importlib.import_module("pylsyncd")
    for module in pkgutil.walk_packages(package.__path__, "pylsyncd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # Functions that the garbage collector does not see would have no mutants.
    gc.unfreeze()


def run_pytest(paths: Sequence[str], choice: ChosenTests, *options: str) -> int:
    """Run pytest in this process; return its exit status."""
    quiet = ("-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=no", "-W", "ignore")
    return int(pytest.main([*quiet, *options, *paths], plugins=[choice]))


def in_child(work: Callable[[], int], seconds: float) -> int | None:
    """Return the exit status of work in a child process; None if it takes too long.

    All its processes are gone afterwards, and so are its files.
    """
    become_subreaper()
    directory = tempfile.mkdtemp(prefix="mutation-")
    child = os.fork()
    if not child:
        _be_child(work, directory)
    try:
        return _wait(child, seconds)
    finally:
        _kill_descendants()
        shutil.rmtree(directory, ignore_errors=True)


def become_subreaper() -> None:
    """Adopt the processes whose parents end, to find them."""
    import ctypes  # noqa: PLC0415 - only here

    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _be_child(work: Callable[[], int], directory: str) -> None:
    status = 1
    try:
        os.setsid()
        os.chdir(REPOSITORY)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = directory
        tempfile.tempdir = None
        hypothesis.configuration.set_hypothesis_home_dir(directory)
        status = work()
    finally:
        # Threads that hang do not keep the process.
        os._exit(status)


def _wait(child: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def _kill_descendants() -> None:
    """Kill all children, and those that they leave to this process, until there are none."""
    while True:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def apply_mutant(mutant: Mutant) -> None:
    """Put the code of a mutant into the functions of this process that were imported."""
    name = mutant.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    module = sys.modules[name]
    assert module.__file__ is not None
    code = compile(mutant.source, module.__file__, "exec")
    wanted = _find_code(code, mutant)
    functions = list(_functions(module, mutant))
    assert functions, f"{mutant.function} is not in memory"
    for function in functions:
        function.__code__ = wanted


def _functions(module: ModuleType, mutant: Mutant) -> Iterator[FunctionType]:
    leaf = mutant.function.rpartition(".")[2]
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == module.__file__:
            code = each.__code__
            if code.co_name == leaf and code.co_firstlineno == mutant.function_line:
                yield each


def _find_code(code: CodeType, mutant: Mutant) -> CodeType:
    found = [each for each in _codes(code) if _is_code_of(each, mutant)]
    assert len(found) == 1, mutant.function
    return found[0]


def _is_code_of(code: CodeType, mutant: Mutant) -> bool:
    leaf = mutant.function.rpartition(".")[2]
    return code.co_name == leaf and code.co_firstlineno == mutant.function_line


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    constants: tuple[Any, ...] = code.co_consts
    for each in constants:
        if isinstance(each, CodeType):
            yield from _codes(each)
