"""Logs prepared on disk: the very events of the plain log, whatever the number of partitions."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from models.data.log import Log, gather, load
from models.data.prepared import Prepared, is_prepared, prepare
from models.data.synthetic import simulate
from stream.core.errors import DataError
from stream.core.events import Event
from tests.fakes import NOON

COLUMNS = ("user", "item", "category", "type", "time")


def shuffled() -> list[Event]:
    """Let 200 shoppers shop, mix up the order of what they do, and price two thirds of it."""
    events = list(simulate(200, 2, 0, NOON, items=60, categories=6).events())
    mixed = [events[n] for n in np.random.default_rng(0).permutation(len(events))]
    return [msgspec.structs.replace(e, price=n / 8) if n % 3 else e for n, e in enumerate(mixed)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 200 shoppers' events, and three rows that are none."""
    path = tmp_path_factory.mktemp("data") / "shop.jsonl"
    rows = [msgspec.json.encode(event) for event in shuffled()]
    path.write_bytes(b"\n".join([*rows[:50], b"{", rows[50].replace(b'"item-', b'"\xff'), b"{}", *rows[50:]]))
    return path


def opened(data: Path, out: Path, each: int, form: str = "events") -> Prepared:
    prepare(data, form, out, each)
    return Prepared.open(out)


def test_one_partition_is_the_plain_log(data: Path, tmp_path: Path):
    plain, found = load(data, "events"), opened(data, tmp_path, 10**6)
    log = found.log(0)
    assert found.facts.partitions == 1
    assert found.facts.bad == dict(plain.bad.count) == {"not_json": 1, "not_utf8": 1, "missing_field": 1}
    assert (log.items, log.categories, log.types) == (plain.items, plain.categories, plain.types)
    assert len(log.users) == len(plain.users)
    assert np.array_equal(log.prices, plain.prices, equal_nan=True) and np.array_equal(log.priced, plain.priced)
    for name in COLUMNS:
        assert np.array_equal(getattr(log, name), getattr(plain, name)), name


def _shoppers(log: Log) -> list[list[tuple[int, ...]]]:
    rows = np.stack([getattr(log, name) for name in COLUMNS[1:]], 1)
    return [[tuple(row) for row in part.tolist()] for part in np.split(rows, np.flatnonzero(log.starts)[1:])]


def test_partitions_hold_whole_shoppers(data: Path, tmp_path: Path):
    plain, found = load(data, "events"), opened(data, tmp_path, 300)
    assert found.facts.partitions > 3
    logs = [found.log(partition) for partition in range(found.facts.partitions)]
    assert sorted(shopper for log in logs for shopper in _shoppers(log)) == sorted(_shoppers(plain))


def test_a_folder_of_parquet_is_read_as_it_is(tmp_path: Path):
    plain = gather(shuffled(), timed=True)
    names = ("event_id", "user_id", "type", "item_id", "timestamp", "category_id", "price")
    events = [{n: getattr(e, n) for n in names} for e in shuffled()]
    frame = pl.DataFrame(events)
    for n in range(3):
        (tmp_path / f"in/day={n}").mkdir(parents=True)
        frame[n * 400 : (n + 1) * 400 if n < 2 else None].write_parquet(tmp_path / f"in/day={n}/part.parquet")
    log = opened(tmp_path / "in", tmp_path / "out", 10**6, "parquet").log(0)
    assert np.array_equal(log.prices, plain.prices, equal_nan=True) and np.array_equal(log.priced, plain.priced)
    for name in COLUMNS:
        assert np.array_equal(getattr(log, name), getattr(plain, name)), name


def test_rows_that_are_no_events_are_counted_by_reason(tmp_path: Path):
    rows = [
        (b"u", "view", "i", NOON),
        (b"\xff", "view", "i", NOON),
        (None, "view", "i", NOON),
        (b"", "view", "i", NOON),
        (b"u", "view", "i" * 257, NOON),
        (b"u", "view", "i", 0),
        (b"u", "view", "i", None),
        (b"w", "wish", "j", NOON),
    ]
    pl.DataFrame(rows, ("user_id", "type", "item_id", "timestamp"), orient="row").write_parquet(tmp_path / "x.parquet")
    facts, bad = prepare(tmp_path / "x.parquet", "parquet", tmp_path / "out", 100)
    assert facts.events == 2
    assert facts.bad == {"not_utf8": 1, "missing_field": 3, "wrong_type": 2}
    assert bad.first["not_utf8"].line == 2
    assert Prepared.open(tmp_path / "out").types == ["view", "addtocart", "transaction", "wish"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"user_id": ["u"], "type": ["view"]}, "no column item_id, timestamp"), ({}, "no column user_id")],
)
def test_what_is_no_log_is_refused(tmp_path: Path, columns: dict[str, list[str]], message: str):
    pl.DataFrame(columns).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "x.parquet", "parquet", tmp_path / "out", 100)
    assert not is_prepared(tmp_path / "out")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / "none.jsonl", "events", tmp_path / "out", 100)
    with pytest.raises(DataError, match="holds no prepared log"):
        Prepared.open(tmp_path / "out")


def test_a_first_price_of_nan_is_none_for_both_readers(tmp_path: Path):
    head = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    rows = "".join(
        f"2019-10-01 00:0{n}:00 UTC,view,{item},5,,,{price},1,a\n"
        for n, (item, price) in enumerate([("11", "nan"), ("11", "9.99"), ("12", "inf"), ("12", ""), ("13", "-1")])
    )
    (tmp_path / "log.csv").write_text(head + rows)
    plain, found = load(tmp_path / "log.csv", "rees46"), opened(tmp_path / "log.csv", tmp_path / "out", 10, "rees46")
    assert plain.prices.tolist() == pytest.approx([9.99, np.nan, -1.0], nan_ok=True)
    assert np.array_equal(plain.prices, found.prices, equal_nan=True)
    assert np.array_equal(plain.priced, found.priced)


def test_a_log_without_events_says_what_was_left_out(tmp_path: Path):
    events = {"user_id": ["u"], "type": ["view"], "item_id": ["i"], "timestamp": [NOON * 10**6]}
    pl.DataFrame(events).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no events\n  1 row left out: wrong_type.*nanoseconds"):
        prepare(tmp_path / "x.parquet", "parquet", tmp_path / "out", 100)
    assert opened(tmp_path / "x.parquet", tmp_path / "out", 100, "parquet:ns").facts.begin == NOON
