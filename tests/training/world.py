"""A small world of features in which fine-tuning has something to learn, and something to lose."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from synood_ray.scores.neglabel import neglabel_score
from synood_ray.training.finetune import FineTuned
from synood_ray.training.outliers import far_outliers
from synood_ray.training.recipes import TrainingData

WIDTH, CLASSES, NEGATIVES = 24, 6, 12
OFFSET = 1.5
"""Near-OOD images differ from ID ones along one direction that no text knows, by this much."""


@dataclass(frozen=True)
class FeatureWorld:
    """Training data, and fresh images of three kinds to test on."""

    data: TrainingData
    id_test: Tensor
    id_test_labels: Tensor
    near_test: Tensor
    far_test: Tensor

    def auroc(self, tuned: FineTuned | None, ood: Tensor) -> float:
        """P(ID score > OOD score) of the NegLabel score, before (None) or after fine-tuning."""
        id_scores, ood_scores = self._score(tuned, self.id_test), self._score(tuned, ood)
        return float((id_scores[:, None] > ood_scores[None, :]).float().mean())

    def accuracy(self, tuned: FineTuned | None) -> float:
        unit = F.normalize(self.id_test, dim=1) if tuned is None else tuned.projector(self.id_test)
        return float(((unit @ self.data.id_text.T).argmax(1) == self.id_test_labels).float().mean())

    def _score(self, tuned: FineTuned | None, features: Tensor) -> Tensor:
        unit = F.normalize(features, dim=1) if tuned is None else tuned.projector(features)
        negative_text = self.data.negative_text if tuned is None else tuned.negative_text
        return neglabel_score(20 * unit @ self.data.id_text.T, 20 * unit @ negative_text.T, groups=3)


def make_world(seed: int = 0, per_class: int = 20) -> FeatureWorld:
    g = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(CLASSES + NEGATIVES, WIDTH - 1, generator=g), dim=1)
    text = F.pad(text, (0, 1))  # the last direction is the one that no text knows
    id_text, negative_text = text[:CLASSES], text[CLASSES:]

    def images(around: Tensor, offset: float) -> Tensor:
        x = around + 0.25 * torch.randn(len(around), WIDTH, generator=g)
        x[:, -1] += offset
        return 4 * x

    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    id_features = images(id_text[labels], 0.0)
    ood = images(id_text[labels], OFFSET)
    data = TrainingData(
        id_features=id_features,
        id_labels=labels,
        id_text=id_text,
        negative_text=negative_text,
        negative_norms=0.5 + torch.rand(NEGATIVES, generator=torch.Generator().manual_seed(1)),
        ood_features=ood,
        ood_negatives=(ood @ negative_text.T).argmax(1),
        companion_features=images(id_text[labels], 0.0),
        companion_sources=torch.arange(len(labels)),
        far_features=far_outliers(id_features, labels, id_text, negative_text),
    )
    far = images(negative_text[torch.randint(NEGATIVES, (100,), generator=g)], 0.0)
    return FeatureWorld(data, images(id_text[labels], 0.0), labels, images(id_text[labels], OFFSET), far)
