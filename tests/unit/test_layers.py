"""The layout of the program: which package may import which, and what stands in one place only."""

import ast
import graphlib
import importlib
import re
import threading
from collections import Counter
from pathlib import Path

import pytest

import pylsyncd
from pylsyncd.system.threads import SupervisedThread

PACKAGE = Path(pylsyncd.__file__).parent

# From the top to the area. A package, or a module beside the packages, imports only from those
# below it; the entries of one tuple do not import each other.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("service",),
    ("operations",),
    ("confirmation",),
    ("supervisor",),
    ("replication",),
    ("flusher",),
    ("worker",),
    ("ctl", "daemonize"),
    ("state",),
    ("watcher",),
    ("control",),
    ("report",),
    ("terminal",),
    ("config",),
    ("rsync",),
    ("pipeline",),
    ("rules",),
    ("system",),
    ("model",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# No clock, thread, file or process; whole packages, or modules.
PURE = {
    "model",
    "rules",
    "pipeline.backlog",
    "pipeline.optimizer",
    "pipeline.tree_parts",
    "config.conflicts",
    "config.converters",
    "config.describe",
    "config.example",
    "config.ini_parser",
    "config.option",
    "config.options",
    "config.process_options",
    "config.quantities",
    "config.raw_options",
    "config.settings",
    "config.sync_options",
    "control.nagios",
    "control.page",
    "control.protocol",
    "control.table",
    "report.hook_events",
    "report.http_response",
    "rsync.arguments",
    "rsync.command",
    "rsync.carried_paths",
    "rsync.failed_paths",
    "rsync.message_lines",
    "rsync.option_check",
    "rsync.outcomes",
    "rsync.output",
    "rsync.quoting",
    "rsync.remote_rename",
    "rsync.remote_shell",
    "rsync.rename_order",
    "rsync.retry_policy",
    "rsync.temporary_names",
    "state.destination_state",
    "state.lock_file",
    "watcher.overflow_backoff",
    "watcher.watch_tree",
}
IMPURE_LIBRARIES = {
    "logging",
    "os",
    "random",
    "select",
    "socket",
    "subprocess",
    "threading",
    "time",
}
# The only modules that import a library.
IMPORTERS = {
    "argparse": {"config.command_line_parser", "control.command_line", "ctl"},
    "daemon": {"daemonize"},
    "prometheus_client": {"report.metric_families"},
    "pyinotify": {"watcher.inotify"},
    "subprocess": {"system.processes"},
}

FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def imports(module: str) -> set[str]:
    """Return what a module imports: modules of the package by their names, others as they are."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(_imported(node.module, [alias.name for alias in node.names]))
    return found


def _imported(module: str, names: list[str]) -> set[str]:
    """Return what ``from module import names`` imports: modules of a package, or the module."""
    own = {f"{module}.{name}".removeprefix("pylsyncd.") for name in names} & FILES.keys()
    if own:
        return own
    return set() if module == "pylsyncd" else {module.removeprefix("pylsyncd.")}


IMPORTS = {module: imports(module) for module in FILES}


def package(module: str) -> str:
    return module.partition(".")[0]


def is_pure(module: str) -> bool:
    return module in PURE or package(module) in PURE


def test_every_package_has_its_layer() -> None:
    assert {package(module) for module in FILES} == LEVEL.keys()


def test_a_package_imports_only_from_those_below_it() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        for name in IMPORTS[module] & FILES.keys()
        if package(name) != package(module) and LEVEL[package(name)] <= LEVEL[package(module)]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: IMPORTS[module] & FILES.keys() for module in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_pure_modules_do_no_io_and_import_none_that_do() -> None:
    named = PURE - {package(module) for module in FILES} - FILES.keys()
    assert not named, "there is no such module"
    wrong = [
        f"{module} imports {name}"
        for module in filter(is_pure, FILES)
        for name in IMPORTS[module]
        if name in IMPURE_LIBRARIES or (name in FILES and not is_pure(name))
    ]
    assert wrong == []


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_has_its_importers(library: str) -> None:
    found = {
        module
        for module in FILES
        if any(name.partition(".")[0] == library for name in IMPORTS[module])
    }
    assert found == IMPORTERS[library]


def test_a_class_name_occurs_once() -> None:
    names = Counter(
        node.name
        for module in FILES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_thread_overrides_the_internals_of_its_class() -> None:
    """A method named ``_stop``, say, breaks ``is_alive()`` without an error."""
    internals = {name for name in vars(threading.Thread) if re.match(r"_[a-z]", name)}
    for module in FILES:
        importlib.import_module(f"pylsyncd.{module}".removesuffix(".__main__"))
    threads = [SupervisedThread, *SupervisedThread.__subclasses__()]
    assert [(each.__name__, internals & vars(each).keys()) for each in threads] == [
        (each.__name__, set()) for each in threads
    ]
