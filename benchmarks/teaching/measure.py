"""Fine-tune on what every method has, measure each by every score, and take differences over the same drawn classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.draws import draw, span
from benchmarks.heads import score_functions
from benchmarks.teaching.methods import ID_ONLY, Seen, Trainee
from synood_ray.config.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("auroc", "fpr95_id_positive", "fpr95_ood_positive")
DRAWS = 300

Key = tuple[str, str, str]
"""(split, method, score)"""


@dataclass(frozen=True)
class Tests:
    """Features and labels of a split's ID, near (half B) and far images."""

    known: Tensor
    known_labels: np.ndarray
    near: Tensor
    near_labels: np.ndarray
    far: Tensor


@dataclass
class Figures:
    """Means over heads and seeds. near: metric -> draws [1 + DRAWS], the first of all classes once; far: metric ->
    value; artefacts: share of regenerated held-out ID images below the threshold that keeps 95 % of the real ones."""

    near: dict[str, np.ndarray]
    far: dict[str, float]
    artefacts: float
    accuracy: float

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            {name: values + other.near[name] for name, values in self.near.items()},
            {name: value + other.far[name] for name, value in self.far.items()},
            self.artefacts + other.artefacts,
            self.accuracy + other.accuracy,
        )

    def over(self, count: int) -> Figures:
        return Figures(
            {name: values / count for name, values in self.near.items()},
            {name: value / count for name, value in self.far.items()},
            self.artefacts / count,
            self.accuracy / count,
        )


def measure(
    seen: Seen, trainees: Mapping[str, Trainee], tests: Mapping[str, Tests], settings: Settings, seed: int
) -> dict[Key, Figures]:
    """One head and one training seed: every method fine-tuned, on every split, by every score."""
    import torch

    from synood_ray.training.finetune import fine_tune

    found: dict[Key, Figures] = {}
    options = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}
    own = (seen.sources, seen.labels, seen.held_out)
    for method, trainee in trainees.items():
        tuned = fine_tune(trainee.data, trainee.settings, seed)
        scores = score_functions(tuned.projector, seen.id_text, tuned.negative_text, own, options)
        for split, test in tests.items():
            with torch.inference_mode():
                predicted = (tuned.projector(test.known) @ seen.id_text.T).argmax(dim=-1).numpy()
            accuracy = float((predicted == test.known_labels).mean())
            for name, score in scores.items():
                found[split, method, name] = _figures(score, test, seen, accuracy)
    return found


def _figures(score: Callable[[Tensor], Tensor], test: Tests, seen: Seen, accuracy: float) -> Figures:
    from synood_ray.detection.metrics import ood_metrics, threshold_at

    known, near, far, held_out, made = (
        score(x).double().numpy() for x in (test.known, test.near, test.far, seen.held_out, seen.regenerated)
    )
    further = ood_metrics(known, far)
    return Figures(
        draw(known, test.known_labels, near, test.near_labels, METRICS, DRAWS),
        {metric: further[metric] for metric in METRICS},
        float((made < threshold_at(held_out)).mean()),
        accuracy,
    )


def gain(figures: Mapping[Key, Figures], key: Key, over: str = ID_ONLY) -> dict[str, dict[str, float]]:
    """What a method has more than another one: metric -> value, low, high (95 %, the same classes drawn for both)."""
    split, _, score = key
    other = figures[split, over, score].near
    return {metric: span(values - other[metric]) for metric, values in figures[key].near.items()}


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures themselves, without draws."""
    return {
        "near": {metric: float(values[0]) for metric, values in figures.near.items()},
        "far": figures.far,
        "accuracy": figures.accuracy,
        "artefacts": figures.artefacts,
    }
