"""What is measured on held-out ID images and never typed in: where the boundary lies on the score's axis, and how sure
the scorer is of a class that an image does show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.sampling.batches import full_size, in_full

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Scorer

KEEP = 0.95  # share of held-out ID images on the ID side of the boundary
RECOGNISED = 0.85
"""Share of held-out ID images in which the scorer is as sure of a class as a sample must make it to be said to show it.
"""


@dataclass(frozen=True, slots=True)
class Calibration:
    """tau: the score that keeps 95 % of the held-out ID images; sigma: the standard deviation of their scores.

    score, temperature, scorer, inpainter and classes (SHA-256 over the ordered names) say what it was measured
    with; images counts how many. Stored once a run as ``calibration.json``.
    sure: the probability, among all ID classes and negative labels, that `RECOGNISED` of these images give to some ID
    class, whichever: few names leave the nearest of them a large one, many names a small one. 0, of runs of before:
    whatever is nearest is shown.
    """

    tau: float
    sigma: float
    mean: float
    score: str
    temperature: float
    scorer: str
    inpainter: str
    classes: str
    images: int
    sure: float = 0.0

    def margin(self, score: float) -> float:
        """(S - tau) / sigma: distance from the boundary in ID standard deviations; positive = ID side."""
        return (score - self.tau) / self.sigma

    def score_at(self, margin: float) -> float:
        """The score that lies this far from the boundary: the reverse of `margin`."""
        return self.tau + margin * self.sigma

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Calibration:
        return cls(**json.loads(data))

    def check(self, settings: Settings, class_names: list[str]) -> None:
        """Refuse a calibration of other models, classes or score; the message names the field."""
        expected = _identity(settings, class_names)
        for name, value in expected.items():
            if getattr(self, name) != value:
                raise UserError(
                    f"calibration.json was measured with {name} {getattr(self, name)!r}, the run has {value!r}; "
                    "use another --output or the settings of the calibration"
                )


def calibrate(
    batches: Iterable[Tensor], inpainter: Inpainter, scorer: Scorer, settings: Settings, class_names: list[str]
) -> Calibration:
    """Measure tau, sigma and sure on batches of held-out ID images [B, 3, H, W] in [0, 1].

    The images go through the VAE first: its round trip alone moves the score (0.4 sigma in the miniature world),
    and every image that will be compared with tau has gone through it too. The networks run on batches of
    ``sampling.batch_size``, as they do on samples, however the images come.
    """
    import torch

    images = (image for batch in batches for image in batch)
    scores, surest = [], []
    for some, count in in_full(images, full_size(settings.sampling.batch_size)):
        judged = scorer.judge(inpainter.decode(inpainter.encode(torch.stack(some).contiguous())))
        scores.append(judged.scores[:count].cpu())
        surest.append(judged.logits[:count].softmax(dim=-1)[:, : len(class_names)].amax(dim=-1).cpu())
    values = torch.cat(scores).double() if scores else torch.empty(0)
    if len(values) < 2:
        raise UserError("data.calibration has fewer than 2 usable images; add held-out ID images")
    if bad := int((~values.isfinite()).sum()):
        raise UserError(
            f"scorer.score {settings.scorer.score!r} is NaN or infinite for {bad} of {len(values)} held-out ID images: "
            "half precision overflows on some machines; set inpainter.dtype and scorer.dtype to float32"
        )
    sigma = float(values.std())
    if not sigma > 0:
        raise UserError(f"scorer.score {settings.scorer.score!r} is the same for all held-out ID images: no boundary")
    return Calibration(
        tau=float(torch.quantile(values, 1 - KEEP)),
        sigma=sigma,
        mean=float(values.mean()),
        images=len(values),
        sure=float(torch.quantile(torch.cat(surest).double(), 1 - RECOGNISED)),
        **_identity(settings, class_names),
    )


def _identity(settings: Settings, class_names: list[str]) -> dict:
    scorer = settings.scorer
    return {
        "score": scorer.score,
        "temperature": scorer.temperature,
        "scorer": scorer.name,
        "inpainter": settings.inpainter.model,
        "classes": hashlib.sha256("\0".join(class_names).encode()).hexdigest(),
    }
