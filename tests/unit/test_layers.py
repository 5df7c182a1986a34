"""A module imports only from rows below its own; the lower rows do no I/O."""

import ast
from pathlib import Path

import pylsyncd

PACKAGE = Path(pylsyncd.__file__).parent

# From the top to the ground. Modules in one row do not import each other.
ROWS = (
    {"__main__"},
    {"cli"},
    {"service"},
    {"arguments", "audit", "crew", "lookout"},
    {"watching"},
    {"beginning", "config", "watcher", "worker"},
    {"buffer", "carrier", "checkpoint", "tracker"},
    {"guard", "orders", "recovery", "runlog"},
    {"arming", "filelist", "links", "rsync", "statedir"},
    {"clock", "heartbeat", "inotify", "linknames", "mounts", "orphans", "private", "scan"},
    {"inbox", "liveness", "logs", "part", "walk"},
    # No I/O from here on: no clock, thread, file or process.
    {"claims", "retry"},
    {"commands", "debt", "failures", "outcomes", "overflows", "state", "watchtree"},
    {"endpoints", "messages", "moments", "optimizer"},
    {"changes", "excludes", "notation", "passthrough"},
    {"errors", "paths"},
)
NO_IO = ROWS.index({"claims", "retry"})
PURE = set().union(*ROWS[NO_IO:])
IMPURE_LIBRARIES = {
    "os",
    "time",
    "threading",
    "subprocess",
    "socket",
    "select",
    "logging",
    "random",
}


def imports(module: str) -> set[str]:
    """Return what a module imports: modules of the package by their names, others as they are."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pylsyncd":
            found.update(f"pylsyncd.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found - {"pylsyncd.__version__"}


def test_every_module_has_its_row() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set().union(*ROWS)


def test_a_module_imports_only_from_rows_below_its_own() -> None:
    wrong = []
    for number, row in enumerate(ROWS):
        below = {f"pylsyncd.{module}" for lower in ROWS[number + 1 :] for module in lower}
        for module in row:
            own = {name for name in imports(module) if name.startswith("pylsyncd")}
            wrong += [f"{module} imports {name}" for name in own - below]
    assert wrong == []


def test_the_lower_half_does_no_io() -> None:
    wrong = [
        f"{module} imports {name}" for module in PURE for name in imports(module) & IMPURE_LIBRARIES
    ]
    assert wrong == []


def test_each_edge_of_the_program_has_one_module() -> None:
    owners = {"pyinotify": "inotify", "subprocess": "rsync", "argparse": "arguments"}
    for library, owner in owners.items():
        importers = {module for row in ROWS for module in row if library in imports(module)}
        # The command gives its settings the parsed arguments, and knows their type.
        assert importers - {"cli"} == {owner}
