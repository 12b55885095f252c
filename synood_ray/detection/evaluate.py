"""Evaluation of a run: every method on every test set, from features that are computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.config.settings import Settings
from synood_ray.data.images import UNLABELLED, ClassInfo
from synood_ray.data.source import open_source
from synood_ray.detection.curves import histograms, roc_curve
from synood_ray.detection.detector import is_stale
from synood_ray.detection.metrics import class_bootstrap, ood_metrics
from synood_ray.errors import UserError
from synood_ray.scores import SCORES, Score, ScoreInput
from synood_ray.storage import layout
from synood_ray.storage.publish import manifest_digest
from synood_ray.storage.run import RunRecord, load_json, put_json, read_run
from synood_ray.storage.sources import decode_sources
from synood_ray.storage.stores.base import NotFound, Store

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.detector import ImageEncoder

METHODS = ("mcm", "energy", "maxlogit", "neglabel", "official", "synood")
"""Names in evaluation.json, in the order of tables and plots."""

DETECTORS = {"official": f"official/{layout.DETECTOR}", "synood": layout.DETECTOR}
"""Where the fine-tuned detectors of a run lie."""

Say = Callable[[str], None]
"""Called with a line about what is being done."""


@dataclass(frozen=True)
class TestSet:
    """Un-normalised CLIP features [N, D] of a test set's images and their classes (None: not known); skipped images."""

    __test__ = False  # not a test, whatever its name

    features: Tensor
    classes: np.ndarray | None
    skipped: int = 0


@dataclass(frozen=True)
class Method:
    """score: features [N, D] -> [N], higher = more ID; id_logits: features -> [N, C], for the ID accuracy."""

    score: Callable[[Tensor], Tensor]
    id_logits: Callable[[Tensor], Tensor]


