"""Boundary sampling measured: the released recipe, fresh noise and ours on the same images, in turn, in one process.

Core-seconds are CPU time of this process, so a busy machine changes little. All recipes use the same models and are
judged by the same boundary; an independent classifier with a boundary of its own says whether accepted images are
merely adversarial to the CLIP.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from synood_ray.benchmarks.targets import Target, print_targets
from synood_ray.config import SamplingSettings, ScorerSettings, Settings
from synood_ray.locations import resolve

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.scorer import Scorer
    from synood_ray.sampling.calibration import Calibration
    from synood_ray.sampling.refine import Refined, RefineTask

DATA = "mini://data/id_test.parquet"
JUDGE = "timm:mini://models/judge"
BLOCK = 96  # samples of one recipe before the next has its turn
RECIPES = get_args(SamplingSettings.model_fields["recipe"].annotation)


@dataclass
class Tally:
    """One recipe's results so far. core_seconds: CPU time of this process."""

    core_seconds: float = 0.0
    denoiser_calls: int = 0
    results: list[Refined] = field(default_factory=list)


class Bench:
    """The mini models, the boundary, and the tasks: ``draws`` samples of each of the first images of every class."""

    def __init__(self, settings: Settings, samples: int, draws: int = 4) -> None:
        import pyarrow.parquet as pq

        from synood_ray.data.selection import select_all
        from synood_ray.data.source import open_source
        from synood_ray.farm.images import SourceLoader
        from synood_ray.models.inpainter import Inpainter
        from synood_ray.models.scorer import Scorer

        self.settings = settings
        source = open_source(DATA, settings.data)
        images, _ = select_all(source, settings.data)
        self.class_names = [info.name for info in source.classes]
        self.inpainter = Inpainter(settings.inpainter)
        self.scorer = Scorer(settings.scorer, self.class_names)
        self.loader = SourceLoader(settings)
        contexts = pq.read_table(resolve(DATA), columns=["context"])["context"].to_pylist()
        prompts = [settings.describer.prompt.format(context=", ".join(words)) for words in contexts]
        first_of_class: dict[int, int] = {}
        for position, image in enumerate(images):
            first_of_class.setdefault(image.label, position)
        chosen = list(first_of_class.values())[: -(-samples // draws)]
        self.tasks = [
            self._task(images[position], prompts[position], draw) for draw in range(draws) for position in chosen
        ][:samples]
        self.label_of = {
            f"{images[position].key}#{draw}": images[position].label for draw in range(draws) for position in chosen
        }

    def _task(self, image: Any, prompt: str, draw: int) -> RefineTask:
        from synood_ray.models.images import to_tensor
        from synood_ray.records import sample_seed
        from synood_ray.sampling.refine import RefineTask

        side = self.inpainter.resolution
        pixels = to_tensor([self.loader.image(image)], side)[0]
        seed = sample_seed(self.settings.seed, image.key, draw)
        return RefineTask(f"{image.key}#{draw}", pixels, self.loader.mask(image, side), prompt, seed)

    def calibrate(self, scorer: Scorer) -> Calibration:
        """The boundary of any scorer, on the held-out ID images."""
        from synood_ray.sampling.calibration import calibrate

        return calibrate(
            self.images("mini://data/id_val.parquet"), self.inpainter, scorer, self.settings, self.class_names
        )

    def images(self, uri: str, size: int = 32) -> Any:
        """Batches [B, 3, H, W] of a bundled set."""
        from synood_ray.data.selection import select_all
        from synood_ray.data.source import open_source
        from synood_ray.models.images import to_tensor

        images, _ = select_all(open_source(uri, self.settings.data, labelled=False), self.settings.data)
        for start in range(0, len(images), size):
            chunk = [self.loader.image(image) for image in images[start : start + size]]
            yield to_tensor(chunk, self.inpainter.resolution)

    def run(self, recipes: dict[str, SamplingSettings], calibration: Calibration) -> dict[str, Tally]:
        """Every task through every recipe, a block of each in turn."""
        from synood_ray.sampling.refine import Refiner

        refiners = {
            name: Refiner(self.inpainter, self.scorer, calibration, sampling) for name, sampling in recipes.items()
        }
        tallies = {name: Tally() for name in recipes}
        for refiner in refiners.values():  # oneDNN compiles every operation for every batch size, once a process
            list(refiner.run(self.tasks[:BLOCK]))
        for start in range(0, len(self.tasks), BLOCK):
            for name, refiner in refiners.items():
                tally, calls, begin = tallies[name], self.inpainter.denoiser_calls, time.process_time()
                tally.results += refiner.run(self.tasks[start : start + BLOCK])
                tally.core_seconds += time.process_time() - begin
                tally.denoiser_calls += self.inpainter.denoiser_calls - calls
        return tallies


def summarise(bench: Bench, tally: Tally, judge: tuple[Scorer, Calibration] | None) -> dict[str, float]:
    """The figures of one recipe; quantiles of |margin| over all samples, diversity over accepted ones."""
    import numpy as np
    import torch

    results, accepted = tally.results, [r for r in tally.results if r.accepted]
    sizes = np.abs([r.margin for r in results])
    figures = {
        "samples": len(results),
        "acceptance": len(accepted) / len(results),
        "accepted_per_core_second": len(accepted) / tally.core_seconds,
        "rounds": float(np.mean([r.rounds for r in results])),
        "denoiser_calls_per_accepted": tally.denoiser_calls / max(1, len(accepted)),
        "diversity": diversity(bench, accepted),
    }
    figures |= {f"margin_q{q}": float(np.quantile(sizes, q / 100)) for q in (50, 90, 100)}
    if judge is not None and accepted:
        scorer, boundary = judge
        scores = torch.cat([scorer.score(r.image[None]) for r in accepted])
        figures["judge_margin"] = float(np.mean([boundary.margin(float(s)) for s in scores]))
    return figures


def diversity(bench: Bench, accepted: list[Refined]) -> float:
    """Mean pairwise CLIP distance (1 - cos) among a class's accepted images, averaged over classes with two or more."""
    import torch
    from torch.nn import functional as F

    assert bench.scorer.clip is not None
    groups: dict[int, list[Tensor]] = defaultdict(list)
    for result in accepted:
        groups[bench.label_of[result.key]].append(result.image)
    distances = []
    with torch.inference_mode():
        for images in groups.values():
            if len(images) > 1:
                features = F.normalize(bench.scorer.clip.encode_images(torch.stack(images)), dim=-1)
                pairs = 1 - features @ features.T
                distances.append(float(pairs.sum() / (len(images) * (len(images) - 1))))
    return sum(distances) / len(distances) if distances else float("nan")


def benchmark(settings: Settings, samples: int = 192, plot: str | None = None) -> dict[str, Any]:
    """All recipes side by side, with the targets. plot: PNG file for the margin distributions."""
    import torch

    from synood_ray.locations import is_folder
    from synood_ray.models.scorer import TIMM, Scorer

    torch.set_num_threads(1)  # as in the farm's actors; threads that wait for each other would count as core-seconds
    bench = Bench(settings, samples)
    calibration = bench.calibrate(bench.scorer)
    judge = None
    if is_folder(JUDGE.removeprefix(TIMM)):
        scorer = Scorer(ScorerSettings(model=JUDGE, pretrained=None), bench.class_names)
        judge = (scorer, bench.calibrate(scorer))
    recipes = {name: settings.sampling.model_copy(update={"recipe": name}) for name in RECIPES}
    tallies = bench.run(recipes, calibration)
    figures = {name: summarise(bench, tally, judge) for name, tally in tallies.items()}
    if plot:
        plot_margins(bench, tallies, calibration, plot)
    return {"recipes": figures, "targets": [target.as_dict() for target in targets(figures)]}


def targets(figures: dict[str, dict[str, float]]) -> list[Target]:
    """What boundary sampling should reach on the mini preset (band 0.25, at most 6 rounds)."""
    ours, fresh, official = figures["newton"], figures["fresh"], figures["official"]
    rate = "accepted_per_core_second"
    found = [
        Target("share of samples in the band", ours["acceptance"], 0.97),
        Target("accepted per core-second, ours / official", ours[rate] / max(official[rate], 1e-9), 15),
        Target("accepted per core-second, ours / fresh noise", ours[rate] / max(fresh[rate], 1e-9), 2.5),
        Target("denoiser calls per accepted sample", ours["denoiser_calls_per_accepted"], 16, "most"),
        Target("diversity, ours / fresh noise", ours["diversity"] / fresh["diversity"], 0.95),
    ]
    if "judge_margin" in ours and "judge_margin" in fresh:
        gap = abs(ours["judge_margin"] - fresh["judge_margin"])
        found.append(Target("independent judge: mean margin, distance to fresh noise's", gap, 0.15, "most"))
    return found


def plot_margins(bench: Bench, tallies: dict[str, Tally], calibration: Calibration, path: str) -> None:
    """Margin distributions: ID test, near-OOD test, and every recipe's samples."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    names = {"ID test": DATA, "near-OOD test": "mini://data/near_test.parquet"}
    groups = {
        name: [calibration.margin(float(s)) for batch in bench.images(uri) for s in bench.scorer.score(batch)]
        for name, uri in names.items()
    }
    groups |= {name: [result.margin for result in tally.results] for name, tally in tallies.items()}
    edges = np.linspace(-6, 8, 113).tolist()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, margins in groups.items():
        axes.hist(np.clip(margins, -6, 8), edges, histtype="step", density=True, label=name)
    axes.axvspan(-bench.settings.sampling.band, bench.settings.sampling.band, alpha=0.15)
    axes.set(xlabel="margin from the boundary, ID standard deviations", ylabel="density", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(found: dict[str, Any]) -> dict[str, Any]:
    """Print the figures of every recipe and the targets; returns them."""
    from rich.console import Console
    from rich.table import Table

    recipes = found["recipes"]
    table = Table("figure", *recipes, title="boundary sampling")
    for figure in dict.fromkeys(name for values in recipes.values() for name in values):
        table.add_row(figure, *(f"{values.get(figure, float('nan')):.4g}" for values in recipes.values()))
    Console().print(table)
    print_targets("targets", [Target(**{k: t[k] for k in ("what", "value", "target", "at")}) for t in found["targets"]])
    return found
