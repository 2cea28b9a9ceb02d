"""What a worker's port says: probes and series."""

import urllib.error
import urllib.request


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an answer; status 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def values(port: int, series: str) -> list[float]:
    """Return a series' values of all labels; none while the worker does not answer."""
    lines = ask(port, "/metrics")[1].splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == series]
