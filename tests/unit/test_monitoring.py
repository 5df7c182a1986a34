"""The alerts for Prometheus do what their examples say, and name metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pylsyncd.model.status import Condition

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
from support.metrics import STATUS, format_text, samples  # the optional library

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
RULES = CONTRIB / "prometheus/rules.yml"
EXAMPLES = CONTRIB / "prometheus/rules_test.yml"


def unknown_names(text: str) -> set[str]:
    """Return the metrics and states that a text names and that there are not."""
    exported = samples(format_text(STATUS))
    named = set(re.findall(r"\bpylsyncd_([a-z_]+)", text))
    assert named
    states = {
        state
        for matched in re.findall(r'\bstate=~?\\?"([^"\\]*)', text)
        for state in matched.split("|")
    }
    return (named - exported.keys()) | (states - {each.name.lower() for each in Condition})


@pytest.mark.parametrize("path", [RULES, EXAMPLES], ids=lambda path: path.name)
def test_every_metric_and_state_that_is_named_exists(path: Path) -> None:
    assert unknown_names(path.read_text()) == set()


def test_names_that_there_are_not_are_found() -> None:
    text = 'pylsyncd_state{state="stuck"} or pylsyncd_state{state=~"held|gone"} or pylsyncd_lag'
    assert unknown_names(text) == {"stuck", "gone", "lag"}


def test_the_examples_have_each_alert_as_one_that_fires_and_as_one_that_does_not() -> None:
    alerts = re.findall(r"^ *- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
    assert len(alerts) == len(set(alerts)) > 10
    cases = re.findall(
        r"- alertname: (\w+)\n *eval_time: \w+\n( *exp_alerts:)?", EXAMPLES.read_text()
    )
    assert {name for name, fires in cases if fires} == set(alerts)
    assert {name for name, fires in cases if not fires} == set(alerts)


@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", EXAMPLES)])
def test_promtool_accepts_the_rules_and_their_examples(command: tuple[str | Path, ...]) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    run = subprocess.run(
        (program, *command), capture_output=True, text=True, timeout=90, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
