"""The page: whole, escaped, and closed to the network."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from models.data.log import gather
from models.report.charts import percent
from models.report.data_audit import audit
from models.report.html import render
from stream.formats.registry import BadRow, read

MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
NASTY = "<script>parent.broken=1</script><img src=x onerror=alert(1)>"


def hostile(report):
    """Put markup wherever a log or a folder can bring text along."""
    facts = replace(report.audit, types={NASTY: 3}, rejected=[(BadRow(1, NASTY, NASTY), 7)], drift={NASTY: 0.3})
    contenders = {NASTY: report.contenders["tiny"], f"{NASTY}2": report.contenders["popularity"]}
    return replace(report, audit=facts, contenders=contenders, runs={NASTY: report.runs["tiny"]})


def test_the_page_has_all_sections_and_each_picture_its_caption(report):
    page = render(report, "shop.jsonl", MADE)
    assert "<title>Forecart report: tiny on shop.jsonl</title>" in page
    assert re.findall(r'<section id="(\w+)">', page) == [
        *("summary", "next", "purchase", "training", "data", "configuration")
    ]
    assert page.count("<figure>") == page.count("<figcaption>") == len(re.findall('<svg viewBox="0 0 400', page))
    assert page.count("<figure>") >= 13
    for figure in re.findall("<figure>(.*?)</figure>", page, re.DOTALL):
        assert re.search('<svg [^>]*role="img" aria-label="[^"]{20,}"', figure)
        ElementTree.fromstring(re.search('<svg viewBox="0 0 400.*?</svg>', figure, re.DOTALL)[0])
    assert "2026-01-02 03:04 UTC" in page
    assert "dimension" in page


def test_contenders_are_rows_and_every_horizon_has_its_figures(report):
    page = render(report, "shop.jsonl", MADE)
    table = re.search('<table class="metrics">(.*?)</table>', page, re.DOTALL)[1]
    head, *rows = re.findall("<tr>(.*?)</tr>", table, re.DOTALL)
    assert len(rows) == len(report.contenders) and "PR-AUC" in head
    for row, measured in zip(rows, report.contenders.values(), strict=True):
        assert f"<b>{percent(measured.figures['hr@20'].value)}</b>" in row
    assert "Purchase within 1h" in page
    said = re.search("<h3>Purchases by horizon</h3>(.*?)</table>", page, re.DOTALL)[1]
    assert percent(report.first.horizons["session"]["pr_auc"]) in said
    assert report.first.horizons["1h"]["pr_auc"] == pytest.approx(report.first.figures["pr_auc"].value)


def test_a_configuration_has_units_and_no_endless_digits(report):
    run = msgspec.structs.replace(report.runs["tiny"], data={"judge": {"gain": 0.4570127214704241}})
    page = render(replace(report, runs={"tiny": run}), "shop.jsonl", MADE)
    assert "gain 0.457<" in page
    assert "<dt>gap</dt><dd>30 minutes</dd>" in page


def test_nothing_in_the_page_asks_for_anything(report):
    page = render(report, "shop.jsonl", MADE)
    assert not re.search(r"<(script|img|link|iframe|object|embed|form|base|video|audio)\b", page)
    assert not re.search(r"""\b(src|srcset|action|style|on\w+)=|@import|url\(|https?://""", page)
    assert set(re.findall(r'href="([^"]*)"', page)) == {
        f"#{name}" for name in re.findall(r'<section id="(\w+)">', page)
    }
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_text_of_data_is_escaped(report):
    page = render(hostile(report), NASTY, MADE)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 10


def test_a_log_of_sessions_says_what_it_lacks(report):
    """No times, no purchases: those sections say so, the others stand."""
    log = gather(read(io.BytesIO(b"1 2 3\n2 3\n1 4 4 2\n5 6\n" * 20), "sessions"), timed=False)
    measured = {
        name: replace(
            m, figures={"hr@20": m.figures["hr@20"]}, curves={n: c for n, c in m.curves.items() if n != "precision"}
        )
        for name, m in report.contenders.items()
    }
    examples = report.examples | {"positives": 0, "labelled": 0}
    facts = audit(log, 60, report.runs["tiny"].meaning)
    page = render(replace(report, contenders=measured, audit=facts, examples=examples), "sessions.txt", MADE)
    assert "No purchase is known in the held-out part" in page
    assert "Events over time" not in page and "1970" not in page
    assert "a log of sessions has an order only" in page
    assert "Hit rate by rank" in page


def test_a_page_without_targets_stands_too(report):
    measured = {name: replace(m, figures={}, curves={}) for name, m in report.contenders.items()}
    slices = {name: replace(cut, part=np.zeros(0, np.int64)) for name, cut in report.slices.items()}
    examples = dict.fromkeys(report.examples, 0)
    page = render(replace(report, contenders=measured, slices=slices, examples=examples), "x", MADE)
    assert "Nobody has a second event" in page


@pytest.mark.parametrize("sheet", ["light", "dark"])
def test_text_stands_out_from_its_ground(sheet):
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text; 1.4.11: 3 to 1 for what a picture is made of."""
    from models.report import html as page

    style = (page._HERE / "report.css").read_text()
    blocks = re.findall(r":root\{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+):(#\w+)", blocks[sheet == "dark"]))

    def light(name):
        text = colours[name].lstrip("#")
        text = "".join(c * 2 for c in text) if len(text) == 3 else text
        parts = np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(a, b):
        low, high = sorted([light(a), light(b)])
        return (high + 0.05) / (low + 0.05)

    for ground in ("ground", "panel"):
        assert min(contrast(name, ground) for name in ("ink", "soft", "link", "good", "watch", "poor")) >= 4.5
        assert min(contrast(f"c{look}", ground) for look in range(8)) >= 3
