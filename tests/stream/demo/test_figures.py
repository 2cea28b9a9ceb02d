"""The demo's figures, from what a worker really exposes."""

import numpy as np
import pytest

from stream.demo.figures import Figures, read_figures
from stream.worker.telemetry import Telemetry


def test_figures_are_read_as_a_scraper_would():
    telemetry = Telemetry()
    telemetry.lag.labels(0).set(3)
    telemetry.lag.labels(1).set(4)
    telemetry.users.set(7)
    telemetry.latency.observe(np.full(98, 0.004))
    telemetry.latency.observe(np.full(2, 4.0))
    first = read_figures(telemetry.render("")[1].decode())
    assert (first.lag, first.shoppers) == (7, 7)
    assert first.median == pytest.approx(0.0025 + 0.0025 * 50 / 98)
    assert 2.5 < first.p99 < 5
    telemetry.latency.observe(np.full(10, 0.02))
    later = read_figures(telemetry.render("")[1].decode(), first)
    assert 0.01 < later.median < later.p99 < 0.025


def test_without_metrics_all_is_zero():
    assert read_figures("") == Figures()
