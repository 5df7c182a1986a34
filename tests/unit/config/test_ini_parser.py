"""The parser reads what configparser reads, and reports every line that it cannot read."""

import configparser
import re

from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.config import ini_parser

words = st.text("abz=#;[] :\té\udcff", min_size=1, max_size=8)
keys = st.from_regex(r"[a-z][a-z_-]{0,3}", fullmatch=True)
indents = st.sampled_from(["  ", "\t", " \t "])
blank_lines = st.sampled_from(["", "", "", "\n", "# comment\n", "  ; comment\n", "\t\n"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """Return a file without errors."""
    text = draw(blank_lines)
    for title in draw(
        st.lists(st.from_regex(r"[a-z]{1,3}( [a-z]{1,2})?", fullmatch=True), unique=True)
    ):
        text += f"[{title}]\n" + draw(blank_lines)
        unique = st.lists(keys, max_size=4, unique_by=ini_parser.normalize_key)
        for key in draw(unique):
            text += f"{key}{draw(st.sampled_from(['=', ' = ', ' =']))}{draw(words)}\n"
            for more in draw(st.lists(words, max_size=3)):
                text += draw(indents) + f"{more}\n" + draw(blank_lines)
    return text


@given(files())
def test_a_file_without_errors_is_read_as_configparser_reads_it(text: str) -> None:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="\0")
    parser.optionxform = ini_parser.normalize_key  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    sections, problems = ini_parser.parse_ini(text)
    assert not problems
    ours = {
        section.title: {
            ini_parser.normalize_key(entry.key): [line for _, line in entry.lines]
            for entry in section.entries
        }
        for section in sections
    }
    theirs = {
        title: {key: value.split("\n") for key, value in parser[title].items()}
        for title in parser.sections()
    }
    assert {
        title: {key: list(filter(None, value)) for key, value in section.items()}
        for title, section in theirs.items()
    } == ours


@given(st.text(st.sampled_from("ab=#[]; \n\t\r\0é\udcff-"), max_size=60))
def test_every_line_of_any_file_is_read_or_reported(text: str) -> None:
    sections, problems = ini_parser.parse_ini(text)
    seen = {problem.line for problem in problems}
    for section in sections:
        seen.add(section.line)
        for entry in section.entries:
            seen |= {entry.line, *(line for line, _ in entry.lines)}
    for number, line in enumerate(text.split("\n"), start=1):
        if number not in seen and line.strip(" \t\r") and not re.match(r"[ \t\r]*[#;]", line):
            # Below a reported line, or before the first section after the first reported line.
            assert seen or line[0] in " \t\r"
            assert any(other < number for other in seen)


def test_a_problem_names_its_line_and_section() -> None:
    _, problems = ini_parser.parse_ini("[sync www]\nwindow = 1\n\ngarbage\n")
    assert [(problem.line, problem.section) for problem in problems] == [(4, "sync www")]
    assert problems[0].message.startswith("'garbage' is neither KEY = VALUE nor a [section]")


def test_only_the_first_key_before_all_sections_is_reported() -> None:
    _, problems = ini_parser.parse_ini("a = 1\nb = 2\n[sync www]\n")
    assert [problem.line for problem in problems] == [1]


def test_keys_are_compared_in_lower_case_with_underscores() -> None:
    (section,), _ = ini_parser.parse_ini("[pylsyncd]\nMax-Runs = 1\nmax_runs = 2\n")
    first, repeated = ini_parser.entries_by_key(section)
    assert list(first) == ["max_runs"]
    assert [entry.line for entry in repeated] == [3]
