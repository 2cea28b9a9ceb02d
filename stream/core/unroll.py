"""Along a run: events of one user in order, its state handed from each to the next as it is stored."""

from collections.abc import Callable

import numpy as np

from stream.core.features import Arrays

_Step = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]  # `stream.core.scoring.Step`


def along(
    given: Arrays, state: Arrays, layout: np.dtype[np.void], step: _Step, whole: _Step | None
) -> tuple[Arrays, Arrays]:
    """Return what is said of each event (n, ...) and the states after each, as stored; nothing where the first fails.

    `whole` steps along all events at once. Where there is none, or it raises, they go by single steps, up to the
    one that raises.
    """
    if whole:
        try:
            return whole(given, state)
        except Exception:
            pass  # single steps find the event that is to blame
    said: list[Arrays] = []
    states: list[Arrays] = []
    for place in range(len(given["item"])):
        try:
            outputs, found = step({name: value[place : place + 1] for name, value in given.items()}, state)
        except Exception:
            break
        with np.errstate(over="ignore"):
            state = {name: value.astype(layout[name].base, copy=False) for name, value in found.items()}
        said.append(outputs)
        states.append(state)
    return _joined(said), _joined(states)


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
