"""Every OOD score in the miniature world's three regimes, of the frozen CLIP and of fine-tuned ones: three CLIP heads,
three training seeds, intervals over classes, and the shipped detector beside the best of all baselines.

Settings are chosen on the validation sets; the test sets are read with ``--test`` only, and every reading is written
down (`benchmarks.teaching.READS`). Images and what is measured are kept under build/, so that it can be stopped and
goes on; a reading that goes on is one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.draws import draw, span
from benchmarks.heads import HEADS, score_functions
from benchmarks.parts import Part, Parts
from benchmarks.regimes import REGIMES, SETS, Regime, look, make_images, open_regime
from benchmarks.targets import Target
from benchmarks.teaching import PAPER, count_reads, note_reading
from benchmarks.teaching.images import RELEASED, ImageSet
from benchmarks.teaching.methods import FAR_ONLY, ID_ONLY, MIXUP, Seen, Trainee, trainees
from synood_ray.config.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("auroc", "fpr95_id_positive")
FROZEN, OURS = "frozen", "accepted images"
CONTROLS = (ID_ONLY, FAR_ONLY, MIXUP)
OFFICIAL = {f"{RELEASED}, its own training": "official", f"{RELEASED}, its training with our epochs": "official, ours"}
BASELINES = ("mcm", "msp", "energy", "maxlogit", PAPER)
"""Scores of the frozen CLIP that others have published; with `OFFICIAL` by the paper's score, what is to be beaten."""
TRAINED_SCORES = (PAPER, "joint", "fused")
SEEDS, DRAWS = 3, 300

Drawn = dict[str, np.ndarray]
"""metric -> its values [1 + DRAWS]: of all classes once, then of drawn ones."""
Row = tuple[str, str]
"""(variant, score)"""


@dataclass
class Total:
    """Sums over heads and seeds, by set, row and metric."""

    values: Part
    counts: dict[tuple[str, ...], int]

    def add(self, part: Part) -> None:
        for key, drawn in part.items():
            self.values[key] = drawn + self.values.get(key, 0.0)
            self.counts[key] = self.counts.get(key, 0) + 1

    def means(self) -> dict[str, dict[Row, Drawn]]:
        """Set -> row -> draws, means over heads and seeds."""
        found: dict[str, dict[Row, Drawn]] = {name: {} for name in SETS}
        for key, drawn in self.values.items():
            where, variant, score, metric = key
            found[where].setdefault((variant, score), {})[metric] = drawn / self.counts[key]
        return found


def benchmark(
    settings: Settings, test: bool = False, heads: Sequence[int] = HEADS, seeds: int = SEEDS, draws: int = DRAWS
) -> dict[str, Any]:
    """Returns ``rows``: regime -> set -> variant -> score -> metric -> {value, low, high}; ``ahead``: regime -> set ->
    the best baseline's name and what the shipped detector has over it, paired; ``test_reads``."""
    split = "test" if test else "val"
    parts = Parts("detector", settings, split, draws)
    reads = note_reading() if test and not parts.begun else count_reads()
    result: dict[str, Any] = {"rows": {}, "ahead": {}, "test_reads": reads}
    for name, preset in REGIMES.items():
        regime = open_regime(settings, preset, split)
        made = make_images(regime)
        print(f"{name}: {', '.join(f'{len(one)} {what}' for what, one in made.items())}", flush=True)
        total = Total({}, {})
        for head in heads:
            measure = Measure(regime, made, head, draws)
            total.add(parts.part(f"{name}, head {head}, {FROZEN}", measure.frozen))
            for seed in range(seeds):
                trained = functools.partial(measure.trained, seed)
                total.add(parts.part(f"{name}, head {head}, seed {seed}", trained))
            print(f"{name}: head {head} measured", flush=True)
        means = total.means()
        result["rows"][name] = {where: _as_json(rows) for where, rows in means.items()}
        result["ahead"][name] = {where: _ahead(rows, settings.detector.score) for where, rows in means.items()}
    return result


class Measure:
    """One head's measurements, by set, variant, score and metric; it encodes nothing before it is asked for one."""

    def __init__(self, regime: Regime, made: dict[str, ImageSet], head: int, draws: int) -> None:
        self.regime, self.made, self.head, self.draws = regime, made, head, draws
        self.classes = {name: np.array([image.label for image in images]) for name, images in regime.tests.items()}

    @functools.cached_property
    def seen(self) -> tuple[Seen, dict[str, Tensor]]:
        return look(self.regime, self.made, self.head)

    def frozen(self) -> Part:
        """The frozen CLIP by every score."""
        return self._of(FROZEN, None, self.seen[0].negatives.features, None)

    def trained(self, seed: int) -> Part:
        """What is trained with a seed, by `TRAINED_SCORES`."""
        from synood_ray.training.finetune import fine_tune

        found: Part = {}
        for variant, trainee in _variants(self.seen[0], self.regime.settings, seed).items():
            tuned = fine_tune(trainee.data, trainee.settings, seed)
            found |= self._of(variant, tuned.projector, tuned.negative_text, TRAINED_SCORES)
        return found

    def _of(self, variant: str, projector: Any, negative_text: Tensor, wanted: tuple[str, ...] | None) -> Part:
        seen, tests = self.seen
        settings, classes = self.regime.settings, self.classes
        options = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}
        own = (seen.sources, seen.labels, seen.held_out)
        functions = score_functions(projector, seen.id_text, negative_text, own, options)
        found: Part = {}
        for score in wanted or functions:
            values = {name: functions[score](x).double().numpy() for name, x in tests.items()}
            for where in SETS:
                drawn = draw(values["id"], classes["id"], values[where], classes[where], METRICS, self.draws)
                found |= {(where, variant, score, metric): each for metric, each in drawn.items()}
        return found


