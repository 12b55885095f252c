"""What every sampler needs before its first sample, made once a run: negative labels, related classes, the boundary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.models.images import to_tensor
from synood_ray.negatives.csp import csp_labels
from synood_ray.negatives.stored import negative_labels
from synood_ray.records import SourceImage
from synood_ray.sampling.calibration import Calibration, calibrate
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.relatives import Relatives, find_relatives
from synood_ray.scores import POOL, SCORES, IdImages, Need, ScoreInput, State, lacking
from synood_ray.storage import layout
from synood_ray.storage.intact import intact
from synood_ray.storage.sources import read_held_out, read_sources
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Scorer

_BATCH = 64


def open_scorer(settings: Settings, store: Store, class_names: list[str]) -> Scorer:
    """The run's scorer, with the negative labels that were mined for the run, and what its score learned from the ID
    images (mined and learned here if they were not)."""
    from synood_ray.models.scorer import Scorer

    scorer = Scorer(settings.scorer, class_names, groups=settings.labels.groups)
    if scorer.clip is not None:
        negatives = negative_labels(settings, store, class_names, scorer.clip)
        scorer.negatives = negatives.features.to(scorer.clip.device)
        state = _learned(settings, store, class_names, scorer)
        scorer.state = {name: value.to(scorer.clip.device) for name, value in state.items()}
    relatives(settings, store, class_names, scorer)
    return scorer


def relatives(settings: Settings, store: Store, class_names: list[str], scorer: Scorer) -> Relatives:
    """What the run's classes are related to: read if it is stored, else found and stored create-only."""

    def found() -> bytes:
        clip, images = scorer.clip, None
        if clip is not None and settings.prompts.takes("neighbour"):
            images = _class_means(settings, read_sources(store), scorer, len(class_names))

        texts = scorer.encode_names if clip is not None else None
        return find_relatives(settings.prompts, class_names, texts, images).to_json()

    return Relatives.from_json(store.keep(layout.RELATIVES, found))


def _class_means(settings: Settings, sources: Sequence[SourceImage], scorer: Scorer, classes: int) -> Tensor:
    """Mean CLIP feature of each class's ID images [C, D], L2-normalised; zeros for a class without any."""
    import torch
    from torch.nn import functional as F

    features = F.normalize(_features(settings, sources, scorer).float().cpu(), dim=-1)
    labels = torch.tensor([source.label for source in sources])
    sums = torch.zeros(classes, features.shape[1]).index_add_(0, labels, features)
    return F.normalize(sums, dim=-1)


def _learned(settings: Settings, store: Store, class_names: list[str], scorer: Scorer) -> State:
    """What the run's score learned from its ID images; read if it is stored, else learned and stored create-only.

    Raises UserError if there are too few images of some class.
    """
    import torch
    from safetensors.torch import load, save

    score = SCORES[settings.scorer.score]
    if Need.POOL in score.needs:
        assert scorer.clip is not None, "a classifier without text has no such score"
        return {POOL: csp_labels(settings, store, class_names, scorer.clip).features}
    learn = score.learn
    if learn is None:
        return {}

    def learned() -> bytes:
        sources, held_out = read_sources(store), read_held_out(store)
        labels = torch.tensor([source.label for source in sources])
        if why := lacking(settings.scorer.score, labels, class_names):
            raise UserError(f"scorer.score: {why}; choose another")
        images = IdImages(_features(settings, sources, scorer), labels, _look(settings, held_out, scorer))
        return save({name: value.cpu().contiguous() for name, value in learn(images).items()})

    kept = store.keep(layout.SCORE, learned)
    with intact(store, layout.SCORE):
        return load(kept)


def _features(settings: Settings, sources: Sequence[SourceImage], scorer: Scorer) -> Tensor:
    """CLIP's unit features [N, D] of these images. Not their logits: those to all negative labels take gigabytes."""
    import torch

    return torch.cat([seen.features for seen in _batches(settings, sources, scorer)])


def _look(settings: Settings, sources: Sequence[SourceImage], scorer: Scorer) -> ScoreInput:
    """What the scorer sees of these images, all at once."""
    import torch

    seen = list(_batches(settings, sources, scorer))
    id_logits, negatives = torch.cat([one.id_logits for one in seen]), torch.cat([one.negatives for one in seen])
    features = torch.cat([one.features for one in seen])
    return replace(seen[0], id_logits=id_logits, negative_logits=negatives, frozen=features, unit=features)


def _batches(settings: Settings, sources: Sequence[SourceImage], scorer: Scorer) -> Iterator[ScoreInput]:
    import torch

    assert scorer.clip is not None
    loader, side = SourceLoader(settings), scorer.clip.preprocess.size
    for start in range(0, len(sources), _BATCH):
        images = to_tensor([loader.image(source) for source in sources[start : start + _BATCH]], side)
        with torch.inference_mode():
            seen = scorer.look(images)
        yield seen


def boundary(
    settings: Settings, store: Store, class_names: list[str], inpainter: Inpainter, scorer: Scorer
) -> Calibration:
    """The calibrated boundary of this run: read and checked if it is stored, else measured and stored create-only."""

    def measured() -> bytes:
        sources = read_held_out(store)
        loader = SourceLoader(settings)
        batches = (to_tensor([loader.image(source)], inpainter.resolution) for source in sources)
        return calibrate(batches, inpainter, scorer, settings, class_names).to_json()

    kept = store.keep(layout.CALIBRATION, measured)
    with intact(store, layout.CALIBRATION):
        calibration = Calibration.from_json(kept)
    calibration.check(settings, class_names)
    return calibration
