"""Calibration in serving: it keeps the order of scores and of horizons, and what it does not name it leaves alone."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bundle.files import digest
from stream.core import score
from stream.core.calibration import calibrated
from stream.core.manifest import Manifest, Vocabulary
from stream.core.ring import without_each
from stream.core.session import record
from tests import fakes
from tests.fakes import MINUTE, NOON

HORIZONS = ("24h", "session", "1h")
PAIRS = st.tuples(st.floats(0.05, 5.0), st.floats(-3.0, 3.0))
P = st.floats(0.0, 1.0, width=32)


def _manifest(calibration) -> Manifest:
    return msgspec.structs.replace(fakes.manifest(horizons=HORIZONS), calibration=calibration)


def _given(intent) -> dict[str, np.ndarray]:
    return {"intent": np.array(intent, np.float32), "other": np.arange(3)}


@given(st.lists(st.tuples(P, P, P), min_size=1), st.dictionaries(st.sampled_from(HORIZONS), PAIRS, min_size=1))
def test_order_stands_and_longer_spans_are_no_less_likely(rows, pairs):
    intent = np.sort(np.array(rows, np.float32), 1)[:, [1, 2, 0]]  # the hour's is least, as the network has it
    found = calibrated(_given(intent), _manifest(pairs))["intent"]
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, 0] >= found[:, 2]).all()
    for column in (1, 2):
        ordered = found[np.argsort(intent[:, column], kind="stable"), column]
        assert (np.diff(ordered) >= 0).all()


@given(st.lists(st.tuples(P, P, P), min_size=1))
def test_a_line_that_changes_nothing_changes_nothing(rows):
    intent = np.sort(np.array(rows, np.float32), 1)[:, [1, 2, 0]]
    found = calibrated(_given(intent), _manifest({"1h": (1.0, 0.0)}))["intent"]
    assert np.abs(found - intent).max() < 2e-7


def test_the_formula():
    found = calibrated(_given([[0.9, 0.5, 0.2]]), _manifest({"1h": (2.0, -1.0), "session": (1.0, 1.0)}))["intent"]
    of_hour = 1 / (1 + np.exp(-(2 * np.log(0.2 / 0.8) - 1)))
    assert found[0] == pytest.approx([0.9, 1 / (1 + np.exp(-1)), of_hour], abs=1e-6)


def test_without_a_calibration_outputs_and_names_stand():
    given, plain = _given([[0.1, 0.2, 0.3]]), fakes.manifest(horizons=HORIZONS)
    assert calibrated(given, plain) is given
    assert b"calibration" not in msgspec.json.encode(plain)
    named = _manifest({"1h": (1.5, 0.1)})
    assert digest(named) != digest(plain)
    assert msgspec.json.decode(msgspec.json.encode(named), type=Manifest) == named


def test_what_is_not_finite_stays_so():
    found = calibrated(_given([[np.nan, 0.5, np.inf]]), _manifest({"session": (1.0, 1.0)}))["intent"]
    assert np.isnan(found[0, 0])


@pytest.mark.parametrize("pairs", [{"2h": (1.0, 0.0)}, {"1h": (0.0, 0.0)}, {"1h": (-1.0, 0.0)}])
def test_a_calibration_of_nothing_or_against_the_order_is_refused(pairs):
    with pytest.raises(ValueError, match="calibration"):
        _manifest(pairs)
    told = msgspec.to_builtins(fakes.manifest(horizons=HORIZONS)) | {"calibration": pairs}
    with pytest.raises(msgspec.ValidationError, match="calibration"):
        msgspec.convert(told, Manifest)


def test_scores_and_their_explanation_are_calibrated_alike():
    plain = fakes.manifest(ring=8)
    facts = msgspec.structs.replace(plain, calibration={"1h": (2.0, -1.0), "24h": (1.5, 0.5)})
    events = fakes.events([(0, f"e{i}", NOON + i * MINUTE, 1 + i) for i in range(4)])
    raw, _ = score(events, np.zeros(1, record(plain)), fakes.step, plain)
    found, heads = score(events, np.zeros(1, record(facts)), fakes.step, facts)
    logit = np.log(raw.intent / (1 - raw.intent))
    assert found.intent == pytest.approx(1 / (1 + np.exp(-(logit * [2.0, 1.5] + [-1.0, 0.5]))), abs=1e-6)
    items = Vocabulary([str(i) for i in range(9)], [], [0] * 9)
    heads["recent_item"] = items.item_print[np.array([4, 3, 2, 1, 0, 0, 0, 0])]
    again = without_each(heads, fakes.step, facts, items, 0)["intent"][0, 0]
    assert again == pytest.approx(found.intent[-1], abs=1e-6)
