"""The semantic check with all ID classes and with few: scenes of known subject, and how many samples it lets pass.

Among few names the nearest of a blend is nearly always one of the two that it was blended from. So a class counts as
shown only where CLIP is as sure of it as of held-out ID images (`Calibration.sure`); "by top-1": without that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.mini.world import load_world
from synood_ray.models.describers.base import Context
from synood_ray.sampling.checks import Checks, Shows, Verdict
from tools.mini_world.check_semantic import (
    PARTNER,
    SOURCE,
    Run,
    Scenes,
    open_run,
    precision_recall,
    scenes,
    seen_by_clip,
    seen_by_mllm,
    through_vae,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.presence import Presence
    from synood_ray.models.inpainters.base import Inpainter

SETS, CLASSES = 8, 6
PER_CLASS = 6  # images of a class in a set of few; each is drawn from twice
RULES = ("as it is", "by top-1")

Figures = dict[str, dict[str, float]]
"""Rule -> figure -> value."""


@dataclass(frozen=True)
class Made:
    """One set of classes. samples: refined and not judged yet, what `Checks.judge` is given; scenes: of known subject;
    pictures: of them, through the VAE; clip: whether CLIP sees their classes, by rule."""

    run: Run
    checks: Checks
    samples: tuple[Any, Any, Any, Any]
    scenes: Scenes
    pictures: Tensor
    clip: dict[str, list[bool]]


class Recorded:
    """Stands before a run's checks: keeps what they are given, and accepts everything."""

    def __init__(self) -> None:
        self.samples: tuple[Any, Any, Any, Any] = ([], [], [], [])

    def judge(self, classes: Any, refined: Any, pngs: Any, structures: Any, shows: Any) -> list[Verdict]:
        self.samples = classes, refined, pngs, structures
        return [Verdict()] * len(refined)


