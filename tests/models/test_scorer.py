from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from synood_ray.config.models import ScorerSettings
from synood_ray.errors import UserError
from synood_ray.models.classifier import TimmClassifier
from synood_ray.models.clip import _needs_quick_gelu, resizing
from synood_ray.models.scorer import Scorer, verdicts_of
from synood_ray.scores import SCORES, IdImages, Score
from tools.mini_world.check import read_images

NAMES = ["red apple", "bus", "fox"]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    settings = ScorerSettings(model="mini://models/clip", pretrained=None, templates=["a photo of a {}."])
    found = Scorer(settings, NAMES)
    assert found.clip is not None
    found.negatives = found.clip.encode_text(["a photo of a moon.", "a photo of a chair."])
    return found


@pytest.mark.real
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("side", [64, 200])  # smaller and larger than the model's input
def test_gradient_against_finite_differences(scorer: Scorer, score: str, side: int) -> None:
    scorer.settings = scorer.settings.model_copy(update={"score": score})
    known = scorer.look(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(5)))
    scorer.state = SCORES[score].learned(IdImages(known.features, torch.arange(3).repeat(4), known), scorer.negatives)
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(2, 3, 8, 8, generator=generator) * 0.6 + 0.2
    images = torch.nn.functional.interpolate(smooth, size=(side, side), mode="bilinear")
    _, gradient = scorer.score_and_gradient(images)
    direction = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    step = 2e-4  # the score bends within a hundredth of the image range
    difference = (scorer.score(images + step * direction) - scorer.score(images - step * direction)) / (2 * step)
    expected = (gradient * direction).flatten(1).sum(1)
    assert torch.allclose(difference, expected, rtol=0.05)


@pytest.mark.real
def test_an_images_gradient_is_its_own(scorer: Scorer) -> None:
    scorer.settings = scorer.settings.model_copy(update={"score": "energy"})
    images = torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    _, together = scorer.score_and_gradient(images)
    alone = torch.cat([scorer.score_and_gradient(image)[1] for image in images.split(1)])
    difference = (together - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)
    assert difference.median() < 1e-5
    assert difference.max() < 1e-2  # a batch has kernels of its own: rounding may take a ReLU at its kink across


@pytest.mark.real
def test_energy_is_logsumexp_of_100_cos(scorer: Scorer) -> None:
    scorer.settings = scorer.settings.model_copy(update={"score": "energy"})
    assert scorer.clip is not None
    images = torch.rand(2, 3, 64, 64)
    image = torch.nn.functional.normalize(scorer.clip.encode_images(images), dim=-1)
    text = scorer.clip.encode_text([f"a photo of a {name}." for name in NAMES])
    assert torch.allclose(scorer.score(images), (100 * image @ text.T).exp().sum(-1).log(), rtol=1e-4)


@pytest.mark.real
def test_verdicts_of_real_scenes(scorer: Scorer) -> None:
    data = read_images("id_test")
    rows = [row for row, name in enumerate(data.names) if name in NAMES]
    images = data.images[rows].float() / 255
    labels = torch.tensor([NAMES.index(data.names[row]) for row in rows])
    nearest, shows = verdicts_of(scorer.judge(images).logits, labels, len(NAMES))
    assert scorer.clip is not None and scorer.negatives is not None
    features = torch.nn.functional.normalize(scorer.clip.encode_images(images), dim=-1)
    texts = torch.cat([scorer.clip.encode_text([f"a photo of a {name}." for name in NAMES]), scorer.negatives])
    cosines = features @ texts.T
    assert torch.equal(nearest, cosines[:, len(NAMES) :].argmax(-1))
    assert torch.equal(shows, cosines.argmax(-1) == labels) and shows.float().mean() > 0.7
    _, as_another = verdicts_of(scorer.judge(images).logits, (labels + 1) % len(NAMES), len(NAMES))
    assert as_another.float().mean() < 0.2


