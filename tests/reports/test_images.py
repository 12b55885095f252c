"""Picture files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode, read_header
from tests.badimages import broken, odd, quarters
from tests.reports.table import rows

DATA = DataSettings()


@rows(
    "name",
    (
        "python-pillow/Pillow#4529",
        "a photo of a camera held upright (EXIF orientation 6)",
        "turned upright, PNG and WebP too",
        "exif 6.jpg",
    ),
    ("trial", "a CMYK JPEG", "read as the colours it shows", "cmyk.jpg"),
    ("trial", "16-bit grey", "scaled to 8 bits, not cut off", "grey 16 bit.png"),
    ("trial", "a TIFF of floats in 0..1", "scaled to 8 bits", "grey float.tiff"),
    ("trial", "a transparent PNG, black beneath", "laid on white", "alpha.png"),
    ("trial", "a palette with a transparent colour", "laid on white", "palette with alpha.png"),
    ("trial", "a PNG called .jpg", "read by what is in it", "wrong extension.jpg"),
    ("trial", "a JPEG with a preview behind it (MPO)", "the photo, not refused as animated", "preview behind.jpg"),
    ("python-pillow/Pillow#4676", "EXIF that is garbage", "the picture is read, EXIF is not", "bad exif.jpg"),
)
def test_odd_pictures_are_read_right(name: str) -> None:
    found = decode(odd()[name], DATA)
    assert found.mode == "RGB" and found.size == quarters().size
    shown, expected = (np.asarray(image.convert("L")).astype(int) for image in (found, quarters()))
    assert np.abs(shown - expected)[12::24, 16::32].max() < 30, "in the middle of each quarter"


@rows(
    "name, reason",
    ("trial", "a file cut off in the middle", "skipped: cannot be decoded", "cut.jpg", "cannot be decoded"),
    ("trial", "a few bytes that claim 400 million pixels", "skipped before memory is taken", "bomb.png", "179 million"),
    ("trial", "an EPS file (Pillow would start Ghostscript)", "skipped unopened", "postscript.eps", "not an image"),
    ("trial", "an error page saved as page.jpg", "skipped: not an image", "page.jpg", "not an image"),
    ("trial", "an animated GIF, PNG or WebP", "skipped: more than one picture", "animated.png", "animated"),
    ("trial", "an empty file", "skipped", "zero.jpg", "empty file"),
    ("trial", "a tracking pixel of 1x1", "skipped: data.min_side", "one pixel.png", "data.min_side"),
)
def test_broken_pictures_are_skipped(name: str, reason: str) -> None:
    with pytest.raises(UnusableImage, match=reason):
        read_header(io.BytesIO(broken()[name].data), DATA)
        decode(broken()[name].data, DATA)
