import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from synood_ray import Detector
from synood_ray.config.models import ScorerSettings
from synood_ray.config.settings import Settings
from synood_ray.detection.description import is_stale
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.detection.run_images import RunImages
from synood_ray.errors import UserError
from synood_ray.models.clip import ClipModel, ClipOnDemand
from synood_ray.negatives.stored import negative_labels
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples, encode_samples
from synood_ray.storage.publish import publish, retract
from synood_ray.storage.run import Run
from synood_ray.storage.shards import manifest_digest
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from synood_ray.training import features, finetune
from synood_ray.training.features import run_features
from synood_ray.training.finetune import Workers
from synood_ray.training.job import Checkpoints, run_finetune, train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import COLOURS, make_run, make_settings


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def settings(tmp_path: Path, clip: str) -> Settings:
    return make_settings(tmp_path, clip)


@pytest.fixture
def store(settings: Settings) -> Store:
    return make_run(settings)


def test_training_saves_a_detector_with_a_threshold_that_keeps_id(store: Store, settings: Settings) -> None:
    train(store, settings)
    detector = Detector.load(settings.output)
    description = detector.description
    assert description.class_names == sorted(COLOURS)
    assert "bus" not in description.negative_words  # named in a class; the other labels are mined
    assert description.data == {"id": 12, "accepted": 6, "companions": 10, "far": 12, "calibration": 3}
    assert len(description.training["losses"]) == 3
    held_out = [Image.open(path) for path in _held_out(store, settings)]
    assert (~detector(held_out).is_ood).all()


def test_the_detectors_score_is_a_setting(store: Store, settings: Settings) -> None:
    settings.detector.score = "fused"
    train(store, settings)
    detector = Detector.load(settings.output)
    assert (detector.description.score, detector.description.notes) == ("fused", [])
    assert detector.state["means"].shape[0] == len(COLOURS)
    held_out = detector([Image.open(path) for path in _held_out(store, settings)]).score
    assert held_out.min().item() == pytest.approx(detector.description.threshold, abs=1e-4)


