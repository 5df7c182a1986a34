"""Package metadata. Build system and tool settings are in pyproject.toml."""

import re
import sys
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "pylsyncd/__init__.py").read_text()).group(1)

MANUAL = "build/manual"
PAGES = ("pylsyncd.8", "pylsyncctl.8", "pylsyncd.conf.5", "pylsyncd-lsyncd.7")
DOCUMENTS = "share/doc/pylsyncd"

METRICS = ["prometheus_client>=0.17"]


class BuildManual(Command):
    """Makes the manual pages, which the installation then finds among its files."""

    description = "make the manual pages"
    user_options = ()

    def initialize_options(self) -> None:
        """There is no option but the one that setuptools sets itself."""
        self.editable_mode = False

    def finalize_options(self) -> None:
        """There is none that depends on others."""

    def run(self) -> None:
        """Make them, with docutils, which only a build needs."""
        if self.editable_mode:
            return  # It installs the packages alone.
        sys.path.insert(0, str(HERE / "docs"))
        import manual  # noqa: PLC0415  # setup.py is also asked what has to be there first

        manual.build(HERE / MANUAL)


class Build(build):
    """Builds the manual pages, too."""

    sub_commands = (*build.sub_commands, ("build_manual", None))


def shared_files() -> list[tuple[str, list[str]]]:
    """Return what is installed beside the packages: the directory, and what goes there."""
    shared = [(f"share/man/man{page[-1]}", [f"{MANUAL}/{page}"]) for page in PAGES]
    shared.append((DOCUMENTS, ["README", "CHANGES", "docs/recipes.rst"]))
    shared.append((f"{DOCUMENTS}/examples", ["pylsyncd.conf.example"]))
    for path in sorted((HERE / "contrib").rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".pyc"}:
            place = path.relative_to(HERE)
            shared.append((f"{DOCUMENTS}/{place.parent}", [str(place)]))
    return shared


setup(
    name="pylsyncd",
    version=VERSION,
    description="Keeps remote copies of a directory tree equal to it, with inotify and rsync",
    long_description=(HERE / "README").read_text(),
    long_description_content_type="text/plain",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["pylsyncd", "pylsyncd.*"]),
    package_data={"pylsyncd": ["py.typed"]},
    data_files=shared_files(),
    scripts=["contrib/pylsyncd-from-lsyncd"],
    cmdclass={"build": Build, "build_manual": BuildManual},
    python_requires=">=3.10",
    install_requires=[
        "pyinotify>=0.9.6,<1",
        "python-daemon>=2.3,<4",
        # pyinotify imports asyncore, which Python 3.12 no longer has.
        "pyasyncore>=1.0.2; python_version >= '3.12'",
    ],
    extras_require={
        "metrics": METRICS,
        "test": [
            *METRICS,
            "pytest>=9",
            "pytest-xdist>=3",
            "hypothesis>=6.100",
            # For the packages and the manual pages.
            "build>=1",
            "docutils>=0.21",
            "twine>=5",
        ],
        "mutation": ["coverage>=7"],
        # With every rule selected, another ruff has other rules.
        "lint": ["ruff==0.17.*", "mypy>=1.15"],
    },
    entry_points={
        "console_scripts": [
            "pylsyncd = pylsyncd.cli:main",
            "pylsyncctl = pylsyncd.ctl:main",
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Archiving :: Mirroring",
    ],
)
