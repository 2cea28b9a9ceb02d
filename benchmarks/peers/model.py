"""The bundle's step, an event at a time, as a user of Faust or of Quix Streams would call it from a handler.

python -m venv, pip install numpy onnxruntime: it knows nothing of Forecart but the files of a bundle.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

State = dict[str, np.ndarray[Any, Any]]


class Model:
    """A step and what it is fed with; the numeric inputs are 0, as in the bare loop."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        names = json.loads((folder / "vocabulary.json").read_text())["items"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "step.onnx"), options)
        self._types = {name: np.array([i]) for i, name in enumerate(manifest["meaning"]["types"])}
        self._items = {name: np.array([i]) for i, name in enumerate(names, 1)}
        self._none, self._numeric = np.zeros(1, np.int64), np.zeros((1, len(manifest["inputs"])), np.float32)
        self._horizons, self._name = manifest["meaning"]["horizons"], manifest["model"]
        self._whole, self._shapes = set(manifest["integers"]), manifest["hidden"]
        self._wanted = ["intent", *(f"{name}_next" for name in self._shapes)]

    def fresh(self) -> State:
        """Return a new shopper's state."""
        kinds = {name: np.int64 if name in self._whole else np.float32 for name in self._shapes}
        return {name: np.zeros((1, *shape), kinds[name]) for name, shape in self._shapes.items()}

    def step(self, item: str, kind: str, state: State) -> tuple[dict[str, float], State]:
        """Take one event; return the probability of a purchase by horizon, and the next state."""
        given = {"item": self._items.get(item, self._none), "category": self._none, "type": self._types[kind]}
        intent, *after = self._session.run(self._wanted, {**given, "numeric": self._numeric, **state})
        found = np.round(intent[0].astype(np.float64), 7).tolist()
        return dict(zip(self._horizons, found, strict=True)), dict(zip(self._shapes, after, strict=True))

    def pack(self, state: State) -> bytes:
        """Write a state as bytes."""
        return b"".join(state[name].tobytes() for name in self._shapes)

    def unpack(self, raw: bytes) -> State:
        """Read what `pack` wrote."""
        state, at = self.fresh(), 0
        for name, zeros in state.items():
            state[name] = np.frombuffer(raw, zeros.dtype, zeros.size, at).reshape(zeros.shape)
            at += zeros.nbytes
        return state

    def lists(self, state: State) -> dict[str, list[Any]]:
        """Write a state as JSON has it."""
        return {name: value.tolist() for name, value in state.items()}

    def arrays(self, lists: dict[str, list[Any]]) -> State:
        """Read what `lists` wrote."""
        return {name: np.array(lists[name], zeros.dtype) for name, zeros in self.fresh().items()}

    def score(self, event: dict[str, Any], partition: int, offset: int, intent: dict[str, float]) -> dict[str, Any]:
        """Make the record that is published."""
        return {
            "event_id": event["event_id"],
            "user_id": event["user_id"],
            "source": {"partition": partition, "offset": offset},
            "event_time": event["timestamp"],
            "scored_at": int(time.time() * 1000),
            "model": self._name,
            "intent": intent,
            "session": {"length": 1, "started": event["timestamp"]},
        }