def test_another_score_keeps_the_training(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.detector.score = "neglabel"
    assert run_finetune(store, settings).rescored is None
    for name in ("encode_sources", "encode_pictures"):
        monkeypatch.setattr(features, name, pytest.fail)
    monkeypatch.setattr(finetune, "fine_tune", pytest.fail)
    settings.detector.score = "fused"
    result = run_finetune(store, settings)
    assert (result.fresh, result.rescored) == (True, "neglabel")
    assert not run_finetune(store, settings).fresh
    monkeypatch.undo()
    other = settings.model_copy(update={"output": f"{settings.output}-whole"})
    trained = make_run(other)
    run_finetune(trained, other)

    def saved(where: Store) -> dict[str, bytes]:
        return {entry.key: where.get(entry.key) for entry in where.list(layout.DETECTOR)}

    assert saved(store) == saved(trained)
    settings.detector.score, settings.training.lr = "joint", 0.5
    with pytest.raises(UserError, match=r"other settings \(detector\.score, training\.lr\)"):
        run_finetune(store, settings)


def test_csp_may_be_the_detectors_score_and_a_baseline(store: Store, settings: Settings) -> None:
    settings.detector.score, settings.evaluation.scores = "csp", ["csp"]
    train(store, settings)
    detector = Detector.load(settings.output)
    assert detector.state["pool"].shape == (int(0.8 * 12), 16)  # of the twelve words, names of classes too
    evaluation = run_evaluation(store, settings)
    assert list(evaluation["id"]) == ["csp", "synood"]
    assert "prompt 'a close-up photo of the nice {}.', " in evaluation["methods"][0]["what"]


def test_with_one_image_per_class_the_score_falls_back_and_says_so(tmp_path: Path, settings: Settings) -> None:
    changed = {"output": str(tmp_path / "few"), "data": settings.data.model_copy(update={"per_class": 1})}
    few = settings.model_copy(update=changed)
    few.detector.score, few.evaluation.scores = "fused", ["mcm", "mahalanobis"]
    store = make_run(few)
    train(store, few)
    assert Detector.load(few.output).description.score == "joint"
    (note,) = run_finetune(store, few).notes
    assert note == "score joint: fused needs at least two ID images of every class; 'blue bus' has 1"
    evaluation = run_evaluation(store, few)
    assert [method["name"] for method in evaluation["methods"]] == ["mcm", "synood"]
    assert f"synood: {note}" in evaluation["notes"]
    assert "left out: mahalanobis needs at least two ID images of every class; 'blue bus' has 1" in evaluation["notes"]


def test_a_detector_from_before_there_was_a_choice_is_kept(store: Store, settings: Settings) -> None:
    settings.detector.score, settings.training.offset = "neglabel", False
    train(store, settings)
    file = Path(settings.output) / "detector" / "detector.json"
    values = json.loads(file.read_text())
    for name in ("detector.score", "scorer.temperature", "training.offset"):
        del values["training"]["settings"][name]
    file.write_text(json.dumps(values))
    assert not run_finetune(store, settings).fresh


def test_a_run_that_a_classifier_scored_is_fine_tuned_and_evaluated_with_the_detectors_clip(
    settings: Settings, clip: str
) -> None:
    settings.scorer.model = "timm:resnet50.tv2_in1k"  # as released; fine-tuning and evaluation never load it
    settings.evaluation.bootstrap = 0
    store = make_run(settings)
    with pytest.raises(UserError, match=r"set detector\.model to the CLIP of the detector"):
        run_finetune(store, settings)
    settings.detector.model, settings.detector.pretrained = clip, None
    train(store, settings)
    description = Detector.load(settings.output).description
    assert (description.model, description.pretrained) == (clip, None)
    assert "synood" in run_evaluation(store, settings)["id"]
    settings.scorer.model = "mini://models/clip"
    with pytest.raises(UserError, match=r"detector\.model is for runs that a classifier scores"):
        train(store, settings)


def _held_out(store: Store, settings: Settings) -> list[str]:
    from synood_ray.storage.sources import decode_sources

    return [image.uri for image in decode_sources(store.get(layout.CALIBRATION_MANIFEST))]


def test_two_workers_see_what_one_sees(store: Store, settings: Settings) -> None:
    """Rank 0 and 1 of a pair encode disjoint halves that add up to everything."""
    clip = ClipModel(settings.scorer)
    names = sorted(COLOURS)
    negatives = negative_labels(settings, store, names, clip)
    whole = run_features(Run.open(store), settings, clip, negatives, Workers())

    def forget() -> None:
        for entry in list(store.list(layout.FEATURES)):
            store.delete(entry.key)

    forget()
    summed: list[list[torch.Tensor]] = []

    class Half(Workers):
        def sum(self, tensors: list[torch.Tensor]) -> None:
            summed.append([tensor.clone() for tensor in tensors])

    class OtherHalf(Workers):
        calls = 0

        def sum(self, tensors: list[torch.Tensor]) -> None:
            for tensor, other in zip(tensors, summed[OtherHalf.calls], strict=True):
                assert not ((tensor != 0) & (other != 0)).any(), "both workers encoded the same image"
                tensor += other
            OtherHalf.calls += 1

    run_features(Run.open(store), settings, clip, negatives, Half(0, 2))
    forget()
    together = run_features(Run.open(store), settings, clip, negatives, OtherHalf(1, 2))
    assert torch.allclose(together.training.id_features, whole.training.id_features, atol=1e-6)
    assert torch.allclose(together.training.ood_features, whole.training.ood_features, atol=1e-6)
    assert torch.equal(together.training.companion_sources, whole.training.companion_sources)
    assert torch.allclose(together.calibration_features, whole.calibration_features, atol=1e-6)


def test_every_companion_is_paired_with_its_own_source(store: Store, settings: Settings) -> None:
    run, clip = Run.open(store), ClipModel(settings.scorer)
    rows = [row for shard in run.published()["shards"] for row in run.table(shard).to_pylist()]
    keys = [source.key for source in run.sources()]
    negatives = negative_labels(settings, store, run.classes, clip)
    data = run_features(run, settings, clip, negatives, Workers()).training
    made_from = [keys.index(row["source_key"]) for row in rows if row["companion"] is not None]
    assert data.companion_sources.tolist() == made_from == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    expected = (data.id_features[made_from] - data.companion_features).mean(0)
    assert torch.allclose(data.domain_offset(), expected, atol=1e-6)
    train(store, settings)
    length = float(expected.norm() / data.id_features.norm(dim=1).mean())
    description = Detector.load(settings.output).description
    assert description.offset == pytest.approx(length, abs=1e-5)
    assert description.summary == f"training recipe synood, domain offset {length:.3f}, score fused"


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WorkerLostError(Exception):
        pass

    save = Checkpoints.save

    def save_and_die(self: Checkpoints, epoch: int, state: dict[str, torch.Tensor]) -> None:
        save(self, epoch, state)
        if epoch == 2:
            raise WorkerLostError

    with monkeypatch.context() as patch, pytest.raises(WorkerLostError):
        patch.setattr(Checkpoints, "save", save_and_die)
        train(store, settings)
    assert not store.exists("detector/detector.json")
    checkpoint = Checkpoints(store, settings, manifest_digest(store)).newest()
    assert checkpoint is not None
    assert len(checkpoint["history"]) == 2

    train(store, settings)
    assert not list(store.list("training/"))
    resumed = Detector.load(settings.output)
    other = settings.model_copy(update={"output": str(Path(settings.output).parent / "whole")})
    train(make_run(other), other)
    whole = Detector.load(other.output)
    assert torch.equal(resumed.projector.linear.weight, whole.projector.linear.weight)
    assert torch.equal(resumed.negative_text, whole.negative_text)


def test_a_detector_of_the_same_settings_is_kept(store: Store, settings: Settings) -> None:
    train(store, settings)
    before = store.get("detector/detector.json")
    result = run_finetune(store, settings)  # no Ray here: nothing is to be done
    assert not result.fresh
    assert result.images["accepted"] == 6
    assert store.get("detector/detector.json") == before
    settings.training.lr = 0.5
    with pytest.raises(UserError, match=r"other settings \(training\.lr\)"):
        run_finetune(store, settings)


def test_a_detector_of_samples_that_a_retry_has_changed_is_made_anew(store: Store, settings: Settings) -> None:
    train(store, settings)
    before = store.get("detector/detector.json")
    assert not is_stale(store)
    retract(store)
    rows = decode_samples(store.get(layout.part_key(1)))
    rows[0].accepted, rows[0].reject_reason = False, "rounds"
    store.put_new(layout.part_key(1, retry=1), encode_samples(rows[:1], sorted(COLOURS)))
    publish(store)
    assert is_stale(store)
    store.put_new("detector/notes.txt", b"precious")

    class AskedForRayError(Exception):
        pass

    def connect() -> None:
        raise AskedForRayError

    settings.training.workers = 2
    with pytest.raises(AskedForRayError):
        run_finetune(store, settings, connect)
    assert [entry.key for entry in store.list(layout.DETECTOR)] == ["detector/notes.txt"]
    train(store, settings)
    assert not is_stale(store) and store.get("detector/detector.json") != before
    assert not run_finetune(store, settings, connect).fresh


@pytest.mark.parametrize("recipe", ["synood", "official"])
def test_a_second_training_loads_no_clip_and_needs_no_ray(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, recipe: Literal["synood", "official"]
) -> None:
    settings.training.recipe = recipe
    assert run_finetune(store, settings).fresh
    first = Detector.load(settings.output)
    kept = [entry.key for entry in store.list(layout.FEATURES)]
    assert [key.rpartition("-")[0].removeprefix("features/") for key in kept] == [
        *("images", "samples", "texts-classes", "texts-norms")
    ]

    def connect() -> None:
        raise AssertionError("no Ray is needed")

    def load(self: ClipModel, settings: ScorerSettings) -> None:
        raise AssertionError("the features are kept")

    for key in [entry.key for entry in store.list(layout.DETECTOR)]:
        store.delete(key)
    with monkeypatch.context() as patch:
        patch.setattr(ClipModel, "__init__", load)
        settings.training.lr, settings.detector.score = 0.5, "joint"
        assert run_finetune(store, settings, connect).fresh
    second = Detector.load(settings.output)
    assert second.description.data == first.description.data
    assert not torch.equal(second.projector.linear.weight, first.projector.linear.weight)


def test_the_runs_own_images_are_read_from_what_is_kept_even_if_they_are_gone(store: Store, settings: Settings) -> None:
    train(store, settings)
    shutil.rmtree(settings.data.uri)
    own = RunImages(Run.open(store), settings, ClipModel(settings.scorer), pytest.fail)
    assert [len(part) for part in own.learned_from()] == [12, 12, 3]


def test_features_of_another_clip_or_other_samples_are_not_taken(
    tmp_path: Path, store: Store, settings: Settings
) -> None:
    clip, names = ClipModel(settings.scorer), sorted(COLOURS)
    negatives = negative_labels(settings, store, names, clip)
    before = run_features(Run.open(store), settings, clip, negatives, Workers())
    retract(store)
    rows = decode_samples(store.get(layout.part_key(1)))
    rows[0].accepted, rows[0].reject_reason = False, "rounds"
    store.put_new(layout.part_key(1, retry=1), encode_samples(rows[:1], names))
    publish(store)
    after = run_features(Run.open(store), settings, clip, negatives, Workers())
    assert len(after.training.ood_features) == len(before.training.ood_features) - 1
    assert torch.equal(after.training.id_features, before.training.id_features)
    other = ClipModel(settings.scorer.model_copy(update={"model": str(save_tiny_clip(tmp_path / "other", seed=1))}))
    assert other.identity != clip.identity == ClipOnDemand(settings.scorer).identity
    elsewhere = run_features(Run.open(store), settings, other, negatives, Workers())
    assert not torch.allclose(elsewhere.training.id_features, before.training.id_features)


def test_damaged_features_are_named(store: Store, settings: Settings) -> None:
    train(store, settings)
    for entry in list(store.list(layout.DETECTOR)):
        store.delete(entry.key)
    file = next(Path(settings.output, "features").iterdir())
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"features/{file.name}: damaged .* remove it, it is made again"):
        run_finetune(store, settings)


