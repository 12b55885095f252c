"""Boundary sampling measured: the released recipe, fresh noise and ours on the same images, in turn, in one process.

Core-seconds are CPU time of this process, so a busy machine changes little. All recipes use the same models and are
judged by the same boundary; an independent classifier with a boundary of its own says whether accepted images are
merely adversarial to the CLIP. Then what the farm loses with its scorer in an actor, and the semantic check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.comparison import Interval, interval
from benchmarks.targets import Target, show_figure
from synood_ray.config.models import ScorerSettings
from synood_ray.config.settings import Settings
from synood_ray.sampling.recipes import RECIPES

if TYPE_CHECKING:
    from benchmarks.recipes import Bench, ByClass, Tally
    from synood_ray.sampling.calibration import Calibration

JUDGE = "timm:mini://models/judge"
OURS, CONTROL, RELEASED = "newton", "fresh", "official"

Figures = dict[str, tuple[float, Interval | None]]
"""Figure -> its value and its 95 % interval."""


def benchmark(settings: Settings, samples: int, plot: str | None = None) -> tuple[dict[str, Any], list[Target]]:
    """All recipes side by side, the semantic check and the scorer as an actor: figures and targets.

    What is compared is the loop, so the task is the same hard one whatever the preset paints: empty scenes in the
    subject's box (policy context), brought within 0.25 of the boundary.

    plot: PNG file for the margin distributions.
    """
    import torch

    from benchmarks import placement, semantic

    preset = settings
    torch.set_num_threads(1)  # as in the farm's actors; threads that wait for each other would count as core-seconds
    settings = settings.model_copy(deep=True)
    settings.prompts.policy, settings.sampling.band, settings.sampling.mask = "context", [-0.25, 0.25], "box"
    recipes, found = compare_recipes(settings, samples, plot)
    scorer = placement.benchmark(settings)
    found.append(placement.target(scorer))
    checked, targets_of_check = semantic.benchmark(preset)  # last: vLLM binds this process's threads
    found += targets_of_check
    figures = {
        "recipes": {name: {what: value for what, (value, _) in rows.items()} for name, rows in recipes.items()},
        "intervals": {name: {what: ends for what, (_, ends) in rows.items() if ends} for name, rows in recipes.items()},
        "semantic_check": checked,
        "scorer": scorer,
    }
    return figures, found


def compare_recipes(
    settings: Settings, samples: int, plot: str | None = None
) -> tuple[dict[str, Figures], list[Target]]:
    """The figures of every recipe, and the targets that follow from them; prints the figures."""
    from benchmarks.recipes import Bench, ByClass
    from synood_ray.models.scorer import Scorer

    bench = Bench(settings, samples)
    calibration = bench.calibrate(bench.scorer)
    judge = Scorer(ScorerSettings(model=JUDGE, pretrained=None), bench.class_names)
    tallies = bench.run({name: settings.sampling.model_copy(update={"recipe": name}) for name in RECIPES}, calibration)
    boundary = bench.calibrate(judge)
    classes = {name: ByClass(bench, tally, judge, boundary) for name, tally in tallies.items()}
    if plot:
        plot_margins(bench, tallies, calibration, plot)
    figures = {name: summarise(tallies[name], classes[name]) for name in RECIPES}
    show(figures)
    return figures, targets(tallies, classes)


def summarise(tally: Tally, classes: ByClass) -> Figures:
    """One recipe's figures; quantiles of |margin| and rounds over all samples, the last three over accepted ones."""
    accepted, seconds, calls = tally.columns()
    sizes = np.abs([result.margin for result in tally.results])
    return {
        "samples": (len(tally.results), None),
        "acceptance": _with_interval(_share, classes.accepted, classes.samples),
        "accepted_per_core_second": _with_interval(_share, accepted, seconds),
        "rounds": (float(np.mean([result.rounds for result in tally.results])), None),
        "denoiser_calls_per_accepted": (float(_share(calls, accepted)), None),
        **{f"margin_q{q}": (float(np.quantile(sizes, q / 100)), None) for q in (50, 90, 100)},
        "diversity": _with_interval(_mean, classes.distance),
        "judge_margin": _with_interval(_share, classes.judged, classes.accepted),
        "clip_still_sees_the_class": _with_interval(_share, classes.shows, classes.accepted),
    }


def targets(tallies: Mapping[str, Tally], classes: Mapping[str, ByClass]) -> list[Target]:
    """What boundary sampling should reach on the mini preset (band 0.25, at most 6 rounds)."""
    ours, fresh = classes[OURS], classes[CONTROL]
    accepted, seconds, calls = tallies[OURS].columns()

    def rate(other: str) -> tuple[float, Interval]:
        return _with_interval(_ratio_of_shares, accepted, seconds, *tallies[other].columns()[:2])

    def target(what: str, figure: tuple[float, Interval], bound: float, at: Any = "least") -> Target:
        return Target(what, figure[0], bound, at, figure[1])

    return [
        target("share of samples in the band", _with_interval(_share, ours.accepted, ours.samples), 0.97),
        target("accepted per core-second, ours / official", rate(RELEASED), 15),
        target("accepted per core-second, ours / fresh noise", rate(CONTROL), 2.5),
        Target("denoiser calls per accepted sample", float(_share(calls, accepted)), 16, "most"),
        target(
            "diversity within a class, ours / fresh noise",
            _with_interval(lambda a, b: _mean(a) / _mean(b), ours.distance, fresh.distance),
            0.95,
        ),
        target(
            "independent judge: mean margin, distance to fresh noise's",
            _with_interval(
                lambda a, n, b, m: np.abs(_share(a, n) - _share(b, m)),
                *(ours.judged, ours.accepted, fresh.judged, fresh.accepted),
            ),
            0.15,
            "most",
        ),
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> Any:
    return part.sum(-1) / np.maximum(whole.sum(-1), 1e-9)


def _ratio_of_shares(part: np.ndarray, whole: np.ndarray, other: np.ndarray, all_others: np.ndarray) -> Any:
    return _share(part, whole) / np.maximum(_share(other, all_others), 1e-9)


def _mean(values: np.ndarray) -> Any:
    """Of the classes that have a value."""
    return _share(np.nan_to_num(values), np.isfinite(values))


def _with_interval(statistic: Any, *columns: np.ndarray) -> tuple[float, Interval]:
    return float(statistic(*columns)), interval(statistic, *columns)


def plot_margins(bench: Bench, tallies: Mapping[str, Tally], calibration: Calibration, path: str) -> None:
    """Margin distributions: ID test, near-OOD test, and every recipe's samples."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from benchmarks.recipes import DATA

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
    axes.axvspan(*bench.settings.sampling.band, alpha=0.15)
    axes.set(xlabel="margin from the boundary, ID standard deviations", ylabel="density", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(recipes: Mapping[str, Figures]) -> None:
    """Print the figures of every recipe."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure [95 %]", *recipes, title="boundary sampling")
    for what in recipes[OURS]:
        table.add_row(what, *(show_figure(*figures[what]) for figures in recipes.values()))
    Console().print(table)