def evaluate(
    id_set: TestSet, ood_sets: Mapping[str, TestSet], methods: Mapping[str, Method], draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Measure the methods; the result is the body of evaluation.json.

    ood_sets are named ``near/NAME`` or ``far/NAME``; id_set needs classes. Returns ``sets`` (set -> method -> metric),
    ``id`` (method -> accuracy), ``intervals`` (as sets, [low, high], class bootstrap; empty if draws is 0),
    ``curves`` (set -> method -> roc, histogram), ``images`` (set -> used and skipped).
    """
    if id_set.classes is None:
        raise ValueError("the ID test set needs classes")
    result: dict[str, Any] = {"sets": {}, "id": {}, "intervals": {}, "curves": {}}
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
    """Evaluate a run on the sets of ``evaluation.*``; write evaluation.json and report/index.html; return the former.

    Methods without a fine-tuned detector are left out and named in ``notes``. An evaluation of the same sets, models
    and detectors is not computed again. Raises UserError for a missing run, set or CLIP.
    """
    from synood_ray.report.page import write_report

    record = read_run(store)
    if record is None:
        raise UserError(f"{store.uri}: no run here; make one with jobs/synthesize.py")
    if settings.scorer.model.startswith("timm:"):
        raise UserError("scorer.model names a classifier; the evaluation needs a CLIP: set scorer.model to one")
    for prefix in DETECTORS.values():
        if is_stale(store, prefix):
            raise UserError(
                f"{store.uri}/{prefix} was trained on samples that a retry has changed since; "
                "run jobs/finetune.py on that run again"
            )
    inputs = _inputs(store, settings)
    found = load_json(store, layout.EVALUATION)
    if isinstance(found, dict) and found.get("inputs") == inputs and store.exists(f"{layout.REPORT}index.html"):
        say("evaluated already: nothing to do")
        return found
    sources = open_sets(settings, record)  # before a model loads: a wrong set is the user's to mend

    from synood_ray.models.clip import ClipModel

    clip = ClipModel(settings.scorer)
    methods, notes = _methods(store, settings, record, clip)
    id_set, ood_sets = encode_sets(store, settings, sources, clip, say)
    if settings.evaluation.id_test is None:
        notes.append("ID test: the held-out calibration images (evaluation.id_test is not set); thresholds saw them")
    result = evaluate(id_set, ood_sets, methods, settings.evaluation.bootstrap, settings.seed)
    result |= {"notes": notes, "inputs": inputs}
    _replace(store, layout.EVALUATION, result)
    write_report(store, settings, result)
    return result


def _methods(
    store: Store, settings: Settings, record: RunRecord, clip: ImageEncoder
) -> tuple[dict[str, Method], list[str]]:
    """The three scores of the frozen CLIP, and each fine-tuned detector that there is; notes on the missing ones."""
    import torch
    from torch.nn import functional as F

    from synood_ray.detection.detector import DESCRIPTION, Detector
    from synood_ray.negatives.stored import negative_labels

    id_text = clip.encode_classes(record.classes, settings.scorer.templates).cpu()
    negative_text = negative_labels(settings, store, record.classes, clip).features  # type: ignore[arg-type]

    def look(features: Tensor) -> ScoreInput:
        unit = F.normalize(features, dim=-1)
        return ScoreInput.of_features(unit, id_text, negative_text, settings.scorer.temperature, settings.labels.groups)

    def method(score: Score) -> Method:
        return Method(lambda x: score(look(x)), lambda x: look(x).id_logits)

    methods: dict[str, Method] = {name: method(SCORES[name]) for name in settings.evaluation.scores}
    notes = []
    for name, prefix in DETECTORS.items():
        if not store.exists(prefix + DESCRIPTION):
            notes.append(f"{name}: no fine-tuned detector in {prefix}")
            continue
        detector = Detector.from_store(store, prefix, clip=clip)
        device = detector.id_text.device

        def score(x: Tensor, detector: Detector = detector, device: torch.device = device) -> Tensor:
            return detector.score_features(x.to(device))

        def predict(x: Tensor, detector: Detector = detector, device: torch.device = device) -> Tensor:
            return detector.id_logits(x.to(device))

        methods[name] = Method(score, predict)
    return methods, notes


def open_sets(settings: Settings, record: RunRecord) -> dict[str, Any]:
    """Every test set as an open source: ``id`` (if one is set) and ``near/…``, ``far/…``."""
    wanted = settings.evaluation
    sources: dict[str, Any] = {}
    if wanted.id_test is not None:
        classes: list[ClassInfo] = open_source(settings.data.uri, settings.data).classes
        if [info.name for info in classes] != record.classes:
            raise UserError("data.uri has other classes than the run; evaluation.id_test cannot be matched with them")
        sources["id"] = open_source(wanted.id_test, settings.data, classes=classes, setting="evaluation.id_test")
    for group, sets in (("near", wanted.near), ("far", wanted.far)):
        for name, uri in sets.items():
            sources[f"{group}/{name}"] = _open_ood(uri, settings, f"evaluation.{group}.{name}")
    return sources


def _open_ood(uri: str, settings: Settings, setting: str) -> Any:
    """An OOD set with its classes, which the intervals are drawn over, or without if it has none."""
    try:
        return open_source(uri, settings.data, setting=setting)
    except UserError:
        return open_source(uri, settings.data, labelled=False, setting=setting)


def encode_sets(
    store: Store, settings: Settings, sources: Mapping[str, Any], clip: ImageEncoder, say: Say
) -> tuple[TestSet, dict[str, TestSet]]:
    """The features of `open_sets`: the ID test (the calibration images if none is set), and the others by name."""
    ood_sets = {name: _encode(settings, name, source, clip, say) for name, source in sources.items() if name != "id"}
    return _id_set(store, settings, sources, clip, say), ood_sets


def _encode(settings: Settings, name: str, source: Any, clip: ImageEncoder, say: Say) -> TestSet:
    from synood_ray.detection.features import encode_sources

    scan = source.scan()
    say(f"{name}: encoding {len(scan.images)} images")
    features, kept, skips = encode_sources(clip, settings.data, scan.images)
    if not kept:
        raise UserError(f"evaluation set {name}: {source.uri} holds no usable image")
    labels = np.array([image.label for image in kept])
    classes = None if (labels == UNLABELLED).any() else labels
    return TestSet(features, classes, len(skips) + len(scan.skips))


def _id_set(store: Store, settings: Settings, sources: Mapping[str, Any], clip: ImageEncoder, say: Say) -> TestSet:
    if "id" in sources:
        return _encode(settings, "id", sources["id"], clip, say)
    from synood_ray.detection.features import encode_sources

    held_out = list(decode_sources(store.get(layout.CALIBRATION_MANIFEST)))
    say(f"id: encoding {len(held_out)} held-out calibration images")
    features, kept, skips = encode_sources(clip, settings.data, held_out)
    if not kept:
        raise UserError("evaluation.id_test is not set and the run's calibration images are gone; name a test set")
    return TestSet(features, np.array([image.label for image in kept]), len(skips))


def _inputs(store: Store, settings: Settings) -> dict[str, Any]:
    """What an evaluation depends on; equal inputs give equal results."""
    inputs: dict[str, Any] = {
        "evaluation": settings.evaluation.model_dump(mode="json"),
        "scorer": {
            name: getattr(settings.scorer, name) for name in ("model", "pretrained", "templates", "temperature")
        },
        "groups": settings.labels.groups,
        "samples": manifest_digest(store),
        "detectors": {},
    }
    for name, prefix in DETECTORS.items():
        try:
            inputs["detectors"][name] = hashlib.sha256(store.get(f"{prefix}detector.json")).hexdigest()
        except NotFound:
            continue
    return json.loads(json.dumps(inputs))


def _replace(store: Store, key: str, value: Any) -> None:
    """An evaluation is derived from the run: a newer one takes the older one's place."""
    store.delete(key)
    put_json(store, key, value)


def _numbers(scores: Tensor) -> np.ndarray:
    return scores.detach().double().cpu().numpy()
