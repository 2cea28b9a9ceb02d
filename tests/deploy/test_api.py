"""What the chart renders, before Kubernetes' own API server and controllers."""

import copy
import time
from collections.abc import Callable, Iterator

import pytest

from tests.deploy.control_plane import PROGRAMS, ControlPlane, Document, assets
from tests.deploy.test_chart import BARE, LEAST, LEAVING, MOST, SPECS, render  # noqa: F401

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

REVISION = "controller-revision-hash"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run the control plane once."""
    if not (programs := assets()):
        pytest.skip(f"{', '.join(PROGRAMS)} are not in KUBEBUILDER_ASSETS")
    with ControlPlane(programs, tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.mark.parametrize("values", [LEAST, MOST, BARE, LEAVING], ids=["least", "most", "bare", "leaving"])
@pytest.mark.parametrize("release", ["shop", "shop.eu", "2024-forecart", "a" * 53])
def test_the_server_takes_every_document(plane, render, values, release):  # noqa: F811
    for kind, document in render(values, release=release).items():
        if kind not in SPECS:
            answer = plane.apply(document, "&dryRun=All")
            assert answer["kind"] == kind, answer["message"]


def _revisions(pods: list[Document]) -> list[str]:
    return [pod["metadata"]["labels"][REVISION] for pod in pods]


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


@pytest.mark.parametrize(("least", "taken"), [(0, 3), (8, 1)], ids=["at once", "minReadySeconds"])
def test_a_bundle_that_ends_its_worker_after_it_was_ready_takes_one_pod(plane, render, least, taken):  # noqa: F811
    """Its container is ready for 3 s, gone for 3 s, and so on; taking the release back ends that.

    With the minute of the chart cut to 8 s, and without it, which took all.
    """
    documents = render(LEAST | {"replicas": 3}, release=f"least-{least}")
    good = documents["StatefulSet"]
    good["spec"]["minReadySeconds"] = least
    plane.apply(documents["ServiceAccount"])
    plane.apply(good)
    name = good["metadata"]["name"]
    assert _until(lambda: len(plane.pods(name)) == 3, 60)
    (old,) = set(_revisions(plane.pods(name)))
    told: dict[str, tuple[float, bool]] = {}

    def kubelet() -> list[str]:
        for pod in plane.pods(name):
            uid, revision = pod["metadata"]["uid"], pod["metadata"]["labels"][REVISION]
            since, ready = told.get(uid, (time.monotonic(), False))
            now = revision == old or int(time.monotonic() - since) % 6 < 3
            if now is not ready:
                plane.tell_ready(pod, now)
            told[uid] = (since, now)
        return _revisions(plane.pods(name))

    _until(lambda: not kubelet(), least + 2)  # a rollout before they are available would replace all at once
    bad = copy.deepcopy(good)
    bad["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "FORECART_LOG_LEVEL", "value": "warn"})
    plane.apply(bad)
    assert _until(lambda: sum(revision != old for revision in kubelet()) == taken, 20)
    assert not _until(lambda: sum(revision != old for revision in kubelet()) > taken, 20)
    plane.apply(good)
    assert _until(lambda: kubelet() == [old] * 3, 60)
