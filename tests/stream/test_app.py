"""The worker as a process, as far as it comes without Kafka."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream.kafka.embedded_broker import free_port
from tests.kafka.probes import ask, values

BUNDLE = Path(__file__).parents[2] / "stream/demo/bundle"


_FAKE = """
import asyncio, sys, threading, time
from types import SimpleNamespace as Fake
from stream import app
from stream.core.errors import StuckError
from stream.kafka.exactly_once.producing import Producing

def call(name):
    time.sleep(600 if name == sys.argv[1] else 0)

async def stop():
    pass

app._EXPLAIN_SECONDS = app._ABORT_SECONDS = app._EXIT_SECONDS = 0.2
producing = Producing("w0", None, None)
producing._committer = Fake(abort=lambda: call("abort"))
engine = Fake(producing=producing, stop=stop, restorer=Fake(recovery=Fake(close=lambda: call("close"))))
fake = Fake(ending=threading.Lock(), explain=lambda error: call("explain") or error, engine=engine)
fake.reader = Fake(stop=lambda: call("reader"))
"""


def _end(line: str, hangs: str) -> subprocess.CompletedProcess[str]:
    """Run the way out of a worker, one of whose calls of librdkafka does not return."""
    return subprocess.run([sys.executable, "-c", _FAKE + line, hangs], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("hangs", ["abort", "explain"])
def test_a_call_that_does_not_return_keeps_no_worker_that_failed(hangs):
    ended = _end("app._end(fake, StuckError('nothing moved', 'a restart is safe'))", hangs)
    assert (ended.returncode, ended.stderr) == (77, "forecart: nothing moved\n  a restart is safe\n")


@pytest.mark.parametrize("hangs", ["close", "reader"])
def test_a_client_that_does_not_close_keeps_no_worker_that_stops(hangs):
    ended = _end("asyncio.run(app._stop(fake))", hangs)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def refused(tmp_path):
    """Start a worker whose bundle was changed after its export; return it and its port, once that answers."""
    bundle, port = tmp_path / "bundle", free_port()
    shutil.copytree(BUNDLE, bundle)
    (bundle / "top.onnx").write_bytes(b"no model")
    command = [sys.executable, "-m", "forecart", "worker", "--bundle", bundle, "--metrics-port", port, "--name", "w0"]
    worker = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ask(port, "/livez")[0]:
        assert time.monotonic() < deadline and worker.poll() is None
        time.sleep(0.1)
    yield worker, port
    worker.kill()
    worker.communicate()


def test_a_worker_that_refuses_its_bundle_can_be_scraped_before_it_ends(refused):
    worker, port = refused
    assert values(port, "forecart_model_loads_total", result="failure", group="forecart", worker="w0") == [1]
    assert values(port, "forecart_model_loads_total", result="success") == [0]
    assert values(port, "forecart_build_info", bundle="") == [1]
    assert ask(port, "/livez") == (200, "ok\n")
    status, why = ask(port, "/readyz")
    assert status == 503
    assert "top.onnx is not what was exported" in why
    time.sleep(1)
    assert worker.poll() is None
    worker.terminate()  # nobody has to wait for it
    told = worker.communicate(timeout=10)[1]
    assert worker.returncode == 78
    assert told.count("top.onnx is not what was exported") == 2  # at once, and in the last lines
    assert "Traceback" not in told
