"""The mutants of a module: its source with one small fault each."""

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.Mult: ast.Add, ast.LShift: ast.RShift,
}  # fmt: skip
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
# Conditions that no other mutant changes.
NEGATED = (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr)
# A message is no decision.
REPORTING = {"log", "logging", "traceback", "run_log"}


class Mutant(NamedTuple):
    """A fault in a module."""

    path: str
    """The module, relative to the repository."""
    line: int
    last_line: int
    """The lines that run it."""
    function: str
    """The qualified name of the outermost function around it; empty outside of functions."""
    function_line: int
    """The first line of that function, its decorators included."""
    before: str
    after: str
    source: str
    """The whole module with the fault."""
    key: str
    """Identifies the mutant as long as its function stays as it is."""


def find_mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of their lines."""
    return sorted(_Finder(path, source).find(), key=lambda mutant: (mutant.line, mutant.key))


class _Finder:
    """Walks the syntax tree of a module."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        encoded = [line.encode() for line in source.splitlines(keepends=True)]
        self._lines = encoded
        self._function: ast.FunctionDef | None = None
        self._names: list[str] = []
        self._statement: ast.stmt | None = None

    def find(self) -> Iterator[Mutant]:
        yield from self._visit(ast.parse(self._source))

    def _visit(self, node: ast.AST) -> Iterator[Mutant]:
        outer_function, outer_statement = self._function, self._statement
        is_named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        if is_named and self._function is None:
            self._names.append(node.name)  # type: ignore[attr-defined]
        if isinstance(node, ast.FunctionDef) and self._function is None:
            self._function = node
        if isinstance(node, ast.stmt):
            self._statement = node
        for replacement in _replacements(node):
            yield self._mutant(node, replacement)
        if isinstance(node, (ast.If, ast.While, ast.IfExp)) and isinstance(node.test, NEGATED):
            yield self._mutant(node.test, ast.UnaryOp(ast.Not(), node.test))
        for child in _children(node):
            yield from self._visit(child)
        self._function, self._statement = outer_function, outer_statement
        if is_named and outer_function is None:
            self._names.pop()

    def _mutant(self, node: ast.AST, replacement: ast.AST) -> Mutant:
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno, node.end_col_offset or 0)
        whole = b"".join(self._lines)
        text = ast.unparse(replacement)
        text = f"({text})" if isinstance(replacement, ast.expr) else text
        source = (whole[:start] + text.encode() + whole[end:]).decode()
        function, statement = self._function, self._statement
        first, last = _running_lines(statement, node)
        before = whole[start:end].decode()
        name = ".".join(self._names) if function is not None else ""
        around = ast.get_source_segment(self._source, function) if function is not None else source
        start_in_function = start - self._offset(function.lineno, 0) if function is not None else 0
        identity = f"{self._path}\0{name}\0{around}\0{start_in_function}\0{before}\0{text}"
        return Mutant(
            self._path, first, last, name,
            _first_line(function) if function is not None else 0,
            before, text, source, hashlib.blake2b(identity.encode(), digest_size=12).hexdigest(),
        )  # fmt: skip

    def _offset(self, line: int, column: int) -> int:
        return sum(map(len, self._lines[: line - 1])) + column


def _first_line(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(each.lineno for each in function.decorator_list)])


def _running_lines(statement: ast.stmt | None, node: ast.AST) -> tuple[int, int]:
    """Return the first and last line that run a node: not all those of a whole loop."""
    assert isinstance(node, (ast.expr, ast.stmt))
    if statement is None or hasattr(statement, "body"):
        return node.lineno, node.end_lineno or node.lineno
    return statement.lineno, statement.end_lineno or statement.lineno


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be mutated below a node: no annotation, decorator, message or import."""
    if _is_report(node) or isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield node.value
        return
    if isinstance(node, ast.FunctionDef):
        yield from node.body
        return
    if isinstance(node, ast.ClassDef):
        yield from (each for each in node.body if isinstance(each, (ast.FunctionDef, ast.ClassDef)))
        return
    if isinstance(node, ast.Module):
        # A constant is a limit: another value is as good.
        yield from (each for each in node.body if isinstance(each, (ast.FunctionDef, ast.ClassDef)))
        return
    yield from ast.iter_child_nodes(node)


def _is_report(node: ast.AST) -> bool:
    """Return True if a node is a call that only reports."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = node.value.func
    while isinstance(called, ast.Attribute):
        if called.attr in REPORTING and called is not node.value.func:
            return True
        called = called.value
    return isinstance(called, ast.Name) and called.id in REPORTING


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    if _is_left_out(node):
        # Without the name, the function would have other free variables, and not fit into memory.
        calls_super = any(
            isinstance(each, ast.Name) and each.id == "super" for each in ast.walk(node)
        )
        yield ast.Expr(ast.Name("super")) if calls_super else ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not _is_constant(node.value):
        # Nothing tells an empty text from None: it stands for the absence of a reason.
        is_empty = isinstance(node.value, ast.Constant) and node.value.value == ""
        yield ast.Return(ast.Constant("?" if is_empty else None))
    elif isinstance(node, ast.Break):
        yield ast.Continue()


def _is_left_out(node: ast.stmt) -> bool:
    """Return True if a statement may be missing without a name that does not exist."""
    if isinstance(node, ast.Expr):
        is_call = isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom))
        return is_call and not _is_report(node)
    if isinstance(node, ast.Assign):
        return all(isinstance(each, (ast.Attribute, ast.Subscript)) for each in node.targets)
    return isinstance(node, (ast.Raise, ast.AugAssign, ast.Delete, ast.Continue))


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    kind = type(node)
    if kind in _EXPRESSIONS:
        yield from _EXPRESSIONS[kind](node)


def _comparisons(node: ast.Compare) -> Iterator[ast.AST]:
    # Whether two readings of a clock are equal is chance.
    if any(ast.unparse(each) == "time.monotonic()" for each in (node.left, *node.comparators)):
        return
    for index, operator in enumerate(node.ops):
        changed = copy.copy(node)
        changed.ops = list(node.ops)
        changed.ops[index] = COMPARISONS[type(operator)]()
        yield changed


def _and_or(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def _without_not(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not):
        yield node.operand


def _operators(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)


def _exchanged(node: ast.IfExp) -> Iterator[ast.AST]:
    yield ast.IfExp(node.test, node.orelse, node.body)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        yield ast.Call(ast.Name(FUNCTIONS[node.func.id]), node.args, node.keywords)


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int) and node.value in {0, 1, 2}:
        yield ast.Constant(node.value + 1)


def _conditions(node: Any) -> Iterator[ast.AST]:
    """Yield a comprehension without one of its conditions."""
    for number, part in enumerate(node.generators):
        for index in range(len(part.ifs)):
            changed = copy.deepcopy(node)
            del changed.generators[number].ifs[index]
            yield changed


def _is_constant(node: ast.expr) -> bool:
    """Return True if a returned constant is mutated itself, or is None."""
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


_EXPRESSIONS: dict[type[ast.expr], Callable[[Any], Iterator[ast.AST]]] = {
    ast.Compare: _comparisons,
    ast.BoolOp: _and_or,
    ast.UnaryOp: _without_not,
    ast.BinOp: _operators,
    ast.IfExp: _exchanged,
    ast.Call: _calls,
    ast.Constant: _constants,
    ast.ListComp: _conditions,
    ast.SetComp: _conditions,
    ast.DictComp: _conditions,
    ast.GeneratorExp: _conditions,
}
