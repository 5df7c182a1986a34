"""The wheel works in an empty environment, and the sdist can be tested."""

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import pylsyncd

REPOSITORY = Path(__file__).resolve().parents[2]

# Files of a checkout that are not in the sdist.
_NOT_SOURCES = shutil.ignore_patterns(
    ".*", "__pycache__", "*.pyc", "*.egg-info", "build", "dist"
)  # fmt: skip

_NO_REGISTRY = re.compile(
    "No matching distribution found|Could not find a version|Temporary failure in name|"
    "Failed to establish a new connection|Network is unreachable|Read timed out|ReadTimeoutError|"
    "Connection (reset|aborted|refused|broken)|IncompleteRead|Max retries exceeded|ProxyError|"
    "HTTP error 5|5\\d\\d Server Error"
)


class Published(NamedTuple):
    """The distributions, built once for all tests of this file."""

    tree: Path
    """The sources of both distributions."""
    wheel: Path
    sdist: Path
    environment: Path
    """An environment with pip and the installed wheel only."""

    def sources(self, *below: str) -> set[str]:
        """Return the files in some directories of the sources."""
        return {
            str(path.relative_to(self.tree))
            for name in below
            for path in (self.tree / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, in a directory without the sources."""
        program, *arguments = command
        return subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.environment, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def _need(command: Sequence[str | Path], directory: Path) -> None:
    """Run a command that may need the package index; skip the tests without one."""
    # pip takes the packages in PYTHONPATH for installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode and _NO_REGISTRY.search(run.stdout + run.stderr):
        pytest.skip("the package registry cannot be reached")
    assert run.returncode == 0, run.stdout + run.stderr


def _publish(place: Path) -> None:
    """Build the sdist from a copy and the wheel from the sdist, and install the wheel."""
    shutil.copytree(REPOSITORY, place / "tree", ignore=_NOT_SOURCES)
    _need([sys.executable, "-m", "build", "--outdir", place / "dist"], place / "tree")
    _need([sys.executable, "-m", "venv", place / "environment"], place)
    wheel = next((place / "dist").glob("*.whl"))
    pip = place / "environment/bin/pip"
    _need([pip, "--disable-pip-version-check", "install", wheel], place)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    for module in ("build", "twine"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    place, complete = shared / "published", shared / "published.complete"
    with (shared / "published.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have found that the index cannot be reached.
        if not complete.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            _publish(place)
            complete.touch()
    dist = place / "dist"
    return Published(
        place / "tree",
        next(dist.glob("*.whl")),
        next(dist.glob("*.tar.gz")),
        place / "environment",
    )


def test_wheel_and_sdist_pass_twine_check(published: Published) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", published.wheel, published.sdist],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_commands_work_in_an_empty_environment(published: Published) -> None:
    version = published.run("pylsyncd", "--version")
    assert (version.returncode, version.stdout) == (0, f"pylsyncd {pylsyncd.__version__}\n")
    for program in ("pylsyncd", "pylsyncctl"):
        usage = published.run(program, "--help")
        assert (usage.returncode, usage.stderr) == (0, "")
        assert program in usage.stdout
    assert published.run("pylsyncd").returncode == 2


_IMPORT_ALL = """
import importlib, pkgutil, pylsyncd
for module in pkgutil.walk_packages(pylsyncd.__path__, "pylsyncd."):
    if module.name != "pylsyncd.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""


def test_every_module_can_be_imported_except_for_the_optional_metrics(published: Published) -> None:
    run = published.run("python", "-W", "ignore", "-c", _IMPORT_ALL)
    assert (run.stdout, run.stderr) == ("pylsyncd.report.metric_families prometheus_client\n", "")


def test_docutils_and_prometheus_client_are_not_required(published: Published) -> None:
    installed = published.run("pip", "list").stdout.lower()
    assert "pylsyncd" in installed
    assert not re.search("docutils|prometheus", installed)


def test_the_wheel_has_all_modules_and_py_typed(published: Published) -> None:
    with zipfile.ZipFile(published.wheel) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("pylsyncd/")}
    assert names == published.sources("pylsyncd")
    assert "pylsyncd/py.typed" in names


@pytest.mark.parametrize(
    "page",
    ["man8/pylsyncd.8", "man8/pylsyncctl.8", "man5/pylsyncd.conf.5", "man7/pylsyncd-lsyncd.7"],
)
def test_the_manual_pages_are_in_the_man_path(published: Published, page: str) -> None:
    content = (published.environment / "share/man" / page).read_text()
    name, _, number = page.partition("/")[2].rpartition(".")
    assert f'\n.TH "{name}" "{number}" ' in content.replace("\\-", "-")
    if (man := shutil.which("man")) is not None:
        run = subprocess.run(
            [man, "--where", number, name],
            env={"PATH": f"{published.environment}/bin:/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.stdout.strip() == str(published.environment / "share/man" / page)


def test_examples_and_contrib_are_installed_with_the_documents(published: Published) -> None:
    documents = published.environment / "share/doc/pylsyncd"
    example = published.tree / "pylsyncd.conf.example"
    assert (documents / "examples" / example.name).read_bytes() == example.read_bytes()
    assert {"README", "CHANGES"} <= {path.name for path in documents.iterdir()}
    # The generators of some files are only in the sdist.
    contributions = {name for name in published.sources("contrib") if not name.endswith(".py")}
    assert {"contrib/systemd/pylsyncd.service", "contrib/init/pylsyncd.init"} <= contributions
    for name in contributions:
        assert (documents / name).read_bytes() == (published.tree / name).read_bytes()
        ours, theirs = (os.access(each / name, os.X_OK) for each in (published.tree, documents))
        assert ours == theirs, name


def test_the_sdist_has_everything_that_its_tests_need(published: Published) -> None:
    with tarfile.open(published.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    wanted = published.sources("pylsyncd", "tests", "bench", "docs", "contrib", "debian") | {
        "CHANGES", "LICENSE", "MANIFEST.in", "Makefile", "README", "pylsyncd.conf.example",
        "pyproject.toml", "setup.py",
    }  # fmt: skip
    assert wanted <= names
    generated = {name for name in names - wanted if "egg-info" not in name}
    assert generated <= {"PKG-INFO", "setup.cfg"}
