"""What the imports of a command create is not looked at by the garbage collector."""

import subprocess
import sys

import pytest
from support.daemon import environment

PROGRAM = """
import gc
from pylsyncd.system.garbage import tracked_objects, uncollected_imports

class Tracked: ...

class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        print("collected")

with uncollected_imports():
    print(gc.isenabled())
    imported = Tracked()
print(gc.isenabled(), gc.get_freeze_count() > 0)

def is_in(objects):
    return any(each is imported for each in objects)

print(is_in(gc.get_objects()))
{more}
"""


@pytest.mark.parametrize(
    ("more", "output"),
    [
        pytest.param("print(is_in(tracked_objects()))", "True\n", id="tracked"),
        pytest.param("Cycle(); gc.collect()", "collected\n", id="later"),
        pytest.param("Cycle()", "", id="at the exit"),
    ],
)
def test_only_what_the_imports_create_is_kept_away(more: str, output: str) -> None:
    assert _output(PROGRAM.replace("{more}", more)) == f"False\nTrue True\nFalse\n{output}"


@pytest.mark.parametrize("module", ["cli", "ctl"])
def test_a_command_keeps_its_imports_away(module: str) -> None:
    program = f"import gc; before = gc.get_freeze_count(); import pylsyncd.{module}\n"
    assert _output(f"{program}print(gc.get_freeze_count() > before, gc.isenabled())") == (
        "True True\n"
    )


def _output(program: str) -> str:
    run = subprocess.run(
        (sys.executable, "-W", "ignore", "-c", program),
        env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    assert not run.stderr
    return run.stdout.decode()
