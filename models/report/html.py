"""A report as one HTML page that needs nothing else: style inside, pictures inside, and no way out."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from models.enough import RULE, TOO_FEW
from models.evaluation.bootstrap import Interval
from models.report import figures
from models.report.build import Report
from models.report.charts import Bars, Chart, number, percent, table
from models.report.data_audit import Audit
from models.report.findings import best, findings
from models.report.svg import draw, key
from models.report.wording import said, title
from models.training.checkpoint import Run

_HERE = Path(__file__).parent
_SPANS = ("gap", "ttl", "lateness")  # of the meaning, in ms
_MAIN = ("pr_auc", "roc_auc", "ece")  # of each horizon
_LESS = ("log_loss", "brier", "ece")  # metrics where less is better


def render(report: Report, log: str, made: datetime) -> str:
    """Write the page; `log` names the data, `made` is the time on it. All text from data is escaped.

    The policy in the page's head lets it load nothing, run nothing, and be styled by this very style sheet only.
    """
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = (_HERE / "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=f"{next(iter(report.runs))} on {log}",
        made=f"{made.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        examples=report.examples,
        few=f"{TOO_FEW.capitalize()}: {RULE}",
        findings=findings(report),
        cards=_cards(report),
        legend=[(Markup(key(look)), name) for look, name in enumerate(report.contenders)],
        metrics=_metrics(report),
        horizon=report.horizon,
        horizons=_horizons(report),
        main=[title(name) for name in _MAIN],
        sections=_sections(report),
        facts=_facts(report.audit),
        rejected=report.audit.rejected,
        runs={name: _configuration(run) for name, run in report.runs.items()},
    )


def _sections(report: Report) -> list[dict[str, Any]]:
    """Draw the sections; one without data, or with too few, says so."""
    few = f"Too few to draw: {RULE}."
    parts = (
        (
            "next",
            "Next item",
            figures.next_item(report),
            few if report.examples["targets"] else "Nobody has a second event in the held-out part.",
        ),
        (
            "purchase",
            f"Purchase within {report.horizon}",
            figures.purchase(report),
            few if report.examples["positives"] else "No purchase is known in the held-out part.",
        ),
        ("training", "Training", figures.training(report), "The runs kept no epochs."),
        ("data", "Data", figures.data(report), ""),
    )
    names = ("id", "title", "figures", "none")
    return [
        dict(zip(names, (i, title, [*map(_figure, charts)], none), strict=True)) for i, title, charts, none in parts
    ]


def _figure(chart: Chart | Bars) -> dict[str, Any]:
    series = chart.series if isinstance(chart, Chart) else ()
    return {
        "title": chart.title,
        "caption": chart.caption,
        "svg": Markup(draw(chart)),
        "table": table(chart),
        "legend": [(Markup(key(s.look)), s.name) for s in series] if len(series) > 1 else [],
    }


def _cards(report: Report) -> list[dict[str, str]]:
    """Choose the large figures on top."""
    found = []
    for metric in (f"hr@{report.k}", f"mrr@{report.k}", "pr_auc", "ece"):
        if value := report.first.figures.get(metric):
            rival = best(report, metric) if metric != "ece" else None
            against = f"{rival[0]}: {said(metric, rival[1].figures[metric].value)}" if rival else "0 is perfect"
            found.append({"name": title(metric), "against": against} | _cell(metric, value))
    return found


def _metrics(report: Report) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Make the table of metrics, a column each: its name, a hint, a cell a compared model."""
    columns = []
    for name in report.metrics:
        found = [m.figures.get(name) for m in report.contenders.values()]
        top = (min if name in _LESS else max)((one.value for one in found if one), default=None)
        none = "–" if name in report.first.figures else TOO_FEW
        cells = [_cell(name, one, none) | {"best": one is not None and one.value == top} for one in found]
        columns.append((title(name), "less is better" if name in _LESS else "", cells))
    return columns


def _horizons(report: Report) -> list[tuple[str, str, list[str]]]:
    """Make the table of the first compared model's horizons: name, what is known of it, its main figures."""
    return [
        (
            name,
            f"{found['positives']:,} of {found['labelled']:,} labels",
            [TOO_FEW if found[metric] is None else said(metric, found[metric]) for metric in _MAIN],
        )
        for name, found in report.first.horizons.items()
    ]


def _cell(metric: str, found: Interval | None, none: str = TOO_FEW) -> dict[str, Any]:
    if found is None:
        return {"value": none, "interval": ""}
    return {
        "value": said(metric, found.value),
        "interval": f"{said(metric, found.low)} to {said(metric, found.high)}",
    }


def _facts(facts: Audit) -> list[tuple[str, str]]:
    """Tell the log's facts in words."""
    empty, (begin, end) = int((facts.buckets == 0).sum()), facts.pause
    found = [
        ("events, of which held out", f"{facts.events:,}, {facts.events - facts.before:,}"),
        ("shoppers", f"{facts.users:,}"),
        ("items", f"{facts.items:,}"),
        ("categories", f"{facts.categories:,}" if facts.categories else "none"),
        ("new items", f"{percent(facts.new_items)} of the held-out events"),
        ("new shoppers", f"{percent(facts.new_users)} of those held out"),
        ("rejected rows", f"{sum(n for _, n in facts.rejected):,}"),
    ]
    if not facts.timed:
        return [*found, ("time", "none: a log of sessions has an order only, in which gaps and duplicates do not show")]
    return [
        *found,
        ("first event", _minute(facts.first)),
        ("last event", _minute(facts.last)),
        ("longest time without any", f"{number((end - begin) / 60_000)} minutes, from {_minute(begin)}"),
        ("spans without any event", f"{empty:,} of {len(facts.buckets):,}, {facts.span // 3_600_000} h each"),
        ("duplicates", f"{facts.duplicates:,} events repeat another: shopper, item, type and time"),
    ]


def _minute(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _configuration(run: Run) -> list[tuple[str, str]]:
    facts = {**msgspec.to_builtins(run.config), **msgspec.to_builtins(run.meaning)}
    facts |= {f"data: {name}": value for name, value in run.data.items() if value}
    facts |= {name: f"{number(facts[name] / 60_000)} minutes" for name in _SPANS}
    return [(name, _written(value)) for name, value in facts.items()]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
