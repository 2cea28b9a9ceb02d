"""Speed of training beside a plain session-parallel loop, in one run on one machine, and the memory it takes.

The plain loop is GRU4Rec's (Hidasi et al., 2016; Hidasi and Karatzoglou, 2018) with an LSTM of the same size: a
batch holds one event of each of many sessions that run in parallel, a step advances them by one event, and the
softmax runs over the batch's targets and as many sampled negatives as Forecart's, whose own targets stand alone.
Both count every event that they have gone through. The loop trains the next item alone; Forecart is measured whole,
with its mixture and its purchase head, and with the next item alone. The loop is measured at several batch sizes,
with the optimizer of the papers over sparse gradients and with Forecart's own, and compared at the fastest of each.
What a run counts once, before its first step, is in neither. The last line is JSON.

    python benchmarks/training.py
    FORECART_DATA=/data python benchmarks/training.py      # Diginetica's sessions instead of synthetic shoppers
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.data.log import Log, cutoff, load
from models.data.sequences import Batch, Sequences
from models.data.synthetic import simulate
from models.evaluation.comparison import model as contender
from models.evaluation.prequential import evaluate
from models.heads.sampled_softmax import sampled_softmax
from models.network.lstm import windows
from models.training.checkpoint import Checkpoint, Run
from models.training.config import PRESETS, TrainConfig
from models.training.distributed import Ranks
from models.training.objective import Candidates
from models.training.trainer import Trainer
from stream.core.manifest import TaskSpec

_BEGIN = 1_767_225_600_000  # 2026-01-01
_WARM_UP = 3  # steps before the clock starts
Clock = Callable[[], float]

OPTIMIZERS = {
    "adagrad": partial(torch.optim.Adagrad, lr=0.05),
    "adamw": partial(torch.optim.AdamW, lr=4e-3),
}


class Plain(nn.Module):
    """The session-parallel model: tied vectors, one LSTM, a softmax over the batch's targets and the sampled."""

    def __init__(self, items: int, config: TrainConfig, sparse: bool) -> None:
        super().__init__()
        self.vectors = nn.Embedding(items + 1, config.dimension, sparse=sparse)
        self.lstm = nn.LSTM(config.dimension, config.dimension, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.vectors.weight, std=config.dimension**-0.5)

    def forward(self, item: torch.Tensor, drawn: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        """Return the logits of the drawn items after one event each, and the state."""
        out, state = self.lstm(self.dropout(self.vectors(item))[:, None], (h, c))
        return self.dropout(out[:, 0]) @ self.vectors(drawn).T, state


def parallel(sequences: Sequences, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Yield items, next items, which places begin a session, and the events that the step ends."""
    keep = sequences.length > 1
    start, end = sequences.start[keep], (sequences.start + sequences.length)[keep]
    at, last, following = start[:batch].copy(), end[:batch].copy(), batch
    fresh, ended = np.ones(batch, bool), 0
    while True:
        yield sequences.item[at], sequences.item[at + 1], fresh, batch + ended
        at += 1
        over = np.flatnonzero(at + 1 == last)
        ended = len(over)
        if following + ended > len(start):
            return
        at[over], last[over] = start[following : following + ended], end[following : following + ended]
        following += ended
        fresh = np.zeros(batch, bool)
        fresh[over] = True


def plain(sequences: Sequences, run: Run, name: str, batch: int, seconds: float, clock: Clock) -> float:
    """Train the plain loop for some seconds; return events a second."""
    config, items = run.config, len(run.items)
    torch.manual_seed(config.seed)
    model = Plain(items, config, sparse=name == "adagrad").train()
    weight = torch.from_numpy(np.bincount(sequences.item, minlength=items + 1) ** config.popularity_power)
    weight[0] = 0
    optimizer = OPTIMIZERS[name](model.parameters())
    h = c = torch.zeros(1, batch, config.dimension)
    began, done = 0.0, 0
    for step, (item, target, fresh, events) in enumerate(parallel(sequences, batch)):
        now = clock()
        if step == _WARM_UP:
            began = now
        elif began and now - began > seconds:
            break
        keep = torch.from_numpy(~fresh)[None, :, None]
        wanted = torch.from_numpy(target)
        drawn = torch.cat([wanted, torch.multinomial(weight, config.negatives, replacement=True)])
        logits, (h, c) = model(torch.from_numpy(item), drawn, h.detach() * keep, c.detach() * keep)
        # A drawn item that happens to be the target is no negative.
        same = (drawn == wanted[:, None]) & (torch.arange(len(drawn)) != torch.arange(batch)[:, None])
        loss = F.cross_entropy(logits.masked_fill(same, -1e9), torch.arange(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += events if began else 0
    return done / (clock() - began)


def forecart(sequences: Sequences, run: Run, alone: bool, seconds: float, clock: Clock) -> float:
    """Train as `forecart train` does, or the next item alone, for some seconds; return events a second."""
    trainer, config = Trainer.begin(run, Path(), Ranks()), run.config
    budget = config.budget(sequences.events)
    trainer.an_epoch = sequences.count(budget)
    candidates = Candidates(np.bincount(sequences.item, minlength=len(run.items) + 1), config)
    category_of = torch.tensor([0, *run.category_of])
    step = next_item if alone else Trainer.update
    began, done = 0.0, 0
    for n, batch in enumerate(sequences.batches(budget, np.random.default_rng(config.seed))):
        now = clock()
        if n == _WARM_UP:
            began = now
        elif began and now - began > seconds:
            break
        step(trainer, batch, candidates, category_of)
        done += batch.events if began else 0
    return done / (clock() - began)


def next_item(trainer: Trainer, batch: Batch, candidates: Candidates, category_of: torch.Tensor) -> None:
    """Take a step of what ranks the catalog: LSTM, attention, query and softmax, without mixture and purchase."""
    network, state = trainer.network.train(), trainer.network.state(len(batch.item))
    vector = network.vectors(batch.item, batch.category)
    given = torch.cat([vector, network.type_vectors(batch.type), batch.numeric], -1)
    out = network.dropout(network.lstm(network.dropout(given))[0])
    met = network.item_vectors(torch.cat([state["recent"], batch.item], 1))
    around = network.attention.along(out, met, windows(state["recent"], batch.item))
    asked = batch.target > 0
    target = batch.target[asked]
    drawn, place, log_q = candidates.draw(target)
    listed, n = torch.cat([target, drawn]), len(target)
    vectors, query = network.catalog(listed, category_of[listed]), network.next_item(out, vector, around)[asked]
    loss = sampled_softmax(query, vectors[:n], vectors[n:], place, log_q)[0] / n
    trainer.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), trainer.run.config.clip)
    trainer.optimizer.step()


def padding(sequences: Sequences, budget: int) -> float:
    """Return the share of an epoch's places in batches that hold no event."""
    shapes = [(batch.events, batch.item.numel()) for batch in sequences.batches(budget, np.random.default_rng(0))]
    events, places = np.sum(shapes, 0)
    return float(1 - events / places)


def evaluation(log: Log, run: Run, tail: float, clock: Clock) -> float:
    """Return the seconds of one evaluation of the last part of a log, the earlier part warming the states."""
    end = int(log.time.max())
    whole = Sequences(log, run.vocabulary, run.meaning, end, run.config.longest)
    point = Checkpoint(run.network().eval(), run, {})
    measured = contender(point)
    began = clock()
    evaluate(log, whole, *measured, since=cutoff(log, tail), end=end)
    return clock() - began


def peak(data: Path, form: str, folder: Path, words: list[str]) -> int:
    """Run `forecart train` for an epoch, evaluation included, in a process of its own; return its peak in MiB."""
    command = [sys.executable, "-m", "forecart", "train", "--format", form, "--data", str(data), "--out", str(folder)]
    words = [*words, "--set", "epochs=1"]
    done = subprocess.run([*command, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def source(folder: Path, shoppers: int) -> tuple[Path, str]:
    """Return Diginetica's sessions where FORECART_DATA names a folder of data sets, else synthetic shoppers."""
    if root := os.environ.get("FORECART_DATA"):
        return Path(root) / "diginetica/train_sessions.txt.gz", "sessions"
    encode = msgspec.json.Encoder().encode
    path = folder / "shoppers.jsonl"
    path.write_bytes(b"\n".join(encode(event) for event in simulate(shoppers, 14, 0, _BEGIN, items=20_000).events()))
    return path, "events"


def prepared(data: Path, form: str, preset: str, tail: float) -> tuple[Log, Sequences, Run]:
    """Return the log, what is trained on, and the run, as `forecart train --holdout-tail` makes them."""
    log = load(data, form)
    seen = log.where(log.time < cutoff(log, tail))
    run = Run.over(seen, msgspec.convert(PRESETS[preset], TrainConfig), TaskSpec())
    return log, Sequences(seen, run.vocabulary, run.meaning, int(log.time.max()), run.config.longest), run


def main() -> None:
    """Measure in rounds, each contender after the other, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, a contender and round")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512], help="of the plain loop")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--tail", type=float, default=0.05)
    parser.add_argument("--shoppers", type=int, default=30_000)
    parser.add_argument("--processor-time", action="store_true", help="by it, not by the clock: on busy cores")
    parser.add_argument("--speed-only", action="store_true", help="leave out an epoch's memory and its evaluation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data, form = source(Path(name), options.shoppers)
        words = ["--preset", options.preset, "--holdout-tail", str(options.tail)]
        memory = None if options.speed_only else peak(data, form, Path(name) / "peak", words)
        log, sequences, run = prepared(data, form, options.preset, options.tail)
        clock = time.process_time if options.processor_time else time.perf_counter
        found: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            rates = {
                "forecart": forecart(sequences, run, False, options.seconds, clock),
                "next_item": forecart(sequences, run, True, options.seconds, clock),
            }
            for kind, n in itertools.product(OPTIMIZERS, options.batches):
                rates[f"{kind}_{n}"] = plain(sequences, run, kind, n, options.seconds, clock)
            for key, rate in rates.items():
                found.setdefault(key, []).append(rate)
            print({key: round(rate) for key, rate in rates.items()}, file=sys.stderr, flush=True)
        rates = {key: statistics.median(values) for key, values in found.items()}
        epoch = len(sequences.item) / rates["forecart"]
        measuring = None if options.speed_only else evaluation(log, run, options.tail, clock)
    line: dict[str, Any] = {f"{key}_events_per_second": round(rate) for key, rate in rates.items()}
    for kind in OPTIMIZERS:
        best = max((key for key in rates if key.startswith(kind)), key=rates.__getitem__)
        for mine in ("forecart", "next_item"):
            ratios = [a / b for a, b in zip(found[mine], found[best], strict=True)]
            line[f"{mine}_to_{kind}"] = round(statistics.median(ratios), 2)
    line |= {"padding": round(padding(sequences, run.config.budget(len(sequences.item))), 3)}
    line |= {"epoch_seconds": round(epoch)}
    line |= {"evaluation_share": round(measuring / (measuring + epoch), 3)} if measuring else {}
    line |= {"peak_mib": memory, "data": data.name, "events": len(log), "items": len(run.items)}
    line |= {"dimension": run.config.dimension, "negatives": run.config.negatives, "threads": torch.get_num_threads()}
    print(json.dumps(line | {"cores": os.cpu_count(), "python": platform.python_version()}))


if __name__ == "__main__":
    main()
