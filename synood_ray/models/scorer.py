"""The scorer: CLIP (or a plain classifier) that says how in-distribution an image is, and in which direction.

Everything is frozen and differentiable with respect to the image, so that dScore/dImage can be carried on through the
inpainter's decoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from synood_ray.config.models import ScorerSettings
from synood_ray.errors import UserError
from synood_ray.models.classifier import Classifier, ClipClassifier, TimmClassifier
from synood_ray.models.clip import ClipModel
from synood_ray.scores import SCORES, ScoreInput, State

if TYPE_CHECKING:
    from torch import Tensor

TIE = 1e-3
"""Logits (100 cos) nearer than this are equal: a matrix product rounds equal columns differently, but by less."""

Objective = Callable[["Tensor"], "Tensor"]
"""ID class logits [B, C] -> what is differentiated in the score's place, [B]."""


class Judged(NamedTuple):
    """What was found of B images in one pass: scores S(x) [B]; logits [B, C + M], which `verdicts_of` reads; features
    [B, D], of unit length, of the CLIP, and D = 0 of a classifier, which has none.
    """

    scores: Tensor
    logits: Tensor
    features: Tensor


class Scorer:
    """S(x), the OOD score (higher = more ID) of `synood_ray.scores`, and its gradient with respect to the image.

    negatives: L2-normalised negative-label features [M, D], for the scores that need them and for verdicts.
    state: what the score has learned from ID images, for those that do. clip: the settings' CLIP, if it is loaded.
    """

    def __init__(
        self,
        settings: ScorerSettings,
        class_names: list[str],
        negatives: Tensor | None = None,
        groups: int = 100,
        clip: ClipModel | None = None,
    ) -> None:
        self.settings = settings
        self.groups = groups
        self.class_names = class_names
        self.clip: ClipModel | None = None
        self.classifier: Classifier
        if not SCORES[settings.score].differentiable:
            raise UserError(f"scorer.score {settings.score!r} has no gradient, which sampling follows; choose another")
        if settings.is_classifier:
            if SCORES[settings.score].needs:
                raise UserError(f"scorer.score {settings.score!r} needs a CLIP, but scorer.model names a classifier")
            self.classifier = TimmClassifier(settings, class_names)
        else:
            self.clip = clip or ClipModel(settings)
            texts = self.clip.encode_classes(class_names, settings.templates)
            if alike := same_texts(texts):
                one, other = (class_names[place] for place in alike[0])
                warnings.warn(
                    f"scorer.model has the same text features for {len(alike)} pairs of classes, such as {one!r} and "
                    f"{other!r}: it cannot tell them apart (data.class_names; shorter names, if they are cut off)",
                    stacklevel=2,
                )
            self.classifier = ClipClassifier(self.clip, texts)
        self.negatives = negatives
        self.state: State = {}

    def look(self, images: Tensor) -> ScoreInput:
        """What the score is made of, for images [B, 3, H, W] in [0, 1]; differentiable."""
        seen = self.classifier.look(images, self.negatives)
        return replace(seen, temperature=self.settings.temperature, groups=self.groups, state=self.state)

    def score(self, images: Tensor) -> Tensor:
        """S(x) [B] float32 of images [B, 3, H, W] in [0, 1]."""
        return self.judge(images).scores

    def judge(self, images: Tensor) -> Judged:
        """What is found of images [B, 3, H, W] in [0, 1]."""
        import torch

        with torch.inference_mode():
            return self._judged(self.look(images))

    def _judged(self, seen: ScoreInput) -> Judged:
        features = seen.id_logits[:, :0] if seen.frozen is None else seen.frozen
        return Judged(SCORES[self.settings.score](seen), seen.logits, features)

    def score_and_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Tensor, Tensor]:
        """S(x) [B] and dS/dx [B, 3, H, W]: every image has its own, whatever the batch.

        objective: what is differentiated in the score's place.
        """
        judged, gradient = self.judge_with_gradient(images, objective)
        return judged.scores, gradient

    def judge_with_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Judged, Tensor]:
        """What `judge` finds, and the gradient, as `score_and_gradient` has it, in one pass."""
        import torch

        with torch.enable_grad():
            images = images.detach().clone().requires_grad_(True)
            seen = self.look(images)
            judged = self._judged(seen)
            value = judged.scores if objective is None else objective(seen.id_logits)
            (gradient,) = torch.autograd.grad(value.sum(), images)
        return Judged(*(found.detach() for found in judged)), gradient

    def encode_names(self, words: list[str]) -> Tensor:
        """Words as ID classes are encoded: L2-normalised text features [N, D] float32, on the CPU."""
        assert self.clip is not None, "a classifier without text has no names to encode"
        return self.clip.encode_classes(words, self.settings.templates).float().cpu()


def same_texts(features: Tensor) -> list[tuple[int, int]]:
    """Pairs of rows of unit features [C, D] that are the same but for rounding."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(features), 1024):
        near = features[start : start + 1024] @ features.T > 1 - 1e-6
        pairs += [(start + i, j) for i, j in near.nonzero().tolist() if start + i < j]
    return pairs


def verdicts_of(logits: Tensor, labels: Tensor, classes: int, sure: float = 0.0) -> tuple[Tensor, Tensor]:
    """What images show, by their logits [B, C + M] over C = classes ID classes and M negative labels.

    nearest: [B] int64, index of the negative label with the largest logit; -1 where there are no negative labels.
    shows: [B] bool, nothing among ID classes and negative labels is above one of the image's own classes (labels
    int64, [B] or, with -1 for none, [B, K]), and its probability among them all is at least ``sure``; classes whose
    texts coincide have equal logits, so an image of the one shows the other.
    """
    import torch

    negatives = logits[:, classes:]
    own = labels.to(logits.device).reshape(len(logits), -1)
    nearest = negatives.argmax(-1) if negatives.shape[1] else torch.full_like(own[:, 0], -1)
    found = logits.gather(1, own.clamp_min(0)).masked_fill(own < 0, -torch.inf).max(-1).values
    surely = (found - logits.logsumexp(-1)).exp() >= sure
    return nearest, (found >= logits.max(-1).values - TIE) & surely
