"""The alerts for Prometheus and the dashboard for Grafana name what there is, and work."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.servers import free_port
from support.waiting import wait_until

from pylsyncd.model.status import STATE_WORDS

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
from support.metrics import (  # they import the optional library
    STATUS,
    exporting,
    format_text,
    samples,
)

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"
RULES = CONTRIB / "prometheus/rules.yml"
EXAMPLES = CONTRIB / "prometheus/rules_test.yml"
DASHBOARD = CONTRIB / "grafana/pylsyncd.json"
STATE_LABELS = {word.replace(" ", "_") for word in STATE_WORDS}
PANELS = json.loads(DASHBOARD.read_text())["panels"]


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
    return (named - exported.keys()) | (states - STATE_LABELS)


@pytest.mark.parametrize("path", [RULES, EXAMPLES, DASHBOARD], ids=lambda path: path.name)
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


def expressions() -> Iterator[str]:
    """Yield the expressions of the dashboard, for all daemons and destinations."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            shown = re.sub(r"\$(instance|sync|destination)\b", ".*", target["expr"])
            yield shown.replace("$__rate_interval", "30s")


def test_each_panel_has_a_number_a_description_and_a_place_of_its_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["type"] == "row" or panel["description"].endswith(".") for panel in PANELS)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23


def test_each_panel_reads_the_data_source_that_is_chosen_above() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    names = {each["name"] for each in dashboard["templating"]["list"]}
    assert names == {"datasource", "instance", "sync", "destination"}
    found = re.findall(r'"uid": "(\$[^"]*)"', DASHBOARD.read_text())
    assert set(found) == {"${datasource}"}
    used = set(
        re.findall(
            r"\$(?!__)(\w+)", "".join(t["expr"] for p in PANELS for t in p.get("targets", ()))
        )
    )
    assert used <= names


def test_every_state_has_a_text_and_a_colour_in_the_dashboard() -> None:
    (panel,) = [panel for panel in PANELS if panel["type"] == "state-timeline"]
    numbers = dict(
        re.findall(r'(\d) \* \(pylsyncd_state{[^}]*state="(\w+)"', panel["targets"][0]["expr"])
    )
    assert sorted(numbers.values()) == sorted(STATE_LABELS)
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    texts = {number: option["text"] for number, option in mapping["options"].items()}
    assert {number: text.replace(" ", "_") for number, text in texts.items()} == numbers


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; raises OSError while it is not ready."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # our own address
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.BAD_REQUEST:
                pytest.fail(f"{parameters}: {error.read().decode()}")
            raise

    def values(self, expression: str) -> list[Mapping[str, Any]]:
        """Return the series that an expression has now."""
        found: list[Mapping[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def has_values(self, expression: str) -> bool:
        """Return True if it is ready, and an expression has values."""
        try:
            return bool(self.values(expression))
        except OSError:
            return False


@contextlib.contextmanager
def running_prometheus(directory: Path, port: int | None) -> Iterator[Prometheus]:
    """Run a Prometheus with the alerts, which reads the metrics at a port."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (Debian: apt install prometheus)")
    own_port, configuration = free_port(), directory / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{json.dumps(str(RULES))}]\n"
        "scrape_configs:\n"
        "  - job_name: pylsyncd\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            (program, f"--config.file={configuration}", f"--storage.tsdb.path={directory}/data",
             f"--web.listen-address=127.0.0.1:{own_port}", "--storage.tsdb.wal-segment-size=10MB"),
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(own_port)
    finally:
        process.kill()
        process.wait()


def test_prometheus_evaluates_the_alerts_and_all_that_the_dashboard_shows(tmp_path: Path) -> None:
    with exporting(port=0) as metrics, running_prometheus(tmp_path, metrics.port) as prometheus:
        # A rate needs two scrapes.
        wait_until(lambda: prometheus.has_values("rate(pylsyncd_files_total[30s])"), interval=0.1)
        shown = list(expressions())
        assert len(shown) > 20
        for each in shown:
            if each.endswith("> 0"):
                prometheus.values(each)
            else:
                # On a busy machine a scrape may time out, and all series are gone until the next.
                wait_until(lambda: prometheus.values(each), message=each, interval=0.1)  # noqa: B023  # called at once

        def healths() -> set[str]:
            (group,) = prometheus.get("rules")["groups"]
            return {rule["health"] for rule in group["rules"]}

        wait_until(lambda: "unknown" not in healths(), interval=0.1)
        assert healths() == {"ok"}
