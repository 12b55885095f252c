"""Evaluation of a run: every method on every test set, from features that are computed once."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray import __version__
from synood_ray.config import Settings
from synood_ray.detection.artefacts import measure_artefacts
from synood_ray.detection.blind import blind_check, told
from synood_ray.detection.curves import histograms, roc_curve
from synood_ray.detection.methods import (
    OURS,
    FoundDetector,
    Method,
    detector_methods,
    find_detectors,
    frozen_methods,
)
from synood_ray.detection.metrics import METRICS, bootstrap, interval, ood_metrics, threshold_at
from synood_ray.detection.run_images import RunImages, Say
from synood_ray.detection.sets import TestSet, encode_sets, open_sets
from synood_ray.detection.warnings import result_warnings, run_warnings
from synood_ray.errors import UserError
from synood_ray.locations import public
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from synood_ray.data.images import ImageSource
    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.mining import NegativeLabels


Drawn = dict[str, dict[str, "np.ndarray"]]
"""method -> metric -> its values [draws] under the class bootstrap."""

Controls = Callable[[Run, Settings, "ClipModel", "NegativeLabels"], tuple[dict[str, Method], list[str]]]
"""Trains what this run's detector is to be compared with; under `OURS`, that again with another seed. And notes."""


def evaluate(
    id_set: TestSet, ood_sets: Mapping[str, TestSet], methods: Mapping[str, Method], draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measure the methods; the result is the body of evaluation.json.

    ood_sets are named ``near/NAME`` or ``far/NAME``, those of ID images of another kind ``shifted/NAME``; id_set needs
    classes. Returns ``sets`` (set -> method -> metric),
    ``id`` (method -> accuracy), ``intervals`` (as sets, [low, high], class bootstrap; empty if draws is 0),
    ``differences`` (set -> other method -> metric -> [value, low, high] of `OURS` minus that method, paired),
    ``means`` (near and far -> ``sets``, ``values``, ``intervals``, ``differences`` over the group's sets),
    ``curves`` (set -> method -> roc, histogram), ``seeds`` (set -> method -> metric -> a value per training, where
    there are several), ``shifted`` (set -> method -> ``accuracy``, and ``kept``: the share above the threshold which
    keeps 95 % of the ID test), ``images`` (set -> used and skipped), ``methods`` (a list of names and what they
    are, in the order of tables).
    """
    if id_set.classes is None:
        raise ValueError("the ID test set needs classes")
    keys = ("sets", "id", "intervals", "differences", "means", "curves", "seeds", "shifted")
    result: dict[str, Any] = {key: {} for key in keys}
    counted = {"id": id_set, **ood_sets}
    result["images"] = {name: {"used": len(s.features), "skipped": s.skipped} for name, s in counted.items()}
    shifted = {where: one for where, one in ood_sets.items() if where.startswith("shifted/")}
    ood_sets = {where: one for where, one in ood_sets.items() if where not in shifted}
    result["methods"] = [{"name": name, "what": method.what} for name, method in methods.items()]
    known = {name: [_scores(one, id_set) for one in each.trainings] for name, each in methods.items()}
    for name, method in methods.items():
        result["id"][name] = {"accuracy": _accuracy(method, id_set)}
    for where, one in shifted.items():
        result["shifted"][where] = {name: _kept(method, known[name], one) for name, method in methods.items()}
    drawn: dict[str, Drawn] = {}
    for where, ood in ood_sets.items():
        drawn[where], rows, curves, seeds = {}, {}, {}, {}
        for name, method in methods.items():
            pairs = [(ours, _scores(one, ood)) for ours, one in zip(known[name], method.trainings, strict=True)]
            figures = [ood_metrics(*pair) for pair in pairs]
            rows[name] = _mean(figures)
            curves[name] = {"roc": roc_curve(*pairs[0]), "histogram": histograms(*pairs[0])}
            if len(pairs) > 1:
                seeds[name] = {metric: [row[metric] for row in figures] for metric in METRICS}
            if draws:
                drawn[where][name] = _mean(
                    [bootstrap(a, id_set.classes, b, ood.classes, draws, seed) for a, b in pairs]
                )
        result["sets"][where], result["curves"][where], result["seeds"][where] = rows, curves, seeds
        result["intervals"][where], result["differences"][where] = _ends(rows, drawn[where])
    for group in ("near", "far"):
        its = [where for where in ood_sets if where.startswith(f"{group}/")]
        if its:
            rows = {name: _mean([result["sets"][where][name] for where in its]) for name in methods}
            both = {name: _mean([drawn[where][name] for where in its]) for name in methods if draws}
            intervals, differences = _ends(rows, both)
            result["means"][group] = {"sets": its, "values": rows, "intervals": intervals, "differences": differences}
    return result


def _accuracy(method: Method, images: TestSet) -> float:
    """Of the nearest ID class, over all trainings."""
    return float(np.mean([_labels(one, images) == images.classes for one in method.trainings]))


def _kept(method: Method, known: Sequence[np.ndarray], images: TestSet) -> dict[str, float]:
    """Of ID images of another kind; known: the method's scores of the ID test, by training."""
    kept = [
        (_scores(one, images) >= threshold_at(scores)).mean()
        for one, scores in zip(method.trainings, known, strict=True)
    ]
    return {"accuracy": _accuracy(method, images), "kept": float(np.mean(kept))}


def _mean(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metric by metric, of values or of draws of them."""
    return {name: sum(part[name] for part in parts) / len(parts) for name in METRICS}


def _ends(rows: Mapping[str, Mapping[str, float]], drawn: Drawn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Intervals of every method, and differences of `OURS` to the others; both empty without draws."""
    intervals = {name: {m: list(interval(values[m])) for m in METRICS} for name, values in drawn.items()}
    if OURS not in drawn:
        return intervals, {}
    ours = drawn[OURS]
    differences = {
        name: {m: [rows[OURS][m] - rows[name][m], *interval(ours[m] - values[m])] for m in METRICS}
        for name, values in drawn.items()
        if name != OURS
    }
    return intervals, differences


def run_evaluation(
    store: Store, settings: Settings, say: Say = lambda line: None, controls: Controls | None = None
) -> dict[str, Any]:
    """Evaluate a run on the sets of ``evaluation.*``; write evaluation.json and return it.

    controls: trains further methods (`synood_ray.training.controls`); the run then needs a detector of its own.

    A report about an older evaluation is removed: whoever called this writes the new one. A missing detector of the
    run itself is named in ``notes``. An evaluation of the same sets, models and detectors is not computed again.
    Raises UserError for a missing run, set, detector or CLIP.
    """
    run = Run.open(store)
    record = run.record
    detectors, notes = find_detectors(store, settings, record)
    if controls and OURS not in detectors:
        raise UserError(f"{store.uri}: controls stand beside the run's own detector; run synood finetune first")
    sources = open_sets(settings, record)  # before a model loads: a wrong set is the user's to fix
    inputs = _inputs(run, settings, sources, detectors, controls is not None)
    found = run.evaluation()
    if isinstance(found, dict) and found.get("inputs") == inputs:
        say("evaluated already: nothing to do")
        return found

    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.csp import csp_labels
    from synood_ray.negatives.stored import negative_labels

    clip = ClipModel(settings.clip)
    negatives = negative_labels(settings, store, record.classes, clip)
    own = RunImages(run, settings, clip, say)
    csp = functools.partial(csp_labels, settings, store, record.classes, clip)
    frozen = settings, clip, record.classes, negatives.features, own.learned_from
    methods, left_out = frozen_methods(*frozen, lambda: csp().features)
    trained, left_alone = controls(run, settings, clip, negatives) if controls else ({}, [])
    again = trained.pop(OURS, None)
    for name, method in detector_methods(detectors, clip).items():
        if name == OURS:
            methods |= trained
            method = replace(method, again=again.trainings) if again else method
        methods[name] = method
    notes += left_out + left_alone
    if not methods:
        raise UserError(f"evaluation.scores: nothing is left to measure ({'; '.join(notes)})")
    id_set, ood_sets = encode_sets(own, sources)
    if "id" not in sources:
        notes.append("ID test: the held-out calibration images (evaluation.id_test is not set); thresholds saw them")
    notes += [note for one in (id_set, *ood_sets.values()) for note in one.notes]
    result = evaluate(id_set, ood_sets, methods, settings.evaluation.bootstrap, settings.seed)
    if settings.evaluation.artefacts:
        result["artefacts"], why_not = measure_artefacts(own, methods)
        notes += [why_not] if why_not else []
    names = {name: [info.name for info in one.classes] for name, one in sources.items() if name in result["sets"]}
    result["blind"] = blind_check(run, negatives.words, names)
    for sentence in told(result["blind"]):
        say(sentence)
    result |= {"notes": notes, "warnings": run_warnings(run, settings) + result_warnings(result), "inputs": inputs}
    for warning in result["warnings"]:
        say(f"warning: {warning}")
    run.put_evaluation(result)
    return result


def _inputs(
    run: Run,
    settings: Settings,
    sources: Mapping[str, ImageSource],
    detectors: Mapping[str, FoundDetector],
    controls: bool,
) -> dict[str, Any]:
    """What an evaluation depends on; equal inputs give equal results."""
    scorer = settings.clip
    inputs: dict[str, Any] = {
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "scorer": {
            name: getattr(scorer, name) for name in ("model", "pretrained", "revision", "templates", "temperature")
        },
        "labels": settings.labels.model_dump(mode="json"),
        "sets": {name: _digest(source.listing()) for name, source in sources.items()},
        "samples": run.digest(),
        "controls": controls,
        "detectors": {name: one.sha256 for name, one in detectors.items()},
        "metrics": list(METRICS),
        "version": __version__,
    }
    return public(json.loads(json.dumps(inputs)))  # type: ignore[no-any-return]


def _digest(listing: Mapping[str, int]) -> str:
    """Hex sha256 of names and sizes."""
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()


def _scores(method: Method, images: TestSet) -> np.ndarray:
    """Of all images, float64 [N]."""
    return method.score(images.features).double().detach().cpu().numpy()


def _labels(method: Method, images: TestSet) -> np.ndarray:
    """The nearest ID class of all images, int64 [N]."""
    return method.id_logits(images.features).argmax(dim=-1).cpu().numpy()
