import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from synood_ray import Detector
from synood_ray.config.settings import Settings
from synood_ray.detection.curves import POINTS, histograms, roc_curve
from synood_ray.detection.evaluate import evaluate, run_evaluation
from synood_ray.detection.methods import Method, frozen_methods
from synood_ray.detection.metrics import METRICS, bootstrap, interval, ood_metrics
from synood_ray.detection.projector import Projector
from synood_ray.detection.run_images import RunImages
from synood_ray.detection.sets import TestSet, encode_sets, open_sets
from synood_ray.errors import UserError
from synood_ray.models.clip import ClipModel
from synood_ray.storage.run import Run
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from synood_ray.training.job import train
from tests.detection.test_detector import make_detector
from tests.detection.tiny_clip import WIDTH, ColourClip, save_tiny_clip
from tests.training.run_folder import COLOURS, make_run, make_settings, picture


def test_every_method_is_measured_on_every_set() -> None:
    generator = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(4, 8, generator=generator), dim=1)
    labels = torch.arange(4).repeat(10)
    known = text[labels] + 0.2 * torch.randn(40, 8, generator=generator)
    strange = torch.randn(30, 8, generator=generator)
    methods = {
        "energy": Method(lambda x: (x @ text.T).logsumexp(1), lambda x: x @ text.T),
        "mcm": Method(lambda x: (x @ text.T).softmax(1).amax(1), lambda x: -x @ text.T),
    }
    result = evaluate(TestSet(known, labels.numpy()), {"near/a": TestSet(strange, None, skipped=2)}, methods, draws=30)
    expected = ood_metrics((known @ text.T).logsumexp(1).double(), (strange @ text.T).logsumexp(1).double())
    assert result["sets"]["near/a"]["energy"] == pytest.approx(expected)
    assert result["id"]["energy"]["accuracy"] == ((known @ text.T).argmax(1) == labels).double().mean().item()
    assert result["id"]["mcm"]["accuracy"] < 0.2
    low, high = result["intervals"]["near/a"]["energy"]["auroc"]
    assert low <= expected["auroc"] <= high
    assert result["images"] == {"id": {"used": 40, "skipped": 0}, "near/a": {"used": 30, "skipped": 2}}
    json.dumps(result)


def test_ours_is_compared_with_every_other_method_and_means_are_taken_over_sets_and_trainings() -> None:
    rng = np.random.default_rng(0)
    known = TestSet(torch.from_numpy(rng.normal(1, 1, (60, 3))), np.repeat(np.arange(6), 10))
    groups = np.repeat(np.arange(3), 10)
    sets = {f"near/{name}": TestSet(torch.from_numpy(rng.normal(0, 1, (30, 3))), groups) for name in "ab"}
    first, second = Method(lambda x: x[:, 0], lambda x: x), Method(lambda x: x[:, 1], lambda x: x)
    methods = {"mcm": replace(first, again=(second,)), "synood": Method(lambda x: x.sum(1), lambda x: x)}
    result = evaluate(known, sets, methods, draws=100, seed=4)
    own = {
        where: [ood_metrics(known.features[:, i], one.features[:, i])["auroc"] for i in (0, 1)]
        for where, one in sets.items()
    }
    assert result["seeds"]["near/a"]["mcm"]["auroc"] == own["near/a"] and "synood" not in result["seeds"]["near/a"]
    assert result["sets"]["near/b"]["mcm"]["auroc"] == pytest.approx(np.mean(own["near/b"]))
    mean = result["means"]["near"]
    assert set(result["means"]) == {"near"} and mean["sets"] == ["near/a", "near/b"]
    assert mean["values"]["mcm"]["auroc"] == pytest.approx(np.mean([*own["near/a"], *own["near/b"]]))

    def draws(where: str, column: int | None) -> np.ndarray:
        pick = (lambda x: x.sum(1)) if column is None else (lambda x: x[:, column])
        ood = sets[where]
        drawn = bootstrap(pick(known.features), known.classes, pick(ood.features), ood.classes, 100, 4)
        return drawn["auroc"]

    for where in sets:
        theirs = (draws(where, 0) + draws(where, 1)) / 2
        value, *ends = result["differences"][where]["mcm"]["auroc"]
        values = result["sets"][where]
        assert value == pytest.approx(values["synood"]["auroc"] - values["mcm"]["auroc"])
        assert ends == pytest.approx(interval(draws(where, None) - theirs))
    both = sum(draws(where, None) - (draws(where, 0) + draws(where, 1)) / 2 for where in sets) / 2
    assert mean["differences"]["mcm"]["auroc"][1:] == pytest.approx(interval(both))
    assert list(result["differences"]["near/a"]) == ["mcm"]


