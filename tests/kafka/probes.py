"""What a worker's port says: probes and series."""

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an answer; status 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def values(port: int, series: str, **labels: str) -> list[float]:
    """Return a series' values of all other labels; none while the worker does not answer."""
    families = text_string_to_metric_families(ask(port, "/metrics")[1])
    found = [sample for family in families for sample in family.samples if sample.name == series]
    return [sample.value for sample in found if labels.items() <= sample.labels.items()]
