"""What every sampler needs before its first sample, made once a run: the negative labels and the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.models.images import to_tensor
from synood_ray.negatives.stored import negative_labels
from synood_ray.sampling.calibration import Calibration, calibrate
from synood_ray.sampling.loader import SourceLoader
from synood_ray.storage import layout
from synood_ray.storage.sources import decode_sources
from synood_ray.storage.stores.base import NotFound, Store

if TYPE_CHECKING:
    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Scorer


def open_scorer(settings: Settings, store: Store, class_names: list[str]) -> Scorer:
    """The run's scorer, with the negative labels that were mined for the run (mined here if they were not)."""
    from synood_ray.models.scorer import Scorer

    scorer = Scorer(settings.scorer, class_names, groups=settings.labels.groups)
    if scorer.clip is not None:
        negatives = negative_labels(settings, store, class_names, scorer.clip)
        scorer.negatives = negatives.features.to(scorer.clip.device)
    return scorer


def boundary(
    settings: Settings, store: Store, class_names: list[str], inpainter: Inpainter, scorer: Scorer
) -> Calibration:
    """The calibrated boundary of this run: read and checked if it is stored, else measured and stored create-only."""
    try:
        calibration = Calibration.from_json(store.get(layout.CALIBRATION))
    except NotFound:
        sources = decode_sources(store.get(layout.CALIBRATION_MANIFEST))
        loader = SourceLoader(settings)
        size = max(1, settings.sampling.batch_size)
        batches = (
            to_tensor([loader.image(source) for source in sources[i : i + size]], inpainter.resolution)
            for i in range(0, len(sources), size)
        )
        calibration = calibrate(batches, inpainter, scorer, settings, class_names)
        store.put_new(layout.CALIBRATION, calibration.to_json())
        calibration = Calibration.from_json(store.get(layout.CALIBRATION))  # another sampler may have been first
    calibration.check(settings, class_names)
    return calibration
