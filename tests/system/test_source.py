"""From the sources to a service on a Debian 12 without pip: `make run`, and README's second way."""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.environment import CACHE, MIRROR, needs_system_test, readme_block, readme_section
from system.machine import Machine, copy_tree, in_tree, make_base_tree

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = needs_system_test

# Where pip finds packages, for the machine that runs the tests.
_OF_PIP = (
    "/etc/pip.conf", "/etc/xdg/pip", "/root/.config/pip", "/etc/ssl/certs/ca-certificates.crt"
)  # fmt: skip
_NO_REGISTRY = re.compile("No matching distribution|Failed to establish|Temporary failure in name")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a tree with a fresh checkout and the packages that README names."""
    made = tmp_path_factory.mktemp("source") / "tree"
    copy_tree(make_base_tree(CACHE, MIRROR), made)
    checkout = made / "root/pylsyncd"
    listed = subprocess.run(
        ("git", "ls-files", "-co", "--exclude-standard"),  # noqa: S607
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    archive = made / "root/pylsyncd.tar"
    with tarfile.open(archive, "w") as tar:
        for name in listed:
            if (REPOSITORY / name).exists():
                tar.add(REPOSITORY / name, name)
    checkout.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(checkout, filter="tar")
    yield made
    shutil.rmtree(made)


def run_in(tree: Path, script: str, timeout: float = 500.0) -> str:
    """Run a script in the checkout, with our network; skip the test without a package index."""
    options = [f"--setenv={name}={os.environ[name]}" for name in os.environ if name[:4] == "PIP_"]
    options += [f"--bind-ro={path}" for path in _OF_PIP if os.path.exists(path)]
    ended = subprocess.run(
        (*in_tree(tree, *options, "--chdir=/root/pylsyncd"), "bash", "-ec", script),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    if ended.returncode and _NO_REGISTRY.search(ended.stdout):
        pytest.skip("the package index cannot be reached")
    assert ended.returncode == 0, ended.stdout[-6000:]
    return ended.stdout


def test_make_run_works_with_what_the_readme_names(tree: Path) -> None:
    needed = re.search(r"`(apt install make git)`", readme_section("pylsyncd", "="))
    assert needed
    run_in(tree, f"export DEBIAN_FRONTEND=noninteractive; {needed[1]} -qqy")
    assert not (tree / "usr/bin/python3").exists()
    # An attempt before that has failed.
    (tree / "root/pylsyncd/.venv/bin").mkdir(parents=True)
    shown = run_in(
        tree,
        "make run >shown 2>&1 & until grep -q 'initial sync complete' shown; do "
        "sleep 0.5; kill -0 $! || { cat shown; exit 1; }; done; pkill -TERM -f bin/pylsyncd; "
        "wait || :; cat shown",
    )
    assert "Installing the package python3-venv" in shown
    assert "watching" in shown


def test_make_deb_installs_what_it_needs_and_names_the_package(tree: Path) -> None:
    first, second = readme_block(readme_section("Installation"), "make deb").splitlines()
    shown = run_in(tree, f"export DEBIAN_FRONTEND=noninteractive; {first}")
    assert re.search(r"Install it as root: apt install \./dist/pylsyncd_.*_all\.deb", shown)
    run_in(
        tree, f"export DEBIAN_FRONTEND=noninteractive; {second} -qqy; apt-get -qqy purge pylsyncd"
    )


def test_the_second_way_of_the_readme_gives_a_service(tree: Path, tmp_path: Path) -> None:
    *commands, last = readme_block(readme_section("Installation"), "python3 -m venv").splitlines()
    assert last == "systemctl daemon-reload", "only this needs a booted system"
    run_in(tree, "\n".join(commands))
    machine = Machine(tree, tmp_path / "console")
    try:
        with (tree / "etc/pylsyncd.conf").open("a") as file:
            file.write("[sync a]\nsource = /srv/a/./\ndestinations = /srv/b/\n")
        machine("mkdir /srv/a; touch /srv/a/f; systemctl enable --now pylsyncd")
        machine("pylsyncctl wait --timeout 60; test -e /srv/b/f; man pylsyncd >/dev/null")
        assert "/usr/local/bin" in machine("command -v pylsyncd pylsyncctl")
    finally:
        machine.close()
