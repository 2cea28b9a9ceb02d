"""A real Prometheus with the chart's rules: which alert fired when, and when it was over."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import yaml

from stream.kafka.embedded_broker import free_port

ROOT = Path(__file__).parents[2]
SCRAPE = 5  # seconds; the chart's default is 15


class Release:
    """A release of one worker: its namespace, its group, and the port of its metrics."""

    def __init__(self, namespace: str, group: str) -> None:
        self.namespace, self.group, self.port = namespace, group, free_port()

    def rules(self, folder: Path, **values: object) -> Path:
        """Render the rules as the chart does for this release."""
        given = folder / f"{self.namespace}.json"
        most: dict[str, object] = {"bootstrapServers": "kafka:9092", "bundle": {"volume": {"emptyDir": {}}}}
        most |= {"prometheusRule": {"enabled": True, **values}, "settings": {"group": self.group}}
        given.write_text(json.dumps(most))
        command = ["helm", "template", "shop", ROOT / "deploy/chart", "--namespace", self.namespace, "--values", given]
        command += ["--kube-version", "1.31.0", "--show-only", "templates/prometheusrule.yaml"]
        made = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        rules = folder / f"{self.namespace}.rules.yaml"
        rules.write_text(yaml.safe_dump(yaml.safe_load(made.stdout)["spec"]))
        return rules

    @property
    def target(self) -> dict[str, Any]:
        """Return what is scraped, with the labels that a PodMonitor gives."""
        return {
            "targets": [f"127.0.0.1:{self.port}"],
            "labels": {"namespace": self.namespace, "pod": f"{self.namespace}-0", "job": f"{self.namespace}/shop"},
        }


class Prometheus:
    """Scrape releases and evaluate their rules, until it is left."""

    def __init__(self, folder: Path, releases: Iterable[Release], **values: object) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s"},
            "rule_files": [str(release.rules(folder, **values)) for release in releases],
            "scrape_configs": [{"job_name": "forecart", "static_configs": [one.target for one in releases]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}"]
        command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        self._log = (folder / "prometheus.out").open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire now, each with its namespace; fail where one fires twice for one worker."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/alerts", timeout=10) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        found = [one["labels"] for one in alerts if one["state"] == "firing"]
        assert len({tuple(sorted(labels.items())) for labels in found}) == len(found), found
        return {(labels["alertname"], labels.get("namespace", "")) for labels in found}


class Watch:
    """What fired and when it was over, in seconds since the watch began."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus, self.began = prometheus, time.monotonic()
        self.seen: list[tuple[float, str, str, bool]] = []  # when, the alert, its namespace, whether it began
        self._firing: set[tuple[str, str]] = set()

    @property
    def now(self) -> float:
        """Return the seconds of now."""
        return time.monotonic() - self.began

    def look(self) -> set[tuple[str, str]]:
        """Look once; return what fires."""
        firing = self.prometheus.firing()
        for alert, namespace in sorted(firing ^ self._firing):
            self.seen.append((self.now, alert, namespace, (alert, namespace) in firing))
            print(f"{self.now:6.0f} s  {alert} {namespace} {'fires' if self.seen[-1][3] else 'is over'}", flush=True)
        self._firing = firing
        return firing

    def rest(self, seconds: float) -> None:
        """Look for so long."""
        until = self.now + seconds
        while self.now < until:
            self.look()
            time.sleep(1)

    def until(self, alert: str, namespace: str, fires: bool, seconds: float) -> float:
        """Return for how long it took until an alert fires, or is over; fail where it takes longer."""
        began = self.now
        while ((alert, namespace) in self.look()) != fires:
            assert self.now - began < seconds, f"{alert} of {namespace}: not {fires} within {seconds} s"
            time.sleep(1)
        return self.now - began
