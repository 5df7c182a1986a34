"""The Debian package: its version, and the files that it takes from elsewhere in the tree."""

import re
from pathlib import Path

import pytest

import pylsyncd
from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.raw_options import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[2]
DEBIAN = REPOSITORY / "debian"
CONFFILE = REPOSITORY / "contrib/pylsyncd.conf"


def test_the_package_has_the_version_of_the_program() -> None:
    version = re.match(r"pylsyncd \((.+)-\d+\) ", (DEBIAN / "changelog").read_text())
    assert version
    assert version[1] == pylsyncd.__version__


def test_the_files_that_are_installed_are_there() -> None:
    text = (DEBIAN / "rules").read_text() + (DEBIAN / "pylsyncd.install").read_text()
    text += (DEBIAN / "pylsyncd.bash-completion").read_text()
    named = re.findall(r"\bcontrib/[\w./@-]*\w", text)
    assert "contrib/pylsyncd.conf" in named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
    elsewhere = re.search(r"INSTALLED_ELSEWHERE = ((?:[^\\\n]|\\\n)*)\n", text)
    assert elsewhere
    names = elsewhere[1].replace("\\\n", " ").split()
    assert [name for name in names if not (REPOSITORY / "contrib" / name).exists()] == []


def test_the_spec_for_rpm_has_the_version_of_the_program_and_names_files_that_are_there() -> None:
    spec = (REPOSITORY / "contrib/rpm/pylsyncd.spec").read_text()
    assert f"%global version_of_pylsyncd {pylsyncd.__version__}}}" in spec
    named = re.findall(r"(?<=[ ])contrib/[\w./@-]*\w", spec.partition("%install")[2])
    assert "contrib/pylsyncd.conf" in named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def _load(path: Path) -> None:
    command_line = command_line_parser.parse_command_line(["-c", str(path)])
    loader.load_configuration(command_line, loader.StartEnvironment.current())


def test_the_configuration_as_installed_lacks_only_a_sync(tmp_path: Path) -> None:
    path = tmp_path / "pylsyncd.conf"
    path.write_text(CONFFILE.read_text())
    with pytest.raises(ConfigurationError, match=r"There is no section \[sync NAME\]"):
        _load(path)
    example = re.findall(r"^#     (\[sync.*|\w+ = .*)$", path.read_text(), re.MULTILINE)
    assert len(example) == 3
    example[1] = f"source = {tmp_path}/./"
    path.write_text(f"{path.read_text()}\n" + "\n".join(example) + "\n")
    _load(path)
