"""The check's rows for the semantic check, as the farm runs it, on composed scenes whose subject is known.

Half of the questions ask about the class that a scene shows; the others ask about an ID class of the same subgroup of
a scene that shows a near-OOD class or another ID class: what a boundary sample may have become.
"""

from __future__ import annotations

import random
import tempfile
from typing import TYPE_CHECKING, Any

from synood_ray.mini.world import load_world
from tools.mini_world.check import Row, at_least, read_images

if TYPE_CHECKING:
    from synood_ray.models.scorer import Scorer


def questions(seed: int = 0) -> tuple[Any, list[str], list[bool]]:
    """Images uint8 [N, 3, 64, 64], the ID class asked about, and whether the image shows it."""
    import torch

    world = load_world()
    rng = random.Random(seed)
    groups: dict[str, list[str]] = {}
    for name in world.id:
        groups.setdefault(world.concepts[name].group, []).append(name)
    known, near = read_images("id_test"), read_images("near_test")
    half = len(known.names) // 2
    absent = [*known.names[::2][: half // 2], *near.names[::2][: half - half // 2]]
    pictures = [known.images, known.images[::2][: half // 2], near.images[::2][: half - half // 2]]
    others = [rng.choice([n for n in groups[world.concepts[name].group] if n != name]) for name in absent]
    return torch.cat(pictures), [*known.names, *others], [True] * len(known.names) + [False] * len(others)


def open_scorer() -> Scorer:
    """The mini preset's scorer with its mined negative labels."""
    from synood_ray.cli.layers import load_preset, resolve
    from synood_ray.farm import preparing
    from synood_ray.storage.stores import open_store

    settings, _ = resolve([load_preset("mini")])
    with tempfile.TemporaryDirectory() as folder:
        return preparing.open_scorer(settings, open_store(folder), list(load_world().id))


def precision_recall(shown: list[bool], truth: list[bool], weight: float) -> tuple[float, float]:
    """Precision and recall of "shows it". weight: of an image that does not, so that both kinds count the same."""
    right = sum(s and t for s, t in zip(shown, truth, strict=True))
    wrong = weight * sum(s and not t for s, t in zip(shown, truth, strict=True))
    return right / max(1e-9, right + wrong), right / max(1, sum(truth))


def still_shows() -> dict[str, tuple[float, float]]:
    """Precision and recall of the whole check, "CLIP or MLLM", and of either alone."""
    import torch
    from PIL import Image

    from synood_ray.config.settings import DescriberSettings
    from synood_ray.mini import model_path
    from synood_ray.models.describers import open_describer

    images, names, truth = questions()
    weight = sum(truth) / (len(truth) - sum(truth))
    scorer = open_scorer()
    labels = torch.tensor([scorer.class_names.index(name) for name in names])
    clip = torch.cat(
        [scorer.verdicts(x.float() / 255, y)[1] for x, y in zip(images.split(64), labels.split(64), strict=True)]
    ).tolist()
    settings = DescriberSettings(model=str(model_path("mllm")), max_model_len=256, max_new_tokens=24, batch_size=64)
    describer = open_describer(settings, len)
    try:
        pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in images]
        mllm = [answer is True for answer in describer.shows(pictures, names)]
    finally:
        describer.close()
    both = [a or b for a, b in zip(clip, mllm, strict=True)]
    answers = {"CLIP or MLLM": both, "CLIP top-1 alone": clip, "MLLM alone": mllm}
    return {who: precision_recall(shown, truth, weight) for who, shown in answers.items()}


def rows() -> list[Row]:
    found = still_shows()
    precision, recall = found.pop("CLIP or MLLM")
    table = [
        at_least("still shows its class (CLIP or MLLM), precision", precision, 0.9),
        at_least("still shows its class (CLIP or MLLM), recall", recall, 0.9),
    ]
    for what, (precision, recall) in found.items():
        table += [Row(f"{what}: precision", round(precision, 4), "", None)]
        table += [Row(f"{what}: recall", round(recall, 4), "", None)]
    return table