def test_no_draws_no_intervals() -> None:
    ones = TestSet(torch.eye(3), np.arange(3))
    method = Method(lambda x: x[:, 0], lambda x: x)
    assert evaluate(ones, {"far/a": ones}, {"mcm": method}, draws=0)["intervals"]["far/a"] == {}


def test_roc_curve_passes_through_the_metric() -> None:
    rng = np.random.default_rng(1)
    known, strange = rng.normal(1, 1, 4000), rng.normal(0, 1, 4000)
    curve = roc_curve(known, strange)
    assert len(curve) == POINTS
    assert (curve[0], curve[-1]) == (pytest.approx(0, abs=0.05), 1.0)
    assert np.trapezoid(curve, dx=1 / (POINTS - 1)) == pytest.approx(ood_metrics(known, strange)["auroc"], abs=0.005)


def test_histograms_are_shares_on_the_id_scale() -> None:
    shown = histograms(np.array([9.0, 10.0, 11.0]), np.array([10.0, 1e9]))
    assert sum(shown["id"]) == pytest.approx(1, abs=1e-4)
    assert sum(shown["ood"]) == pytest.approx(1, abs=1e-4)
    assert shown["ood"][-1] == 0.5  # far beyond the axis: counted in the last bin


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("evaluate")
    return make_settings(folder, str(save_tiny_clip(folder / "clip")))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return make_run(settings)


def test_evaluation_of_a_run_before_and_after_fine_tuning(store: Store, settings: Settings) -> None:
    before = run_evaluation(store, settings)
    assert set(before["sets"]) == {"near/mixed", "far/grey"}
    assert list(before["id"]) == ["mcm", "energy", "maxlogit", "neglabel"]
    assert [note.split(":")[0] for note in before["notes"]] == ["synood", "far/grey"]
    assert "no classes are known: " in before["notes"][1] and "; intervals are over images" in before["notes"][1]

    train(store, settings)
    after = run_evaluation(store, settings)  # a new detector: evaluated anew
    assert list(after["id"]) == ["mcm", "energy", "maxlogit", "neglabel", "synood"]
    assert after["sets"]["near/mixed"]["mcm"] == before["sets"]["near/mixed"]["mcm"]
    assert json.loads(store.get("evaluation.json")) == after
    for methods in after["sets"].values():
        for values in methods.values():
            assert set(values) == set(METRICS)
            assert all(0 <= value <= 1 for value in values.values())
    assert after["images"]["far/grey"]["used"] == 6

    said: list[str] = []
    assert run_evaluation(store, settings, said.append) == after
    assert said == ["evaluated already: nothing to do"]


def test_a_set_that_has_changed_is_evaluated_anew(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    settings.evaluation.bootstrap, settings.evaluation.scores = 0, ["mcm"]
    store = make_run(settings)
    first = run_evaluation(store, settings)
    repaired = tmp_path / "far" / "0.png"
    repaired.write_bytes(picture((250, 10, 10), 1) + b"longer")
    second = run_evaluation(store, settings)
    assert second["sets"]["far/grey"] != first["sets"]["far/grey"]
    assert second["sets"]["near/mixed"] == first["sets"]["near/mixed"]
    said: list[str] = []
    assert run_evaluation(store, settings, said.append) == second and said == ["evaluated already: nothing to do"]
    other = settings.model_copy(update={"labels": settings.labels.model_copy(update={"groups": 2})})
    assert run_evaluation(store, other)["inputs"]["labels"]["groups"] == 2


def test_baselines_have_their_own_papers_prompts(store: Store, settings: Settings) -> None:
    """MCM "a photo of a {}.", NegLabel "the nice {}", energy (no text in its paper) the run's; or all the run's."""
    asked: list[list[str]] = []

    class Asked(ClipModel):
        def encode_classes(self, names: list[str], templates: list[str]) -> torch.Tensor:
            asked.append(templates)
            return super().encode_classes(names, templates)

    names, clip = sorted(COLOURS), Asked(settings.scorer)
    negatives = clip.encode_text(["kite", "drum", "cloud"])
    images = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))

    def scores() -> dict[str, torch.Tensor]:
        asked.clear()
        methods, _ = frozen_methods(settings, clip, names, negatives, lambda: (images, images, images), pytest.fail)
        return {name: method.id_logits(images) for name, method in methods.items()}

    def logits(prompt: str) -> torch.Tensor:
        return 100 * F.normalize(images, dim=1) @ clip.encode_text([prompt.format(name) for name in names]).T

    own = scores()
    assert sorted(asked) == [["a photo of a {}."], ["a {}."], ["the nice {}"]]
    for name, prompt in {"mcm": "a photo of a {}.", "neglabel": "the nice {}", "energy": "a {}."}.items():
        assert torch.allclose(own[name], logits(prompt), atol=1e-4)
    settings = settings.model_copy(deep=True)
    settings.evaluation.prompts = "run"
    assert all(torch.allclose(found, logits("a {}."), atol=1e-4) for found in scores().values())
    assert asked == [["a {}."]]


