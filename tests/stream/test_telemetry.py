"""Series: arrays counted as the client would count single values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from stream.telemetry import ArrayHistogram, Telemetry

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


def test_every_series_has_the_prefix_and_a_help_text():
    telemetry = Telemetry()
    assert all(name.startswith("forecart_") for name in telemetry.names())
    assert all(family.documentation for family in telemetry.registry.collect())
    assert {"forecart_consumer_lag", "forecart_events_rejected_total", "forecart_score_bucket"} <= telemetry.names()


def test_gauges_of_lost_partitions_go_and_counters_stay():
    telemetry = Telemetry()
    for number in (0, 1):
        telemetry.lag.labels(number).set(5)
        telemetry.blocked.labels(number).set(5)
        telemetry.consumed.labels(number).inc()
    telemetry.forget_partitions({1})
    value = telemetry.registry.get_sample_value
    assert value("forecart_consumer_lag", {"partition": "0"}) is None
    assert value("forecart_input_blocked_seconds", {"partition": "0"}) is None
    assert value("forecart_consumer_lag", {"partition": "1"}) == 5
    assert value("forecart_events_consumed_total", {"partition": "0"}) == 1
