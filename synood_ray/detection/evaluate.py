"""Evaluation of a run: every method on every test set, from features that are computed once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.config import Settings
from synood_ray.detection.artefacts import measure_artefacts
from synood_ray.detection.curves import histograms, roc_curve
from synood_ray.detection.methods import FoundDetector, Method, detector_methods, find_detectors, frozen_methods
from synood_ray.detection.metrics import METRICS, class_bootstrap, ood_metrics
from synood_ray.detection.sets import Say, TestSet, encode_own_images, encode_sets, open_sets
from synood_ray.detection.warnings import result_warnings, run_warnings
from synood_ray.errors import UserError
from synood_ray.locations import public
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor


def evaluate(
    id_set: TestSet, ood_sets: Mapping[str, TestSet], methods: Mapping[str, Method], draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measure the methods; the result is the body of evaluation.json.

    ood_sets are named ``near/NAME`` or ``far/NAME``; id_set needs classes. Returns ``sets`` (set -> method -> metric),
    ``id`` (method -> accuracy), ``intervals`` (as sets, [low, high], class bootstrap; empty if draws is 0),
    ``curves`` (set -> method -> roc, histogram), ``images`` (set -> used and skipped), ``methods`` (a list of names and
    what they are, in the order of tables).
    """
    if id_set.classes is None:
        raise ValueError("the ID test set needs classes")
    result: dict[str, Any] = {"sets": {}, "id": {}, "intervals": {}, "curves": {}}
    result["methods"] = [{"name": name, "what": method.what} for name, method in methods.items()]
    scores = {name: _numbers(method.score(id_set.features)) for name, method in methods.items()}
    for name, method in methods.items():
        predicted = method.id_logits(id_set.features).argmax(dim=-1).cpu().numpy()
        result["id"][name] = {"accuracy": float((predicted == id_set.classes).mean())}
    for set_name, ood in ood_sets.items():
        rows: dict[str, dict[str, Any]] = {key: {} for key in ("sets", "intervals", "curves")}
        for name, method in methods.items():
            known, unknown = scores[name], _numbers(method.score(ood.features))
            rows["sets"][name] = ood_metrics(known, unknown)
            rows["curves"][name] = {"roc": roc_curve(known, unknown), "histogram": histograms(known, unknown)}
            if draws:
                intervals = class_bootstrap(known, id_set.classes, unknown, ood.classes, draws, seed)
                rows["intervals"][name] = {metric: list(ends) for metric, ends in intervals.items()}
        for key, values in rows.items():
            result[key][set_name] = values
    counted = {"id": id_set, **ood_sets}
    result["images"] = {name: {"used": len(s.features), "skipped": s.skipped} for name, s in counted.items()}
    return result


def run_evaluation(store: Store, settings: Settings, say: Say = lambda line: None) -> dict[str, Any]:
    """Evaluate a run on the sets of ``evaluation.*``; write evaluation.json and return it.

    A report about an older evaluation is removed: whoever called this writes the new one. A missing detector of the
    run itself is named in ``notes``. An evaluation of the same sets, models and detectors is not computed again.
    Raises UserError for a missing run, set, detector or CLIP.
    """
    run = Run.open(store)
    record = run.record
    detectors, notes = find_detectors(store, settings, record)
    inputs = _inputs(run, settings, detectors)
    found = run.evaluation()
    if isinstance(found, dict) and found.get("inputs") == inputs:
        say("evaluated already: nothing to do")
        return found
    sources = open_sets(settings, record)  # before a model loads: a wrong set is the user's to fix

    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.stored import negative_labels

    clip = ClipModel(settings.clip)
    negatives = negative_labels(settings, store, record.classes, clip)
    own_images = functools.partial(encode_own_images, run, settings, clip, say)
    methods, left_out = frozen_methods(settings, clip, record.classes, negatives.features, own_images)
    methods |= detector_methods(detectors, clip)
    notes += left_out
    if not methods:
        raise UserError(f"evaluation.scores: nothing is left to measure ({'; '.join(notes)})")
    id_set, ood_sets = encode_sets(run, settings, sources, clip, say)
    if settings.evaluation.id_test is None:
        notes.append("ID test: the held-out calibration images (evaluation.id_test is not set); thresholds saw them")
    result = evaluate(id_set, ood_sets, methods, settings.evaluation.bootstrap, settings.seed)
    if settings.evaluation.artefacts:
        result["artefacts"], why_not = measure_artefacts(run, settings, clip, methods, say)
        notes += [why_not] if why_not else []
    warnings = run_warnings(run, settings) + result_warnings(result)
    for warning in warnings:
        say(f"warning: {warning}")
    result |= {"notes": notes, "warnings": warnings, "inputs": inputs}
    run.put_evaluation(result)
    return result


def _inputs(run: Run, settings: Settings, detectors: Mapping[str, FoundDetector]) -> dict[str, Any]:
    """What an evaluation depends on; equal inputs give equal results."""
    scorer = settings.clip
    inputs: dict[str, Any] = {
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "scorer": {name: getattr(scorer, name) for name in ("model", "pretrained", "templates", "temperature")},
        "groups": settings.labels.groups,
        "samples": run.digest(),
        "detectors": {name: one.sha256 for name, one in detectors.items()},
        "metrics": list(METRICS),
    }
    return public(json.loads(json.dumps(inputs)))  # type: ignore[no-any-return]


def _numbers(scores: Tensor) -> np.ndarray:
    return scores.detach().double().cpu().numpy()
