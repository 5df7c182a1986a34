"""The code, its messages and its documents are written without certain words."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Phrases that sound translated, and metaphors that a reader cannot guess.
BANNED = {
    "phrases": (
        r"\btells? whether\b|\bnobody\b|\bsomebody\b|\bwhoever\b|\bthose who\b|\bas far as that\b"
        r"|\banew\b|\bhow (?:it|they|he) stands?\b|\bin the way\b|\bwhat is (?:owed|meant)\b"
        r"|\bis to be\b.*\bis to be\b"
    ),
    "metaphors": (
        r"\b(?:crews?|hires?|hired|dismiss(?:es|ed)?|lookouts?|lanes?|tally|tallies|debts?|owes?|owed"
        r"|footing|adrift|census|heartbeats?|pulses?|arming|armed|landed|lands|trips?)\b"
    ),
}
# Keys on disk and in JSON, which programs read.
KEPT = re.compile(r'\bowes[ _]everything\b|"debt"')

DOCUMENTS = [
    *(REPOSITORY / name for name in ("README", "CHANGES", "pylsyncd.conf.example")),
    *sorted((REPOSITORY / "docs").glob("*.rst")),
]
CODE = sorted((REPOSITORY / "pylsyncd").rglob("*.py"))


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document; of code its comments and strings, and its names as words."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text().splitlines(), 1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], _as_words(token.string)
            elif token.type in {tokenize.COMMENT, tokenize.STRING}:
                yield from enumerate(token.string.splitlines(), token.start[0])


def _as_words(name: str) -> str:
    """Return ``_StartPlan`` or ``start_plan`` as "Start Plan" or "start plan"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)


@pytest.mark.parametrize("kind", BANNED)
@pytest.mark.parametrize("path", [*CODE, *DOCUMENTS], ids=lambda path: path.name)
def test_no_banned_words(path: Path, kind: str) -> None:
    banned = re.compile(BANNED[kind], re.IGNORECASE)
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {words.strip()}"
        for number, words in words_of(path)
        if banned.search(KEPT.sub("", words))
    ]
    assert found == []
