"""A detector for pytorch-ood: `pip install 'synood_ray[pytorch-ood]'`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_ood.api import FeaturesDetector

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.detector import Detector


class SynoodDetector(FeaturesDetector):
    """Outlier scores as pytorch-ood has them: minus our score, so higher = more OOD, in (-1, 0).

        from pytorch_ood.metrics import OODMetrics

        scored, metrics = SynoodDetector(Detector.load("runs/demo")), OODMetrics()
        for images, labels in loader:
            metrics.update(scored(images), labels)

    Labels below 0 are OOD, as everywhere in pytorch-ood. It is fitted already, and ``fit`` does nothing. It stays on
    the device that the detector was loaded on.
    """

    requires_fit = False

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def predict(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W], uint8 or in [0, 1] (not normalised) -> [B] on the CPU. Raises ValueError for others."""
        return -self.detector(x).score

    def predict_features(self, x: Tensor) -> Tensor:
        """Un-normalised features [B, D] of the detector's CLIP -> [B]."""
        return -self.detector.score_features(x)
