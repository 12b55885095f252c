import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from synood_ray import Detector
from synood_ray.config.models import ScorerSettings
from synood_ray.detection.description import DetectorDescription
from synood_ray.detection.projector import Projector
from synood_ray.errors import UserError
from synood_ray.scores import SCORES
from synood_ray.scores.joint import joint_score, relative_joint, relative_texts
from synood_ray.scores.mahalanobis import background_distance, id_statistics, relative_mahalanobis
from synood_ray.scores.margin import class_margin, exemplars
from synood_ray.scores.neglabel import neglabel_score
from tests.detection.tiny_clip import WIDTH, ColourClip, save_tiny_clip

NAMES = ["crane", "fox", "crane"]  # names may repeat
WORDS = [f"word {i}" for i in range(7)]


def make_detector(clip: ColourClip, *, released: bool = False, threshold: float = 0.5) -> Detector:
    projector = Projector(WIDTH, released=released)
    with torch.no_grad():
        projector.gate.normal_(generator=torch.Generator().manual_seed(1))
    description = DetectorDescription(
        recipe="synood",
        class_names=NAMES,
        negative_words=WORDS,
        negative_kinds=["noun"] * 7,
        groups=3,
        threshold=threshold,
        model="a model",
        pretrained=None,
        templates=["{}."],
    )
    return Detector(clip, projector, clip.encode_classes(NAMES, ["{}."]), clip.encode_text(WORDS), description)


def pictures(n: int = 5) -> list[Image.Image]:
    return [Image.new("RGB", (8 + 3 * i, 9), (40 * i, 255 - 50 * i, 30 * i)) for i in range(n)]


def test_answers_have_the_promised_shapes() -> None:
    output = make_detector(ColourClip())(pictures())
    assert output.score.shape == output.is_ood.shape == output.label.shape == (5,)
    assert (output.score.dtype, output.is_ood.dtype, output.label.dtype) == (torch.float32, torch.bool, torch.int64)
    assert output.name == [NAMES[i] for i in output.label]


def test_score_is_the_grouped_score_of_projected_features() -> None:
    clip = ColourClip()
    detector = make_detector(clip)
    features = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(3))
    direction = F.normalize(features, dim=1)
    p = detector.projector
    u = F.normalize(
        direction + p.gate * F.relu(F.layer_norm(p.linear(direction), (WIDTH,), p.norm.weight, p.norm.bias))
    )
    expected = neglabel_score(100 * u @ detector.id_text.T, 100 * u @ detector.negative_text.T, groups=3)
    assert torch.allclose(detector.score_features(features), expected, atol=1e-6)


def test_one_picture_a_list_and_a_tensor_agree() -> None:
    detector = make_detector(ColourClip())
    square = Image.new("RGB", (8, 8), (200, 10, 60))
    tensor = torch.tensor([200, 10, 60]).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255
    assert torch.allclose(detector(square).score, detector([square, square]).score[:1])
    assert torch.allclose(detector(square).score, detector(tensor).score)


def test_pictures_are_turned_upright() -> None:
    class TopHalf(ColourClip):
        def encode_images(self, images: torch.Tensor) -> torch.Tensor:
            return super().encode_images(images[:, :, :4])

    picture = Image.new("RGB", (8, 8), (10, 20, 200))
    picture.paste((250, 10, 10), (0, 0, 8, 4))
    turned = picture.rotate(180)
    turned.getexif()[0x0112] = 3  # "the camera was upside down"
    detector = make_detector(TopHalf())
    assert torch.equal(detector(picture).score, detector(turned).score)


def test_threshold_divides_id_from_ood() -> None:
    detector = make_detector(ColourClip())
    scores = detector(pictures()).score
    middle = scores.median().item()
    assert detector.with_threshold(middle)(pictures()).is_ood.tolist() == (scores < middle).tolist()


