"""What the training scripts share: checkpoints without pickle, and the curve kept as small JSON."""

import json
from pathlib import Path
from typing import Any

from synood_ray.mini import ROOT


class Curve:
    """A training curve: a list of rows, the first key the seconds trained so far.

    It lies with the models that it is of, in ``curves/NAME.json``: in the package, or in the ``output`` of a trial,
    which leaves the shipped one's alone.
    """

    def __init__(self, name: str, output: Path = ROOT) -> None:
        shipped = output.resolve().is_relative_to(ROOT.resolve())
        self.path = (ROOT if shipped else output) / "curves" / f"{name}.json"
        self.rows: list[dict[str, float]] = []
        if self.path.exists():
            self.rows = json.loads(self.path.read_text(encoding="utf-8"))

    def seconds(self) -> float:
        """Training time of earlier runs, 0 at the start."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    def add(self, seconds: float, **values: float) -> None:
        row = {"seconds": round(seconds, 1)} | {k: round(v, 4) for k, v in values.items()}
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("[\n " + ",\n ".join(json.dumps(r) for r in self.rows) + "\n]\n", encoding="utf-8")
        print(json.dumps(row), flush=True)


def save_checkpoint(path: Path, step: int, model: Any, average: Any, optimiser: Any) -> None:
    """Weights, their moving average and Adam's moments in one safetensors file, replaced atomically."""
    from safetensors.torch import save_file

    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial, {"step": str(step)})
    partial.replace(path)


def load_checkpoint(path: Path, model: Any, average: Any, optimiser: Any) -> int:
    """Restore what ``save_checkpoint`` wrote and return its step; 0 when there is no checkpoint."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    parts: dict[str, dict[str, Any]] = {"model": {}, "average": {}, "optimiser": {}}
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        for key in file.keys():  # noqa: SIM118 - not a dict
            kind, name = key.split(".", 1)
            parts[kind][name] = file.get_tensor(key)
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    record = optimiser.state_dict()
    record["state"] = {}
    for key, tensor in parts["optimiser"].items():
        index, name = key.split(".", 1)
        record["state"].setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict(record)
    return step
