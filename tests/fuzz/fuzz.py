"""Fuzzes all parsers for some time: ``make fuzz``. A text that fails is added to the corpus."""

import argparse
import hashlib
import itertools
import logging
import random
import sys
import time
from pathlib import Path

from fuzz.parsers import PARSERS
from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"

# Texts between two looks at the clock.
_BATCH = 2_000
_MAX_PIECES = 30


def texts(name: str) -> st.SearchStrategy[bytes]:
    """Return a strategy for texts: pieces that the parser knows, stored texts, and any bytes."""
    stored = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    cut = st.sampled_from(stored or [b""]).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda place: text[:place])
    )
    pieces = st.sampled_from(PARSERS[name].pieces)
    repeated = st.tuples(pieces, st.integers(1, 50)).map(lambda pair: pair[0] * pair[1])
    return st.lists(
        st.one_of(pieces, pieces, repeated, cut, st.sampled_from(stored or [b""]),
                  st.binary(max_size=20)),
        max_size=_MAX_PIECES,
    ).map(b"".join)  # fmt: skip


def fuzz_once(name: str, examples: int, number: int | None = None) -> None:
    """Check a parser with some texts; an AssertionError or another error tells of a fault.

    The text is in the error's notes, and with a ``number`` the texts can be repeated.
    """

    @settings(
        max_examples=examples, database=None, print_blob=False, deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(texts(name))
    @example(b"")
    def check(text: bytes) -> None:
        last[0] = text
        PARSERS[name].check(text)

    last = [b""]
    try:
        (check if number is None else seed(number)(check))()
    except Exception as error:
        # The last text is the smallest one that fails.
        error.fuzzed_text = last[0]  # type: ignore[attr-defined]
        raise


def main() -> int:
    """Fuzz until the time is over; return 1 if a parser has failed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=3600.0)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments.add_argument("--parser", choices=sorted(PARSERS), action="append")
    given_arguments = arguments.parse_args()
    logging.disable()
    print(f"seed {given_arguments.seed}", flush=True)  # noqa: T201 - it is a program
    names = given_arguments.parser or sorted(PARSERS)
    failed: set[str] = set()
    ends_at = time.monotonic() + given_arguments.seconds
    for round_number in itertools.count():
        for name in [each for each in names if each not in failed]:
            if time.monotonic() > ends_at:
                print(f"{round_number} rounds of {_BATCH} texts, failed: {sorted(failed)}")  # noqa: T201
                return bool(failed)
            try:
                fuzz_once(name, _BATCH, given_arguments.seed + round_number)
            except Exception as error:  # noqa: BLE001 - any other error is what is looked for
                failed.add(name)
                _report(name, error)
        if failed == set(names):
            return 1
    raise AssertionError


def _report(name: str, error: Exception) -> None:
    text = getattr(error, "fuzzed_text", b"")
    path = CORPUS / name / f"found-{hashlib.sha256(text).hexdigest()[:12]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    print(f"{name}: {type(error).__name__}: {error}\n  {text!r:.500}\n  in {path}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
