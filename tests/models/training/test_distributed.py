"""Several ranks: their shares add up to the whole batch, and two real processes train as one does."""

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

from models.data.cooccurrence import beside, count
from models.data.synthetic import simulate
from models.training import checkpoint as files
from models.training.distributed import Ranks
from models.training.objective import Candidates, losses
from tests.fakes import NOON
from tests.models.conftest import small_run

ROOT = Path(__file__).parents[3]


def _gradients(log, size: int, budget: int = 512) -> list[torch.Tensor]:
    """Return the gradient of a batch, summed over the shares of so many ranks."""
    sequences, run = small_run(log, dropout=0.0, intent_dropout=0.0, unknown_rate=0.0)
    torch.manual_seed(0)
    network = run.network()
    tally = count(sequences, len(run.items))
    network.mixture.know(tally.tables())
    sequences.learn(beside, tally.apart())
    candidates = Candidates(tally.seen[0], run.config)
    category_of = torch.tensor([0, *run.category_of])
    batch = next(sequences.batches(budget, np.random.default_rng(0)))
    for rank in range(size):
        mine, (asked, known) = Ranks(rank, size).share(batch)
        item, mixture, intent = losses(network, mine, candidates, category_of, run.config)
        (asked * item + asked * mixture + known * intent).backward()
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("size", [2, 3, 64])
def test_the_shares_gradients_add_up_to_the_batchs(log, size: int, monkeypatch: pytest.MonkeyPatch):
    """64 ranks are more than the batch has sequences: some have nothing to do."""
    monkeypatch.setattr(
        "models.heads.sampled_softmax.multiplied", lambda _: torch.float32
    )  # else each share is rounded
    budget = 64 if size == 64 else 512
    whole, parts = _gradients(log, 1, budget), _gradients(log, size, budget)
    assert len(whole) == len(parts) > 10
    assert all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(whole, parts, strict=True))


def test_every_sequence_is_in_one_share(log):
    sequences, _ = small_run(log)
    batch = next(sequences.batches(512, np.random.default_rng(0)))
    shares = [Ranks(rank, 3).share(batch)[0].item for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == sorted(batch.item.tolist())


def test_the_dice_are_the_steps_and_the_ranks_own():
    def roll(rank: int, step: int) -> float:
        Ranks(rank, 2).roll(0, step)
        return torch.rand(1).item()

    assert roll(0, 5) == roll(0, 5)
    assert len({roll(0, 5), roll(1, 5), roll(0, 6)}) == 3


def test_the_other_ranks_follow_the_first(monkeypatch: pytest.MonkeyPatch):
    def broadcast(values: torch.Tensor, source: int) -> None:
        values.fill_(source + 7)

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    alone, other = torch.zeros(3), torch.zeros(3)
    Ranks().follow(alone)
    Ranks(1, 2).follow(other)
    assert alone.tolist() == [0, 0, 0]
    assert other.tolist() == [7, 7, 7]


def _data(folder: Path) -> Path:
    path = folder / "shop.jsonl"
    traffic = simulate(600, 4, 0, NOON, items=60, categories=6)
    path.write_bytes(b"\n".join(msgspec.json.encode(event) for event in traffic.events()))
    return path


def _train(data: Path, out: Path, ranks: int, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += [str(ROOT / "forecart.py"), "train", "--format", "events", "--data", str(data), "--out", str(out)]
    command += ["--holdout-tail", "0.4", "--set", "dimension=16", "--set", "batch_events=256", *words]
    # The ranks meet on the loopback interface alone.
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env, cwd=ROOT)


def _figures(running: subprocess.Popen[str]) -> dict[str, float]:
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    (line,) = out.splitlines()  # the first rank alone speaks
    return json.loads(line)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path: Path):
    """Within the noise of the seed, which four seeds of one process tell."""
    data = _data(tmp_path)
    alone = [_figures(_train(data, tmp_path / f"one{n}", 1, "--seed", str(n))) for n in range(4)]
    both = _figures(_train(data, tmp_path / "two", 2))
    for name in ("hr@20", "mrr@20", "log_loss"):
        values = [figures[name] for figures in alone]
        assert abs(both[name] - np.mean(values)) < max(4 * np.std(values, ddof=1), 0.01 * np.mean(values)), name


@pytest.mark.slow
def test_a_lost_rank_ends_all_and_the_run_goes_on(tmp_path: Path):
    data, dials = _data(tmp_path), ("--set", "state_every=0.2", "--set", "epochs=6")
    whole = _figures(_train(data, tmp_path / "whole", 2, *dials))
    with _train(data, tmp_path / "cut", 2, *dials) as running:
        deadline = time.monotonic() + 120
        while not (tmp_path / "cut" / files.STATE).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        ranks = [pid for pid in children if b"forecart.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(ranks) == 2
        os.kill(int(ranks[1]), signal.SIGKILL)
        running.communicate(timeout=120)
        assert running.returncode != 0
    assert not (tmp_path / "cut" / files.RUN).exists()
    assert _figures(_train(data, tmp_path / "cut", 2, *dials)) == {**whole, "checkpoint": str(tmp_path / "cut")}


@pytest.mark.slow
def test_ranks_of_different_settings_do_not_train(tmp_path: Path):
    code = (
        "import sys; from models.training.distributed import join; ranks = join('cpu')\n"
        "from stream.core.errors import CheckpointError\n"
        "try: ranks.agree({'seed': ranks.rank * int(sys.argv[1])}, 'settings')\n"
        "except CheckpointError as error: sys.exit(str(error))\n"
        "ranks.leave()"
    )
    (tmp_path / "ranks.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    for differ in (0, 1):
        words = [*command, str(tmp_path / "ranks.py"), str(differ)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=env)
        assert (done.returncode != 0) == bool(differ), done.stderr
        assert ("the ranks differ in settings" in done.stderr) == bool(differ)
