"""No text from outside raises an error that is not ours, leads out of the source, or costs much."""

import time
from pathlib import Path

import pytest
from fuzz.fuzz import CORPUS, fuzz_once
from fuzz.parsers import PARSERS

# Texts that hypothesis makes up for each parser, beside those that are stored.
EXAMPLES = 1_000

STORED = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_stored_text_is_parsed_or_refused(path: Path) -> None:
    PARSERS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_has_stored_texts(name: str) -> None:
    assert [path for path in STORED if path.parent.name == name]


@pytest.mark.parametrize("name", PARSERS)
def test_any_text_is_parsed_or_refused(name: str) -> None:
    fuzz_once(name, EXAMPLES)


# A text that is four times as long may cost that much, and half as much again for what is not in
# proportion; a quadratic parser takes sixteen times as long.
FACTOR = 4
MAX_RATIO = 9
# Seconds: below it, the clock and the first call of a function decide.
FLOOR = 0.002


def cost(name: str, text: bytes) -> float:
    """Return the CPU time that a parser needs for a text, in seconds."""
    started = time.thread_time()
    PARSERS[name].check(text)
    return time.thread_time() - started


def is_linear(name: str, long: bytes) -> bool:
    """Return True if the cost of a text is at most in proportion to its size."""
    short = long[: len(long) // FACTOR]
    return any(cost(name, long) < max(FLOOR, cost(name, short)) * MAX_RATIO for _ in range(4))


@pytest.mark.parametrize("name", PARSERS)
def test_the_cost_of_a_text_is_in_proportion_to_its_size(name: str) -> None:
    parser = PARSERS[name]
    starts = [b"", *parser.pieces[:4], *parser.starts]
    for piece in parser.pieces:
        for start in starts:
            text = start + piece * (1 + parser.max_bytes // len(piece))
            assert is_linear(name, text[: parser.max_bytes]), text[:100]
