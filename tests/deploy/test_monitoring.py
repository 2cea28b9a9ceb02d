"""Hold rules and dashboard to the series that the worker declares, and to each other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import promql_parser
import pytest
import yaml

from stream.core.events import REASONS
from stream.worker.telemetry import Telemetry

pytestmark = pytest.mark.deploy

FOLDER = Path(__file__).parents[2] / "deploy"
GROUPS = yaml.safe_load((FOLDER / "monitoring" / "rules.yaml").read_text())["groups"]
TESTS = yaml.safe_load((FOLDER / "monitoring" / "rules.test.yaml").read_text())["tests"]
BOARD = json.loads((FOLDER / "monitoring" / "dashboard.json").read_text())

RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DECLARED = Telemetry().names()

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]
LOOKUPS = [re.fullmatch(r"label_values\((.+), \w+\)", v["definition"]) for v in VARIABLES.values() if "definition" in v]
CHOSEN = {name: f"${name}" for name in ("namespace", "group", "worker")}
QUERIES = [target["expr"] for target in TARGETS] + [lookup[1] for lookup in LOOKUPS]


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield every selector of a PromQL expression; fail where there is none."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "5m")), visit)
    assert found, f"no series in {expression}"
    yield from found


def test_promtool_accepts_the_rules(promtool):
    checked = promtool("check", "rules", FOLDER / "monitoring" / "rules.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_and_keep_quiet(promtool):
    tested = promtool("test", "rules", FOLDER / "monitoring" / "rules.test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_declared_series(rule):
    names = {selector.name for selector in selectors(rule["expr"])}
    assert names <= DECLARED | RECORDED | {"up"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_tell_groups_apart(rule):
    for selector in selectors(rule["expr"]):
        assert ("group", "") in {(m.name, m.value) for m in selector.matchers.matchers}
    for by in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        assert by.startswith("namespace, job, group")


def test_what_a_share_of_dead_letters_is_made_of_is_there_from_the_start():
    """A series that comes later hides what it counted before its first scrape."""
    born = {sample.name for family in Telemetry().registry.collect() for sample in family.samples}
    for rule in RULES:
        if "rejected:ratio" in rule.get("record", ""):
            assert {selector.name for selector in selectors(rule["expr"])} <= born


@pytest.mark.parametrize("query", QUERIES)
def test_dashboard_names_declared_series(query):
    assert {selector.name for selector in selectors(query)} <= DECLARED | {"up"}


def test_thresholds_are_buckets():
    telemetry = Telemetry()
    telemetry.latency.observe(np.zeros(1))
    samples = [sample for family in telemetry.registry.collect() for sample in family.samples]
    buckets = {(sample.name, sample.labels["le"]) for sample in samples if "le" in sample.labels}
    asked = {
        (selector.name, matcher.value)
        for expression in [rule["expr"] for rule in RULES] + QUERIES
        for selector in selectors(expression)
        for matcher in selector.matchers.matchers
        if matcher.name == "le"
    }
    assert asked
    assert asked <= buckets


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"deploy/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_firing_and_quiet(name):
    cases = [case for test in TESTS for case in test["alert_rule_test"] if case["alertname"] == name]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_the_runbook_has_a_heading_an_alert():
    headings = re.findall(r"^## (.+)$", (FOLDER / "runbook.md").read_text(), re.MULTILINE)
    assert headings == list(ALERTS)


def test_runbook_names_declared_series():
    names = set(re.findall(r"\bforecart_\w+", (FOLDER / "runbook.md").read_text()))
    assert names <= DECLARED


def test_the_runbook_knows_every_reason():
    (section,) = re.findall(r"^## ForecartDeadLetters$.*?(?=^## )", (FOLDER / "runbook.md").read_text(), re.M | re.S)
    assert set(REASONS) - {"duplicate"} <= set(re.findall(r"`(\w+)`", section))


def test_the_dashboard_is_portable():
    assert BOARD["editable"] is False
    assert "id" not in BOARD
    assert set(VARIABLES) == {"datasource", "namespace", "group", "worker", "horizon"}
    assert {VARIABLES[name]["allValue"] for name in ("namespace", "group", "worker")} == {
        ".*"
    }  # without a namespace, too
    assert VARIABLES["datasource"]["query"] == "prometheus"
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(BOARD))
    assert set(sources) == {"${datasource}", BOARD["uid"]}


def test_the_lag_is_described_as_the_series_is():
    help_texts = {family.name: family.documentation for family in Telemetry().registry.collect()}
    (panel,) = (panel for panel in PANELS if panel["title"] == "Lag in seconds")
    what, _, blocked = help_texts["forecart_consumer_lag_seconds"].partition(";")
    assert panel["description"] == f"{what}, by partition;{blocked}"


def test_panels_do_not_overlap():
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == DATASOURCE


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"])
def test_a_query_obeys_the_variables(target):
    assert target["datasource"] == DATASOURCE
    for selector in selectors(target["expr"]):
        if selector.name != "up":  # which is Prometheus' own, and is joined to what the variables choose
            matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert {name: matched.get(name) for name in CHOSEN} == CHOSEN
    ranges = re.findall(r"\[(.+?)\]", target["expr"])
    assert set(ranges) <= {"$__rate_interval", "1h"}
    kept = [set(by.split(", ")) for by in re.findall(r"by \(([^)]*)\)", target["expr"])]
    named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert named <= set.union(*kept)
    if named != {"le"}:  # a heatmap is one picture of all that is chosen
        assert all(labels >= {"namespace", "group"} for labels in kept)
        assert named >= {"namespace", "group"} or target.get("format") == "table"
