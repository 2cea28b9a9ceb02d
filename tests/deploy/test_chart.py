"""Render the chart as its users do, and hold every document to Kubernetes' own schemas."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from stream.core.errors import SettingError
from stream.kafka.client.addresses import parse_addresses
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
IMAGE = {"image": {"reference": "registry.example/shop/bundle:1"}}

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

    def run(values: Document, version: str = VERSIONS[-1], release: str = "shop") -> dict[str, Document] | str:
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values))
        made = helm("template", release, deploy / "chart", "--values", file, "--kube-version", version)
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


def test_the_schema_has_the_settings_with_their_types_and_bounds(deploy):
    """Fail where the schema lacks a setting: run `python deploy/settings_schema.py`."""
    checked = subprocess.run([sys.executable, deploy / "settings_schema.py", "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    settings = json.loads((deploy / "chart" / "values.schema.json").read_text())["properties"]["settings"]
    own = {re.sub("FORECART_", "", name).lower() for name in re.findall("FORECART_[A-Z_]+", _template(deploy))}
    assert set(settings["properties"]) == set(Settings.model_fields) - own - {"state_dir", "failpoint"}
    assert set(settings["propertyNames"]["enum"]) == set(settings["properties"])


def _template(deploy: Path) -> str:
    return (deploy / "chart" / "templates" / "statefulset.yaml").read_text()


def test_the_schema_is_written_anew_where_a_bound_is_missing(deploy):
    schema = (deploy / "chart" / "values.schema.json").read_text()
    old = schema.replace('"chunk_events": {"maximum": 65536, "minimum": 1,', '"chunk_events": {"minimum": 1,')
    assert old != schema == runpy.run_path(str(deploy / "settings_schema.py"))["written"](old)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("start", "middle"),
        ("chunk_events", "many"),
        ("chunk_events", 0),
        ("chunk_events", 1.5),
        ("max_event_bytes", 1_000_000),
        ("session_timeout_seconds", 5),
        ("recommend", "perhaps"),
        ("group", ""),
        ("events_topic", "shop clicks"),
        ("catalog_topic", "shop/items"),
        ("changelog_topic", ".."),
        ("scores_topic", "events"),
        ("catalog_topic", "dead-letters"),
        ("group", "my shop"),
        ("group", "käse"),
        ("group", "x" * 240),
        ("transaction_timeout_seconds", 1e9),
        ("session_timeout_seconds", 1e9),
    ],
)
def test_a_setting_that_the_worker_refuses_is_not_rendered(render, monkeypatch, name, wrong):
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", str(wrong))
    with pytest.raises(SettingError, match=name):
        load()
    message = render(LEAST | {"settings": {name: wrong}})
    assert isinstance(message, str)
    assert f"settings/{name}" in message or f"settings.{name}" in message


@pytest.mark.parametrize(
    "servers",
    [
        "kafka:9092",
        " a:1 , [::1]:65535",
        "SASL_SSL://b-1.eu:9096/",
        "kafka",
        "kafka:0",
        "kafka:65536",
        "a:1,,b:2",
        "[::1]",
        ",",
    ],
)
def test_servers_are_refused_by_the_chart_as_by_the_worker(render, servers):
    try:
        parse_addresses(servers, "SASL_SSL")
    except SettingError:
        assert "bootstrapServers" in render(LEAST | {"bootstrapServers": servers})
    else:
        assert "StatefulSet" in render(LEAST | {"bootstrapServers": servers})


@pytest.mark.parametrize("host", ["::", "0.0.0.0", "[::1]", "fe80::1%eth0", "localhost"])
def test_where_to_listen_is_a_name_or_an_address(render, host):
    assert "StatefulSet" in render(LEAST | {"metricsHost": host})


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


def bundle(**more: Any) -> Document:
    return LEAST | {"bundle": {"volume": CLAIM, **more}}


def resources(asked: Any, limit: Any, name: str = "memory") -> Document:
    return LEAST | {"resources": {"requests": {name: asked}, "limits": {name: limit}}}


REFUSED = {
    "no servers": (LEAST | {"bootstrapServers": ""}, "--set bootstrapServers="),
    "no bundle": (LEAST | {"bundle": {}}, "--set bundle.volume."),
    "unknown setting": (LEAST | {"settings": {"grup": "shop"}}, "'group'"),
    "own setting": (LEAST | {"settings": {"name": "one"}}, "'group'"),
    "unknown value": (LEAST | {"replica": 3}, "replica"),
    "unknown value within": (bundle(claim="x"), "claim"),
    "selector's label": (LEAST | {"podLabels": {"app.kubernetes.io/name": "shop"}}, "leave it out"),
    "selector's other label": (LEAST | {"podLabels": {"app.kubernetes.io/instance": "shop"}}, "leave it out"),
    "no label": (LEAST | {"podLabels": {"team": "shop & co"}}, "podLabels"),
    "no label's name": (LEAST | {"podLabels": {"my team": "shop"}}, "my team"),
    "no node's label": (LEAST | {"nodeSelector": {"pool": "a b"}}, "nodeSelector"),
    "over the temporary directory": (bundle(mountPath="/tmp"), "would hide /tmp"),
    "over it, differently": (bundle(mountPath="//tmp/./"), "would hide /tmp"),
    "over everything": (bundle(mountPath="/bundle/.."), "would hide"),
    "over the secret": (bundle(mountPath="/etc/forecart/kafka"), "would hide /etc/forecart/kafka"),
    "over the secret's folder": (bundle(mountPath="/etc/forecart"), "would hide /etc/forecart/kafka"),
    "over the program": (bundle(mountPath="/opt"), "would hide /opt/forecart"),
    "into the secret": (bundle(mountPath="/etc/forecart/kafka/bundle"), "nothing can be mounted"),
    "a mount with a colon": (bundle(mountPath="/bundle:ro"), "mountPath"),
    "among the program": (bundle(mountPath="/opt/forecart/x"), "among the program's files"),
    "among the libraries": (bundle(mountPath="/usr/local/lib/python3.11"), "among the program's files"),
    "no path": (bundle(mountPath="bundle"), "mountPath"),
    "nowhere to listen": (LEAST | {"metricsHost": "nonsense/x"}, "metricsHost"),
    "a folder outside": (bundle(subPath="../other"), "subPath"),
    "a folder from the root": (bundle(subPath="/models"), "subPath"),
    "two volumes": (LEAST | {"bundle": {"volume": CLAIM | IMAGE}}, "bundle/volume"),
    "a claim without a name": (LEAST | {"bundle": {"volume": {"persistentVolumeClaim": {}}}}, "claimName"),
    "more memory than the limit": (resources("4Gi", "2Gi"), "resources.limits.memory"),
    "more memory in other units": (resources("2.1G", "2000Mi"), "resources.limits.memory"),
    "more memory as a number": (resources(2_147_483_649, "2Gi"), "resources.limits.memory"),
    "more CPU than the limit": (resources("1500m", 1, "cpu"), "resources.limits.cpu"),
    "no quantity": (resources("2GB", "4Gi"), "resources/requests/memory"),
    "a kind of resources": (LEAST | {"resources": {"request": {"cpu": 1}}}, "request"),
    "a resource that is none": (LEAST | {"resources": {"requests": {"gpu": 1}}}, "gpu"),
    "a device without a limit": (LEAST | {"resources": {"requests": {"a.b/gpu": 1}}}, "resources.limits.a.b/gpu"),
    "less of a device": (resources(1, 2, "a.b/gpu"), "must be the same"),
    "a claim's name": (
        LEAST | {"bundle": {"volume": {"persistentVolumeClaim": {"claimName": "My claim"}}}},
        "claimName",
    ),
    "a claim's field": (
        LEAST | {"bundle": {"volume": {"persistentVolumeClaim": {"claimName": "b", "readonly": True}}}},
        "readonly",
    ),
    "an image's policy": (
        LEAST | {"bundle": {"volume": {"image": {"reference": "x", "pullPolicy": "No"}}}},
        "pullPolicy",
    ),
    "a host's folder": (LEAST | {"bundle": {"volume": {"hostPath": {}}}}, "path"),
    "an image's name": (LEAST | {"image": {"repository": " forecart"}}, "repository"),
    "an image's tag": (LEAST | {"image": {"tag": "one two"}}, "tag"),
    "a toleration": (LEAST | {"tolerations": [{"key": "pool", "operator": "Maybe"}]}, "operator"),
    "an affinity": (LEAST | {"affinity": {"hostAffinity": {}}}, "hostAffinity"),
    "a scraper": (LEAST | {"networkPolicy": {"enabled": True, "scrapers": [{}]}}, "scrapers"),
    "an annotation": (LEAST | {"podAnnotations": {"my note": "x"}}, "my note"),
    "a priority": (LEAST | {"priorityClassName": "high..er"}, "priorityClassName"),
    "a secret to pull with": (LEAST | {"imagePullSecrets": [{"name": ""}]}, "imagePullSecrets"),
    "too many": (LEAST | {"replicas": 3_000_000_000}, "replicas"),
    "one place twice": (LEAST | {"spreadOver": ["zone", "zone"]}, "spreadOver"),
    "no account's name": (LEAST | {"serviceAccount": {"name": "Our account"}}, "serviceAccount"),
}


@pytest.mark.parametrize("values,remedy", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_remedy(render, values, remedy):
    message = render(values)
    assert isinstance(message, str)
    assert remedy in message


@pytest.mark.parametrize(
    ("asked", "limit", "name"),
    [
        ("2Gi", "2Gi", "memory"),
        ("1.9G", "2000Mi", "memory"),
        ("900m", 1, "cpu"),
        ("1e3", "1k", "cpu"),
        (0.5, "1", "cpu"),
    ],
)
def test_requests_up_to_the_limit_are_rendered(render, asked, limit, name):
    _, container = worker(render(resources(asked, limit, name)))
    assert (container["resources"]["requests"][name], container["resources"]["limits"][name]) == (asked, limit)


@pytest.mark.parametrize(
    "path", ["/bundle", "/opt/models", "/tmp/bundle", "/etc/forecart/bundle", "/srv/tmp", "/tmpfs"]
)
def test_a_folder_of_its_own_is_mounted(render, path):
    _, container = worker(render(bundle(mountPath=path)))
    assert path in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize(
    ("version", "more", "says"),
    [
        ("1.30.14", {}, "has no image volumes"),
        ("1.30.14", {"imageVolumes": True}, "has no image volumes"),
        ("1.34.9", {}, "--set bundle.imageVolumes=true"),
        ("1.34.9-eks-1a2b", {}, "--set bundle.imageVolumes=true"),
        ("1.34.9", {"imageVolumes": True}, ""),
        ("1.32.0", {"imageVolumes": True, "subPath": "shop"}, "1.33 or newer"),
        ("1.33.0", {"imageVolumes": True, "subPath": "shop"}, ""),
        ("1.35.0", {}, ""),
        ("1.35.0-gke.5", {}, ""),
    ],
)
def test_an_image_volume_is_refused_where_kubernetes_would_drop_it(render, version, more, says):
    made = render(LEAST | {"bundle": {"volume": IMAGE, **more}}, version)
    if says:
        assert isinstance(made, str) and says in made
    else:
        assert {"name": "bundle", **IMAGE} in worker(made)[0]["volumes"]


def test_large_numbers_stay_whole(render):
    spec = render(LEAST | {"replicas": 1_000_000, "terminationGracePeriodSeconds": 86_400_000})["StatefulSet"]["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["terminationGracePeriodSeconds"]) == (1_000_000, 86_400_000)


def test_a_rollout_waits_until_a_bundle_has_held(render):
    assert render(LEAST)["StatefulSet"]["spec"]["minReadySeconds"] == 60


def test_a_worker_that_stands_still_gets_a_short_grace(render):
    spec, container = worker(render(LEAST))
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] == 5
    assert "terminationGracePeriodSeconds" not in container["startupProbe"]
    assert spec["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize(
    ("release", "name"),
    [("shop", "shop-forecart"), ("shop.eu", "shop-eu-forecart"), ("2024-forecart", "forecart-2024-forecart")],
)
def test_every_release_gets_a_name_that_a_service_may_have(render, release, name):
    assert render(LEAST, release=release)["Service"]["metadata"]["name"] == name


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