def test_a_score_that_is_no_number_is_an_error() -> None:
    class Damaged(ColourClip):
        def encode_images(self, images: torch.Tensor) -> torch.Tensor:
            features = super().encode_images(images)
            features[1] = torch.nan
            return features

    with pytest.raises(ValueError, match="the score of image 1 is no number"):
        make_detector(Damaged())(pictures())


def test_a_million_features_are_scored_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_detector(ColourClip())
    features = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(3))
    whole, looked, look = detector.score_features(features), [], Detector._look
    monkeypatch.setattr("synood_ray.scores.base.ROWS", 3)
    monkeypatch.setattr(Detector, "_look", lambda self, part: looked.append(len(part)) or look(self, part))
    assert torch.allclose(detector.score_features(features), whole, atol=1e-6) and looked == [3, 3, 1]
    assert torch.equal(detector.id_logits(features), look(detector, features).id_logits) and looked == [3, 3, 1]


def test_batches_change_nothing() -> None:
    detector = make_detector(ColourClip())
    whole, parts = detector(pictures()), detector(pictures(), batch_size=2)
    assert torch.allclose(whole.score, parts.score, atol=1e-6) and whole.name == parts.name


@pytest.mark.parametrize("released", [False, True])
def test_saved_and_loaded_detector_is_the_same(tmp_path: Path, released: bool) -> None:
    clip = ColourClip()
    detector = make_detector(clip, released=released)
    detector.save(tmp_path / "detector")
    detector.save(tmp_path / "detector")  # again: nothing changes
    loaded = Detector.load(tmp_path / "detector", clip=clip)
    assert torch.equal(loaded(pictures()).score, detector(pictures()).score)
    assert loaded.description.class_names == NAMES
    assert loaded.projector.released is released


@pytest.mark.parametrize("score", SCORES)
def test_every_score_may_be_the_detectors(tmp_path: Path, score: str) -> None:
    clip = ColourClip()
    plain = make_detector(clip)
    described = replace(plain.description, score=score, temperature=2.0)
    detector = Detector(clip, plain.projector, plain.id_text, plain.negative_text, described)
    features = 4 * torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(5))
    pool = clip.encode_text([f"pool {i}" for i in range(9)])
    detector = detector.with_score_of(features[:12], torch.arange(3).repeat(4), features[12:], pool)
    scores = detector.score_features(features[12:])
    assert ((scores >= 0) & (scores <= 1)).all() and scores.unique().numel() > 5
    assert (scores < detector.description.threshold).sum() == 0  # 95 % of 18 are all of them
    detector.save(tmp_path)
    loaded = Detector.load(tmp_path, clip=clip)
    assert loaded.description.score == score
    assert torch.equal(loaded.score_features(features), detector.score_features(features))


def test_a_fused_detector_sees_projected_texts_and_frozen_images() -> None:
    clip = ColourClip()
    plain = make_detector(clip)
    fused = Detector(
        clip, plain.projector, plain.id_text, plain.negative_text, replace(plain.description, score="fused")
    )
    features, labels = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(6)), torch.arange(3).repeat(4)
    fused = fused.with_score_of(features[:12], labels, features[12:20])
    unit = F.normalize(features, dim=1)
    statistics = id_statistics(unit[:12], labels)
    projected = 100 * plain.projector(features)
    relative = relative_texts(plain.id_text, plain.negative_text) | {"origin": unit[:12].mean(0)}
    columns = []
    for values in (
        joint_score(projected @ plain.id_text.T, projected @ plain.negative_text.T),
        relative_mahalanobis(unit, statistics),
        neglabel_score(projected @ plain.id_text.T, projected @ plain.negative_text.T, plain.description.groups),
        class_margin(unit, exemplars(unit[:12], labels)),
        relative_joint(unit, len(plain.id_text), relative),
        -background_distance(unit, statistics),
    ):
        columns.append((values - values[12:20].mean()) / values[12:20].std())
    joint, mahalanobis, neglabel, margin, centred, likeness = columns
    texts = 0.7 * (joint + centred) + 0.15 * neglabel + 0.1 * likeness
    evidence = torch.stack([texts, mahalanobis + margin])
    expected = 2 * ((evidence / 2).logsumexp(0) - math.log(2))
    assert torch.allclose(fused.score_features(features), expected.sigmoid(), atol=1e-4)


