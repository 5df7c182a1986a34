"""The example configuration is generated from the tables and shows every option."""

import configparser
import re
from pathlib import Path

from support.configuration import settings_without_names

from pylsyncd.config import example
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import FILE_OPTIONS

EXAMPLE = Path(__file__).resolve().parents[3] / "pylsyncd.conf.example"


def test_the_example_is_up_to_date() -> None:
    message = "generate it again: see pylsyncd/config/example.py"
    assert EXAMPLE.read_text() == example.generate_example(), message


def test_the_example_shows_every_key_once_in_its_innermost_section() -> None:
    found: dict[str, str] = {}
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+).*\]", line):
            section = heading[1]
        elif setting := re.match(r"#?([a-z_]+) =", line):
            assert setting[1] not in found
            found[setting[1]] = section
    names = {
        OptionScope.PROCESS: "pylsyncd",
        OptionScope.SYNC: "sync",
        OptionScope.DESTINATION: "destination",
    }
    assert found == {option.key: names[option.scope] for option in FILE_OPTIONS}


def test_the_example_sets_nothing_but_defaults(place: Path) -> None:
    text = EXAMPLE.read_text().replace("/var/www/./", f"{place}/src/./")
    assert "# " in text
    # Prose has a blank after its #, an option has none.
    (place / "set.conf").write_text(re.sub(r"^#(?=[a-z_]+ =)", "", text, flags=re.MULTILINE))
    (place / "as-it-is.conf").write_text(text)
    as_it_is = settings_without_names(["-c", "as-it-is.conf"])
    assert settings_without_names(["-c", "set.conf"]) == as_it_is
    destinations = [
        "www-data@srv2:/var/www/",
        "www-data@srv3:/var/www/",
        "rsync://nas.example.com/www/",
    ]
    assert settings_without_names([f"{place}/src/./", *destinations]) == as_it_is


def test_configparser_can_read_the_example() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(EXAMPLE.read_text())
    assert parser.sections() == ["pylsyncd", "sync www", "destination backup"]
