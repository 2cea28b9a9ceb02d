"""The page in Chromium: it renders, complains of nothing, and no request leaves it."""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.report.html import render
from tests.models.report.test_html import MADE, NASTY, hostile

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
]
FRAME = """<!doctype html><link rel="icon" href="data:,"><iframe id="page" src="/report.html"
width="%d" height="900"></iframe><pre id="seen"></pre><script>
onload = () => {
  const page = document.getElementById("page").contentDocument;
  const boxes = [...page.querySelectorAll("figure > svg")].map(svg => svg.getBoundingClientRect());
  document.getElementById("seen").textContent = JSON.stringify({
    title: page.title, figures: page.querySelectorAll("figure").length, scripts: page.scripts.length,
    sizes: boxes.map(box => [box.width, box.height]), wide: page.documentElement.scrollWidth,
    ground: getComputedStyle(page.body).backgroundColor, broken: window.broken ?? null,
  });
};
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """Find the browser; skip, by name, where there is none, except in CI."""
    if found := shutil.which("chromium"):
        return found
    if os.environ.get("CI"):
        pytest.fail("chromium is missing")
    pytest.skip("there is no chromium")


def _opened(chromium: str, page: str, folder: Path, width: int = 1200, *more: str) -> tuple[dict, list[str], list[str]]:
    """Open a page in a frame, by a proxy that answers for all hosts, so that nothing leaves this machine.

    Returns what the frame saw, the console's lines, and what the page asked for besides itself.
    """
    files = {"http://report.test/": FRAME % width, "http://report.test/report.html": page}

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def do_CONNECT(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    log = folder / "net.json"
    folder.mkdir(exist_ok=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        through = [f"--proxy-server=127.0.0.1:{proxy.server_port}", "--proxy-bypass-list=<-loopback>"]
        places = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
        command = [chromium, *FLAGS, *through, *places, *more, "--dump-dom", "http://report.test/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        proxy.shutdown()
    seen = re.search('<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(seen[1])), console, sorted(_asked(log) - set(files))


def _asked(log: Path) -> set[str]:
    """Read the addresses that pages asked for; the browser's own requests, for its updates, have no origin."""
    given = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = {p["url"] for p in given if p.get("initiator", "not an origin") != "not an origin" and "url" in p}
    assert "http://report.test/report.html" in asked
    return asked


@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_renders_and_asks_for_nothing(chromium, report, tmp_path, width):
    page = render(report, "shop.jsonl", MADE)
    seen, console, asked = _opened(chromium, page, tmp_path, width)
    assert seen["title"] == "Forecart report: tiny on shop.jsonl"
    assert seen["figures"] == len(seen["sizes"]) == page.count("<figure>") >= 13
    assert all(w > 250 and h > 30 for w, h in seen["sizes"])
    assert seen["wide"] <= width
    assert console == []
    assert asked == []


def test_text_of_data_runs_nothing(chromium, report, tmp_path):
    seen, console, asked = _opened(chromium, render(hostile(report), NASTY, MADE), tmp_path)
    assert seen["broken"] is None
    assert seen["scripts"] == 0
    assert seen["title"].endswith(NASTY)
    assert (console, asked) == ([], [])


def test_it_follows_the_readers_light(chromium, report, tmp_path):
    page = render(report, "shop.jsonl", MADE)
    grounds = {
        _opened(chromium, page, tmp_path / name, 1200, *flags)[0]["ground"]
        for name, flags in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",)))
    }
    assert len(grounds) == 2


def test_the_watch_would_see_a_picture_from_elsewhere(chromium, report, tmp_path):
    """With the policy it is refused and complained of; without it the request arrives here."""
    page = render(report, "shop.jsonl", MADE).replace("<main>", '<main><img src="http://elsewhere.test/x.png">')
    _, console, asked = _opened(chromium, page, tmp_path / "kept")
    assert asked == []
    assert any("Content Security Policy" in line for line in console)
    _, _, asked = _opened(chromium, page.replace("Content-Security-Policy", "none"), tmp_path / "lost")
    assert asked == ["http://elsewhere.test/x.png"]
