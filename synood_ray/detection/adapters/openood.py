"""A detector for OpenOOD v1.5, whose package is installed from its repository (github.com/Jingkang50/OpenOOD)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openood.postprocessors import BasePostprocessor
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.detector import Detector


class SynoodPostprocessor(BasePostprocessor):
    """What OpenOOD's evaluator asks for: the class and the confidence of images, higher = more ID.

        Evaluator(SynoodNet(detector), "imagenet", preprocessor=transforms, postprocessor=SynoodPostprocessor(detector))

    The transforms must leave pixels in [0, 1], such as Resize(336), CenterCrop(336), ToTensor(), and
    Normalize([0] * 3, [1] * 3) at the end, where OpenOOD looks for a mean: the detector normalises by itself.
    """

    APS_mode = False  # nothing is searched for on validation sets
    hyperparam_search_done = True

    def __init__(self, detector: Detector) -> None:
        super().__init__(None)
        self.detector = detector

    def postprocess(self, net: Any, data: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] in [0, 1] -> labels [B] int64, scores [B]. The net is not asked: it is the detector's."""
        judged = self.detector(data)
        return judged.label.to(data.device), judged.score.to(data.device)


class SynoodNet(nn.Module):
    """The classifier beside it, for the ID accuracy: images [B, 3, H, W] in [0, 1] -> logits of the ID classes [B, C].

    OpenOOD cuts its images before; they are shrunk to the CLIP's input as the detector does.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        return self.detector.logits(images).to(images.device)
