"""The program that turns a configuration of lsyncd into one of pylsyncd, with a real Lua."""

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from support.configuration import load_file, settings_of
from support.lsyncd_configurations import EXAMPLES, Example

from pylsyncd.rsync import option_check

PROGRAM = Path(__file__).resolve().parents[2] / "contrib/pylsyncd-from-lsyncd"
LUAS = [
    name for name in ("lua5.1", "lua5.2", "lua5.3", "lua5.4", "lua", "luajit") if shutil.which(name)
]

pytestmark = pytest.mark.skipif(not LUAS, reason="there is no Lua: apt install lua5.3")


class Converted:
    """What the program makes of a configuration, by each Lua that is there."""

    def __init__(self, lua: str | bytes, *, by_all: bool = True) -> None:
        path = Path("lsyncd.conf.lua")
        path.write_bytes(lua if isinstance(lua, bytes) else lua.encode())
        runs = [_run(str(PROGRAM), str(path))]
        if by_all:
            runs += [_run(lua, str(PROGRAM), str(path)) for lua in LUAS]
        for run in runs:
            assert (run.returncode, run.stdout) == (runs[0].returncode, runs[0].stdout), run.stderr
        self.status, self.text, self.errors = runs[0].returncode, runs[0].stdout, runs[0].stderr
        self.lines = self.text.splitlines()
        self.notes = re.sub(r"\n#   ", " ", self.text)


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, errors="surrogateescape",
        preexec_fn=_limit_time,
    )  # fmt: skip


