"""The artefact measure on a small run, with the miniature inpainter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.detection.artefacts import measure_artefacts
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.detection.features import encode_pictures, encode_sources
from synood_ray.detection.methods import Method
from synood_ray.detection.run_images import RunImages
from synood_ray.models.clip import ClipModel
from synood_ray.models.images import from_png, to_png
from synood_ray.models.inpainters import open_inpainter
from synood_ray.sampling.companions import regenerate
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("artefacts")
    settings = make_settings(folder, str(save_tiny_clip(folder / "clip")))
    settings.inpainter.model = "mini://models/inpainting"
    settings.sampling.steps, settings.sampling.strength = 2, 1.0
    settings.evaluation.artefacts, settings.evaluation.bootstrap = 2, 0
    return settings


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return make_run(settings)


def test_shares_are_those_of_the_regenerated_images_below_the_threshold(store: Store, settings: Settings) -> None:
    run, clip = Run.open(store), ClipModel(settings.scorer)
    held_out = list(run.held_out())
    assert len(held_out) == 3
    made = regenerate([held_out[0], held_out[1]], settings, open_inpainter(settings.inpainter))  # 2 of 3, evenly
    features = encode_pictures(clip, [from_png(to_png(image)) for image in made])
    real, _, _ = encode_sources(clip, settings.data, held_out)
    direction = features[0] - features[1]  # one of the two scores higher along it
    between = float((features @ direction).mean())
    methods = {
        "one": Method(lambda x: x @ direction, lambda x: x, threshold=between),
        "both": Method(lambda x: x @ direction, lambda x: x, threshold=float("inf")),
        "frozen": Method(lambda x: x @ direction, lambda x: x),
    }
    lowest = (real @ direction).min()  # keeps all three, as 95 % of three is more than two
    expected = float(((features @ direction) < lowest).double().mean())
    found, note = measure_artefacts(RunImages(run, settings, clip, silent), methods)
    assert found == {"images": 2, "called_ood": {"one": 0.5, "both": 1.0, "frozen": expected}}
    assert note == ""


def test_it_is_part_of_the_evaluation(store: Store, settings: Settings) -> None:
    train(store, settings)
    artefacts = run_evaluation(store, settings)["artefacts"]
    assert artefacts["images"] == 2
    assert set(artefacts["called_ood"]) == {*settings.evaluation.scores, "synood"}
    assert json.loads(store.get("evaluation.json"))["artefacts"] == artefacts


def test_it_is_left_out_where_it_cannot_be_had_and_the_notes_say_so(store: Store, settings: Settings) -> None:
    run, clip = Run.open(store), ClipModel(settings.scorer)
    changed = settings.model_copy(deep=True)
    changed.sampling.recipe = "official"
    expected = "artefacts: not measured (recipe official regenerates no ID images)"
    assert measure_artefacts(RunImages(run, changed, clip, silent), {}) == (None, expected)
    changed = settings.model_copy(deep=True)
    changed.inpainter.model = str(Path(settings.output) / "nothing here")
    found, note = measure_artefacts(RunImages(run, changed, clip, silent), {})
    assert found is None and note.startswith("artefacts: not measured (inpainter.model")
    changed.evaluation.artefacts = 0
    assert "artefacts" not in run_evaluation(store, changed)
