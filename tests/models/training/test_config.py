"""Dials out of range, and devices that are not here, are refused with a remedy."""

import pytest
import torch

from models.training.config import PRESETS, TrainConfig, check_device, check_state
from stream.core.errors import SettingError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 2),
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("lr", -1),
        ("lr", 0),
        ("lr", float("inf")),
        ("weight_decay", -1),
        ("clip", 0),
        ("scale", 0),
        ("popularity_power", -1),
        ("unknown_rate", 1.5),
        ("intent_weight", -1),
        ("intent_dropout", 1),
        ("averaging", 1),
        ("smoothing", 1),
        ("state_every", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("batch_events", -1),
        *[(name, 0) for name in ("dimension", "epochs", "longest", "negatives")],
    ],
)
def test_a_dial_out_of_range_is_refused(name: str, value: float):
    with pytest.raises(SettingError, match=f"^{name} is ") as caught:
        TrainConfig(**{name: value})
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "value"), [("dropout", 0.0), ("unknown_rate", 0.0), ("weight_decay", 0.0)])
def test_the_ends_of_a_range_belong_to_it(name: str, value: float):
    assert getattr(TrainConfig(**{name: value}), name) == value


def test_the_record_of_a_run_keeps_a_device_that_is_not_here():
    assert TrainConfig(device="cuda").device == "cuda"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu", "meta", ""])
def test_a_device_that_is_not_here_is_refused_where_it_is_asked_for(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError) as caught:
        check_device(device)
    assert "--device cpu" in caught.value.remedy
    check_device("cpu")


def test_a_device_beyond_the_last_one_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda")
    check_device("cuda:0")
    with pytest.raises(SettingError, match="cuda:1"):
        check_device("cuda:1")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_dials_that_there_are(preset: str):
    assert TrainConfig(**PRESETS[preset])


def test_the_presets_grow():
    assert [TrainConfig(**PRESETS[name]).dimension for name in ("small", "base", "large")] == [64, 128, 192]


@pytest.mark.parametrize("name", ["loss", "model", "start"])
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(SettingError, match=f"no {name} 'hinge'"):
        TrainConfig(**{name: "hinge"})


def test_states_are_of_one_of_two_types():
    check_state("float32")
    with pytest.raises(SettingError, match="float64"):
        check_state("float64")
