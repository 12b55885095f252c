"""Measure the miniature multimodal LLM with the real vLLM engine on the bundled test scenes, whose content is known."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from synood_ray.mini import model_path
from synood_ray.mini.world import load_world

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Describer
    from tools.mini_world.check import Row

SCENES = 400  # of each set


@dataclass(frozen=True)
class KnownScenes:
    """Images with their subject and with another class of the same subgroup, and their context objects' names."""

    images: list[Image.Image]
    subjects: list[str]
    others: list[str]
    contexts: list[set[str]]


@dataclass(frozen=True)
class Answers:
    """recall, precision: of context names over all scenes; subject_named: share of answers that name the subject;
    yes, no: share of right answers about the true subject and about another class of its subgroup."""

    recall: float
    precision: float
    subject_named: float
    yes: float
    no: float

    @property
    def balanced(self) -> float:
        return (self.yes + self.no) / 2


def bundled_scenes(name: str, count: int, seed: int = 0) -> KnownScenes:
    """Up to `count` scenes of ``data/NAME.parquet``, drawn with the seed."""
    from tools.mini_world.check import read_images

    world = load_world()
    groups: dict[str, list[str]] = {}
    for subject in (*world.id, *world.near):
        groups.setdefault(world.concepts[subject].group, []).append(subject)
    stored = read_images(name)
    rng = random.Random(seed)
    rows = sorted(rng.sample(range(len(stored.names)), min(count, len(stored.names))))
    subjects = [stored.names[row] for row in rows]
    others = [rng.choice([o for o in groups[world.concepts[s].group] if o != s]) for s in subjects]
    images = [Image.fromarray(stored.images[row].permute(1, 2, 0).numpy()) for row in rows]
    return KnownScenes(images, subjects, others, [set(stored.contexts[row]) for row in rows])


def ask(describer: Describer, scenes: KnownScenes) -> Answers:
    """Put both questions of the settings to the describer and compare with the truth.

    The subject counts as named if the raw answer, before cleaning, lists it.
    """
    described = describer.describe(scenes.images, scenes.subjects)
    named = [{item.strip() for item in context.raw.lower().split(",")} for context in described]
    found = sum(len(names & truth) for names, truth in zip(named, scenes.contexts, strict=True))
    yes = describer.shows(scenes.images, scenes.subjects)
    no = describer.shows(scenes.images, scenes.others)
    return Answers(
        recall=found / sum(map(len, scenes.contexts)),
        precision=found / max(1, sum(map(len, named))),
        subject_named=sum(s in names for s, names in zip(scenes.subjects, named, strict=True)) / len(named),
        yes=sum(answer is True for answer in yes) / len(yes),
        no=sum(answer is False for answer in no) / len(no),
    )


def rows() -> list[Row]:
    """The figures of the miniature world's table, for ``tools.mini_world.check``."""
    from synood_ray.config.models import DescriberSettings
    from synood_ray.models.describers import open_describer
    from tools.mini_world.check import Row, at_least, at_most, megabytes

    folder = model_path("mllm")
    describer = open_describer(
        DescriberSettings(model=str(folder), max_model_len=256, max_new_tokens=24, batch_size=64), len
    )
    table: list[Row] = []
    try:
        answers = ask(describer, bundled_scenes("id_test", SCENES))
        table += [
            at_least("context words, recall (all that was drawn, hidden ones too)", answers.recall, 0.85),
            at_least("context words, precision", answers.precision, 0.85),
            at_most("subject named by mistake", answers.subject_named, 0.03),
            at_least("yes/no on the subject, balanced (no: same subgroup)", answers.balanced, 0.90),
            Row("yes/no: right about the true subject", round(answers.yes, 4), "", None),
            Row("yes/no: right about another class of the subgroup", round(answers.no, 4), "", None),
        ]
        for name, what in (("near_test", "near-OOD subjects"), ("id_unseen", "unseen style")):
            answers = ask(describer, bundled_scenes(name, SCENES))
            table += [
                Row(f"{what}: recall", round(answers.recall, 4), "", None),
                Row(f"{what}: precision", round(answers.precision, 4), "", None),
                Row(f"{what}: yes/no balanced", round(answers.balanced, 4), "", None),
            ]
    finally:
        describer.close()
    return [*table, at_most("size, MB", megabytes(folder), 8.0)]
