"""Package metadata. Build system and tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "pylsyncd/__init__.py").read_text()).group(1)

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
    python_requires=">=3.10",
    install_requires=[
        "pyinotify>=0.9.6,<1",
        "python-daemon>=3,<4",
        # pyinotify imports asyncore, which Python 3.12 no longer has.
        "pyasyncore>=1.0.2; python_version >= '3.12'",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3", "hypothesis>=6.100"],
        # With every rule selected, another ruff has other rules.
        "lint": ["ruff==0.17.*", "mypy>=1.15"],
    },
    entry_points={"console_scripts": ["pylsyncd = pylsyncd.cli:main"]},
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
