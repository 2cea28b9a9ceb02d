"""What a run can have learned of purchases: events by type, labels that its log knows, and purchases among them."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.data.log import KNOWN_TYPES
from models.data.sequences import Sequences
from models.enough import FEWEST, TOO_FEW
from stream.core.manifest import TaskSpec
from stream.formats.mapping import counted
from stream.formats.proposal import meaning_of


def taught(parts: Iterable[Sequences], meaning: TaskSpec) -> dict[str, Any]:
    """Count the events by type and, by horizon, the known labels and the positives among them."""
    labels, types = np.zeros((2, len(meaning.horizons)), np.int64), np.zeros(len(meaning.types), np.int64)
    for part in parts:
        labels += part.known.sum(0), (part.known & part.label).sum(0)
        types += np.bincount(part.type, minlength=len(types))
    found = zip(meaning.horizons, *labels.tolist(), strict=True)
    return {
        "types": dict(zip(meaning.types, types.tolist(), strict=True)),
        "labels": {name: {"known": k, "positives": p} for name, k, p in found},
    }


def unlearned(data: dict[str, Any]) -> dict[str, str]:
    """Return the horizons with too few purchases among their labels, and why a run's data do not teach each."""
    counts: dict[str, dict[str, int]] = data.get("labels", {})
    return {name: _why(**n) for name, n in counts.items() if n["positives"] < FEWEST}


def _why(known: int, positives: int) -> str:
    if not known:
        return "no event is followed by so much log"
    if not positives:
        return f"no purchase among {known:,} labels"
    return f"{positives} {'purchase' if positives == 1 else 'purchases'} among {known:,} labels: {TOO_FEW}"


def findings(data: dict[str, Any], purchase: str, names: dict[str, str] | None = None) -> list[str]:
    """Say what types were met, which of them have no meaning, and what is not learned; `purchase` is the type.

    `names` are the log's own for types, where it has others.
    """
    types: dict[str, int] = data["types"]
    met = {name: n for name, n in types.items() if n}
    shown = {f"{names[name]} ({name})" if names and name in names else name: n for name, n in met.items()}
    said = [f"types in the part trained on: {counted(shown)}"]
    if own := [name for name in met if name not in KNOWN_TYPES]:
        said.append(
            f"of their own, without a meaning: {', '.join(own)}; a mapping can make them views, carts, purchases"
        )
    if not types.get(purchase):
        likely = [repr(name) for name in met if meaning_of(name) == "purchase"]
        said.append(
            f"no event is a purchase, which is called {purchase}"
            + (f": is it {' or '.join(likely)}?" if likely else "")
        )
        said.append("name it in a mapping, as `purchase` under types: `forecart map --data FILE` writes one")
    for horizon, why in unlearned(data).items():
        said.append(f"purchases within {horizon}: nothing is learned ({why}), and no `intent` will be published")
    return said
