"""From a published run to the features that fine-tuning works on: kept in the run, encoded once by all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from synood_ray.config.settings import Settings
from synood_ray.detection.detector import ImageEncoder
from synood_ray.detection.features import encode_pictures, encode_sources
from synood_ray.detection.kept import (
    Features,
    IdentifiedClip,
    images_key,
    keep_features,
    kept_text,
    read_features,
    samples_key,
)
from synood_ray.errors import UserError
from synood_ray.models.images import from_png
from synood_ray.negatives.csp import csp_labels
from synood_ray.negatives.mining import NegativeLabels, pair, prompts_of
from synood_ray.records import SourceImage
from synood_ray.scores import SCORES, Need
from synood_ray.storage.parts import picture
from synood_ray.storage.run import Run
from synood_ray.storage.shards import changed_shard
from synood_ray.storage.sources import SourceTable
from synood_ray.storage.stores.base import Store
from synood_ray.training.finetune import Workers
from synood_ray.training.outliers import far_outliers
from synood_ray.training.recipes import TrainingData


class Encoder(ImageEncoder, IdentifiedClip, Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that fine-tuning calls."""

    def text_norms(self, prompts: list[str]) -> Tensor: ...


@dataclass(frozen=True)
class RunFeatures:
    """What fine-tuning learns from, and the held-out ID images [H, D] that its threshold is set on.

    samples: digest of the manifest whose samples these are. pool [P, D]: CSP's negative text, if the detector's score
    needs it.
    """

    training: TrainingData
    calibration_features: Tensor
    samples: str
    pool: Tensor | None = None

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
    """Features of a run's ID images, accepted images, companions and calibration images, by the frozen CLIP.

    They and the classes' texts are kept in the run (`synood_ray.detection.kept`): encoded once, then read. Where images
    are not there yet every worker takes every size-th one and published shard. Raises UserError if the run is not
    published, if a shard is not the one that was, or if an image that the run was made from is gone.
    """
    sources = run.sources()
    images = _kept(
        run.store,
        images_key(run.store, clip),
        workers,
        lambda: {
            "id": _source_features(clip, settings, sources, workers),
            "calibration": _source_features(clip, settings, run.held_out(), workers),
        },
    )
    digest, shards = run.digest(), run.published()["shards"]
    if digest is None or run.digest() != digest:
        raise UserError(f"{run.uri}: is being published anew; run the same command again when that is done")
    found = _kept(
        run.store,
        samples_key(digest, clip),
        workers,
        lambda: _sample_features(clip, run, sources, shards, workers),
    )
    id_labels = torch.from_numpy(sources.labels.copy())
    texts = run.classes, settings.clip.templates
    id_text = kept_text(run.store, clip, "classes", texts, lambda: clip.encode_classes(*texts))
    nearest = pair(found["ood"], negatives)
    training = TrainingData(
        id_features=images["id"],
        id_labels=id_labels,
        id_text=id_text,
        negative_text=negatives.features,
        negative_norms=_label_norms(run.store, clip, settings, negatives, nearest),
        ood_features=found["ood"],
        ood_negatives=nearest,
        companion_features=found["companions"],
        companion_sources=found["companion_sources"],
        far_features=far_outliers(images["id"], id_labels, id_text, negatives.features, settings.seed),
    )
    pool = None
    if Need.POOL in SCORES[settings.detector.score].needs:
        pool = csp_labels(settings, run.store, run.classes, clip).features
    return RunFeatures(training, images["calibration"], digest, pool)


def _kept(store: Store, key: str, workers: Workers, encode: Callable[[], Features]) -> Features:
    """The features under a key; encoded and kept if they are not there.

    Either all workers read or all encode: one may see what was not there yet when another looked.
    """
    found = read_features(store, key)
    seen = torch.tensor([float(found is not None)])
    workers.sum([seen])
    if found is not None and int(seen) == workers.size:
        return found
    made = encode()
    if workers.rank == 0:
        keep_features(store, key, made)
    return made


def _label_norms(store: Store, clip: Encoder, settings: Settings, negatives: NegativeLabels, nearest: Tensor) -> Tensor:
    """`TrainingData.negative_norms` [M]: of the labels that some accepted image is nearest to, by `nearest` [K]."""
    norms, used = torch.ones(len(negatives.words)), nearest.unique()
    if len(used):
        words, kinds = ([own[i] for i in used.tolist()] for own in (negatives.words, list(negatives.kinds)))
        prompts = prompts_of(words, kinds, settings.labels)
        norms[used] = kept_text(store, clip, "norms", prompts, lambda: clip.text_norms(prompts))
    return norms


def _sample_features(
    clip: Encoder, run: Run, sources: SourceTable, shards: list[dict[str, Any]], workers: Workers
) -> Features:
    starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
    width = clip.encode_classes(["x"], ["{}"]).shape[1]
    rows = int(starts[-1])
    features, companions = torch.zeros(rows, width), torch.zeros(rows, width)
    flags = torch.zeros(rows, 3, dtype=torch.float64)  # position of the source, accepted, has a companion
    changed = torch.zeros(len(shards))
    for number in range(workers.rank, len(shards), workers.size):
        try:
            samples = run.table(shards[number], ["image", "source_key", "accepted", "companion"]).to_pylist()
        except UserError:
            changed[number] = 1
            break
        at = torch.arange(int(starts[number]), int(starts[number + 1]))
        kept = [picture(row["image"]) if row["accepted"] else None for row in samples]
        regenerated = [picture(row["companion"]) for row in samples]
        for target, images in ((features, kept), (companions, regenerated)):
            present = torch.tensor([image is not None for image in images])
            there = (image for image in images if image is not None)
            target[at[present]] = encode_pictures(clip, there, load=from_png)
        positions = sources.positions([row["source_key"] for row in samples])
        flags[at] = torch.tensor(
            [
                [source, row["accepted"], row["companion"] is not None]
                for source, row in zip(positions, samples, strict=True)
            ],
            dtype=torch.float64,
        )
    workers.sum([changed])  # all workers give up together
    if changed.any():
        first = shards[int(changed.nonzero()[0])]
        raise changed_shard(run.store, first, "it is gone, or its SHA-256 differs")
    workers.sum([features, companions, flags])
    made_from, accepted, has_companion = flags[:, 0].long(), flags[:, 1].bool(), flags[:, 2].bool()
    return {
        "ood": features[accepted],
        "companions": companions[has_companion],
        "companion_sources": made_from[has_companion],
    }


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
