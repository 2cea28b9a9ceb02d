"""The rules as the chart renders them: each release's match that release alone."""

import json
import shutil

import pytest
import yaml

pytestmark = pytest.mark.deploy

RELEASES = [("shop", "red", "shop"), ("shop", "blue", "shop"), ("other", "red", "other")]
VALUES = {"bootstrapServers": "kafka:9092", "bundle": {"volume": {"emptyDir": {}}}}


@pytest.fixture
def rules(helm, deploy, tmp_path):
    """Return a function from a release to the rules that the chart renders for it."""

    def run(release="shop", namespace="red", group="shop", **more):
        file = tmp_path / "values.json"
        file.write_text(
            json.dumps(
                VALUES
                | {"prometheusRule": {"enabled": True, **more}, "settings": {"group": group, "changelog_topic": "c"}}
            )
        )
        place = ("--namespace", namespace, "--kube-version", "1.31.0", "--values", file)
        made = helm("template", release, deploy / "chart", *place, "--show-only", "templates/prometheusrule.yaml")
        assert made.returncode == 0, made.stderr
        return yaml.safe_load(made.stdout)["spec"]

    return run


def test_releases_in_one_prometheus_neither_hide_nor_repeat_each_other(rules, promtool, deploy, tmp_path):
    shutil.copy(deploy / "monitoring" / "releases.test.yaml", tmp_path)
    for release, namespace, group in RELEASES:
        (tmp_path / f"{namespace}-{group}.yaml").write_text(yaml.safe_dump(rules(release, namespace, group)))
    tested = promtool("test", "rules", tmp_path / "releases.test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_rules_are_those_of_the_monitoring_folder(rules, deploy):
    text = (deploy / "monitoring" / "rules.yaml").read_text()
    text = text.replace("deploy/runbook.md", "https://runbooks.example/forecart").replace(") > 900", ") > 3600")
    own = yaml.safe_load(text.replace('group!=""', 'namespace="red", group="shop"'))
    found = rules(runbook="https://runbooks.example/forecart", blockedSeconds=3600)
    (expected,), (group,) = own["groups"], found["groups"]
    for rule, wanted in zip(group["rules"], expected["rules"], strict=True):
        if rule.get("alert") == "ForecartWorkerDown":
            rule["expr"], scaled = rule["expr"].rsplit("\n", 1)
            assert 'kube_statefulset_replicas{namespace="red", statefulset="shop-forecart"}' in scaled
        assert rule == wanted


@pytest.mark.parametrize(("given", "seconds"), [({}, 900), ({"blockedSeconds": 1800}, 1800)])
def test_how_long_input_may_be_blocked_is_a_value(rules, given, seconds):
    (group,) = rules(**given)["groups"]
    (rule,) = (rule for rule in group["rules"] if rule.get("alert") == "ForecartInputBlocked")
    assert rule["expr"].endswith(f'(forecart_input_blocked_seconds{{namespace="red", group="shop"}}) > {seconds}')


def test_any_name_of_a_group_can_be_matched(rules, promtool, tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules(group='sh"op: #1\\')))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
