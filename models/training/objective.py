"""What a step of training lowers: the next item among drawn candidates, the mixture around it, the purchase."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.sequences import Batch
from models.heads.losses import BPR_MAX, bpr_max, smoothed
from models.heads.next_item import ANSWERS
from models.heads.sampled_softmax import sampled_softmax
from models.network.lstm import Network
from models.training.config import TrainConfig

Ints = NDArray[np.int64]


class Candidates:
    """Draw the items that a step's softmax runs over beside each target: all where they are few, else negatives.

    They come by popularity to a power. `log_q` is the log of an item's probability to be among them. Given is how
    often each item occurs, (items + 1,).
    """

    def __init__(self, seen: Ints, config: TrainConfig) -> None:
        items = len(seen) - 1
        weight = seen.astype(np.float64) ** config.popularity_power
        weight[0] = 0
        self.everything = torch.arange(1, items + 1, device=config.device) if items <= config.negatives else None
        self.weight = torch.from_numpy(weight / max(weight.sum(), 1.0)).to(config.device)
        self.n = config.negatives

    def draw(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the candidates in ascending order, each target's place among them, and the log_q.

        A target that was not drawn has another item's place.
        """
        if self.everything is not None:
            return self.everything, target - 1, torch.zeros(len(self.everything), device=target.device)
        drawn = torch.unique(torch.multinomial(self.weight, self.n, replacement=True))
        place = torch.searchsorted(drawn, target).clamp_max(len(drawn) - 1)
        return drawn, place, torch.log(-torch.expm1(-self.n * self.weight[drawn])).float()


def losses(
    network: Network, batch: Batch, candidates: Candidates, category_of: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the heads' mean losses over a batch: next item, the mixture around it, purchase."""
    if not config.item_weight:
        zero = batch.numeric.new_zeros(())
        return zero, zero, _purchase(network, network.purchases(batch.type, batch.numeric), batch, config)
    # Hiding an item at times trains the fallback that serving takes for an item it has never seen.
    hide = torch.rand(batch.item.shape, device=batch.item.device) < config.unknown_rate
    given = (batch.item, batch.category, batch.type, batch.numeric)
    out = network(*given, **network.state(len(batch.item)), support=batch.beside[..., ANSWERS - 1 :], hide=hide)
    asked = (batch.target > 0) & (batch.target < len(category_of))
    target = batch.target[asked]
    drawn, place, log_q = candidates.draw(target)
    listed, n = torch.cat([target, drawn]), len(target)
    vectors = network.catalog(listed, category_of[listed])
    query, own, others = out.query[asked], vectors[:n], vectors[n:]
    next_item, log_p = sampled_softmax(query, own, others, place, log_q)
    if config.loss == BPR_MAX:
        next_item = bpr_max(query, own, others, target, drawn)
    if config.smoothing:
        next_item = next_item + config.smoothing * smoothed(query, own, others)
    mixture = network.mixture.loss(out.gate[asked], log_p, batch.beside[asked])
    n = max(n, 1)
    return next_item / n, mixture / n, _purchase(network, out.intent, batch, config)


def _purchase(network: Network, logits: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    loss = network.purchase.loss(logits, batch.label, batch.known, config.purchase_weight)
    return loss / batch.known.sum().clamp(min=1)
