"""One group, one release and one bundle, but for a rollout: who comes beside is refused, and harms nobody."""

import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from stream.bundle.files import digest
from stream.core.manifest import Manifest
from tests.kafka.shop import BUNDLE, wait_for
from tests.kafka.trial import Trial


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    """Return a bundle that scores the same under another name."""
    folder = tmp_path / "other"
    shutil.copytree(BUNDLE, folder)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    manifest = msgspec.structs.replace(manifest, training={"run": "another"})
    manifest = msgspec.structs.replace(manifest, model=digest(manifest))
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.mark.guarantee(
    "A worker of another release, or with another bundle, does not come into a group that is at work",
    under="another namespace with the same names; another name with the same namespace",
)
def test_who_has_another_release_or_bundle_is_refused_and_told_by_whom(shop, other_bundle):
    one = Trial(shop())
    one.start(release="eu/shop")
    one.await_assigned()
    upstream = one.send(rate=200, seconds=20)
    guests = {
        "w0": one.place.start("w0", release="us/shop"),
        "guest": one.place.start("guest", bundle=other_bundle),
        "w1": one.place.start("w1", bundle=other_bundle),
    }
    for name, worker in guests.items():
        assert worker.wait(60) == 78
        said = one.place.log_of(name).read_text()
        assert "waiting for up to 11 s" in said and "Traceback" not in said
        who = "this worker's name: w1" if name == "w1" else "w0, w1"  # of one release the own name alone is in the way
        assert f"{who} (release eu/shop, bundle a0948b3cdcb857ab)" in said
    upstream.join(60)
    one.end(at_least=3500)


@pytest.mark.parametrize("release", ["eu/shop", ""])
def test_a_bundle_is_rolled_out_worker_by_worker(shop, other_bundle, release):
    one = Trial(shop())
    one.start(release=release)
    one.await_assigned()
    upstream = one.send(rate=200, seconds=20)
    for name in ("w0", "w1"):
        one.workers[name].send_signal(signal.SIGTERM)
        assert one.workers[name].wait(30) == 0
        one.start(name, bundle=other_bundle, release=release)
        log = one.place.log_of(name)
        wait_for(lambda log=log: log.read_text().count("assigned in generation") > 1, 60, "its partitions again")
    upstream.join(60)
    one.await_scored()
    one.check_alive()
    assert set(one.place.outcomes().values()) == {1}
    waited = "".join(one.place.log_of(name).read_text() for name in one.workers).count("waiting for up to")
    assert waited == (0 if release else 2)


@pytest.mark.chaos
def test_two_bundles_that_stay_beside_each_other_are_no_rollout(shop, other_bundle):
    place = shop(rollout_seconds=1)
    first = place.start("w0")
    wait_for(lambda: "assigned in generation" in place.log_of("w0").read_text(), 60, "the first")
    first.send_signal(signal.SIGTERM)
    first.wait(30)
    place.start("w1", release="eu/shop")
    wait_for(lambda: "assigned in generation" in place.log_of("w1").read_text(), 60, "another one")
    second = place.start("w0", bundle=other_bundle, release="eu/shop")
    assert {second.poll(), place.workers["w1"][0].poll()} == {None}
    wait_for(lambda: 78 in (second.poll(), place.workers["w1"][0].poll()), 120, "one of them gives way")
    assert {second.poll(), place.workers["w1"][0].poll()} == {None, 78}
    said = "".join(place.log_of(name).read_text() for name in ("w0", "w1"))
    assert "no worker has changed for 1 s" in said