def _variants(seen: Seen, settings: Settings, seed: int) -> dict[str, Trainee]:
    """What is trained: ours, its controls, and the released recipe with its own settings and with our epochs."""
    all_of_them = trainees(seen, settings, seed)
    found = {OURS: all_of_them[settings.prompts.policy]}
    found |= {name: all_of_them[name] for name in CONTROLS}
    return found | {name: all_of_them[long] for long, name in OFFICIAL.items() if long in all_of_them}


def _as_json(rows: Mapping[Row, Drawn]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (variant, score), drawn in rows.items():
        found.setdefault(variant, {})[score] = {metric: span(drawn[metric]) for metric in METRICS}
    return found


def _ahead(rows: Mapping[Row, Drawn], shipped: str) -> dict[str, Any]:
    """The shipped detector minus the best baseline by AUROC, minus frozen NegLabel, and minus its control without
    accepted images, over the same drawn classes."""
    ours = rows[OURS, shipped]
    baselines = [(FROZEN, score) for score in BASELINES] + [(name, PAPER) for name in OFFICIAL.values()]
    best = max((row for row in baselines if row in rows), key=lambda row: rows[row]["auroc"][0])
    others = {"best baseline": best, "NegLabel": (FROZEN, PAPER), "ID images only": (ID_ONLY, shipped)}
    return {
        what: {"row": ", ".join(row)} | {metric: span(ours[metric] - rows[row][metric]) for metric in METRICS}
        for what, row in others.items()
    }


NEAR = {"same drawings": 94.0, "sibling drawings": 89.5}
FAR = {"same drawings": 99.2, "sibling drawings": 98.9}
LEAD = {"same drawings": 0.0, "sibling drawings": 2.5, "new family": -0.5}


def targets(found: dict[str, Any], shipped: str) -> list[Target]:
    """What issue 14 asks for, in %."""
    listed = []

    def add(what: str, span: Mapping[str, float], target: float, at: Any = "least") -> None:
        value, low, high = (100 * span[name] for name in ("value", "low", "high"))
        listed.append(Target(what, value, target, at, (low, high)))

    for name, rows in found["rows"].items():
        near, far = (rows[where][OURS][shipped] for where in SETS)
        ahead = found["ahead"][name]
        if name in NEAR:
            add(f"{name}: near AUROC", near["auroc"], NEAR[name])
            add(f"{name}: far AUROC", far["auroc"], FAR[name])
        best = {where: ahead[where]["best baseline"] for where in SETS}
        add(f"{name}: near over {best['near']['row']}", best["near"]["auroc"], LEAD[name])
        add(f"{name}: far over {best['far']['row']}", best["far"]["auroc"], 0.0 if name in FAR else -0.5)
    first = next(iter(REGIMES))
    near = found["rows"][first]["near"][OURS][shipped]
    add(f"{first}: near FPR95, ID positive", near["fpr95_id_positive"], 30, "most")
    over = found["ahead"][first]["near"]["NegLabel"]
    add(f"{first}: near over frozen NegLabel", over["auroc"], 9)
    add(f"{first}: near FPR95 over frozen NegLabel", over["fpr95_id_positive"], -25, "most")
    return listed


def show(found: dict[str, Any]) -> dict[str, Any]:
    """Print a table a regime: AUROC [interval] and FPR95 (ID positive), %; and what the shipped detector has over."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=130)
    for regime, sets in found["rows"].items():
        table = Table("variant", "score", *SETS, title=f"{regime}: AUROC [interval] / FPR95 (ID positive), %")
        for variant, scores in sets["near"].items():
            for score in scores:
                table.add_row(variant, score, *(_cell(sets[where][variant][score]) for where in SETS))
        console.print(table)
        for where, others in found["ahead"][regime].items():
            for what, figures in others.items():
                console.print(f"{regime}, {where}: ours minus {what} ({figures['row']}): {_cell(figures)}")
    console.print(f"the test sets have been read {found['test_reads']} times (benchmarks/teaching/test_reads.tsv)")
    return found


def _cell(figures: Mapping[str, Any]) -> str:
    area, share = figures["auroc"], figures["fpr95_id_positive"]
    return f"{100 * area['value']:.2f} [{100 * area['low']:.2f}, {100 * area['high']:.2f}] / {100 * share['value']:.1f}"
