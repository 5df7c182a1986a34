"""A module imports only from rows below its own; the lower rows do no I/O."""

import ast
from pathlib import Path

import pylsyncd

PACKAGE = Path(pylsyncd.__file__).parent

# From the top to the ground: packages, and in each its rows. Modules in one row do not import each
# other, and a package knows nothing of those above it.
ROWS = {
    "": (
        {"__main__"},
        {"entry"},
        {"cli"},
        {"service"},
        {"observers"},
        {"operations"},
        {"replications"},
        {"replication"},
        {"calls", "ctl", "daemonize", "dispatch"},
    ),
    "destination": (
        {"crew"},
        {"posts"},
        {"worker"},
        {"account"},
        {"carrier", "lane"},
        {"bulk"},
        {"beginning", "runs"},
        {"complaints", "means", "orders"},
        {"attempts", "audit", "spot", "tally", "turns"},
    ),
    "report": (
        {"progress"},
        {"drawing"},
        {"gathering", "terminal"},
        {
            "client",
            "columns",
            "control",
            "ctlarguments",
            "hooks",
            "metrics",
            "nagios",
            "statusfile",
            "table",
        },
        {
            "colours",
            "families",
            "loopback",
            "occasions",
            "protocol",
            "tasks",
            "transcript",
            "watching",
            "words",
        },
    ),
    "state": (
        {"checkpoint"},
        {"statedir"},
        {"claims"},
        {"orphans", "state"},
    ),
    "source": (
        {"lookout"},
        {"watching"},
        {"watcher"},
        {"tracker"},
        {"recovery"},
        {"arming"},
        {"links", "scan"},
        {"census", "guard", "linksearch"},
        {"buffer", "inotify", "linknames", "mounts", "overflows", "watchtree"},
    ),
    "settings": (
        {"config"},
        {"conffile", "describe", "syncs"},
        {"arguments", "layout", "process"},
        {"example", "said"},
        {"checks", "options"},
        {"conflicts", "processoptions", "syncoptions", "values"},
        {"inifile", "option", "settings"},
    ),
    "rsync": (
        {"runlog"},
        {"runner"},
        {"installed", "sharing"},
        {"commands", "failures", "filelist", "progress", "retry"},
        {"largefiles", "liveness", "messages", "outcomes", "passthrough", "quoting", "temporaries"},
    ),
    "rules": (
        {"mistakes"},
        {"explain"},
        {"excludes"},
        {"filters"},
        {"patterns"},
    ),
    "system": (
        {"logs"},
        {"heartbeat", "logfile", "pidfile", "published", "unixsockets"},
        {
            "clock",
            "descriptors",
            "identity",
            "inbox",
            "notify",
            "opening",
            "part",
            "places",
            "private",
            "programs",
            "walk",
        },
    ),
    "model": (
        {"debt"},
        {"endpoints", "notices", "optimizer"},
        {"changes", "notation", "statusjson"},
        {"errors", "moments", "paths", "status", "wording"},
    ),
}
DOWNWARD = [
    {f"{package}.{module}".lstrip(".") for module in row}
    for package, rows in ROWS.items()
    for row in rows
]
# No clock, thread, file or process.
PURE = {
    *(f"model.{module}" for row in ROWS["model"] for module in row),
    *(f"rules.{module}" for row in ROWS["rules"] for module in row),
    *(f"rsync.{module}" for module in (
        "commands", "failures", "messages", "outcomes", "passthrough", "progress", "quoting",
        "retry", "temporaries",
    )),
    *(f"settings.{module}" for module in (
        "conflicts", "describe", "example", "inifile", "layout", "option", "options",
        "processoptions", "said", "settings", "syncoptions", "values",
    )),
    *(f"report.{module}" for module in ("nagios", "occasions", "protocol", "words")),
    "source.overflows",
    "source.watchtree",
    "state.claims",
    "state.state",
}  # fmt: skip
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


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


def imports(module: str) -> set[str]:
    """Return what a module imports: modules of the package by their names, others as they are."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(_imported(node.module, [alias.name for alias in node.names]))
    return found


def _imported(module: str, names: list[str]) -> set[str]:
    """Return what ``from module import names`` imports: modules of a package, or the module."""
    own = {f"{module}.{name}".removeprefix("pylsyncd.") for name in names} & MODULES
    if own:
        return own
    return set() if module == "pylsyncd" else {module.removeprefix("pylsyncd.")}


def test_every_module_has_its_row() -> None:
    assert set().union(*DOWNWARD) == MODULES


def test_a_module_imports_only_from_rows_below_its_own() -> None:
    wrong = []
    for number, row in enumerate(DOWNWARD):
        below = set().union(*DOWNWARD[number + 1 :])
        wrong += [
            f"{module} imports {name}"
            for module in row
            for name in imports(module) & MODULES - below
        ]
    assert wrong == []


def test_the_pure_modules_do_no_io_and_import_none_that_do() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in PURE
        for name in imports(module) & (IMPURE_LIBRARIES | MODULES - PURE)
    ]
    assert wrong == []


def test_each_edge_of_the_program_has_one_module() -> None:
    owners = {
        "argparse": {"settings.arguments", "report.ctlarguments", "ctl"},
        "daemon": {"daemonize"},
        "prometheus_client": {"report.families"},
        "pyinotify": {"source.inotify"},
        "rich": {"report.drawing"},
        "subprocess": {"system.programs"},
    }
    for library, allowed in owners.items():
        importers = {
            module
            for module in MODULES
            if any(name.partition(".")[0] == library for name in imports(module))
        }
        assert importers == allowed
