"""The same picture by every way in gives the same score; what is no picture is refused in one line."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import decode
from synood_ray.detection.inputs import pictures
from tests.detection.test_detector import make_detector
from tests.detection.tiny_clip import ColourClip


def photo(width: int = 24, height: int = 17) -> Image.Image:
    """Colours that differ from place to place, so that another crop or another order of the axes shows."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([9 * x, 13 * y, 255 - 5 * x], axis=-1).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


WAYS: dict[str, Callable[[Image.Image], Any]] = {
    "PIL": lambda image: image,
    "bytes": png,
    "numpy uint8": np.asarray,
    "numpy uint16": lambda image: np.asarray(image).astype(np.uint16) * 257,
    "numpy float32": lambda image: np.asarray(image).astype(np.float32) / 255,
    "numpy float64 batch": lambda image: np.asarray(image)[None] / 255,
    "numpy with alpha": lambda image: np.asarray(image.convert("RGBA")),
    "tensor uint8 [3, H, W]": tensor,
    "tensor uint8 [B, 3, H, W]": lambda image: tensor(image)[None],
    "tensor float [3, H, W]": lambda image: tensor(image) / 255,
    "tensor float [B, 3, H, W]": lambda image: tensor(image)[None] / 255,
    "tensor float64": lambda image: tensor(image).double() / 255,
    "list of PIL": lambda image: [image],
    "tuple of arrays": lambda image: (np.asarray(image),),
    "iterator of tensors": lambda image: iter([tensor(image) / 255]),
}


@pytest.mark.parametrize("size", [(24, 17), (17, 24), (8, 8), (5, 90)])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_score(way: str, size: tuple[int, int]) -> None:
    detector = make_detector(ColourClip())
    image = photo(*size)
    expected = detector(image)
    found = detector(WAYS[way](image))
    assert torch.allclose(found.score, expected.score, atol=1e-5, rtol=0)
    assert found.name == expected.name and found.file == [""]


def test_paths_and_folders(tmp_path: Path) -> None:
    detector = make_detector(ColourClip())
    images = [photo(20 + i, 30 - i) for i in range(3)]
    paths = [tmp_path / "deep" / name for name in ("b.png", "a.png", "c.png")]
    paths[0].parent.mkdir()
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(png(image))
    expected = detector(images).score
    assert torch.allclose(detector(paths).score, expected, atol=1e-5)
    assert torch.allclose(detector(str(paths[1])).score, expected[1:2], atol=1e-5)
    whole = detector(tmp_path)
    assert torch.allclose(whole.score, expected[[1, 0, 2]], atol=1e-5)
    assert [Path(file).name for file in whole.file] == ["a.png", "b.png", "c.png"]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"broken\.png.*leave it out"):
        detector(tmp_path)


def test_16_bit_grey_and_cut_outs_are_seen_as_in_training() -> None:
    grey = photo().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    layer = np.dstack([np.asarray(photo()), np.where(np.asarray(grey) > 120, 255, 0)]).astype(np.uint8)
    layer[layer[:, :, 3] == 0] = 0  # black beneath
    for made in (deep, Image.fromarray(layer)):
        expected = np.asarray(decode(png(made), DataSettings()))
        for way in (made, png(made), np.asarray(made), Image.open(io.BytesIO(png(made)))):
            ((_, seen),) = pictures(way)
            assert np.array_equal(np.asarray(seen), expected)
    assert np.array_equal(np.asarray(next(pictures(np.asarray(deep)))[1])[:, :, 0], np.asarray(grey))
    assert np.asarray(next(pictures(Image.fromarray(layer)))[1])[layer[:, :, 3] == 0].min() == 255


NORMALISED = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.45) / 0.27


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images to judge"),
        (torch.zeros(0, 3, 8, 8), "no images to judge"),
        (torch.zeros(2, 1, 8, 8), r"must be \[3, H, W\] or \[B, 3, H, W\] with B >= 1, got \[1, 8, 8\]"),
        (torch.zeros(8, 8), r"must be \[3, H, W\]"),
        (torch.zeros(8, 8, 3), r"got \[8, 8, 3\]"),
        (torch.zeros(1, 1, 3, 8, 8), r"must be \[3, H, W\]"),
        (torch.full((3, 8, 8), torch.nan), r"must lie in \[0, 1\], these in \[nan, nan\]"),
        (torch.full((3, 8, 8), torch.inf), r"must lie in \[0, 1\], these in \[inf, inf\]"),
        (torch.full((3, 8, 8), 200.0), r"0\.\.255 as uint8"),
        (NORMALISED, "not normalised for a model"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64 pixels are not taken"),
        (np.zeros((3, 8, 8)), r"must be \[H, W\], \[H, W, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), "has no pixels"),
        (np.array(["a photo"]), r"must be \[H, W\]"),
        (b"no image", "not an image"),
        (b"", "empty file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        ("nowhere.png", r"nowhere\.png: No such file"),
        (7, "int is no image; a path"),
        ([None], "NoneType is no image"),
        ([[Image.new("RGB", (8, 8))]], "list is no image"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(images: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        make_detector(ColourClip())(images)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
