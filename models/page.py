"""A report as one HTML page that needs nothing else: style inside, pictures inside, and no way out."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from models import figures
from models.charts import Bars, Chart, key, number, percent, svg, table
from models.report import Report
from models.resamples import Estimate
from models.verdict import best, between, findings

_HERE = Path(__file__).parent
_SHARES = ("hr", "mrr", "ndcg", "pr_auc", "ece")  # metrics that read well as percentages
_LESS = ("log_loss", "brier", "ece")  # metrics where less is better
_NAMES = {"hr": "hit rate", "mrr": "MRR", "ndcg": "NDCG", "pr_auc": "average precision", "roc_auc": "ROC-AUC",
          "log_loss": "log loss", "brier": "Brier score", "ece": "calibration error"}  # fmt: skip


def render(report: Report, log: str, made: datetime) -> str:
    """Write the page; `log` names the data, `made` is the time on it. All of the data's text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_HERE / "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=f"{next(iter(report.runs))} on {log}",
        made=made.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        findings=findings(report),
        cards=_cards(report),
        legend=[(Markup(key(i)), name) for i, name in enumerate(report.contenders)],
        metrics=_metrics(report),
        sections=_sections(report),
        facts=_facts(report),
        rejected=report.audit.rejected,
        runs={name: _configuration(run) for name, run in report.runs.items()},
        report=report,
    )


def _sections(report: Report) -> list[dict[str, Any]]:
    parts = (
        ("next", "Next item", figures.next_item(report), "The log has no next item in its held-out part."),
        (
            "purchase",
            "Purchase",
            figures.purchase(report),
            "No purchase is known in the held-out part, so there is nothing to draw.",
        ),
        ("training", "Training", figures.training(report), "The runs have kept no epochs."),
        ("data", "Data", figures.data(report), ""),
    )
    return [
        {"id": id_, "title": title, "figures": [_figure(chart) for chart in charts], "none": none}
        for id_, title, charts, none in parts
    ]


def _figure(chart: Chart | Bars) -> dict[str, Any]:
    return {
        "title": chart.title,
        "caption": chart.caption,
        "svg": Markup(svg(chart)),
        "table": table(chart),
        "legend": [(Markup(key(s.look)), s.name) for s in chart.series]
        if isinstance(chart, Chart) and len(chart.series) > 1
        else [],
    }


def _cards(report: Report) -> list[dict[str, str]]:
    """Choose the large figures on top."""
    name, own = next(iter(report.contenders.items()))
    k = report.runs[name].meaning.k
    found = []
    for metric in (f"hr@{k}", f"mrr@{k}", "pr_auc", "ece"):
        if metric not in own.figures:
            continue
        e = own.figures[metric]
        rival = best(report, metric) if metric != "ece" else None
        theirs = f"{rival[0]}: {_said(metric, float(rival[1].figures[metric].value[0]))}" if rival else "0 is perfect"
        found.append(
            {
                "name": _title(metric),
                "value": _said(metric, float(e.value[0])),
                "interval": between(e),
                "against": theirs,
            }
        )
    return found


def _metrics(report: Report) -> dict[str, Any]:
    """Make the table of metrics: a row each, the best of a row marked."""
    names = list(dict.fromkeys(n for m in report.contenders.values() for n in m.figures))
    rows = []
    for name in names:
        cells = [m.figures.get(name) for m in report.contenders.values()]
        values = [float(e.value[0]) for e in cells if e]
        top = (min if name in _LESS else max)(values)
        rows.append((_title(name), [_cell(name, e, top) for e in cells], "less is better" if name in _LESS else ""))
    return {"head": list(report.contenders), "rows": rows}


def _cell(metric: str, e: Estimate | None, top: float) -> dict[str, Any]:
    if e is None:
        return {"value": "–", "interval": "", "best": False}
    low, high = (_said(metric, float(side[0])) for side in (e.low, e.high))
    return {"value": _said(metric, float(e.value[0])), "interval": f"{low} to {high}", "best": float(e.value[0]) == top}


def _title(metric: str) -> str:
    name, at, k = metric.partition("@")
    return f"{_NAMES.get(name, name)}{at}{k}"


def _said(metric: str, value: float) -> str:
    return percent(value) if metric.partition("@")[0] in _SHARES else f"{value:.4f}"


def _facts(report: Report) -> list[tuple[str, str]]:
    """List the log's facts in words."""
    facts = report.audit
    found = [
        ("events", f"{facts.events:,}"),
        ("shoppers", f"{facts.users:,}"),
        ("items", f"{facts.items:,}"),
        ("categories", f"{facts.categories:,}" if facts.categories else "none"),
        ("held out", f"{facts.events - facts.before:,} events, {report.examples['targets']:,} next items"),
        ("known purchases", f"{report.examples['positives']:,} of {report.examples['labelled']:,} labels"),
        (
            "new in the held-out part",
            f"{percent(facts.new_items)} of the events' items, {percent(facts.new_users)} of the shoppers",
        ),
        ("rejected rows", f"{sum(n for _, n in facts.rejected):,}"),
    ]
    if facts.first is not None and facts.last is not None:
        found.append(("time", f"{_minute(facts.first)} to {_minute(facts.last)}"))
    else:
        found.append(("time", "none: a log of sessions tells their order only; gaps and duplicates cannot be told"))
    if facts.pause:
        begin, end = facts.pause
        found.append(
            ("longest pause of the whole log", f"{number((end - begin) / 60_000)} minutes, from {_minute(begin)}")
        )
    if facts.buckets is not None and facts.span:
        empty = int((facts.buckets == 0).sum())
        found.append(
            ("spans without any event", f"{empty:,} of {len(facts.buckets):,}, {facts.span // 3_600_000} h each")
        )
    if facts.duplicates is not None:
        found.append(("duplicates", f"{facts.duplicates:,} events repeat another in all fields"))
    return found


def _minute(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _configuration(run: Any) -> list[tuple[str, str]]:
    facts = msgspec.to_builtins(run.config) | {f"meaning: {n}": v for n, v in msgspec.to_builtins(run.meaning).items()}
    facts |= {f"data: {n}": v for n, v in run.data.items()} | {
        "items": len(run.items),
        "categories": len(run.categories),
    }
    return [(name, ", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v)) for name, v in facts.items()]