def test_ood_sets_keep_their_own_classes_beside_a_map_of_id_names(settings: Settings, tmp_path: Path) -> None:
    """Their intervals are over classes, wnids or not, though data.class_names knows none of them."""
    names = tmp_path / "names.json"
    names.write_text(json.dumps({name: name for name in COLOURS}))
    near = tmp_path / "near"
    for wnid in ("n09999991", "n09999992"):
        (near / wnid).mkdir(parents=True)
    wanted = settings.evaluation.model_copy(update={"id_test": None, "near": {"own": str(near)}, "far": {}})
    data = settings.data.model_copy(update={"class_names": str(names)})
    opened = open_sets(settings.model_copy(update={"evaluation": wanted, "data": data}), None)  # type: ignore[arg-type]
    assert [one.key for one in opened["near/own"].classes] == ["n09999991", "n09999992"]


def test_without_an_id_test_set_the_calibration_images_stand_in(store: Store, settings: Settings) -> None:
    other = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"id_test": None})})
    result = run_evaluation(store, other)
    assert result["images"]["id"]["used"] == 3
    assert any("calibration images" in note for note in result["notes"])


def test_a_detector_of_earlier_samples_is_refused(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "never loaded")
    store, other = make_run(settings), open_store(str(tmp_path / "other"))
    other.put_new("manifest.json", b"{}")
    for stale in (other, store):
        settings.evaluation.detectors = {"other": other.uri} if stale is other else {}
        put_json(stale, "detector/detector.json", {"training": {"samples": "others"}})
        with pytest.raises(UserError, match="detector/ was trained on samples that a retry has changed since"):
            run_evaluation(store, settings)


def with_detectors(settings: Settings, **uris: str) -> Settings:
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"detectors": uris})})


def test_other_detectors_are_compared_by_name(store: Store, settings: Settings, tmp_path: Path) -> None:
    other = make_detector(ColourClip())
    clip = ClipModel(settings.scorer)
    names = sorted(COLOURS)
    description = replace(other.description, class_names=names, recipe="official", templates=["the nice {}"])
    id_text, negatives = clip.encode_classes(names, ["the nice {}"]), clip.encode_text(["kite", "drum"])
    other = Detector(clip, Projector(WIDTH), id_text, negatives, replace(description, groups=2))
    other.save(tmp_path / "other")
    found = run_evaluation(store, with_detectors(settings, official=str(tmp_path / "other")))
    listed = {method["name"]: method["what"] for method in found["methods"]}
    assert list(listed)[:5] == ["mcm", "energy", "maxlogit", "neglabel", "official"]
    assert listed["official"] == f"detector of {tmp_path / 'other'}, training recipe official, score neglabel"
    assert "NeurIPS 2022" in listed["mcm"]
    made = Run.open(store)
    images = encode_sets(RunImages(made, settings, clip, lambda line: None), open_sets(settings, made.record))
    scores = [other.score_features(one.features).double() for one in (images[0], images[1]["near/mixed"])]
    assert found["sets"]["near/mixed"]["official"] == pytest.approx(ood_metrics(*scores))


def test_a_detector_that_cannot_be_compared_is_refused_in_one_line(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(UserError, match=message) as error:
            run_evaluation(store, with_detectors(settings, **{name: str(tmp_path)}))
        assert "\n" not in str(error.value)

    refused("other", r"^evaluation\.detectors\.other: .*: nothing here")
    (tmp_path / "run.json").write_text("{}")
    refused("other", r"^evaluation\.detectors\.other: .*: no detector\.json here or in detector/")
    refused("mcm", r"^evaluation\.detectors\.mcm: the name 'mcm' is taken")
    refused("synood", "the name 'synood' is taken")
    refused("synood_frozen", r"^evaluation\.detectors\.synood_frozen: the name 'synood_frozen' is taken")
    detector = make_detector(ColourClip())
    detector.save(tmp_path)
    refused(
        "other",
        r"^evaluation\.detectors\.other: .*: its detector has 3 classes, .*, such as 'crane'",
    )
    (tmp_path / "detector.json").unlink()
    description = replace(detector.description, class_names=sorted(COLOURS))
    Detector(detector.clip, detector.projector, detector.id_text, detector.negative_text, description).save(tmp_path)
    refused("other", "^detector 'other': .*the CLIP at hand is not the one that the detector was trained on")


@pytest.mark.parametrize("field", ["id_test", "near", "far"])
def test_a_missing_set_is_named(store: Store, settings: Settings, tmp_path: Path, field: str) -> None:
    gone = str(tmp_path / "gone")
    update = {field: gone if field == "id_test" else {"x": gone}}
    other = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=update)})
    with pytest.raises(UserError, match=rf"evaluation\.{field}"):
        run_evaluation(store, other)