def sets_of_few(sets: int = SETS, seed: int = 0) -> list[list[str]]:
    """Sets of ID classes, half of them of one subgroup each, half drawn from all."""
    rng, world = random.Random(seed), load_world()
    groups: dict[str, list[str]] = {}
    for name in world.id:
        groups.setdefault(world.concepts[name].group, []).append(name)
    large = [names for names in groups.values() if len(names) >= CLASSES]
    alike = [rng.sample(names, CLASSES) for names in rng.sample(large, sets // 2)]
    return [*alike, *(rng.sample(list(world.id), CLASSES) for _ in range(sets - len(alike)))]


def of_few(settings: Settings, classes: Sequence[str]) -> Settings:
    """The settings for these classes of the world alone; partners as a stranger's classes get them."""
    values = settings.model_dump(mode="json")
    values["data"] |= {"where": {"name": ",".join(classes)}, "per_class": PER_CLASS}
    values["prompts"] |= {"groups": None}
    return Settings.model_validate(values)


def benchmark(settings: Settings, sets: int = SETS) -> tuple[dict[str, Any], list[Target]]:
    """Figures of the check with all classes and, as means, with few; targets. One engine is opened, last, because
    vLLM binds this process's threads."""
    from benchmarks.presence import Presence
    from synood_ray.models.describers import open_describer
    from synood_ray.models.images import from_png

    every = _made(settings)
    few = [_made(of_few(settings, classes), every.run.inpainter) for classes in sets_of_few(sets)]
    presence = Presence(every.run.inpainter)
    describer = open_describer(settings.describer)

    answers: dict[tuple[bytes, str], bool | None] = {}

    def shows(pngs: list[bytes], subjects: list[str]) -> list[bool | None]:
        """The describer's answers; both rules ask about most of the samples."""
        asked = list(zip(pngs, subjects, strict=True))
        new = [one for one in dict.fromkeys(asked) if one not in answers]
        found = describer.shows([from_png(png) for png, _ in new], [subject for _, subject in new])
        answers.update(zip(new, found, strict=True))
        return [answers[one] for one in asked]

    try:
        figures = {"all classes": _figures(every, shows, describer, presence)}
        each = [_figures(made, shows, describer, presence) for made in few]
    finally:
        describer.close()
    figures[f"{CLASSES} classes, mean of {len(few)}"] = {
        rule: {what: float(np.mean([one[rule][what] for one in each])) for what in each[0][rule]} for rule in RULES
    }
    show(figures)
    told = Target("a subject is there or not: right on held-out scenes", presence.right, 0.98)
    return {**figures, "presence": presence.right}, [*targets(figures), told]


def targets(figures: dict[str, Figures]) -> list[Target]:
    """What the check should reach on the mini preset."""
    found = []
    for who, rules in figures.items():
        now = rules[RULES[0]]
        found += [Target(f"semantic check, {who}: {what}", now[what], 0.9) for what in ("precision", "recall")]
        found.append(Target(f"referee sure of an ID name, {who}", now["sure_of_an_id_name"], 0.03, "most"))
        found.append(Target(f"a subject is there, {who}", now["subject_is_there"], 0.9))
    return found


def _made(settings: Settings, inpainter: Inpainter | None = None) -> Made:
    import pyarrow.parquet as pq

    from synood_ray.locations import resolve
    from synood_ray.records import SampleTask, sample_key, sample_seed
    from synood_ray.sampling.produce import Models, produce

    run = open_run(settings, inpainter)
    models = Models(
        settings, run.classes, run.inpainter, run.scorer, run.calibration, run.negative_words, run.relatives
    )
    checks, recorded = models.checks, Recorded()
    models.checks = recorded  # type: ignore[assignment]
    draws = [(source, draw) for draw in range(settings.sampling.per_image) for source in run.sources]
    tasks = [
        SampleTask(sample_key(i), 0, source, draw, sample_seed(settings.seed, source.key, draw))
        for i, (source, draw) in enumerate(draws)
    ]
    beside = pq.read_table(resolve(settings.data.uri), columns=["context"])["context"].to_pylist()
    words = {task.key: ", ".join(beside[int(task.source.key.rpartition("#")[2])]) for task in tasks}
    produce(tasks, {key: Context(text, text) for key, text in words.items()}, models)
    models.engine.close()
    some = scenes(run.classes, run.relatives.partners)
    pictures = through_vae(run, some)
    clip = seen_by_clip(run, some, pictures, run.calibration.sure, 0.0)
    return Made(run, checks, recorded.samples, some, pictures, dict(zip(RULES, clip, strict=True)))


def _figures(made: Made, shows: Shows, describer: Any, presence: Presence) -> Figures:
    from benchmarks.teaching.looks import sure
    from tools.mini_world.check_inpainting import load_referee

    run, some = made.run, made.scenes
    mllm = seen_by_mllm(run, some, made.pictures, describer)
    bare = Checks(run.settings.sampling, made.checks.recipe, len(run.classes), run.negative_words)
    referee, _ = load_referee()
    found: Figures = {}
    for rule, checks in zip(RULES, (made.checks, bare), strict=True):
        clip = made.clip[rule]
        known = precision_recall([a or b for a, b in zip(clip, mllm, strict=True)], some.subject)
        alone = precision_recall(clip, some.subject)
        verdicts = checks.judge(*made.samples, shows)
        pngs = [png for png, verdict in zip(made.samples[2], verdicts, strict=True) if not verdict.reason]
        accepted = _pixels(pngs)
        found[rule] = {
            "accepted": len(pngs) / len(verdicts),
            "still_shown_to_clip": sum(verdict.reason == "clip" for verdict in verdicts) / len(verdicts),
            **known,
            "clip_alone_precision": alone["precision"],
            "clip_alone_recall": alone["recall"],
            "sure_of_an_id_name": sure(referee, accepted),
            "subject_is_there": presence.share(accepted),
        }
    return found


def _pixels(pngs: Sequence[bytes]) -> Tensor:
    """uint8 [N, 3, H, W]."""
    import torch

    from synood_ray.models.images import from_png

    return torch.stack([torch.from_numpy(np.array(from_png(png))).permute(2, 0, 1) for png in pngs])


def show(figures: dict[str, Figures]) -> None:
    """Print the figures of both rules, side by side."""
    from rich.console import Console
    from rich.table import Table

    columns = [(who, rule) for who in figures for rule in RULES]
    table = Table("figure", *(f"{who}: {rule}" for who, rule in columns), title="semantic check")
    names = {SOURCE: "recall: the source's class", PARTNER: "recall: the partner's class"}
    for what in next(iter(figures.values()))[RULES[0]]:
        table.add_row(names.get(what, what), *(f"{figures[who][rule][what]:.3f}" for who, rule in columns))
    Console().print(table)
