"""Every OOD score in the miniature world's three regimes, of the frozen CLIP and of fine-tuned ones: three CLIP heads,
three training seeds, intervals over classes, and the shipped detector beside the best of all baselines.

Settings are chosen on the validation sets; the test sets are read with ``--test`` only, and every reading is written
down (`benchmarks.teaching.READS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.heads import HEADS, score_functions
from benchmarks.regimes import REGIMES, SETS, Regime, look, make_images, open_regime
from benchmarks.targets import Target
from benchmarks.teaching import PAPER, count_reads, note_reading
from benchmarks.teaching.images import RELEASED
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
    """Sums over heads and seeds, by set and row."""

    values: dict[tuple[str, Row], Drawn]
    counts: dict[tuple[str, Row], int]

    def add(self, where: str, row: Row, drawn: Drawn) -> None:
        before = self.values.get((where, row))
        self.values[where, row] = drawn if before is None else {m: before[m] + drawn[m] for m in METRICS}
        self.counts[where, row] = self.counts.get((where, row), 0) + 1

    def means(self) -> dict[str, dict[Row, Drawn]]:
        """Set -> row -> draws, means over heads and seeds."""
        found: dict[str, dict[Row, Drawn]] = {name: {} for name in SETS}
        for (where, row), drawn in self.values.items():
            found[where][row] = {m: drawn[m] / self.counts[where, row] for m in METRICS}
        return found


def benchmark(settings: Settings, test: bool = False, seeds: int = SEEDS, draws: int = DRAWS) -> dict[str, Any]:
    """Returns ``rows``: regime -> set -> variant -> score -> metric -> {value, low, high}; ``ahead``: regime -> set ->
    the best baseline's name and what the shipped detector has over it, paired; ``test_reads``."""
    reads = note_reading() if test else count_reads()
    result: dict[str, Any] = {"rows": {}, "ahead": {}, "test_reads": reads}
    for name, preset in REGIMES.items():
        regime = open_regime(settings, preset, "test" if test else "val")
        made = make_images(regime)
        print(f"{name}: {', '.join(f'{len(one)} {what}' for what, one in made.items())}", flush=True)
        total = Total({}, {})
        for head in HEADS:
            seen, tests = look(regime, made, head)
            _measure_head(regime, seen, tests, seeds, draws, total)
            print(f"{name}: head {head} measured", flush=True)
        means = total.means()
        result["rows"][name] = {where: _as_json(rows) for where, rows in means.items()}
        result["ahead"][name] = {where: _ahead(rows, settings.detector.score) for where, rows in means.items()}
    return result


def _measure_head(regime: Regime, seen: Seen, tests: dict[str, Tensor], seeds: int, draws: int, total: Total) -> None:
    """The frozen CLIP by every score, then what is trained, by `TRAINED_SCORES`, once for each seed."""
    from synood_ray.training.finetune import fine_tune

    settings = regime.settings
    options = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}
    own = (seen.sources, seen.labels, seen.held_out)
    classes = {name: np.array([image.label for image in images]) for name, images in regime.tests.items()}

    def measure(variant: str, projector: Any, negative_text: Tensor, wanted: tuple[str, ...] | None) -> None:
        functions = score_functions(projector, seen.id_text, negative_text, own, options)
        for score in wanted or functions:
            values = {name: functions[score](x).double().numpy() for name, x in tests.items()}
            for where in SETS:
                drawn = _drawn(values["id"], classes["id"], values[where], classes[where], draws)
                total.add(where, (variant, score), drawn)

    measure(FROZEN, None, seen.negatives.features, None)
    for seed in range(seeds):
        for variant, trainee in _variants(seen, settings, seed).items():
            tuned = fine_tune(trainee.data, trainee.settings, seed)
            measure(variant, tuned.projector, tuned.negative_text, TRAINED_SCORES)


def _variants(seen: Seen, settings: Settings, seed: int) -> dict[str, Trainee]:
    """What is trained: ours, its controls, and the released recipe with its own settings and with our epochs."""
    all_of_them = trainees(seen, settings, seed)
    found = {OURS: all_of_them[settings.prompts.policy]}
    found |= {name: all_of_them[name] for name in CONTROLS}
    return found | {name: all_of_them[long] for long, name in OFFICIAL.items() if long in all_of_them}


def _drawn(known: np.ndarray, its: np.ndarray, unknown: np.ndarray, others: np.ndarray, draws: int) -> Drawn:
    from synood_ray.detection.metrics import bootstrap, ood_metrics

    plain, drawn = ood_metrics(known, unknown), bootstrap(known, its, unknown, others, draws)
    return {metric: np.concatenate([[plain[metric]], drawn[metric]]) for metric in METRICS}


def _span(values: np.ndarray) -> dict[str, float]:
    from synood_ray.detection.metrics import interval

    low, high = interval(values[1:])
    return {"value": float(values[0]), "low": low, "high": high}


def _as_json(rows: Mapping[Row, Drawn]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (variant, score), drawn in rows.items():
        found.setdefault(variant, {})[score] = {metric: _span(drawn[metric]) for metric in METRICS}
    return found


def _ahead(rows: Mapping[Row, Drawn], shipped: str) -> dict[str, Any]:
    """The shipped detector minus the best baseline by AUROC, minus frozen NegLabel, and minus its control without
    accepted images, over the same drawn classes."""
    ours = rows[OURS, shipped]
    baselines = [(FROZEN, score) for score in BASELINES] + [(name, PAPER) for name in OFFICIAL.values()]
    best = max((row for row in baselines if row in rows), key=lambda row: rows[row]["auroc"][0])
    others = {"best baseline": best, "NegLabel": (FROZEN, PAPER), "ID images only": (ID_ONLY, shipped)}
    return {
        what: {"row": ", ".join(row)} | {metric: _span(ours[metric] - rows[row][metric]) for metric in METRICS}
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
