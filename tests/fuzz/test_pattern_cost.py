"""The cost of what rsync prints is proportional to its size, whatever it prints."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from pylsyncd.rsync import failed_paths, message_lines, outcomes, runner
from pylsyncd.rsync.message_lines import MAX_MATCHED, parse_message
from pylsyncd.rsync.outcomes import interpret
from pylsyncd.rsync.output import LineSplitter, RsyncMessages

# Characters. A linear pattern costs FACTOR times as much for the long text as for the short one,
# a quadratic one FACTOR * FACTOR times as much.
SHORT, FACTOR = 4_000, 8

PATTERNS = {
    # All patterns, also the private ones.
    **{f"row {row.words.pattern}": row.words for row in outcomes._TABLE},  # noqa: SLF001
    **{f"form {form.pattern}": form for form, _ in failed_paths._FORMS},  # noqa: SLF001
    **{
        f"{module.__name__}.{name}": pattern
        for module in (outcomes, message_lines, failed_paths, runner)
        for name, pattern in vars(module).items()
        if isinstance(pattern, re.Pattern)
    },
}


def literals(pattern: str) -> list[str]:
    """Return the longest pieces of a pattern that are no syntax, and their beginnings."""
    plain = re.sub(r"\(\?[a-zA-Z]*:|\(\?[=!i<][^)]*\)|\{[\d,]+\}|\\[wdSsZb]", "\0", pattern)
    plain = re.sub(r"\\(.)", r"\1", re.sub(r"(?<!\\)[()|*+?]|(?<!\\)\[[^\]]*\]", "\0", plain))
    pieces = sorted({piece for piece in plain.split("\0") if piece.strip()}, key=len)[-40:]
    return [*pieces, *{piece[: len(piece) // 2 + 1] for piece in pieces}]


STARTS = ("", "rsync: ", "rsync: [sender] ", "ERROR: ", "/", "sh: ", 'skipping non-regular file "')


def worst_texts(pattern: str) -> Iterator[str]:
    """Yield texts that a pattern nearly matches again and again."""
    for start in STARTS:
        for piece in literals(pattern):
            yield start + piece * (1 + SHORT * FACTOR // len(piece))
        for filler in (": ", "a", " ", "a: ", "/", '"', '" ', "(", ")", "x ", "1:"):
            yield start + filler * (SHORT * FACTOR // len(filler))


def cost(function: Callable[[], object]) -> float:
    """Return the least CPU time of some calls, in seconds."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        function()
        times.append(time.thread_time() - started)
    return min(times)


def is_linear(function: Callable[[str], object], text: str) -> bool:
    """Return True if the cost of a text is at most proportional to its size."""
    for _ in range(5):
        long = cost(lambda: function(text))
        # What a short text costs at most: a floor hides the clock's inaccuracy.
        short = cost(lambda: function(text[:SHORT]))
        if long < max(short, 50e-6) * FACTOR * 3:
            return True
    return False


# The others are compared with a whole line or its beginning.
SEARCHED = [
    outcomes._ERROR,  # noqa: SLF001
    message_lines._NAME,  # noqa: SLF001
    message_lines._FAILED_VERIFICATION,  # noqa: SLF001
    failed_paths._ESCAPED,  # noqa: SLF001
    failed_paths._UNDECODED,  # noqa: SLF001
    failed_paths._INTERRUPTION,  # noqa: SLF001
    failed_paths._INTERRUPTION_IN_NAME,  # noqa: SLF001
]


@pytest.mark.parametrize("name", PATTERNS)
def test_the_cost_of_a_pattern_is_linear(name: str) -> None:
    pattern = PATTERNS[name]
    is_binary = isinstance(pattern.pattern, bytes)
    source = pattern.pattern.decode() if is_binary else pattern.pattern
    methods = [pattern.match, pattern.fullmatch]
    if pattern in SEARCHED:
        methods.append(pattern.search)
    for text in worst_texts(source):
        for method in methods:
            assert is_linear(
                lambda shown, call=method: call(shown.encode() if is_binary else shown),
                text[: SHORT * FACTOR],
            ), text[:80]


def test_this_test_detects_a_quadratic_pattern() -> None:
    pattern = re.compile(r"(?:mkstemp|rename|symlink|mknod|set times) .*No such file")
    text = "mkstemp " * (SHORT * FACTOR // 8)
    assert not is_linear(pattern.search, text)


FLOODS = [
    "mkdir ",
    "read errors mapping ",
    "[sender] ",
    "rsync: [sender] ",
    "rsync: : Permission denied ",
    'rsync: [receiver] mkstemp "/d',
    "ERROR: daemon refused to receive ",
    " failed verification -- update ",
    "\\#303",
    "x",
]
CODES = (0, 2, 5, 11, 12, 23, 255)


@pytest.mark.parametrize("flood", FLOODS)
def test_eleven_megabytes_cost_little_more_to_interpret_than_to_read(flood: str) -> None:
    line = flood * (22_000 // len(flood))
    # Distinct lines, because equal ones are kept once.
    text = "".join(f"{line[:21_990]}{number:09}\n" for number in range(500)).encode()
    lines = text.decode().splitlines()

    def split() -> None:
        splitter = LineSplitter(lambda line: line)
        for position in range(0, len(text), 65_536):
            splitter.feed(text[position : position + 65_536])

    def read() -> None:
        messages = RsyncMessages()
        for line in lines:
            messages.add(line.encode())

    bound = 10 * cost(split) + 0.05
    assert cost(read) < bound
    for code in CODES:
        assert cost(lambda code=code: interpret(code, lines)) < bound, code  # type: ignore[misc]


def test_a_line_is_cut_before_a_pattern_sees_it() -> None:
    line = "rsync: " + "[sender] " * 3_000
    assert len(parse_message(line).words) <= MAX_MATCHED


def test_a_bounded_number_of_lines_is_interpreted() -> None:
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        while True:
            count += 1
            yield f"rsync: {count}"

    assert interpret(23, lines()).reason
    assert count <= outcomes.MAX_INTERPRETED_LINES
