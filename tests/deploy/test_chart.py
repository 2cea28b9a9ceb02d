"""Render the chart as its users do, and hold every document to Kubernetes' own schemas."""

import json
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from stream.core.errors import SettingError
from stream.settings import PREFIX, Settings, load

pytestmark = pytest.mark.deploy

Document = dict[str, Any]
VERSIONS = ("1.29.0", str(kubernetes_validate.latest_version()))  # the oldest that Chart.yaml admits, and the newest
CLAIM = {"persistentVolumeClaim": {"claimName": "bundles", "readOnly": True}}
LEAST = {"bootstrapServers": "kafka:9092", "bundle": {"volume": CLAIM}}
MOST = {
    "bootstrapServers": "kafka-0:9093,kafka-1:9093",
    "kafkaPropertiesSecret": "kafka",
    "metricsHost": "0.0.0.0",
    "bundle": {"volume": CLAIM, "subPath": "taobao-1", "mountPath": "/models"},
    "settings": {"group": "shop", "max_dead_letter_bytes": 2_000_000, "recommend": False, "stall_seconds": 45.5},
    "replicas": 6,
    "recoverySeconds": 95,
    "image": {"repository": "registry.example/forecart", "tag": "1"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "scorers"},
    "tolerations": [{"key": "pool", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "podLabels": {"team": "shop"},
    "podAnnotations": {"note": "here"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "runbook": "https://runbooks.example/forecart", "blockedSeconds": 3600},
    "dashboard": {"enabled": True},
    "networkPolicy": {"enabled": True, "kafkaPorts": [9093], "scrapers": [{"podSelector": {}}]},
}
LEAVING = MOST | {"leaveOnScaleDown": True}
BARE = LEAST | {"spreadOver": [], "serviceAccount": {"name": "ours"}, "resources": {}}
HAVE_VALUES = {"bootstrap_servers", "kafka_properties", "bundle", "name", "metrics_host", "metrics_port"} | {
    "leave_on_scale_down"
}
OF_NO_USE_IN_A_POD = {"state_dir", "failpoint"}

NAMED = {
    "type": "object",
    "required": ["name", "labels"],
    "properties": {"name": {"type": "string"}, "labels": {"additionalProperties": {"type": "string"}}},
}
STRINGS = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}
RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "properties": {
        **{name: {"type": "string", "minLength": 1} for name in ("alert", "record", "expr", "for")},
        "labels": STRINGS,
        "annotations": STRINGS,
    },
}
GROUPS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "rules"],
        "properties": {
            "name": {"type": "string"},
            "interval": {"const": "15s"},
            "rules": {"type": "array", "minItems": 1, "items": RULE},
        },
    },
}
ENDPOINT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["port"],
    "properties": {
        "port": {"const": "metrics"},
        "path": {"const": "/metrics"},
        "interval": {"type": "string", "pattern": "^[0-9]+s$"},
    },
}
SPECS: dict[str, Document] = {
    "PodMonitor": {
        "required": ["selector", "podMetricsEndpoints"],
        "properties": {
            "selector": {"required": ["matchLabels"], "properties": {"matchLabels": STRINGS}},
            "podMetricsEndpoints": {"type": "array", "minItems": 1, "items": ENDPOINT},
        },
    },
    "PrometheusRule": {"required": ["groups"], "properties": {"groups": GROUPS}},
}


def custom(kind: str) -> Document:
    """Return the schema of one of the Prometheus operator's kinds, as far as the chart uses it."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": kind},
            "metadata": NAMED,
            "spec": {"type": "object", "additionalProperties": False} | SPECS[kind],
        },
    }


@pytest.fixture
def render(helm, deploy, tmp_path):
    """Return a function from values to documents by kind, or to helm's message where it refuses."""

    def run(values: Document, version: str = VERSIONS[-1]) -> dict[str, Document] | str:
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values))
        made = helm("template", "shop", deploy / "chart", "--values", file, "--kube-version", version)
        if made.returncode:
            return made.stderr
        documents = [document for document in yaml.safe_load_all(made.stdout) if document]
        kinds = {document["kind"]: document for document in documents}
        assert len(kinds) == len(documents)
        return kinds

    return run


