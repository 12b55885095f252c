"""Models that are not the ones meant."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch

from synood_ray.config.models import ScorerSettings
from synood_ray.errors import UserError
from synood_ray.logs import heard
from synood_ray.models.clip import ClipModel, Preprocess, _needs_quick_gelu
from synood_ray.models.images import to_tensor
from tests.badimages import picture
from tests.detection.tiny_clip import save_tiny_clip
from tests.reports.table import reported, rows


def tiny(folder: Path, **preprocess: object) -> ScorerSettings:
    """A tiny CLIP with another way to prepare images."""
    save_tiny_clip(folder)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"] |= preprocess
    path.write_text(json.dumps(config))
    return ScorerSettings(model=str(folder), pretrained=None)


@reported(
    "mlfoundations/open_clip#771",
    "OpenAI's weights in an architecture with plain GELU",
    "QuickGELU, as they were trained",
)
def test_openai_weights_get_their_activation() -> None:
    assert _needs_quick_gelu("ViT-B-32", "openai") and not _needs_quick_gelu("ViT-B-32", "laion2b_s34b_b79k")


@reported("trial", "an architecture of open_clip without weights", "refused; random features calibrated and accepted")
def test_an_architecture_without_weights() -> None:
    with pytest.raises(UserError, match=r"'ViT-B-32' is an architecture without weights; name some with scorer\.pretr"):
        ClipModel(ScorerSettings(model="ViT-B-32", pretrained=None))


@reported("trial", "a model folder without its weights", "refused")
def test_a_folder_without_weights(tmp_path: Path) -> None:
    settings = tiny(tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"scorer\.model .*cannot be loaded"):
        ClipModel(settings)


@rows(
    "interpolation, resize",
    ("trial", "a model that wants bilinear resizing", "resized as the library does it", "bilinear", "shortest"),
    ("trial", "a model that wants bicubic resizing", "resized as the library does it", "bicubic", "shortest"),
    (
        "epheterson/immich-apple-silicon#122",
        "a model that wants squashed images",
        "square ones as the library does it",
        "bicubic",
        "squash",
    ),
)
def test_images_are_prepared_as_the_library_does_it(tmp_path: Path, interpolation: str, resize: str) -> None:
    settings = tiny(tmp_path / "clip", interpolation=interpolation, resize_mode=resize)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip = ClipModel(settings)
        _, _, library = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'clip'}")
    image = picture(80, 80, seed=3, noise=20)
    assert torch.allclose(clip.preprocess(to_tensor([image], 80))[0], library(image), atol=0.03)


@rows(
    "resize, words",
    (
        "trial",
        "a model that wants squashed images, and oblong ones",
        "told once: the centre square is seen",
        "squash",
        "squashed images",
    ),
    (
        "mlfoundations/open_clip#782",
        "a model that wants padded images, and oblong ones",
        "told once",
        "longest",
        "padded images",
    ),
)
def test_another_view_of_oblong_images_is_told(tmp_path: Path, resize: str, words: str) -> None:
    with heard() as lines:
        ClipModel(tiny(tmp_path / "clip", resize_mode=resize))
    assert sum(words in line for line in lines) == 1


@reported("trial", "a model whose input is not square", "refused")
def test_an_oblong_input() -> None:
    visual = SimpleNamespace(preprocess_cfg={"size": (32, 16), "mean": [0.5] * 3, "std": [0.5] * 3})
    with pytest.raises(UserError, match="takes images of 32x16 pixels"):
        Preprocess.from_clip(visual, torch.device("cpu"))  # type: ignore[arg-type]


@reported("trial", "warnings of libraries in workers", "each shown once, by the first worker that heard it")
def test_what_libraries_warn_about_is_heard() -> None:
    with heard() as lines:
        for _ in range(2):
            warnings.warn("QuickGELU mismatch\nbetween config and tag", UserWarning, stacklevel=1)
        warnings.warn("will go in 6.0", DeprecationWarning, stacklevel=1)
        np.float32(1e38) * np.float32(1e38)
    assert lines[0] == "QuickGELU mismatch between config and tag" and not any("6.0" in line for line in lines)
