"""The faults that mutation testing puts into a module."""

import pytest
from mutation.mutants import find_mutants


def changes(body: str) -> list[tuple[str, str]]:
    source = f"def f(a, b):\n    {body}\n"
    return [(mutant.before, mutant.after) for mutant in find_mutants("m.py", source)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return a < b", [("return a < b", "return None"), ("a < b", "(a <= b)")]),
        ("a.x = b", [("a.x = b", "pass")]),
        ("c = a and b", [("a and b", "(a or b)")]),
        ("c = not a", [("not a", "(a)")]),
        ("c = a + 1", [("1", "(2)"), ("a + 1", "(a - 1)")]),
        ("c = min(a, b)", [("min(a, b)", "(max(a, b))")]),
        ("c = [x for x in a if x]", [("[x for x in a if x]", "([x for x in a])")]),
        ("if a: b()", [("a", "(not a)"), ("b()", "pass")]),
        ("raise a", [("raise a", "pass")]),
        ("c = time.monotonic() < a", []),
        ("super().b(1)", [("super().b(1)", "super"), ("1", "(2)")]),
        ("return ''", [("return ''", "return '?'")]),
        ("log.info('%d', 1)", []),
        ("a.run_log.log_exit(1)", []),
        ("c: int = a", []),
        ("pass", []),
    ],
)  # fmt: skip
def test_a_mutant_has_one_fault(body: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(changes(body)) == sorted(expected)


def test_the_source_of_a_mutant_differs_at_that_place_alone() -> None:
    source = "class C:\n    @property\n    def p(self):\n        return 'ä', (\n            1)\n"
    one, whole = sorted(find_mutants("m.py", source), key=lambda mutant: mutant.before)
    assert one.source == source.replace("1)", "(2))")
    assert (one.function, one.function_line, one.line, one.last_line) == ("C.p", 2, 4, 5)
    assert whole.source == source[: source.index("return")] + "return None\n"


def test_a_mutant_keeps_its_key_while_its_function_stays_the_same() -> None:
    function = "def f(a):\n    return a\n"
    (before,) = find_mutants("m.py", function)
    (moved,) = find_mutants("m.py", f"X = 1\n\n\n{function}")
    (changed,) = find_mutants("m.py", function.replace("a", "b"))
    assert before.key == moved.key != changed.key