@pytest.mark.real
def test_judging_gives_score_logits_and_features_in_one_pass(scorer: Scorer) -> None:
    scorer.settings = scorer.settings.model_copy(update={"score": "neglabel"})
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    score, logits, features = scorer.judge(images)
    assert scorer.clip is not None
    assert torch.allclose(features, torch.nn.functional.normalize(scorer.clip.encode_images(images), dim=-1), atol=1e-5)
    assert logits.shape == (3, len(NAMES) + 2) and torch.equal(score, scorer.score(images))
    again, gradient = scorer.judge_with_gradient(images, lambda classes: classes[:, 0])
    assert torch.allclose(again.scores, score, atol=1e-6) and torch.allclose(again.logits, logits, atol=1e-4)
    assert torch.allclose(again.features, features, atol=1e-5) and not again.features.requires_grad
    assert torch.equal(gradient, scorer.score_and_gradient(images, lambda classes: classes[:, 0])[1])
    assert not torch.equal(gradient, scorer.score_and_gradient(images)[1])


def test_a_score_without_a_gradient_is_not_for_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = Score(lambda seen: seen.id_logits.argmax(-1).float(), "rank", "nobody, 2026", differentiable=False)
    monkeypatch.setitem(SCORES, "energy", ranked)
    with pytest.raises(UserError, match=r"scorer\.score 'energy' has no gradient"):
        Scorer(ScorerSettings(model="never loaded"), NAMES)


def test_a_missing_model_is_one_line() -> None:
    with pytest.raises(UserError, match=r"scorer\.model"):
        Scorer(ScorerSettings(model="no-such-architecture", pretrained=None), NAMES)
    with pytest.raises(UserError, match=r"scorer\.model 'timm:/nowhere'"):
        Scorer(ScorerSettings(model="timm:/nowhere", pretrained=None), NAMES)


def saved_classifier(folder: Path, label_names: list[str] | None) -> Any:
    """A small ResNet with random weights, saved by timm itself."""
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, so that logits differ from image to image
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    names = {"label_names": label_names} if label_names else {}
    timm.models.save_for_hf(model, folder, model_config=names, safe_serialization=True)
    return model


def test_a_classifier_that_timm_saved(tmp_path: Path) -> None:
    model = saved_classifier(tmp_path, ["fox", "red apple", "bus"])
    scorer = Scorer(ScorerSettings(model=f"timm:{tmp_path}", pretrained=None, temperature=2.0), NAMES)
    config = timm.data.resolve_data_config(model=model, use_test_size=True)
    side, cut = config["input_size"][-1], scorer.classifier.preprocess  # type: ignore[attr-defined]
    assert (cut.size, cut.resized) == (side, int(side / config["crop_pct"]))
    images = torch.rand(2, 3, cut.resized, cut.resized, generator=torch.Generator().manual_seed(1))
    first = round((cut.resized - side) / 2)
    centre = images[:, :, first : first + side, first : first + side]
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model((centre - mean) / std)[:, [1, 2, 0]]
    assert torch.allclose(scorer.judge(images).logits, expected, atol=1e-4)
    assert scorer.judge(images).features.shape == (2, 0)  # a classifier has none
    assert torch.allclose(scorer.score(images), 2 * (expected / 2).exp().sum(-1).log(), atol=1e-4)
    nearest, shows = verdicts_of(scorer.judge(images).logits, expected.argmax(-1), len(NAMES))
    assert nearest.tolist() == [-1, -1] and shows.all()
    _, gradient = scorer.score_and_gradient(images)
    step = 1e-3 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    difference = (scorer.score(images + step) - scorer.score(images - step)) / 2
    assert torch.allclose(difference, (gradient * step).flatten(1).sum(1), rtol=0.05)


def test_a_classifier_without_names_needs_exactly_the_runs_classes(tmp_path: Path) -> None:
    saved_classifier(tmp_path, None)
    settings = ScorerSettings(model=f"timm:{tmp_path}", pretrained=None)
    assert Scorer(settings, NAMES).judge(torch.rand(1, 3, 64, 64))[1].shape == (1, 3)
    with pytest.raises(UserError, match="3 classes without names, the images have 2"):
        Scorer(settings, NAMES[:2])
    saved_classifier(tmp_path, ["fox", "bus", "tram"])
    with pytest.raises(UserError, match="'red apple'"):
        Scorer(settings, NAMES)
    with pytest.raises(UserError, match="needs a CLIP"):
        Scorer(settings.model_copy(update={"score": "neglabel"}), NAMES)


