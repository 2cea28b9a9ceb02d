"""Whether a pod was scaled down, asked of an API over TLS; what is no clear answer is a no."""

import socket

import pytest

from stream.core.errors import SettingError
from stream.worker.kubernetes import Replica
from tests.cluster import Cluster


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Cluster(tmp_path)
    with made.serve() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.mark.parametrize(
    ("pod", "spec", "scaled_down"),
    [
        ("shop-forecart-1", {"replicas": 2}, False),
        ("shop-forecart-2", {"replicas": 2}, True),
        ("shop-forecart-11", {"replicas": 2}, True),
        ("shop-forecart-0", {}, True),  # no replica at all: Go leaves the 0 out
    ],
)
def test_a_replica_is_scaled_down_from_its_number_on(cluster, monkeypatch, pod, spec, scaled_down):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    cluster.answer = {"spec": spec}
    assert Replica(pod, cluster.account).scaled_down() is scaled_down
    path = "/apis/apps/v1/namespaces/shops/statefulsets/shop-forecart/scale"
    assert cluster.asked == [(path, "Bearer secret")]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (403, {"kind": "Status", "reason": "Forbidden"}),
        (404, {"kind": "Status", "reason": "NotFound"}),
        (200, b"no JSON"),
        (200, b"\xff"),
        (200, {"kind": "Scale"}),
        (200, ["spec"]),
        (200, {"spec": None}),
        (200, {"spec": {"replicas": None}}),
    ],
)
def test_what_is_no_clear_answer_keeps_the_member(cluster, caplog, status, answer):
    cluster.status, cluster.answer = status, answer
    assert not Replica("shop-forecart-5", cluster.account).scaled_down()
    assert "does not say how many replicas shop-forecart is to have" in caplog.text


def test_nobody_else_is_believed(cluster, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    other = Cluster(tmp_path / "other")
    with other.serve() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        other.answer = {"spec": {"replicas": 0}}
        assert not Replica("shop-forecart-5", cluster.account).scaled_down()
    assert not other.asked


def test_an_api_that_is_away_or_silent_keeps_the_member(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("stream.worker.kubernetes._SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(silent.getsockname()[1]))
        assert not Replica("shop-forecart-5", cluster.account).scaled_down()
    assert not Replica("shop-forecart-5", cluster.account).scaled_down()


@pytest.mark.parametrize("what", ["name", "token", "environment"])
def test_what_is_no_pod_with_a_token_is_refused_with_the_remedy(cluster, monkeypatch, what):
    if what == "token":
        (cluster.account / "token").unlink()
    if what == "environment":
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(SettingError, match="leaveOnScaleDown"):
        Replica("host" if what == "name" else "shop-forecart-0", cluster.account)


def test_an_address_of_ipv6_has_brackets(cluster, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert Replica("shop-forecart-0", cluster.account)._api.startswith("https://[fd00::1]:")
