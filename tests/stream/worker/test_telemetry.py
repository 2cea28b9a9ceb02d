"""Series: arrays counted as the client would count single values."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from stream.core.events import REASONS
from stream.recommend import shop_catalog
from stream.worker.telemetry import ArrayHistogram, Telemetry
from tests.fakes import manifest

BUCKETS = (0.1, 1.0, 10.0)


@given(st.lists(st.lists(st.floats(-1, 20), max_size=10), max_size=5))
def test_an_array_histogram_counts_as_the_client_does(chunks):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    arrays = ArrayHistogram("x_seconds", "X.", BUCKETS)
    ours.register(arrays)
    single = Histogram("x_seconds", "X.", buckets=BUCKETS, registry=theirs)
    for chunk in chunks:
        arrays.observe(np.array(chunk))
        for value in chunk:
            single.observe(value)
    if chunks:
        for edge in ("0.1", "1.0", "10.0", "+Inf"):
            at = {"le": edge}
            assert ours.get_sample_value("x_seconds_bucket", at) == theirs.get_sample_value("x_seconds_bucket", at)
        assert abs(ours.get_sample_value("x_seconds_sum") - theirs.get_sample_value("x_seconds_sum")) < 1e-9


def test_the_exposition_is_what_the_scraper_accepts():
    telemetry = Telemetry()
    telemetry.scores.observe(np.array([0.2]), "1h")
    kind, body = telemetry.render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert telemetry.render("")[0].startswith("text/plain")


def test_every_series_has_a_prefix_and_a_help_text():
    telemetry = Telemetry()
    assert {name.split("_")[0] for name in telemetry.names()} == {"forecart", "process", "python"}
    assert all(family.documentation for family in telemetry.registry.collect())
    assert {"forecart_consumer_lag", "forecart_events_rejected_total", "forecart_score_bucket"} <= telemetry.names()


def test_gauges_of_lost_partitions_go_and_counters_stay():
    telemetry = Telemetry()
    for number in (0, 1):
        telemetry.lag.labels(number).set(5)
        telemetry.blocked.labels(number).set(5)
        telemetry.consumed.labels(number).inc()
    telemetry.own({1})
    value = telemetry.registry.get_sample_value
    assert value("forecart_consumer_lag", {"partition": "0"}) is None
    assert value("forecart_input_blocked_seconds", {"partition": "0"}) is None
    assert value("forecart_consumer_lag", {"partition": "1"}) == 5
    assert value("forecart_events_consumed_total", {"partition": "0"}) == 1


def _scraped(telemetry: Telemetry, accept: str = "") -> dict[str, list[dict[str, str]]]:
    """Return the labels of each series by its name, as a scraper parses them."""
    parse = openmetrics if accept else text
    found = defaultdict(list)
    for family in parse(telemetry.render(accept)[1].decode()):
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return found


def test_every_child_that_can_exist_is_there_at_0_from_the_start():
    telemetry = Telemetry()
    telemetry.load(manifest())
    telemetry.own({3, 5})

    def values(name: str, label: str) -> set[str]:
        assert {s.value for f in telemetry.registry.collect() for s in f.samples if s.name == name} == {0}
        return {labels[label] for labels in _scraped(telemetry)[name]}

    assert values("forecart_events_rejected_total", "reason") == set(REASONS)
    assert values("forecart_catalog_rejected_total", "reason") == set(shop_catalog.REASONS)
    assert values("forecart_transactions_total", "result") == {"committed", "aborted", "rolled_back", "dropped"}
    assert values("forecart_events_consumed_total", "partition") == {"3", "5"}
    assert values("forecart_events_lost_total", "partition") == {"3", "5"}
    assert values("forecart_scores_published_total", "model") == {manifest().model}
    assert values("forecart_score_count", "horizon") == set(manifest().meaning.horizons)
    assert values("forecart_stage_seconds_count", "stage") == {"score", "commit"}
    assert telemetry.registry.get_sample_value("forecart_event_to_score_seconds_count") == 0


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_each_series_tells_its_group_and_worker_and_none_when_it_was_made(accept):
    telemetry = Telemetry("shop", "shop-0")
    telemetry.load(manifest())
    scraped = _scraped(telemetry, accept)
    assert not [name for name in scraped if name.endswith("_created")]
    for name, labelled in scraped.items():
        assert all(labels["group"] == "shop" and labels["worker"] == "shop-0" for labels in labelled), name
    (build,) = scraped["forecart_build_info"]
    assert build["bundle"] == manifest().model
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_gc_collections_total"} <= set(scraped)


def test_buckets_reach_as_far_as_outages_and_recoveries_do():
    telemetry = Telemetry()
    for name, longest in (("forecart_event_to_score_seconds", 3600), ("forecart_state_recovery_seconds", 3600)):
        edges = {float(labels["le"]) for labels in _scraped(telemetry)[f"{name}_bucket"]} - {float("inf")}
        assert max(edges) >= longest


def test_memory_has_a_limit():
    value = Telemetry().registry.get_sample_value
    assert 0 < value("process_resident_memory_bytes") < value("forecart_memory_limit_bytes")
