"""The loop: it learns, and a kill costs nothing."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.data.synthetic import simulate
from models.training import checkpoint as files
from models.training.distributed import Ranks
from models.training.epochs import train
from models.training.trainer import Trainer
from stream.core.errors import CheckpointError
from tests.fakes import NOON
from tests.models.conftest import small_run


def test_the_loss_falls(log, tmp_path: Path):
    sequences, run = small_run(log)
    losses: list[float] = []
    done = train(sequences, run, tmp_path, lambda p: losses.append(p.loss))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    assert [e["epoch"] for e in done.run.epochs] == [1, 2]
    assert done.run.epochs[1]["item_loss"] < done.run.epochs[0]["item_loss"]


def test_purchases_alone_leave_the_items_as_they_begin(log, tmp_path: Path):
    sequences, run = small_run(log, item_weight=0.0, judged=0.2, epochs=4, lr=0.01)
    new = Trainer.begin(run, tmp_path, Ranks()).network.state_dict()
    done = train(sequences, run, tmp_path)
    kept, epochs = done.network.state_dict(), done.run.epochs
    for name in ("lstm.weight_hh_l0", "item_vectors.weight", "mixture.layers.0.weight"):
        assert torch.equal(kept[name], new[name])
    assert not torch.equal(kept["rhythm.weight_hh_l0"], new["rhythm.weight_hh_l0"])
    assert epochs[-1]["intent_loss"] < epochs[0]["intent_loss"]
    assert [epoch["item_loss"] for epoch in epochs] == [0.0] * 4
    assert done.network.intent_reach == 0 and "judge" not in done.run.data


def test_the_same_seed_gives_the_same_weights(log, tmp_path: Path):
    one, two, other = (
        train(*small_run(log, seed=seed), tmp_path / name).network.state_dict()
        for name, seed in (("1", 0), ("2", 0), ("3", 1))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lstm.weight_hh_l0"], other["lstm.weight_hh_l0"])


def test_the_gates_learn_while_the_sequences_are_new(log, tmp_path: Path):
    seen: list[torch.Tensor] = []

    def validate(network):
        seen.append(network.mixture.layers[-1].weight.detach().clone())
        return {"selection": len(seen)}

    train(*small_run(log, epochs=3, judged=0.0), tmp_path, validate=validate)
    assert seen[0].any()  # they began as zeros
    assert torch.equal(seen[0], seen[2])


def test_the_best_epoch_is_kept(log, tmp_path: Path):
    seen: list[torch.Tensor] = []

    def validate(network):
        seen.append(network.lstm.weight_hh_l0.detach().clone())
        return {"selection": -len(seen)}

    done = train(*small_run(log), tmp_path, validate=validate)
    assert torch.equal(done.network.lstm.weight_hh_l0, seen[0])
    assert done.run.metrics["epoch"] == 1


@pytest.mark.parametrize(("judged", "measured"), [(0.0, 2), (0.2, 3)])
def test_it_is_measured_once_an_epoch_and_once_more_with_a_judge(log, tmp_path: Path, judged: float, measured: int):
    seen: list[float] = []

    def validate(_network):
        seen.append(len(seen))
        return {"selection": seen[-1]}

    train(*small_run(log, judged=judged), tmp_path, validate=validate)
    assert len(seen) == measured


@pytest.mark.parametrize("judged", [0.0, 0.2])
def test_an_interrupted_run_ends_as_if_it_had_not_been(log, tmp_path: Path, judged: float):
    """Interrupt after each of several steps, in the middle of epochs too, in the rehearsal and after it."""
    whole = train(*small_run(log, judged=judged), tmp_path / "whole").network.state_dict()
    assert whole["judge.mean"].any() == bool(judged)

    class Interrupt(Exception):
        pass

    stages = ["training"] + ["second training"] * bool(judged)
    for stop, stage in itertools.product((3, 7, 12), sorted(stages)):
        sequences, run = small_run(log, state_every=0.0, judged=judged)

        def watch(progress, stop=(stage, stop)):
            if (progress.stage, progress.step) == stop:
                raise Interrupt

        try:
            train(sequences, run, tmp_path / "cut", watch)
        except Interrupt:
            continue
    sequences, run = small_run(log, state_every=0.0, judged=judged)
    resumed = train(sequences, run, tmp_path / "cut").network.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "cut" / files.STATE).exists()


@pytest.mark.slow
def test_a_killed_process_is_resumed(tmp_path: Path):
    data = tmp_path / "shop.jsonl"
    rows = (msgspec.json.encode(e) for e in simulate(400, 3, 0, NOON, items=60, categories=6).events())
    data.write_bytes(b"\n".join(rows))
    dials = ["dimension=16", "epochs=6", "batch_events=256", "state_every=0.2"]
    command = [sys.executable, "-m", "forecart", "train", "--format", "events", "--data", str(data)]
    command += [word for dial in dials for word in ("--set", dial)]

    def run(out: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, "--out", str(tmp_path / out)], stdout=subprocess.PIPE, text=True)

    with run("whole") as whole:
        assert json.loads(whole.communicate()[0])["epoch"] == 6
    for _ in range(2):
        with run("cut") as cut:
            state, seen = tmp_path / "cut" / files.STATE, None
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and cut.poll() is None:
                now = state.stat().st_mtime_ns if state.exists() else None
                if seen and now != seen:
                    break
                seen = now
                time.sleep(0.05)
            os.kill(cut.pid, signal.SIGKILL)
    with pytest.raises(CheckpointError, match="was interrupted"):
        files.load(tmp_path / "cut")
    with run("cut") as cut:
        cut.communicate()
        assert cut.returncode == 0
    one, two = (files.load(tmp_path / name).network.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_ctrl_c_stops_after_a_step_and_the_run_goes_on_to_the_same_weights(log, tmp_path: Path):
    sequences, run = small_run(log)
    whole = train(sequences, run, tmp_path / "whole").network.state_dict()

    def watch(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of the loop, and long before `state_every`

    sequences, run = small_run(log)
    with pytest.raises(KeyboardInterrupt):
        train(sequences, run, tmp_path / "cut", watch)
    assert (tmp_path / "cut" / files.STATE).exists()
    heard = []
    sequences, run = small_run(log)
    resumed = train(sequences, run, tmp_path / "cut", lambda progress: heard.append(progress.step))
    assert heard[0] == 3
    assert all(torch.equal(whole[name], resumed.network.state_dict()[name]) for name in whole)


def _interrupted(log, folder: Path, step: int = 2) -> None:
    """Leave a run in the folder that was cut after some steps."""

    def watch(progress):
        if progress.step == step:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(*small_run(log, state_every=0.0), folder, watch)


def test_a_run_with_other_settings_is_not_resumed(log, tmp_path: Path):
    _interrupted(log, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(*small_run(log, dropout=0.5), tmp_path)


@pytest.mark.parametrize("changed", [{"gap": 60_000}, {"horizons": ("2h", "session")}, {"horizons": ("1h",)}])
def test_a_run_with_another_meaning_is_not_resumed(log, tmp_path: Path, changed: dict[str, object]):
    _interrupted(log, tmp_path)
    sequences, run = small_run(log, state_every=0.0)
    run.meaning = msgspec.structs.replace(run.meaning, **changed)
    with pytest.raises(CheckpointError, match="meaning"):
        train(sequences, run, tmp_path)


def test_a_run_with_another_vocabulary_is_not_resumed(log, tmp_path: Path):
    _interrupted(log, tmp_path)
    sequences, run = small_run(log, state_every=0.0)
    run.items = [*run.items[1:], "another"]
    with pytest.raises(CheckpointError, match="vocabulary"):
        train(sequences, run, tmp_path)


def test_a_kill_at_the_end_of_an_epoch_loses_no_epoch(log, tmp_path: Path):
    """Interrupt between the last step of an epoch and the epoch's own end."""

    def validate(_network):
        return {"selection": 0.0}

    whole = train(*small_run(log, state_every=0.0), tmp_path / "whole", validate=validate)
    for epoch in (1, 2):
        folder = tmp_path / f"cut{epoch}"

        passed: list[object] = []

        def interrupt(network, passed=passed, epoch=epoch):
            passed.append(network)
            if len(passed) == epoch:
                raise InterruptedError
            return {"selection": 0.0}

        with pytest.raises(InterruptedError):
            train(*small_run(log, state_every=0.0), folder, validate=interrupt)
        resumed = train(*small_run(log, state_every=0.0), folder, validate=validate)
        assert resumed.run.epochs == whole.run.epochs


def test_a_run_is_concluded_before_it_is_marked_finished(log, tmp_path: Path):
    """Kill while the loss curve is drawn: the run is still one to take up again."""

    def interrupt(_point):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(*small_run(log), tmp_path, conclude=interrupt)
    assert not (tmp_path / files.RUN).exists()
    drawn: list[int] = []
    train(*small_run(log), tmp_path, conclude=lambda point: drawn.append(len(point.run.epochs)))
    assert drawn == [2]
    assert (tmp_path / files.RUN).exists()


def test_a_run_on_cuda_takes_up_its_random_numbers_too(log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stand in for the device: only its generator's state is asked for."""
    state, restored = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda found, device: restored.append((found, device)))
    _, run = small_run(log, device="cuda:0")
    network = run.network()
    trainer = Trainer(run, tmp_path, network, torch.optim.AdamW(network.parameters()), 4)
    trainer.save()
    trainer.resume()
    ((found, device),) = restored
    assert torch.equal(found, state)
    assert device == "cuda:0"
