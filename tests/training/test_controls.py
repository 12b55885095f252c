"""Controls train on the run's kept features, with its detector's settings, and stand in its evaluation by name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from synood_ray.config.settings import Settings
from synood_ray.detection.description import DetectorDescription
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.errors import UserError
from synood_ray.negatives.mining import NegativeLabels
from synood_ray.training import controls, features
from synood_ray.training.controls import CONTROLS, FROZEN, as_trained, control_methods, mixtures
from synood_ray.training.finetune import fine_tune
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings
from tests.training.world import NEGATIVES, make_world


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))


def negatives_of(text: torch.Tensor) -> NegativeLabels:
    return NegativeLabels([f"word {i}" for i in range(NEGATIVES)], ["noun"] * NEGATIVES, text, [0.0] * NEGATIVES)


def test_mixtures_are_means_of_two_classes_images() -> None:
    data = make_world().data
    negatives = negatives_of(data.negative_text)
    mixed = mixtures(data, negatives, 3)
    assert len(mixed.ood_features) == len(data.ood_features)
    halves = (data.id_features.unsqueeze(0) + data.id_features.unsqueeze(1)) / 2
    apart = data.id_labels.unsqueeze(0) != data.id_labels.unsqueeze(1)
    distance = torch.cdist(mixed.ood_features, halves[apart], compute_mode="donot_use_mm_for_euclid_dist")
    assert distance.min(dim=1).values.max() < 1e-3
    assert torch.equal(mixed.ood_negatives, (mixed.ood_features @ data.negative_text.T).argmax(1))
    assert torch.equal(mixtures(data, negatives, 3).ood_features, mixed.ood_features)
    assert not torch.equal(mixtures(data, negatives, 4).ood_features, mixed.ood_features)
    one_class = replace(data, id_labels=torch.zeros_like(data.id_labels))
    assert len(mixtures(one_class, negatives, 3).ood_features) == 0


def test_controls_see_no_accepted_image() -> None:
    data = make_world().data
    accepted = {tuple(row) for row in data.ood_features.tolist()}
    for control in CONTROLS.values():
        seen = control.images(data, negatives_of(data.negative_text), 0)
        assert not accepted & {tuple(row) for row in seen.ood_features.tolist()}
        assert torch.equal(seen.id_features, data.id_features)


def test_controls_stand_in_the_evaluation_before_ours(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_run(settings)
    with pytest.raises(UserError, match="run synood finetune first"):
        run_evaluation(store, settings, controls=control_methods)
    settings.training.epochs, settings.evaluation.seeds = 3, 2
    train(store, settings)
    for name in ("encode_sources", "encode_pictures"):
        monkeypatch.setattr(features, name, pytest.fail)  # what training needs is kept
    trained: list[tuple[int, int, int]] = []

    def counted(data, training, seed):  # type: ignore[no-untyped-def]
        trained.append((training.epochs, seed, len(data.ood_features)))
        return fine_tune(data, training, seed)

    monkeypatch.setattr(controls, "fine_tune", counted)
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 9})})
    result = run_evaluation(store, other, controls=control_methods)
    names = [method["name"] for method in result["methods"]]
    assert names[4:] == [FROZEN, *CONTROLS, "synood"]
    assert trained == [(3, 0, 0), (3, 1, 0), (3, 0, 0), (3, 1, 0), (3, 0, 6), (3, 1, 6), (3, 1, 6)]
    assert set(result["seeds"]["near/mixed"]) == {*CONTROLS, "synood"}
    assert set(result["differences"]["near/mixed"]) == set(names) - {"synood"}
    said: list[str] = []
    assert run_evaluation(store, other, said.append, controls=control_methods) == json.loads(json.dumps(result))
    assert said == ["evaluated already: nothing to do"]
    assert FROZEN not in run_evaluation(store, other)["id"]  # asked without controls: another evaluation


def test_a_recipe_without_far_outliers_has_no_control_of_them(settings: Settings) -> None:
    settings.training.recipe, settings.evaluation.scores, settings.evaluation.bootstrap = "official", ["mcm"], 0
    store = make_run(settings)
    train(store, settings)
    result = run_evaluation(store, settings, controls=control_methods)
    names = [method["name"] for method in result["methods"]]
    assert names == ["mcm", FROZEN, "synood_id_only", "synood_mixup", "synood"]
    assert "synood_far_only: left out, recipe official would train it on the same as synood_id_only" in result["notes"]


def test_settings_are_those_of_the_detector(settings: Settings) -> None:
    store = make_run(settings)
    settings.training.lr, settings.detector.score = 0.5, "joint"
    train(store, settings)
    description = DetectorDescription.from_json(store.get("detector/detector.json"))
    fresh = Settings.model_validate(settings.model_dump())
    fresh.training.lr, fresh.detector.score, fresh.training.epochs = 0.1, "mcm", 7
    found = as_trained(fresh, description)
    assert (found.training.lr, found.training.epochs, found.detector.score) == (0.5, 2, "joint")
