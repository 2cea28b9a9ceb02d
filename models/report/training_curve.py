"""The loss curve of a run, as a picture beside its checkpoint."""

from pathlib import Path

from models.training.checkpoint import CURVE, Run


def draw(run: Run, folder: Path) -> None:
    """Plot losses and, where a tail was held out, its metrics by epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = [e["epoch"] for e in run.epochs]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, label in (("item_loss", "next item"), ("intent_loss", "purchase")):
        left.plot(epochs, [e[name] for e in run.epochs], marker="o", label=label)
    left.set(title="training loss", xlabel="epoch", yscale="log")
    left.legend()
    for name in (f"hr@{run.meaning.k}", f"mrr@{run.meaning.k}", "pr_auc"):
        if values := [e[name] for e in run.epochs if e.get(name) is not None]:
            right.plot(epochs[-len(values) :], values, marker="o", label=name)
    right.set(title="held-out tail", xlabel="epoch")
    if right.lines:
        right.legend()
    else:
        right.text(0.5, 0.5, "no tail was held out", ha="center")
    figure.savefig(folder / CURVE, dpi=120)
    pyplot.close(figure)