def test_explanation_names_what_is_near_and_the_parts_of_the_score() -> None:
    clip = ColourClip()
    plain = make_detector(clip)
    fused = Detector(
        clip, plain.projector, plain.id_text, plain.negative_text, replace(plain.description, score="fused")
    )
    features = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(6))
    fused = fused.with_score_of(features[:12], torch.arange(3).repeat(4), features[12:])
    picture = pictures()[2]
    told, judged = fused.explain(picture), fused(picture)
    assert (told.score, told.is_ood, told.name) == (float(judged.score), bool(judged.is_ood), judged.name[0])
    part = told.parts
    texts = 0.7 * (part["joint"] + part["relative_joint"]) + 0.15 * part["neglabel"] + 0.1 * part["likeness"]
    both = torch.tensor([texts, part["mahalanobis"] + part["margin"]])
    assert 2 * ((both / 2).logsumexp(0) - math.log(2)) == pytest.approx(
        math.log(told.score / (1 - told.score)), abs=1e-3
    )
    unit = fused.projector(clip.encode_images(torch.tensor(picture.getpixel((0, 0))).view(1, 3, 1, 1) / 255))[0]
    assert told.similarity == pytest.approx(float((fused.id_text @ unit).max()), abs=1e-4)
    assert told.negative == WORDS[int((fused.negative_text @ unit).argmax())]
    assert plain.explain(picture).parts == {}
    with pytest.raises(ValueError, match="explain takes one image, got more"):
        fused.explain(pictures())
    for each, alone in zip(fused.explain_each(pictures(), batch_size=2), map(fused.explain, pictures()), strict=True):
        assert (each.name, each.negative, each.is_ood) == (alone.name, alone.negative, alone.is_ood)
        assert each.parts == pytest.approx(alone.parts, abs=1e-4)
        assert each.score == pytest.approx(alone.score, abs=1e-5)


def test_detectors_of_earlier_and_later_versions(tmp_path: Path) -> None:
    make_detector(ColourClip()).save(tmp_path)
    file = tmp_path / "detector.json"
    values = json.loads(file.read_text())
    earlier = {name: value for name, value in values.items() if name not in ("score", "temperature", "notes")}
    file.write_text(json.dumps(earlier))
    assert Detector.load(tmp_path, clip=ColourClip()).description.score == "neglabel"
    file.write_text(json.dumps(values | {"score": "psychic"}))
    with pytest.raises(UserError, match="the score 'psychic', which this version does not know"):
        Detector.load(tmp_path, clip=ColourClip())


def test_detector_is_found_in_its_run_folder(tmp_path: Path) -> None:
    make_detector(ColourClip()).save(tmp_path / "run" / "detector")
    assert Detector.load(tmp_path / "run", clip=ColourClip()).description.groups == 3


def test_another_detector_is_not_overwritten(tmp_path: Path) -> None:
    make_detector(ColourClip()).save(tmp_path)
    with pytest.raises(UserError, match="holds another detector"):
        make_detector(ColourClip(), threshold=0.7).save(tmp_path)


def test_left_over_weights_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "weights-000000000000.safetensors").write_bytes(b"half a fil")
    detector = make_detector(ColourClip())
    detector.save(tmp_path)
    assert torch.equal(Detector.load(tmp_path, clip=ColourClip())(pictures()).score, detector(pictures()).score)