def _limit_time() -> None:
    """Let a program that does not end take a second of the processor, not the ten of its own."""
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that the configurations are about, which is the current one."""
    for name in ("src", "www", "home", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "rules").write_text("- *.swp\n")
    (tmp_path / "included.lua").write_text('host = "included"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "example", [pytest.param(each, id=name) for name, each in EXAMPLES.items()]
)
def test_a_configuration_is_carried_over_and_accepted(example: Example, place: Path) -> None:
    def here(text: str) -> str:
        return text.replace("@/", f"{place}/")

    converted = Converted(here(example.lua))
    assert converted.status == 0, converted.errors
    assert {here(line) for line in example.lines} - set(converted.lines) == set(), converted.text
    for note in example.notes:
        assert note in converted.notes
    settings = "\n".join(line for line in converted.lines if not line.startswith("#"))
    assert [each for each in example.absent if each.strip() in settings] == []
    load_file(converted.text)


def test_each_setting_of_lsyncd_has_its_meaning(place: Path) -> None:
    converted = Converted(EXAMPLES["several-targets-in-a-loop"].lua.replace("@/", f"{place}/"))
    first, second = settings_of(converted.text).syncs
    assert [each.name for each in first.destinations] == ["www/srv2", "www/srv3", "www/srv4"]
    assert (first.window, first.initial_sync, first.delete) == (5.0, True, True)
    assert os.fsdecode(second.source.path) == f"{place}/home"


def test_the_page_for_users_of_lsyncd_shows_what_the_program_makes_of_its_example(
    place: Path,
) -> None:
    page = (PROGRAM.parent.parent / "docs/coming-from-lsyncd.rst").read_text()
    example = page.split("configuration of lsyncd::")[1].partition("[pylsyncd]")[0]
    lua = "\n".join(re.findall(r"^    (.*)$", example, re.MULTILINE))
    lua = lua.replace("/var/www", f"{place}/www")
    lua = lua.replace("/var/log/", f"{place}/run/").replace("/run/lsyncd.status", f"{place}/run/s")
    settings = settings_of(Converted(lua).text)
    assert [each.name for sync in settings.syncs for each in sync.destinations] == [
        "www/backup", "www-srv2/srv2",
    ]  # fmt: skip


def test_no_option_that_pylsyncd_refuses_is_carried_over(place: Path) -> None:
    refused = sorted(option_check._REFUSED)  # noqa: SLF001  # all of them
    words = "".join(f'"{option}", ' for option in refused if option not in {"-f", "--filter"})
    lua = f"""sync {{
        default.rsync, source = "{place}/src", target = "srv2:/src",
        rsync = {{ archive = true, _extra = {{ {words} }} }},
    }}"""
    converted = Converted(lua)
    assert converted.status == 0
    load_file(converted.text)


WRONG = {
    "no-file": (None, "No such file or directory"),
    "syntax": ("sync {", "Lua cannot read it: lsyncd.conf.lua:1:"),
    "compiled": (b"\x1bLua", "it is a compiled program"),
    "no-text": (bytes(range(1, 256)), "Lua cannot read it"),
    "unknown-function": ("setings { }", "The configuration fails: lsyncd.conf.lua:1: "),
    "no-sync": ("settings { }", "The configuration has no sync { }."),
    "an-error-of-its-own": ("error({})", "an error without a text"),
    "sync-without-a-table": ('sync "x"', "sync expects a table"),
    "settings-without-a-table": ("settings(1)", "settings expects a table"),
    "no-end": ("while true do end", "come to an end"),
    "no-end-caught": ("while true do pcall(function() while true do end end) end", "to an end"),
    "no-end-in-a-pattern": (
        'local a = ("a"):rep(40) while true do a:match(("a-"):rep(20) .. "b") end', "to an end",
    ),
    "much-memory": ('local x = ("x"):rep(2 ^ 40)', "The configuration "),
    "recursion": ("local function f() return 1 + f() end f()", "stack overflow"),
    "a-program": ('os.execute("touch made")', "it calls os.execute, which is not done here"),
    "another-program": ('io.popen("touch made")', "it calls io.popen, which is not done here"),
    "a-file-to-write": ('io.open("made", "w")', "it opens a file to write to it"),
    "an-exit": ("os.exit(0)", "it calls os.exit"),
    "a-module": ('require "posix"', "it calls require"),
    "no-such-function": ('debug.sethook() load("x")', "The configuration fails"),
    "a-sync-in-itself": ("s = {} s[1] = s sync(s)", "A sync inherits itself"),
    "many-syncs": ("while true do sync { } end", "it has more than 10000 syncs"),
    "an-empty-sync": ("sync { }", "No sync could be carried over"),
    "a-layer-2-sync": ("sync { { onCreate = print }, source = 'x' }", "No sync could be"),
    "all-of-the-texts-functions": (
        'getmetatable("").__index.gsub = nil', "The configuration fails",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("lua", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_ends_with_a_sentence(
    lua: str | bytes | None, message: str, place: Path
) -> None:
    if lua is None:
        run = _run(str(PROGRAM), "no-such-file")
        status, errors = run.returncode, run.stderr
    else:
        converted = Converted(lua, by_all=False)
        status, errors = converted.status, converted.errors
    assert status == 1, errors
    *_, last = errors.splitlines()
    assert last.startswith("pylsyncd-from-lsyncd: "), errors
    assert last.endswith(".")
    assert message in last
    assert "traceback" not in errors
    assert not (place / "made").exists()


HOSTILE = (
    '"\\n[pylsyncd]\\nuser = root"', '"x\\ndelete = no"', '"a\\0b"', '" x"', '""', "{}", "true",
    "1/0", "0/0", "-1", "1e300", "print", "{ {} }", '"# x"', '"; x"', '"[sync y]"', '"x = y"',
    '"%(x)s"',
    "setmetatable({}, { __index = error, __len = error, __tostring = error })", '"\\255"', "'\"'",
    "(' x'):rep(2000)",
)  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_becomes_anything_but_a_value(value: str, place: Path) -> None:
    """A line of the result is one that the program wrote, whatever the configuration has in it."""
    lua = f"""
        local value = {value}
        settings {{ logfile = value, pidfile = value, statusFile = value, logfacility = value,
            maxProcesses = value, inotifyMode = value, unheard = value, nodaemon = value }}
        sync {{ default.rsync, source = "{place}/src", target = "srv2:/src", delay = value,
            maxDelays = value, delete = value, exclude = value, excludeFrom = value,
            filter = value, filterFrom = value, ssh = value, tunnel = value, onCreate = value,
            batchSizeLimit = value, rsyncOps = value, rsyncBinary = value, unheard = value,
            rsync = {{ chmod = value, bwlimit = value, rsh = value, _extra = {{ value }},
                archive = value, binary = value, timeout = value, exclude = {{ value, value }} }} }}
        sync {{ default.rsyncssh, source = value, host = value, targetdir = value,
            ssh = {{ port = value, identityFile = value, options = {{ x = value, value }},
                binary = value, _extra = value }} }}
        sync {{ default.rsyncssh, source = "{place}/www", host = "srv2", targetdir = "/a",
            ssh = {{ port = value, identityFile = value, options = {{ x = value }},
                _extra = {{ value }} }} }}
        sync {{ value, [value ~= value and 1 or value] = value }}
    """
    converted = Converted(lua)
    assert converted.status in {0, 1}
    assert "traceback" not in converted.errors
    keys = {line.split(" =")[0] for line in converted.lines if not line.startswith(("#", " "))}
    assert "user" not in keys
    if converted.status == 0 and value not in {'"\\255"', '"x = y"', '"%(x)s"', "'\"'", "1e300"}:
        load_file(converted.text.encode("utf-8", "surrogateescape"))


def test_usage_is_told(place: Path) -> None:
    del place
    assert "Print a pylsyncd.conf" in _run(str(PROGRAM), "--help").stdout
    for words in ((), ("a", "b"), ("--unheard",)):
        run = _run(str(PROGRAM), *words)
        assert (run.returncode, run.stdout) == (2, "")
        assert "Usage: " in run.stderr


def test_without_a_lua_it_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    run = subprocess.run(
        ["/bin/sh", PROGRAM, "x"], env={"PATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert "There is no Lua here: install one" in run.stderr
