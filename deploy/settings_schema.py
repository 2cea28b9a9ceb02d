"""Write the worker's settings, with types and bounds, into the chart's schema: python deploy/settings_schema.py."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from stream.settings import Settings

SCHEMA = Path(__file__).parent / "chart" / "values.schema.json"
# What has a value of its own in the chart, and what a pod has no use for.
GIVEN = {
    "bootstrap_servers",
    "kafka_properties",
    "bundle",
    "name",
    "release",
    "metrics_host",
    "metrics_port",
    "leave_on_scale_down",
}
USELESS = {"state_dir", "failpoint"}
_SAYS_NOTHING = {"title", "default", "description"}  # nothing of what is refused


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of `settings`; the names stand twice, so that a wrong one is answered with them."""
    fields = Settings.model_json_schema()["properties"]
    names = sorted(set(fields) - GIVEN - USELESS)
    return {
        "type": "object",
        "description": "All settings but those that have values of their own, or that a pod has no use for.",
        "propertyNames": {"enum": names},
        "properties": {name: {k: v for k, v in fields[name].items() if k not in _SAYS_NOTHING} for name in names},
    }


def written(text: str) -> str:
    """Return the chart's schema with the settings of now; a setting is a line."""
    lines = []
    for key, value in settings_schema().items():
        if key == "properties":
            inner = ",\n".join(f"          {json.dumps(name)}: {json.dumps(kind)}" for name, kind in value.items())
            lines.append(f'        "properties": {{\n{inner}\n        }}')
        else:
            lines.append(f"        {json.dumps(key)}: {json.dumps(value)}")
    block = '    "settings": {\n' + re.sub("(?m)^  ", "", ",\n".join(lines)) + "\n    },"
    return re.sub(r'(?ms)^    "settings": \{.*?^    \},$', lambda _: block, text, count=1)


def main() -> None:
    """Write the schema, or with --check tell whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the file is not up to date")
    now = SCHEMA.read_text()
    new = written(now)
    if not parser.parse_args().check:
        SCHEMA.write_text(new)
    elif new != now:
        raise SystemExit(f"{SCHEMA} is not up to date: run python deploy/settings_schema.py")


if __name__ == "__main__":
    main()