@pytest.mark.parametrize("side", [5, 31, 64])
def test_resizing_by_matrices_is_bicubic_interpolation(side: int) -> None:
    images = torch.rand(2, 3, side, side + 3, generator=torch.Generator().manual_seed(2))
    rows, columns = (resizing(one, 16, images.device) for one in (side, side + 3))
    expected = torch.nn.functional.interpolate(images, size=(16, 16), mode="bicubic", antialias=side > 16)
    assert torch.allclose(rows @ images @ columns.T, expected, atol=1e-5)


def test_the_released_energy_model_sees_224_of_232_pixels_bilinear(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's ResNet-50 IMAGENET1K_V2: resize to 232, crop 224, bilinear, antialiased: as torchvision does."""
    from torchvision.transforms import functional

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name, pretrained=False))  # no download
    released = TimmClassifier(ScorerSettings(model="timm:resnet50.tv2_in1k"), [str(i) for i in range(1000)])
    images = torch.rand(2, 3, 300, 300, generator=torch.Generator().manual_seed(1))
    cut = functional.center_crop(functional.resize(images, [232, 232], antialias=True), [224, 224])
    expected = functional.normalize(cut, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(released.preprocess(images), expected, atol=1e-5)


def test_openai_weights_are_computed_with_quick_gelu() -> None:
    import open_clip

    assert _needs_quick_gelu("ViT-B-16", "openai") and _needs_quick_gelu("ViT-B-16-quickgelu", "openai")
    assert not _needs_quick_gelu("ViT-B-16", "laion2b_s34b_b88k") and not _needs_quick_gelu("ViT-B-16", None)
    with torch.device("meta"):
        built = open_clip.create_model(
            "ViT-B-16", force_quick_gelu=_needs_quick_gelu("ViT-B-16", "openai"), device="meta", load_weights=False
        )
    found = [type(block.mlp.gelu).__name__ for tower in (built.visual, built) for block in tower.transformer.resblocks]
    assert found == ["QuickGELU"] * 24


def test_clip_passes_quick_gelu_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    from synood_ray.models.clip import ClipModel

    asked: dict[str, Any] = {}

    def refuse(name: str, **options: Any) -> None:
        asked.update(options, name=name)
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(UserError, match="no network"):
        ClipModel(ScorerSettings())  # the defaults, which the ImageNet preset has too
    expected = {"name": "ViT-B-16", "pretrained": "openai", "force_quick_gelu": True, "require_pretrained": True}
    assert asked == expected


def test_an_image_that_was_painted_with_two_classes_shows_either() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0, 0.0], [1.0, 2.0, 5.0, 0.0], [1.0, 2.0, 3.0, 9.0]])
    nearest, shows = verdicts_of(logits, torch.tensor([[0, 1], [0, 1], [2, -1]]), 3)
    assert nearest.tolist() == [0, 0, 0] and shows.tolist() == [True, False, False]
    assert verdicts_of(logits, torch.tensor([1, 2, 2]), 3)[1].tolist() == [True, True, False]


def test_a_class_that_is_nearest_but_not_surely_is_not_shown() -> None:
    logits = torch.tensor([[2.0, 1.5, 0.0], [9.0, 1.0, 0.0]])  # probabilities of the first: .574 and .9995
    assert logits.softmax(-1)[0, 0] == pytest.approx(0.574, abs=1e-3)
    shown = {sure: verdicts_of(logits, torch.tensor([0, 0]), 2, sure)[1].tolist() for sure in (0.0, 0.57, 0.58, 1.0)}
    assert shown == {0.0: [True, True], 0.57: [True, True], 0.58: [False, True], 1.0: [False, False]}
    assert verdicts_of(logits[1:], torch.tensor([[1, 0]]), 2, 0.9)[1].tolist() == [True]
