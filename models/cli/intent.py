"""The command `intent`: who predicts purchases best, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from models.cli import options
from models.cli.options import DataOption, GapOption, HorizonOption, console
from models.enough import RULE, TOO_FEW, enough
from stream.cli.options import MappingOption, OptionalFormat, chosen
from stream.core.errors import DataError, SettingError
from stream.core.manifest import TaskSpec
from stream.formats.registry import Form, name_of

if TYPE_CHECKING:
    from models.data.log import Log
    from models.evaluation.bootstrap import Interval
    from models.evaluation.cross_validation import Pooled, Predict
    from models.training.config import TrainConfig


def intent(
    data: DataOption,
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    folds: Annotated[int, typer.Option(min=2, max=50, help="Groups of shoppers, each tested on by the others.")] = 5,
    tail: Annotated[float, typer.Option(min=0.01, max=0.9, help="The last part of the log, tested on.")] = 0.25,
    horizon: HorizonOption = None,
    gap: GapOption = None,
    preset: Annotated[str, typer.Option(help="How large an LSTM: small, base or large.")] = "small",
    seed: Annotated[int, typer.Option(help="Of the contenders and of the bootstrap.")] = 0,
    rounds: Annotated[int, typer.Option(min=10, help="Rounds of the bootstrap.")] = 1000,
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="The true probabilities of the horizons, in their order, by shoppers --truth."),
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Any dial of training: name=value.")] = None,
) -> None:
    """Compare the LSTM with LightGBM, logistic regression and the base rate; programs get a line of JSON.

    Users are dealt out over folds: each fold's are scored by models of the others' events before the tail.
    The LSTM's probabilities are calibrated on sequences that were kept from it.

    Example: forecart intent --format taobao --data events.csv.gz --folds 5 --tail 0.25 --horizon 24h
    """
    from models.data.log import cutoff
    from models.evaluation.cross_validation import check, crossfit, splits

    config = options.config(preset, setting, "dropout=0.3", seed=seed)
    meaning = options.meaning(horizon or ["24h"], gap)
    source = chosen(form, mapping)
    given, log = _fitting(truth or [], meaning), options.load(data, source)
    true = [_truth(path, data, source, log) for path in given]
    parts = list(splits(log, folds, cutoff(log, tail)))
    check(parts, meaning)
    with console.status("comparing") as status:
        pooled = crossfit(parts, meaning, _contenders(log, config, meaning), status.update)
        if true:
            pooled.p["truth"] = np.stack(true, 1)[pooled.rows]
        status.update("bootstrap")
        found = {name: compared(pooled, j, rounds, seed) for j, name in enumerate(meaning.horizons)}
    for name, result in found.items():
        console.print(_table(name, result))
    options.line({"format": name_of(source), "folds": folds, "tail": tail, "seed": seed, "horizons": found})


def _contenders(log: "Log", config: "TrainConfig", meaning: TaskSpec) -> "dict[str, Predict]":
    """Enter who is compared."""
    from models.baselines.tabular_models import TABULAR
    from models.evaluation.cross_validation import base_rate, recurrent, tabular

    return {
        "lstm": recurrent(config, meaning, lambda _: None),
        **{name: tabular(fit, log, meaning, config.seed) for name, fit in TABULAR.items()},
        "base rate": base_rate(meaning),
    }


def _fitting(truth: list[Path], meaning: TaskSpec) -> list[Path]:
    if len(truth) > len(meaning.horizons):
        raise SettingError("there are more --truth than horizons", "give one for each --horizon at most")
    return truth


def _truth(path: Path, data: Path, form: Form, log: "Log") -> NDArray[np.float64]:
    """Return the true probabilities in the order of the log; raise DataError where one is missing."""
    from stream.formats.registry import BadRow, strict
    from stream.mappings import read_log

    try:
        lines = (msgspec.json.decode(line) for line in path.read_bytes().splitlines())
        of = {line["event_id"]: float(line["probability"]) for line in lines}
        rows = [row for row in read_log(data, strict(form)) if not isinstance(row, BadRow)]
        p = np.array([of[row.event_id] for row in rows])
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} has no probability of each event: {error}", "write it by shoppers --truth") from error
    number = {name: n for n, name in enumerate(log.users)}
    user = np.fromiter((number[row.user_id] for row in rows), np.int64, len(rows))
    return p[np.lexsort((np.fromiter((row.timestamp for row in rows), np.int64, len(rows)), user))]


def compared(pooled: "Pooled", horizon: int, rounds: int, seed: int) -> dict[str, Any]:
    """Measure each compared model on the events whose label is known, and the LSTM against each of the others.

    There are no figures of too few purchases.
    """
    from models.evaluation.bootstrap import intervals, paired
    from models.evaluation.metrics import INTENT

    known = pooled.known[:, horizon]
    label, user = pooled.label[known, horizon], pooled.user[known]
    p = {name: values[known, horizon] for name, values in pooled.p.items() if values.shape[1] > horizon}
    facts = {"events": len(label), "positives": int(label.sum()), "users": len(np.unique(user))}
    if not enough(facts["positives"], facts["users"]):
        return facts | {"contenders": {name: dict.fromkeys(INTENT) for name in p}, "pr_auc_of_lstm_above": {}}
    figures = {
        name: {metric: intervals(metric, label, values, user, rounds, seed) for metric in INTENT}
        for name, values in p.items()
    }
    more = {
        name: paired("pr_auc", label, p["lstm"], values, user, rounds, seed)
        for name, values in p.items()
        if name != "lstm"
    }
    return facts | {"contenders": figures, "pr_auc_of_lstm_above": more}


def _table(horizon: str, result: dict[str, Any]) -> Table:
    title = f"{horizon}: {result['positives']:,} of {result['events']:,} events, {result['users']:,} shoppers"
    table = Table("", *result["contenders"], title=title)
    for metric in next(iter(result["contenders"].values())):
        cells = (_cell(figures[metric], "{:.4f}") for figures in result["contenders"].values())
        table.add_row(metric, *cells)
    if more := result["pr_auc_of_lstm_above"]:
        cells = (_cell(more[name], "{:+.1%}") if name in more else "" for name in result["contenders"])
        table.add_row("pr_auc of lstm above", *cells)
    else:
        table.caption = f"{TOO_FEW}: {RULE}"
    return table


def _cell(interval: "Interval | None", form: str) -> str:
    if interval is None:
        return TOO_FEW
    value, low, high = (form.format(number) for number in interval)
    return f"{value}\n{low} to {high}"