def test_wrong_runs_are_refused_before_anything_loads(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run here"):
        run_finetune(open_store(str(tmp_path / "empty")), settings)
    with pytest.raises(UserError, match="no sample was accepted"):
        run_finetune(make_run(settings, accept=False), settings)
    other = settings.model_copy(update={"output": str(tmp_path / "unfinished")})
    store = make_run(other)
    store.delete("manifest.json")
    with pytest.raises(UserError, match="not finished"):
        run_finetune(store, other)


def test_changed_images_are_the_users_mistake(store: Store, settings: Settings) -> None:
    next(iter((Path(settings.data.uri) / "red fox").iterdir())).write_bytes(b"no image")
    with pytest.raises(UserError, match="have changed"):
        train(store, settings)


def test_a_replaced_shard_is_not_trained_on(store: Store, settings: Settings) -> None:
    (entry,) = store.list(layout.DATA)
    data = bytearray(store.get(entry.key))
    data[100] ^= 1
    store.delete(entry.key)
    with pytest.raises(UserError, match=rf"{entry.key}: not what manifest.json says, it is gone"):
        run_finetune(store, settings)
    store.put_new(entry.key, bytes(data))
    with pytest.raises(UserError, match=rf"{entry.key}: not what manifest.json says, .*SHA-256 differs"):
        train(store, settings)
    assert not list(store.list(layout.DETECTOR))


@pytest.fixture
def local_ray() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.real
@pytest.mark.usefixtures("local_ray")
def test_ray_train_with_two_workers_equals_one_process(store: Store, settings: Settings) -> None:
    settings.training.workers = 2
    result = run_finetune(store, settings)
    assert result.fresh
    assert result.images == {"id": 12, "accepted": 6, "companions": 10, "far": 12, "calibration": 3}
    together = Detector.load(settings.output)

    other = settings.model_copy(update={"output": str(Path(settings.output).parent / "alone")})
    train(make_run(other), other)
    alone = Detector.load(other.output)
    assert torch.allclose(together.projector.linear.weight, alone.projector.linear.weight, atol=1e-4)
    assert torch.allclose(together.negative_text, alone.negative_text, atol=1e-3)
