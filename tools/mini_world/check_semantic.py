"""The check's rows for the semantic check, as the farm runs it, on composed scenes whose subject is known.

A sample is painted with two classes, its source's and a partner, and must show neither. So every question names two
classes that may be blended, and the scene's subject is the one, the other, or neither: then it is a near-OOD class of
their subgroup, or another class of it. Scenes go through the VAE first, as samples come out of it.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.mini.world import load_world
from tools.mini_world.check import Row, at_least, read_images

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.describers.base import Describer
    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Scorer
    from synood_ray.records import SourceImage
    from synood_ray.sampling.calibration import Calibration
    from synood_ray.sampling.relatives import Relatives

SOURCE, PARTNER, NEITHER = "source", "partner", "neither"


@dataclass(frozen=True)
class Run:
    """What the settings' run has before its first sample, over their ID classes."""

    settings: Settings
    classes: list[str]
    sources: list[SourceImage]
    inpainter: Inpainter
    scorer: Scorer
    calibration: Calibration
    relatives: Relatives
    negative_words: list[str]


@dataclass(frozen=True)
class Scenes:
    """images uint8 [N, 3, 64, 64]; asked: labels of a source's class and its partner; subject: which of them it is."""

    images: Tensor
    asked: list[tuple[int, int]]
    subject: list[str]


def open_run(settings: Settings, inpainter: Inpainter | None = None) -> Run:
    """Select, open the models, mine negative labels, find partners, measure the boundary; nothing is kept."""
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source
    from synood_ray.farm import preparing
    from synood_ray.models.inpainters import open_inpainter
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.storage import layout
    from synood_ray.storage.sources import encode_sources
    from synood_ray.storage.stores import open_store

    selection = select(open_source(settings.data.uri, settings.data), settings.data)
    classes, sources = [info.name for info in selection.classes], list(selection.sources)
    inpainter = inpainter or open_inpainter(settings.inpainter)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        store.put_new(layout.ID_MANIFEST, encode_sources(sources))
        store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
        scorer = preparing.open_scorer(settings, store, classes)
        assert scorer.clip is not None
        words = negative_labels(settings, store, classes, scorer.clip).words
        related = preparing.relatives(settings, store, classes, scorer)
        boundary = preparing.boundary(settings, store, classes, inpainter, scorer)
    return Run(settings, classes, sources, inpainter, scorer, boundary, related, words)


def scenes(classes: Sequence[str], partners: Sequence[Sequence[int]], seed: int = 0) -> Scenes:
    """Every test scene of these classes as the source's and as the partner's, and as many that show neither.

    partners: by label, the labels of its partners.
    """
    import torch

    concepts, rng = load_world().concepts, random.Random(seed)
    known, near = read_images("id_test"), read_images("near_test")
    pictures, names = torch.cat([known.images, near.images]), [*known.names, *near.names]
    found: list[tuple[int, tuple[int, int], str]] = []
    others: list[tuple[int, tuple[int, int], str]] = []
    for row, name in enumerate(names):
        pairs = [(one, two) for one in range(len(classes)) for two in partners[one]]
        for place, kind in enumerate((SOURCE, PARTNER)):
            if own := [pair for pair in pairs if classes[pair[place]] == name]:
                found.append((row, rng.choice(own), kind))
        related = [
            pair
            for pair in pairs
            if concepts[classes[pair[0]]].group == concepts[name].group and name not in [classes[i] for i in pair]
        ]
        if related:
            others.append((row, rng.choice(related), NEITHER))
    found += rng.sample(others, min(len(found), len(others)))
    rows, asked, subject = zip(*found, strict=True)
    return Scenes(pictures[list(rows)], list(asked), list(subject))


def through_vae(run: Run, some: Scenes) -> Tensor:
    """The scenes [N, 3, 64, 64], in 0..1, after the VAE's round trip."""
    import torch

    parts = [run.inpainter.decode(run.inpainter.encode(part.float() / 255)) for part in some.images.split(32)]
    return torch.cat(parts)


def seen_by_clip(run: Run, some: Scenes, pictures: Tensor, *sure: float) -> list[list[bool]]:
    """Whether CLIP sees one of the two classes in each scene, by each of these probabilities; pictures:
    `through_vae`."""
    import torch

    from synood_ray.models.scorer import verdicts_of

    logits, asked = torch.cat([run.scorer.judge(part).logits for part in pictures.split(32)]), torch.tensor(some.asked)
    return [verdicts_of(logits, asked, len(run.classes), least)[1].tolist() for least in sure]


def seen_by_mllm(run: Run, some: Scenes, pictures: Tensor, describer: Describer) -> list[bool]:
    """Whether the describer sees one of the two in each scene; pictures: `through_vae`."""
    from synood_ray.models.images import from_png, to_png

    shown = [from_png(to_png(picture)) for picture in pictures]
    first, second = (describer.shows(shown, [run.classes[asked[place]] for asked in some.asked]) for place in (0, 1))
    return [one is True or two is True for one, two in zip(first, second, strict=True)]


def precision_recall(shown: Sequence[bool], subject: Sequence[str]) -> dict[str, float]:
    """Precision and recall of "shows one of the two", and the recall by which of them it is. Scenes with and without
    count the same, however many there are of either."""
    shares = {}
    for kind in (SOURCE, PARTNER, NEITHER):
        own = [one for one, what in zip(shown, subject, strict=True) if what == kind]
        shares[kind] = sum(own) / max(1, len(own))
    recall = (shares[SOURCE] + shares[PARTNER]) / 2
    precision = recall / max(1e-9, recall + shares[NEITHER])
    return {"precision": precision, "recall": recall, SOURCE: shares[SOURCE], PARTNER: shares[PARTNER]}


def rows() -> list[Row]:
    from synood_ray.cli.layers import load_preset, resolve
    from synood_ray.models.describers import open_describer

    settings, _ = resolve([load_preset("mini")])
    run = open_run(settings)
    some = scenes(run.classes, run.relatives.partners)
    pictures = through_vae(run, some)
    (clip,) = seen_by_clip(run, some, pictures, run.calibration.sure)
    describer = open_describer(settings.describer)
    try:
        mllm = seen_by_mllm(run, some, pictures, describer)
    finally:
        describer.close()
    both = precision_recall([a or b for a, b in zip(clip, mllm, strict=True)], some.subject)
    what = "still shows its class or its partner (CLIP or MLLM)"
    table = [at_least(f"{what}, {name}", both[name], 0.9) for name in ("precision", "recall")]
    for who, shown in {"CLIP alone": clip, "MLLM alone": mllm}.items():
        for name, value in precision_recall(shown, some.subject).items():
            if name in ("precision", "recall"):
                table.append(Row(f"{who}: {name}", round(value, 4), "", None))
    return table
