"""OpenOOD is in no index and so not here: its part is what its repository publishes of `BasePostprocessor` (v1.5)."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from synood_ray.detection.metrics import ood_metrics
from tests.detection.test_detector import make_detector
from tests.detection.tiny_clip import ColourClip


class BasePostprocessor:
    """As published, without .cuda(): a configuration, a setup, and an inference that calls ``postprocess``."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def setup(self, net: Any, id_loader_dict: Any, ood_loader_dict: Any) -> None:
        """Nothing, unless a method overrides it."""

    def inference(self, net: Any, data_loader: Any, progress: bool = True) -> list[np.ndarray]:
        found: list[list[np.ndarray]] = [[], [], []]
        for batch in data_loader:
            pred, conf = self.postprocess(net, batch["data"])  # type: ignore[attr-defined]
            for values, own in zip(found, (pred, conf, batch["label"]), strict=True):
                values.append(own.numpy())
        return [np.concatenate(values) for values in found]


@pytest.fixture(autouse=True)
def openood(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package, postprocessors = types.ModuleType("openood"), types.ModuleType("openood.postprocessors")
    postprocessors.BasePostprocessor = BasePostprocessor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openood", package)
    monkeypatch.setitem(sys.modules, "openood.postprocessors", postprocessors)
    monkeypatch.delitem(sys.modules, "synood_ray.detection.adapters.openood", raising=False)
    yield
    sys.modules.pop("synood_ray.detection.adapters.openood", None)


def test_confidence_is_higher_for_id_and_the_net_gives_the_accuracy() -> None:
    from synood_ray.detection.adapters.openood import SynoodNet, SynoodPostprocessor

    detector = make_detector(ColourClip())
    adapted, net = SynoodPostprocessor(detector), SynoodNet(detector).eval()
    assert not adapted.APS_mode
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0)) ** 3
    images = images + torch.rand(24, 3, 1, 1, generator=torch.Generator().manual_seed(1)) * (1 - images)
    judged = detector(images)
    labels = torch.where(judged.score > judged.score.median(), judged.label, -1)
    batches = [{"data": images[i : i + 8], "label": labels[i : i + 8]} for i in (0, 8, 16)]
    adapted.setup(net, {}, {})
    predicted, confidence, truth = adapted.inference(net, batches)
    assert (predicted == judged.label.numpy()).all()
    assert ood_metrics(confidence[truth >= 0], confidence[truth < 0])["auroc"] == 1
    assert torch.equal(net(images).argmax(1), judged.label)