def test_threshold_by_the_recall_of_choice(tmp_path: Path) -> None:
    clip = ColourClip()
    plain = make_detector(clip)
    held_out = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(2))
    described = replace(plain.description, score="maxlogit")  # no two images have the same
    learned = Detector(clip, plain.projector, plain.id_text, plain.negative_text, described)
    learned = learned.with_score_of(held_out, torch.zeros(40, dtype=torch.int64), held_out)
    learned.save(tmp_path)
    loaded = Detector.load(tmp_path, clip=clip)
    scores = learned.score_features(held_out)
    for recall, kept in ((0.95, 38), (0.5, 20), (0.51, 21), (1, 40)):
        assert (scores >= loaded.at_recall(recall).description.threshold).sum() == kept
    assert loaded.at_recall(0.95).description.threshold == loaded.description.threshold
    for wrong in (0, 1.01, math.nan):
        with pytest.raises(ValueError, match="share of ID images in"):
            loaded.at_recall(wrong)
    with pytest.raises(ValueError, match="fine-tune again"):  # as an earlier version saved it
        plain.at_recall(0.9)


def test_an_iterator_is_judged_batch_by_batch() -> None:
    detector, taken = make_detector(ColourClip()), []

    def one_by_one() -> Iterator[Image.Image]:
        for number, picture in enumerate(pictures()):
            taken.append(number)
            yield picture

    whole = detector(pictures())
    found = detector.batches(one_by_one(), batch_size=2)
    assert next(found).score.tolist() == pytest.approx(whole.score[:2].tolist(), abs=1e-6)
    assert taken == [0, 1]
    assert [len(part.name) for part in found] == [2, 1]
    loader = DataLoader(torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)), batch_size=2)
    assert torch.allclose(detector(loader).score, detector(torch.cat(list(loader))).score, atol=1e-6)
    assert [name for part in detector.batches(loader, 4) for name in part.name] == detector(loader).name


def test_missing_detector_and_other_model_are_the_users_mistakes(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"no detector\.json"):
        Detector.load(tmp_path)

    class OtherClip(ColourClip):
        def encode_text(self, prompts: list[str]) -> torch.Tensor:
            return -super().encode_text(prompts)

    make_detector(ColourClip()).save(tmp_path / "detector")
    with pytest.raises(UserError, match="not the one that the detector was trained on"):
        Detector.load(tmp_path, clip=OtherClip())


@pytest.mark.real
def test_load_brings_its_own_clip(tmp_path: Path) -> None:
    from synood_ray.models.clip import ClipModel

    folder = str(save_tiny_clip(tmp_path / "clip"))
    clip = ClipModel(ScorerSettings(model=folder, pretrained=None))
    description = DetectorDescription("synood", NAMES, WORDS, ["noun"] * 7, 7, 0.5, folder, None, ["a {}."])
    id_text, negative_text = clip.encode_classes(NAMES, ["a {}."]), clip.encode_text(WORDS)
    detector = Detector(clip, Projector(WIDTH), id_text, negative_text, description)
    detector.save(tmp_path / "detector")
    output = Detector.load(tmp_path / "detector")(pictures())
    assert torch.equal(output.score, detector(pictures()).score)


def test_untrained_projector_changes_nothing() -> None:
    features = 7 * torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(Projector(WIDTH)(features), F.normalize(features, dim=-1), atol=1e-6)


def test_released_projector_is_the_published_formula() -> None:
    projector = Projector(WIDTH, released=True, seed=4)
    x = 7 * torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    inner = x @ projector.linear.weight.T + projector.linear.bias
    centred = inner - inner.mean(1, keepdim=True)
    normed = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
    expected = x + normed.clamp(min=0)
    assert torch.allclose(projector(x), expected / expected.norm(dim=1, keepdim=True), atol=1e-5)


def test_projector_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = Projector(WIDTH, seed=9)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = Projector(WIDTH, seed=9)
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_projector_can_learn_from_its_zero_start() -> None:
    projector = Projector(WIDTH)
    projector(torch.randn(4, WIDTH))[:, 0].sum().backward()
    assert projector.gate.grad is not None
    assert projector.gate.grad.abs().sum() > 0
