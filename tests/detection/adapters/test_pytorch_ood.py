"""Against the real package: its metrics take our detector as one of its own."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from synood_ray.detection.metrics import ood_metrics
from tests.detection.test_detector import make_detector
from tests.detection.tiny_clip import WIDTH, ColourClip

pytest.importorskip("pytorch_ood", reason="pytorch-ood is not installed; it is in the extra dev")


def test_it_is_one_of_pytorch_oods_detectors_with_their_sign() -> None:
    from pytorch_ood.api import Detector as Theirs
    from pytorch_ood.metrics import OODMetrics

    from synood_ray.detection.adapters.pytorch_ood import SynoodDetector

    detector = make_detector(ColourClip())
    adapted = SynoodDetector(detector)
    assert isinstance(adapted, Theirs) and not adapted.requires_fit
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) ** 3
    images = images + torch.rand(40, 3, 1, 1, generator=torch.Generator().manual_seed(1)) * (1 - images)
    scores = detector(images).score
    labels = torch.where(scores + 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(2)) > 0.66, 1, -1)
    assert 5 < (labels < 0).sum() < 35
    loader = DataLoader(TensorDataset(images, labels), batch_size=16)
    assert adapted.fit(loader) is adapted
    metrics = OODMetrics()
    for batch, its_labels in loader:
        metrics.update(adapted(batch), its_labels)
    ours = ood_metrics(scores[labels >= 0], scores[labels < 0])
    theirs = metrics.compute()
    assert ours["auroc"] > 0.7
    assert theirs["AUROC"] == pytest.approx(ours["auroc"], abs=1e-6)
    assert theirs["FPR95TPR"] == pytest.approx(ours["fpr95_ood_positive"], abs=1e-6)


def test_features_and_images_agree() -> None:
    from synood_ray.detection.adapters.pytorch_ood import SynoodDetector

    detector = make_detector(ColourClip())
    adapted = SynoodDetector(detector)
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = ColourClip().encode_images(images / 255)
    assert features.shape == (6, WIDTH)
    assert torch.allclose(adapted.predict_features(features), adapted.predict(images), atol=1e-6)
