"""Metrics as people read them: their names, shares as percentages, and spans of time."""

from datetime import timedelta

from models.report.charts import percent

_SHARES = ("hr", "mrr", "ndcg", "pr_auc", "ece")  # metrics that read well as percentages
_NAMES = {"hr": "hit rate", "mrr": "MRR", "ndcg": "NDCG", "pr_auc": "PR-AUC", "roc_auc": "ROC-AUC",
          "log_loss": "log loss", "brier": "Brier score", "ece": "calibration error"}  # fmt: skip


def title(metric: str) -> str:
    """Name a metric.

    >>> title("hr@20")
    'hit rate@20'
    >>> title("hr@20_new")
    'hit rate@20 new'
    """
    name, at, k = metric.partition("@")
    return f"{_NAMES.get(name, name)}{at}{k.replace('_', ' ')}"


def said(metric: str, value: float) -> str:
    """Write a metric's value."""
    return percent(value) if metric.partition("@")[0] in _SHARES else f"{value:.4f}"


def span(seconds: float) -> str:
    """Write a span of time.

    >>> span(75.4)
    '0:01:15'
    """
    return str(timedelta(seconds=round(seconds)))
