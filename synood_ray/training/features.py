"""From a published run to the features that fine-tuning works on. Each worker encodes its share; all get everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from synood_ray.config.settings import Settings
from synood_ray.detection.detector import ImageEncoder
from synood_ray.detection.features import encode_pictures, encode_sources
from synood_ray.errors import UserError
from synood_ray.models.images import from_png
from synood_ray.negatives.mining import NegativeLabels, pair, prompts_of
from synood_ray.records import SourceImage
from synood_ray.storage.parts import picture
from synood_ray.storage.run import Run
from synood_ray.storage.shards import changed_shard
from synood_ray.training.finetune import Workers
from synood_ray.training.outliers import far_outliers
from synood_ray.training.recipes import TrainingData


class Encoder(ImageEncoder, Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that fine-tuning calls."""

    def text_norms(self, prompts: list[str]) -> Tensor: ...


@dataclass(frozen=True)
class RunFeatures:
    """What fine-tuning learns from, and the held-out ID images [H, D] that its threshold is set on."""

    training: TrainingData
    calibration_features: Tensor

    def counts(self) -> dict[str, int]:
        """How many images of each kind."""
        data = self.training
        return {
            "id": len(data.id_features),
            "accepted": len(data.ood_features),
            "companions": len(data.companion_features),
            "far": len(data.far_features),
            "calibration": len(self.calibration_features),
        }


def run_features(
    run: Run,
    settings: Settings,
    clip: Encoder,
    negatives: NegativeLabels,
    workers: Workers,
) -> RunFeatures:
    """Encode a run's ID images, accepted images, companions and calibration images with the frozen CLIP.

    Every worker takes every size-th image and published shard. Raises UserError if the run is not published, if a
    shard is not the one that was, or if an image that the run was made from is gone.
    """
    sources, held_out = run.sources(), run.held_out()
    id_features = _source_features(clip, settings, sources, workers)
    id_labels = torch.tensor([source.label for source in sources])
    samples = _sample_features(clip, run, workers)
    ood = samples.features[samples.accepted]
    id_text = clip.encode_classes(run.classes, settings.clip.templates).float().cpu()
    nearest = pair(ood, negatives)
    training = TrainingData(
        id_features=id_features,
        id_labels=id_labels,
        id_text=id_text,
        negative_text=negatives.features,
        negative_norms=_label_norms(clip, settings, negatives, nearest),
        ood_features=ood,
        ood_negatives=nearest,
        companion_features=samples.companions[samples.has_companion],
        companion_labels=samples.labels[samples.has_companion],
        far_features=far_outliers(id_features, id_labels, id_text, negatives.features, settings.seed),
    )
    return RunFeatures(training, _source_features(clip, settings, held_out, workers))


def _label_norms(clip: Encoder, settings: Settings, negatives: NegativeLabels, nearest: Tensor) -> Tensor:
    """`TrainingData.negative_norms` [M]: of the labels that some accepted image is nearest to, by `nearest` [K]."""
    norms, used = torch.ones(len(negatives.words)), nearest.unique()
    if len(used):
        words, kinds = ([own[i] for i in used.tolist()] for own in (negatives.words, list(negatives.kinds)))
        norms[used] = clip.text_norms(prompts_of(words, kinds, settings.labels)).cpu()
    return norms


@dataclass(frozen=True)
class _Samples:
    """All published rows in order: image and companion features [R, D], source labels [R], two masks [R]."""

    features: Tensor
    companions: Tensor
    labels: Tensor
    accepted: Tensor
    has_companion: Tensor


def _sample_features(clip: ImageEncoder, run: Run, workers: Workers) -> _Samples:
    shards = run.published()["shards"]
    starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
    width = clip.encode_classes(["x"], ["{}"]).shape[1]
    rows = int(starts[-1])
    features, companions = torch.zeros(rows, width), torch.zeros(rows, width)
    flags = torch.zeros(rows, 3)  # label, accepted, has a companion
    changed = torch.zeros(len(shards))
    for number in range(workers.rank, len(shards), workers.size):
        try:
            samples = run.table(shards[number], ["image", "source_label", "accepted", "companion"]).to_pylist()
        except UserError:
            changed[number] = 1
            break
        at = torch.arange(int(starts[number]), int(starts[number + 1]))
        kept = [picture(row["image"]) if row["accepted"] else None for row in samples]
        regenerated = [picture(row["companion"]) for row in samples]
        for target, images in ((features, kept), (companions, regenerated)):
            present = torch.tensor([image is not None for image in images])
            target[at[present]] = encode_pictures(clip, (from_png(image) for image in images if image is not None))
        flags[at] = torch.tensor(
            [[row["source_label"], row["accepted"], row["companion"] is not None] for row in samples],
            dtype=torch.float32,
        )
    workers.sum([changed])  # all workers give up together
    if changed.any():
        first = shards[int(changed.nonzero()[0])]
        raise changed_shard(run.store, first, "it is gone, or its SHA-256 differs")
    workers.sum([features, companions, flags])
    return _Samples(features, companions, flags[:, 0].long(), flags[:, 1].bool(), flags[:, 2].bool())


def _source_features(
    clip: ImageEncoder, settings: Settings, sources: Sequence[SourceImage], workers: Workers
) -> Tensor:
    own = range(workers.rank, len(sources), workers.size)
    part, _, skips = encode_sources(clip, settings.data, [sources[i] for i in own])
    unusable = torch.tensor([float(len(skips))])
    workers.sum([unusable])  # all workers give up together
    if unusable.item():
        first = f", such as {skips[0].key!r} ({skips[0].reason})" if skips else ""
        raise UserError(f"{int(unusable)} ID images have changed since the run selected them{first}; restore them")
    features = torch.zeros(len(sources), part.shape[1])
    features[list(own)] = part
    workers.sum([features])
    return features
