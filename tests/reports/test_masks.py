"""Masks, and models that give no picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.data.masks import check_masks, read_mask
from synood_ray.errors import UserError
from synood_ray.models.describers.base import Context
from synood_ray.records import SampleTask, SourceImage
from synood_ray.sampling.calibration import calibrate
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.produce import Models, produce
from tests.reports.table import reported, rows
from tests.sampling.worlds import LinearInpainter, LinearScorer, calibration

SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[12:52, 12:52] = 1


def source(key: str = "cat/1.jpg", width: int = 64, height: int = 64) -> SourceImage:
    return SourceImage(key, 0, "cat", f"/nowhere/{key}", 1000, width, height)


def palette(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    return image


def cut_out() -> Image.Image:
    layer = np.full((64, 64, 4), 255, np.uint8)
    layer[..., 3] = SQUARE * 255
    return Image.fromarray(layer)


def put(folder: Path, image: Image.Image, key: str = "cat/1.png") -> str:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return str(folder)


@rows(
    "image",
    ("trial", "black and white", "white is repainted", Image.fromarray(SQUARE * 255)),
    ("owenzlz/PAL4Inpaint#4", "0 and 1, as label maps are stored", "1 is repainted", Image.fromarray(SQUARE)),
    (
        "opencv/opencv_contrib#2098",
        "0 and 38, 16 bit",
        "what is not 0 is repainted",
        Image.fromarray(SQUARE.astype(np.uint16) * 38),
    ),
    ("trial", "a palette of two, dark red for 1 (VOC)", "1 is repainted", palette(SQUARE)),
    (
        "trial",
        "RGB, dark red on black",
        "red is repainted",
        Image.fromarray(SQUARE[..., None] * np.array([128, 0, 0], np.uint8)),
    ),
    ("trial", "one bit", "1 is repainted", Image.fromarray(SQUARE * 255).convert("1")),
    (
        "leejet/stable-diffusion.cpp#589",
        "soft edges",
        "cut at half",
        Image.fromarray(SQUARE * 255).resize((256, 256), Image.Resampling.BICUBIC),
    ),
)
def test_masks_as_tools_write_them(tmp_path: Path, image: Image.Image) -> None:
    found = np.asarray(read_mask(put(tmp_path, image), source()))
    assert set(np.unique(found)) == {0, 255}
    assert abs((found == 255).mean() - (SQUARE == 1).mean()) < 0.02 and found[len(found) // 2, len(found) // 2] == 255


@rows(
    "image, words",
    (
        "trial",
        "all black",
        "refused at the start: nothing would be repainted",
        Image.fromarray(SQUARE * 0),
        "all black",
    ),
    (
        "trial",
        "all white",
        "refused at the start: mask whole does that",
        Image.fromarray(SQUARE * 0 + 255),
        "all would be repainted",
    ),
    ("trial", "a shape in transparency", "refused: tools mean opposite things by it", cut_out(), "transparency"),
    (
        "trial",
        "a map of several labels",
        "refused: which of them?",
        palette(SQUARE + np.triu(SQUARE)),
        "labels of several things",
    ),
    (
        "trial",
        "a trimap of 1, 2 and 3",
        "refused",
        Image.fromarray(SQUARE + 1 + np.triu(SQUARE)),
        "labels of several things",
    ),
    ("trial", "values 1 and 2", "refused: it does not say which", Image.fromarray(SQUARE + 1), "does not say which"),
    (
        "trial",
        "of another shape than its image",
        "refused, not cropped into place",
        Image.fromarray(np.tile(SQUARE * 255, 2)),
        "another shape",
    ),
)
def test_masks_that_say_nothing_are_refused_at_the_start(tmp_path: Path, image: Image.Image, words: str) -> None:
    put(tmp_path, Image.fromarray(SQUARE * 255), "cat/0.png")
    masks = put(tmp_path, image)
    with pytest.raises(
        UserError, match=rf"sampling\.masks: 1 of 2 masks cannot be used; the first is .*1\.png: .*{words}"
    ):
        check_masks(masks, [source("cat/0.jpg"), source()])


@reported("trial", "a mask is missing", "refused before anything is described, with the count")
def test_a_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 masks cannot be used; the first is .*1\.png: is missing"):
        check_masks(
            put(tmp_path, Image.fromarray(SQUARE)), [source("cat/1.jpg"), *map(source, ("dog/1.jpg", "dog/2.jpg"))]
        )


@reported("trial", "a.jpg and a.png with one mask", "refused: whose is it?")
def test_a_mask_for_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"would be the mask of cat/1\.jpg and of cat/1\.png"):
        check_masks(put(tmp_path, Image.fromarray(SQUARE)), [source(), source("cat/1.png")])


@reported("trial", "a mask whose shape lies outside the square that is cut out", "its sample fails with the reason")
def test_nothing_is_left_of_a_mask(tmp_path: Path) -> None:
    wide = np.zeros((64, 192), np.uint8)
    wide[:, :30] = 255
    masks = put(tmp_path, Image.fromarray(wide))
    settings = Settings.model_validate({"sampling": {"mask": "files", "masks": masks}})
    with pytest.raises(UnusableImage, match="leaves nothing to repaint"):
        SourceLoader(settings).mask(source(width=192), 64)


class NaNPainter(LinearInpainter):
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * math.nan

    def decode_with_vjp(self, latents: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        return latents * math.nan, lambda gradient: gradient

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images


class NaNScorer(LinearScorer):
    def score(self, images: torch.Tensor) -> torch.Tensor:
        return super().score(images) * math.nan


@rows(
    "painter, scorer",
    (
        "huggingface/diffusers#10533",
        "a pipeline that gives NaN in half precision",
        "failed, not a black image",
        NaNPainter,
        LinearScorer,
    ),
    ("huanngzh/ComfyUI-MVAdapter#14", "a scorer that gives NaN", "failed, not “rejected”", LinearInpainter, NaNScorer),
)
def test_what_is_no_number_is_a_failed_sample(tmp_path: Path, painter: type, scorer: type) -> None:
    path = tmp_path / "1.png"
    Image.new("RGB", (16, 16), (90, 90, 90)).save(path)
    task = SampleTask("0", 0, SourceImage("1.png", 0, "cat", str(path), 100, 16, 16), 0, seed=1)
    settings = Settings.model_validate({"sampling": {"mask": "whole"}})
    models = Models(settings, ["cat", "dog"], painter(), scorer(), calibration(), ["stone", "cloud"])
    (row,) = produce([task], {"0": Context("reeds", "reeds")}, models)
    models.engine.close()
    assert row.failed and not row.accepted and row.image is None and row.companion is None
    assert row.reject_reason.startswith("error: the models gave NaN") and "float32" in row.reject_reason


@reported("trial", "NaN in the calibration of the boundary", "refused, with the cure; not “the same for all”")
def test_a_boundary_of_nan() -> None:
    with pytest.raises(UserError, match=r"is NaN or infinite for 4 of 4 held-out ID images: .*float32"):
        calibrate([torch.rand(4, 3, 4, 4)], NaNPainter(), LinearScorer(), Settings(), ["cat", "dog"])