def worker(documents: dict[str, Document]) -> tuple[Document, Document]:
    """Return the pod's specification and its container."""
    spec = documents["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def environment(container: Document) -> dict[str, str]:
    """Return the variables that are given as values."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.mark.parametrize("values", [LEAST, MOST, BARE, LEAVING], ids=["least", "most", "bare", "leaving"])
def test_lint(helm, deploy, tmp_path, values):
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    linted = helm("lint", "--strict", deploy / "chart", "--values", file, "--kube-version", VERSIONS[-1])
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [LEAST, MOST, BARE, LEAVING], ids=["least", "most", "bare", "leaving"])
def test_every_document_is_valid(render, values, version):
    documents = render(values, version)
    for kind, document in documents.items():
        if kind in SPECS:
            jsonschema.validate(document, custom(kind))
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_kinds(render):
    always = {"StatefulSet", "Service", "PodDisruptionBudget"}
    assert set(render(LEAST)) == always | {"ServiceAccount"}
    assert set(render(BARE)) == always
    most = always | {"ServiceAccount", "ConfigMap", "NetworkPolicy", *SPECS}
    assert set(render(MOST)) == most
    assert set(render(LEAVING)) == most | {"Role", "RoleBinding"}


def test_the_pod_name_is_the_worker_name(render):
    documents = render(MOST)
    _, container = worker(documents)
    assert {"name": f"{PREFIX}NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in container["env"]
    spec = documents["StatefulSet"]["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["serviceName"] == documents["Service"]["metadata"]["name"]


def test_probes(render):
    spec, container = worker(render(MOST))
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {
        "startupProbe": {"path": "/readyz", "port": "metrics"},
        "readinessProbe": {"path": "/readyz", "port": "metrics"},
        "livenessProbe": {"path": "/livez", "port": "metrics"},
    }
    assert container["ports"] == [{"name": "metrics", "containerPort": Settings.model_fields["metrics_port"].default}]
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= MOST["recoverySeconds"]
    assert spec["terminationGracePeriodSeconds"] == 45


def test_least_rights(render):
    spec, container = worker(render(MOST))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] >= 10_000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["tmp"]


@pytest.mark.parametrize("account", ["shop-forecart", "ours"])
def test_who_leaves_may_read_the_scale_of_its_own_statefulset_and_nothing_else(render, monkeypatch, account):
    documents = render(LEAVING | ({} if account == "shop-forecart" else {"serviceAccount": {"name": account}}))
    spec, container = worker(documents)
    name = documents["StatefulSet"]["metadata"]["name"]
    assert (spec["automountServiceAccountToken"], spec["serviceAccountName"]) == (True, account)
    (rule,) = documents["Role"]["rules"]
    assert rule == {
        "apiGroups": ["apps"],
        "resources": ["statefulsets/scale"],
        "resourceNames": [name],
        "verbs": ["get"],
    }
    binding = documents["RoleBinding"]
    assert binding["roleRef"]["name"] == documents["Role"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "default"}]
    ports = [port["port"] for out in documents["NetworkPolicy"]["spec"]["egress"] for port in out["ports"]]
    assert ports == [53, 53, 9093, 443, 6443]
    for key, value in environment(container).items():
        monkeypatch.setenv(key, value)
    assert load().leave_on_scale_down
    assert not [key for key in environment(worker(render(LEAST))[1]) if "LEAVE" in key]


def test_memory_is_reserved(render):
    _, container = worker(render(LEAST))
    asked = container["resources"]
    assert asked["limits"] == {"memory": asked["requests"]["memory"]}
    assert environment(container)["OMP_NUM_THREADS"] == "1"


def test_settings_reach_the_worker(render, monkeypatch):
    spec, container = worker(render(MOST))
    given = environment(container)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load()  # refuses what it does not know
    for name, value in MOST["settings"].items():
        assert getattr(settings, name) == value
    assert settings.bootstrap_servers == MOST["bootstrapServers"]
    assert settings.metrics_host == MOST["metricsHost"]
    assert environment(worker(render(LEAST))[1])["FORECART_METRICS_HOST"] == "::"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert str(settings.bundle) == mounts["bundle"]["mountPath"] == "/models"
    assert mounts["bundle"]["subPath"] == "taobao-1"
    assert str(settings.kafka_properties.parent) == mounts["kafka"]["mountPath"]
    assert {"name": "bundle", **CLAIM} in spec["volumes"]


def test_services_stay_out_of_the_environment(render, monkeypatch):
    spec, _ = worker(render(LEAST))
    assert spec["enableServiceLinks"] is False
    monkeypatch.setenv(f"{PREFIX}PORT", "tcp://10.0.0.1:9464")  # what Kubernetes sets for a service named forecart
    with pytest.raises(SettingError, match="unknown setting"):
        load()


def test_every_setting_can_be_given(deploy):
    schema = json.loads((deploy / "chart" / "values.schema.json").read_text())
    names = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert set(names) == set(Settings.model_fields) - HAVE_VALUES - OF_NO_USE_IN_A_POD


def test_a_scraper_is_told_once(render):
    def annotations(values: Document) -> Document:
        return render(values)["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]

    assert {key: value for key, value in annotations(LEAST).items() if key.startswith("prometheus.io/")} == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9464",
        "prometheus.io/path": "/metrics",
    }
    assert not [key for key in annotations(MOST) if key.startswith("prometheus.io/")]


def test_the_dashboard_is_that_of_the_monitoring_folder(render, deploy):
    board = (deploy / "monitoring" / "dashboard.json").read_text()
    assert json.loads(render(MOST)["ConfigMap"]["data"]["forecart.json"]) == json.loads(board)


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (LEAST | {"bootstrapServers": ""}, "--set bootstrapServers="),
        (LEAST | {"bundle": {}}, "--set bundle.volume."),
        (LEAST | {"settings": {"grup": "shop"}}, "'group'"),
        (LEAST | {"settings": {"name": "one"}}, "'group'"),
        (LEAST | {"replica": 3}, "replica"),
        (LEAST | {"bundle": {"volume": CLAIM, "claim": "x"}}, "claim"),
    ],
    ids=["no servers", "no bundle", "unknown setting", "own setting", "unknown value", "unknown value within"],
)
def test_refused_with_the_remedy(render, values, remedy):
    message = render(values)
    assert isinstance(message, str)
    assert remedy in message


def test_a_package_holds_the_rules(helm, deploy, tmp_path):
    packed = helm("package", deploy / "chart", "--destination", tmp_path)
    assert packed.returncode == 0, packed.stderr
    (archive,) = tmp_path.glob("*.tgz")
    values = tmp_path / "values.json"
    values.write_text(json.dumps(MOST))
    shown = helm("template", "shop", archive, "--kube-version", VERSIONS[-1], "--values", values)
    assert "ForecartNoProgress" in shown.stdout


def test_the_image_is_the_projects_version(render, deploy):
    chart = yaml.safe_load((deploy / "chart" / "Chart.yaml").read_text())
    project = (deploy.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
    _, container = worker(render(LEAST))
    assert container["image"] == f"forecart:{chart['appVersion']}"
